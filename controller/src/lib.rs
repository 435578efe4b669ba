//! Turns Serf membership into HAProxy backends.
//!
//! What is to be done is decided in the crate [`planner`]. Here is what does it and keeps it so: [`reconcile`] is the loop
//! around HAProxy's sockets and files ([`haproxy`]), probes, state and the control socket.

mod account;
mod before;
pub mod bucket;
mod certificates;
pub mod check;
pub mod check_file;
pub mod clock;
mod clock_anchor;
pub mod command_line;
pub mod config;
pub mod control;
pub mod error_chain;
mod exposure;
pub mod fleet;
mod freshness;
pub mod given;
pub mod haproxy;
pub mod here;
mod history;
pub mod http;
pub mod init;
pub mod logging;
mod meters;
pub mod migrate;
pub mod notify;
mod others;
mod owner;
pub mod pages;
pub mod preview;
pub mod printable;
mod probe;
pub mod published;
pub mod reconcile;
pub mod setup;
mod state;
mod status;
mod templates;
pub mod ways;
