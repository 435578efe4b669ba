//! serf-haproxy as a whole, between Serf and HAProxy on the loopback; the harness itself, the examples, and
//! what the docs say.

mod admission;
mod adopt;
mod agent_check;
mod alone;
mod apply;
mod browser;
mod check;
mod check_joins;
mod checks;
mod drift;
mod examples;
mod files;
mod fleet;
mod guard_death;
mod guard_flapping;
mod guard_gossip;
mod guard_word;
mod harness;
mod hash;
mod http;
mod join;
mod keys;
mod lines;
mod masses;
mod notify;
mod operations;
mod other_files;
mod own;
mod plan;
mod promises;
mod readme;
mod reload;
mod rights;
mod roles;
mod soak;
mod spawn;
mod squatting;
mod start;
mod status;
mod takeover;
mod way_out;
mod worker;

mod checked;
mod documented;
