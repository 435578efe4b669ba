//! What can be wrong with a socket.

use std::time::Duration;

/// A socket that does not do as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It refuses every connection.
    Refuses,
    /// It takes a connection and says nothing.
    Silent,
    /// It answers each line this much later.
    Slow(Duration),
    /// It closes a connection after so many bytes of its replies.
    Cut(usize),
    /// It says this after every reply.
    Adds(String),
}
