//! Why there is no connection to an agent.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::CallError;

/// Why there is no connection to the agent. Where its name has several addresses, the error is that of the one where
/// the attempt came furthest.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is no `host:port`, or its host has no address.
    #[error("cannot resolve agent address {addr}: {reason}")]
    #[non_exhaustive]
    Resolve {
        /// As it was given.
        addr: String,
        /// What the resolver says.
        reason: Arc<io::Error>,
    },
    /// The file with the key cannot be read; nobody was asked.
    #[error("cannot read the key for agent {addr} in {}: {reason}", path.display())]
    #[non_exhaustive]
    Key {
        /// The agent, as it was given.
        addr: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: Arc<io::Error>,
    },
    /// Nothing listens there: the agent does not run, or listens elsewhere.
    #[error("no agent listens on {addr}")]
    #[non_exhaustive]
    Refused {
        /// As it was given.
        addr: String,
    },
    /// The address cannot be reached for another reason.
    #[error("cannot connect to agent {addr}: {reason}")]
    #[non_exhaustive]
    Io {
        /// As it was given.
        addr: String,
        /// What the system says.
        reason: Arc<io::Error>,
    },
    /// Connecting, handshake and authentication took too long together.
    #[error("agent {addr} did not answer within {after:?}")]
    #[non_exhaustive]
    Timeout {
        /// As it was given.
        addr: String,
        /// The limit.
        after: Duration,
    },
    /// The agent does not accept the key. An agent without a key accepts none either.
    #[error("agent {addr} does not accept the key")]
    #[non_exhaustive]
    BadKey {
        /// As it was given.
        addr: String,
        /// The file that the key is in, if it comes from one.
        key_file: Option<PathBuf>,
    },
    /// The agent wants a key and none was given.
    #[error("agent {addr} wants an authentication key")]
    #[non_exhaustive]
    MissingKey {
        /// As it was given.
        addr: String,
        /// The file that is to hold the key and is empty, if there is one.
        key_file: Option<PathBuf>,
    },
    /// The agent does not speak version 1 of the protocol.
    #[error("agent {addr} does not speak version 1 of the protocol")]
    #[non_exhaustive]
    BadVersion {
        /// As it was given.
        addr: String,
    },
    /// The agent took the connection and then refused, closed it, or spoke something else.
    #[error("handshake with agent {addr} failed: {reason}")]
    #[non_exhaustive]
    Handshake {
        /// As it was given.
        addr: String,
        /// What went wrong.
        reason: CallError,
    },
    /// There is no Tokio runtime to serve the connection.
    #[error("cannot connect to agent {addr} outside a Tokio runtime")]
    #[non_exhaustive]
    NoRuntime {
        /// As it was given.
        addr: String,
    },
}

impl ConnectError {
    /// Whether another attempt with the same options must fail too: the address is none, the key is wrong or missing
    /// (and in no file, where it may be changed), the agent speaks another version, there is no runtime.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Resolve { reason, .. } => reason.kind() == io::ErrorKind::InvalidInput,
            Self::BadKey { key_file, .. } | Self::MissingKey { key_file, .. } => key_file.is_none(),
            Self::BadVersion { .. } | Self::NoRuntime { .. } => true,
            Self::Key { .. }
            | Self::Refused { .. }
            | Self::Io { .. }
            | Self::Timeout { .. }
            | Self::Handshake { .. } => false,
        }
    }

    /// The agent, as it was given.
    pub fn addr(&self) -> &str {
        match self {
            Self::Resolve { addr, .. }
            | Self::Key { addr, .. }
            | Self::Refused { addr }
            | Self::Io { addr, .. }
            | Self::Timeout { addr, .. }
            | Self::BadKey { addr, .. }
            | Self::MissingKey { addr, .. }
            | Self::BadVersion { addr }
            | Self::Handshake { addr, .. }
            | Self::NoRuntime { addr } => addr,
        }
    }

    /// How far the attempt came.
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self::Key { .. }
            | Self::Resolve { .. }
            | Self::Refused { .. }
            | Self::NoRuntime { .. } => Reach::Nobody,
            Self::Io { .. } | Self::Timeout { .. } => Reach::Network,
            Self::BadKey { .. }
            | Self::MissingKey { .. }
            | Self::BadVersion { .. }
            | Self::Handshake { .. } => Reach::Agent,
        }
    }
}

/// How far an attempt to connect came: of several that failed the furthest says the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Nobody is there.
    Nobody,
    /// The network failed.
    Network,
    /// Somebody answered, and would not have it.
    Agent,
}
