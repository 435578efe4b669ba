//! What the records of a stream are decoded into, and the connection they came on.

use crate::wire::codec::DecodeError;

/// What the records of a stream are decoded into: [`Event`](crate::Event), [`LogEntry`](crate::LogEntry).
pub trait Record: Sealed + Sized {
    #[doc(hidden)]
    fn decode(body: &[u8], connection: ConnectionId) -> Result<Self, DecodeError>;

    /// What stands where so many were left out.
    #[doc(hidden)]
    fn lagged(missed: u64) -> Self;

    /// What stands where a stream was begun anew.
    #[doc(hidden)]
    fn resubscribed() -> Self;
}

/// Keeps [`Record`] to the types of this crate.
pub trait Sealed {}

/// Which connection, among all of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }
}
