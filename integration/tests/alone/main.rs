//! serf-haproxy where time is measured, or HAProxy has all of the machine: each of these tests runs alone. Among others
//! it would wait for the longest of them while their threads idle.

mod admission;
mod certificates;
mod cut_off;
mod deaths;
mod flood;
mod guard_death;
mod http;
mod join;
mod load;
mod stop;
