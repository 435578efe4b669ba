//! What can go wrong, by boundary: making a connection, one call, one stream.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;

use crate::command::ErrorBody;
use crate::types::KeyReply;
use crate::wire::codec::DecodeError;
use crate::wire::protocol::ProtocolError;

/// Why there is no connection to the agent. Where its name has several addresses, the error is that of the one where
/// the attempt came furthest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is no `host:port`, or its host has no address.
    #[error("cannot resolve agent address {addr}")]
    Resolve {
        /// As it was given.
        addr: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// The file with the key cannot be read; nobody was asked.
    #[error("cannot read the key for agent {addr} in {}", path.display())]
    Key {
        /// The agent, as it was given.
        addr: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Nothing listens there: the agent does not run, or listens elsewhere.
    #[error("no agent listens on {addr}")]
    Refused {
        /// As it was given.
        addr: String,
    },
    /// The address cannot be reached for another reason.
    #[error("cannot connect to agent {addr}")]
    Io {
        /// As it was given.
        addr: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Connecting, handshake and authentication took too long together.
    #[error("agent {addr} did not answer within {after:?}")]
    Timeout {
        /// As it was given.
        addr: String,
        /// The limit.
        after: Duration,
    },
    /// The agent does not accept the key. An agent without a key accepts none either.
    #[error("agent {addr} does not accept the key")]
    BadKey {
        /// As it was given.
        addr: String,
    },
    /// The agent wants a key and none was given.
    #[error("agent {addr} wants an authentication key")]
    MissingKey {
        /// As it was given.
        addr: String,
    },
    /// The agent does not speak version 1 of the protocol.
    #[error("agent {addr} does not speak version 1 of the protocol")]
    BadVersion {
        /// As it was given.
        addr: String,
    },
    /// The agent took the connection and then refused, closed it, or spoke something else.
    #[error("handshake with agent {addr} failed")]
    Handshake {
        /// As it was given.
        addr: String,
        /// What went wrong.
        #[source]
        source: CallError,
    },
}

impl ConnectError {
    /// How far the attempt came.
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self::Key { .. } | Self::Resolve { .. } | Self::Refused { .. } => Reach::Nobody,
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

/// Why a call has no result. The connection stays usable unless it is [`Self::Lost`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The agent refused the command, or tried and failed.
    #[error("{command}: {message}")]
    Agent {
        /// The command's name on the wire.
        command: &'static str,
        /// The agent's words.
        message: BString,
    },
    /// None of the addresses to join was reached, as far as is known: agents of Serf 0.9 and 0.10
    /// take one of several for success.
    #[error("join: {message}")]
    Join {
        /// The agent's words.
        message: BString,
        /// How many addresses were.
        joined: u64,
    },
    /// Not all members could do with the keys what they were told.
    #[error("{command}: {message}")]
    Keys {
        /// The command's name on the wire.
        command: &'static str,
        /// The agent's words.
        message: BString,
        /// What the members said.
        reply: Box<KeyReply>,
    },
    /// No reply in time. The command may still be carried out; a late reply is swallowed.
    #[error("{command}: no reply within {after:?}")]
    Timeout {
        /// The command's name on the wire.
        command: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The connection is gone. The command may have been carried out or not.
    #[error("{command}: connection lost")]
    Lost {
        /// The command's name on the wire.
        command: &'static str,
        /// Why.
        #[source]
        source: ConnectionError,
    },
    /// The reply is complete but not of the shape that the command has.
    #[error("{command}: unexpected reply")]
    Decode {
        /// The command's name on the wire.
        command: &'static str,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// A regular expression of a filter is malformed; nothing was sent.
    #[error("{command}: malformed expression for {field}: {message}")]
    Filter {
        /// The command's name on the wire.
        command: &'static str,
        /// What it was to match.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// What it is about came on another connection, and means nothing on this one; nothing was sent.
    #[error("{command}: meant for another connection")]
    OtherConnection {
        /// The command's name on the wire.
        command: &'static str,
    },
    /// The connection has as many streams as it may, those that were only dropped included, and none gave its place back
    /// in the time that a call may take; nothing was sent.
    #[error("{command}: the connection already has {limit} streams")]
    TooManyStreams {
        /// The command's name on the wire.
        command: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl CallError {
    /// The error of a response whose header says `message`.
    pub(crate) fn refused(command: &'static str, message: BString, body: ErrorBody) -> Self {
        match body {
            ErrorBody::Nothing => Self::Agent { command, message },
            ErrorBody::Joined(joined) => Self::Join { message, joined },
            ErrorBody::Keys(reply) => Self::Keys {
                command,
                message,
                reply,
            },
        }
    }
}

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
    #[error("connection failed")]
    Io(#[source] Arc<io::Error>),
    /// The agent sent what cannot be a reply; nothing after it can be trusted.
    #[error("the agent does not follow the protocol")]
    Protocol(#[source] ProtocolError),
    /// The agent wants a key, and may have misread a request since.
    #[error("the agent wants authentication")]
    AuthenticationRequired,
}

/// An item of a stream that is not a record.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The queue was full, and so many records were left out at this place. The stream goes on.
    #[error("{0} records left out")]
    Lagged(u64),
    /// A record does not decode. The stream goes on.
    #[error("unexpected record")]
    Decode(#[source] DecodeError),
    /// The connection is gone. This is the last item.
    #[error("connection lost")]
    Lost(#[source] ConnectionError),
}
