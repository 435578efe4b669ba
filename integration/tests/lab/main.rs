//! The container lab and whole machines.

mod balancer;
mod install;
mod labels;
mod operator;
mod partition;
mod scale;
mod supervision;
mod tour;
