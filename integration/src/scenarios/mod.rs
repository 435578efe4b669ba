//! The parts put together: tests with what they need, whole clusters, a balancer whose agent is scripted, joins measured.

pub mod cluster;
pub mod measure;
mod runner;
pub mod scenario;
mod took;

pub use runner::{Need, test, test_alone};
