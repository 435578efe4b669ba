//! Speaks with HAProxy: its sockets, its files, its processes and what they print.

pub mod file;
pub(crate) mod listen;
pub(crate) mod maps;
pub mod message;
pub(crate) mod process;
pub(crate) mod reach;
pub mod reload;
pub mod runtime;
mod session;
pub(crate) mod socket;
pub(crate) mod supervise;
pub(crate) mod taken_over;
