//! What a test has before any daemon runs: a network, a directory, processes, and ways to wait and to cut wires.

pub mod firewall;
pub mod mount;
pub mod net;
pub mod process;
mod test_env;
pub mod wait;

pub use test_env::{TestEnv, log_tails};
