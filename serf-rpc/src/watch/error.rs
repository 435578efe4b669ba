//! Why a watcher has no agent: the client's errors in, one error with all its causes out.

use crate::client::error::{CallError, ConnectError, ConnectionError};

/// Why the watcher has no agent, or has lost it. It keeps trying.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed that everything rests on.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The connection ended.
    #[error("connection lost: {0}")]
    Lost(ConnectionError),
}

impl From<ConnectionError> for WatchError {
    fn from(reason: ConnectionError) -> Self {
        Self::Lost(reason)
    }
}
