//! Turns Serf membership into HAProxy backends.

pub mod config;
pub mod control;
pub mod guard;
pub mod haproxy;
pub mod model;
pub mod pace;
pub mod plan;
pub mod probe;
pub mod select;
pub mod state;
pub mod status;
pub mod reconcile;
pub mod render;
