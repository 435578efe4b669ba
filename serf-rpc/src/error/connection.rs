//! Why a connection is gone, and what a stream on it says of that.

use std::io;
use std::sync::Arc;

use crate::wire::codec::DecodeError;
use crate::wire::protocol::ProtocolError;

/// Why a connection is gone. All its calls and streams end with it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The agent closed it: it exited, or a request was beyond what it tolerates.
    #[error("the agent closed the connection")]
    Closed,
    /// The runtime that served it was shut down, or panicked while it did.
    #[error("the runtime that served the connection has ended")]
    RuntimeEnded,
    /// Reading or writing failed.
    #[error("connection failed: {0}")]
    Io(Arc<io::Error>),
    /// The agent sent what cannot be a reply; nothing after it can be trusted.
    #[error("the agent does not follow the protocol: {0}")]
    Protocol(ProtocolError),
    /// The agent wants a key, and may have misread a request since.
    #[error("the agent wants authentication")]
    AuthenticationRequired,
}

/// An item of a stream that is not a record.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A record does not decode. The stream goes on.
    #[error("unexpected record: {0}")]
    Decode(DecodeError),
    /// The connection is gone. This is the last item.
    #[error("connection lost: {0}")]
    Lost(ConnectionError),
}
