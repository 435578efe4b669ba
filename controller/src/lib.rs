//! Turns Serf membership into HAProxy backends.

pub mod config;
pub mod haproxy;
pub mod model;
pub mod plan;
pub mod render;
