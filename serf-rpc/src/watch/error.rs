//! Why a watcher has no agent: the client's errors in, one error with all its causes out.

use crate::client::error::{CallError, ConnectError, ConnectionError};

/// Why the watcher has no agent, or has lost it. It keeps trying.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed that everything rests on.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The connection ended.
    #[error("connection lost")]
    Lost(#[from] ConnectionError),
}

/// An error and its causes in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
