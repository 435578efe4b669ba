//! Why a watcher or a managed client has no agent.

use std::time::Duration;

use super::{CallError, ConnectError, ConnectionError};

/// Why a watcher or a managed client has no agent, or has lost it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// No connection.
    #[error("{0}")]
    Connect(ConnectError),
    /// A call failed that everything rests on.
    #[error("{0}")]
    Call(CallError),
    /// The connection ended.
    #[error("connection lost: {0}")]
    Lost(ConnectionError),
    /// The agent says nothing any more, and there is another one to try.
    #[error("the agent has said nothing for {after:.1?}")]
    #[non_exhaustive]
    Silent {
        /// How long it has said nothing.
        after: Duration,
    },
    /// There is no agent to try.
    #[error("no agent is given")]
    NoAgents,
    /// The watcher or client was stopped or dropped, or its runtime has ended.
    #[error("it was stopped")]
    Stopped,
}

impl WatchError {
    /// Whether another attempt with the same options must fail too; see [`ConnectError::is_permanent`].
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_permanent(),
            Self::NoAgents | Self::Stopped => true,
            Self::Call(_) | Self::Lost(_) | Self::Silent { .. } => false,
        }
    }
}

impl From<ConnectError> for WatchError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<CallError> for WatchError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<ConnectionError> for WatchError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}
