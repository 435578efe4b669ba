//! Several balancers of one cluster: each controller answers the Serf query [`QUERY`] with a [`Report`], and whoever asks
//! sees whether all do the same. It takes gossip alone: no balancer has to be reached otherwise, or to be known before.

pub mod answer;
mod report;
mod view;

pub use report::{Report, Serving};
pub use view::{Balancer, Fleet};

/// The name of the query.
pub const QUERY: &str = "serf-haproxy";
