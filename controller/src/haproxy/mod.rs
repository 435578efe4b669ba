//! Speaks with HAProxy: its sockets, its files, its processes and what they print.

pub mod file;
pub mod listen;
pub mod message;
pub mod process;
pub(crate) mod reach;
pub mod reload;
pub mod runtime;
mod session;
pub mod socket;
pub mod supervise;
pub(crate) mod taken_over;
