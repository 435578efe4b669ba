//! Turns Serf membership into HAProxy backends.
//!
//! What is to be done is decided in the crate [`planner`]. Here is what does it and keeps it so: [`reconcile`] is the loop
//! around HAProxy's sockets and files ([`haproxy`]), probes, state and the control socket.

mod account;
pub mod bucket;
pub mod check;
pub(crate) mod clock;
pub mod clock_anchor;
pub mod config;
pub mod control;
mod exposure;
pub mod freshness;
pub mod given;
pub mod haproxy;
pub mod here;
pub mod history;
pub mod notify;
mod others;
mod owner;
pub mod preview;
pub mod printable;
pub mod probe;
pub mod reconcile;
pub mod state;
pub mod status;
pub mod templates;
