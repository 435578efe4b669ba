//! What passes through a balancer: load, and what is seen of it and of gossip on the way.

pub mod flight;
pub mod http;
pub mod load;
pub mod recorder;
pub mod tap;
pub mod tls;
pub mod wrk;
