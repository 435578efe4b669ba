//! Turns Serf membership into HAProxy backends.

pub mod haproxy;
pub mod model;
pub mod plan;
