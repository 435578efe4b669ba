//! The container lab and whole machines.

mod balancer;
mod operator;
mod partition;
mod scale;
mod supervision;
mod tour;
