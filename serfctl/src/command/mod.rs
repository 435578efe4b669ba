//! The commands: arguments and an agent in, what goes to stdout out.

mod answers;
pub(crate) mod cluster;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod info;
pub(crate) mod keys;
pub(crate) mod members;
pub(crate) mod monitor;
pub(crate) mod query;
pub(crate) mod reachability;
pub(crate) mod rtt;
pub(crate) mod wait;
pub(crate) mod watch;
