//! What can go wrong, by boundary: making a connection, one call, one stream.
//!
//! The text of each error is one line that names its reason, so none has a `source` that would say it again.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};

use crate::command::ErrorBody;
use crate::link::WatchError;
use crate::types::KeyReply;
use crate::wire::codec::DecodeError;
use crate::wire::protocol::{ProtocolError, Refusal};

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

/// Why a call has no result: [`retry`](Self::retry) says where another attempt makes sense, and
/// [`outcome`](Self::outcome) whether the command may have been carried out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{command}: {kind}")]
#[non_exhaustive]
pub struct CallError {
    /// The command's name on the wire.
    pub command: &'static str,
    /// What went wrong.
    pub kind: CallErrorKind,
}

/// What went wrong with a call. The connection stays usable unless it is [`Self::Lost`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The agent refused the command, or tried and failed.
    #[error("{}", OneLine(message.as_bstr()))]
    #[non_exhaustive]
    Refused {
        /// Why, as far as its words tell.
        refusal: Refusal,
        /// The agent's words, any bytes.
        message: BString,
    },
    /// None of the addresses to join was reached, as far as is known: agents of Serf 0.9 and 0.10
    /// take one of several for success.
    #[error("{}", OneLine(message.as_bstr()))]
    #[non_exhaustive]
    Join {
        /// The agent's words, any bytes.
        message: BString,
        /// How many addresses were.
        joined: u64,
    },
    /// Not all members could do with the keys what they were told.
    #[error("{}", OneLine(message.as_bstr()))]
    #[non_exhaustive]
    Keys {
        /// The agent's words, any bytes.
        message: BString,
        /// What the members said.
        reply: Box<KeyReply>,
    },
    /// No reply in time. A late one is swallowed.
    #[error("no reply within {after:?}")]
    #[non_exhaustive]
    Timeout {
        /// The limit.
        after: Duration,
        /// Whether the command was handed to the connection: the agent may carry it out then.
        sent: bool,
    },
    /// The connection is gone.
    #[error("connection lost: {reason}")]
    #[non_exhaustive]
    Lost {
        /// Why.
        reason: ConnectionError,
        /// Whether the command was handed to the connection: the agent may have carried it out then.
        sent: bool,
    },
    /// A managed client has no connection, and will have none; nothing was sent.
    #[error("no agent answers: {reason}")]
    #[non_exhaustive]
    NotConnected {
        /// Why.
        reason: Arc<WatchError>,
    },
    /// The reply is complete but not of the shape that the command has.
    #[error("unexpected reply: {reason}")]
    #[non_exhaustive]
    Decode {
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// A regular expression of a filter is malformed; nothing was sent.
    #[error("malformed expression for {field}: {message}")]
    #[non_exhaustive]
    Filter {
        /// What it was to match.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// What it is about came on another connection, and means nothing on this one; nothing was sent.
    #[error("meant for another connection")]
    OtherConnection,
    /// The connection has as many streams as it may, those that were only dropped included, and none gave its place back
    /// in the time that a call may take; nothing was sent.
    #[error("the connection already has {limit} streams")]
    #[non_exhaustive]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
}

impl CallErrorKind {
    pub(crate) fn not_connected(reason: WatchError) -> Self {
        let reason = Arc::new(reason);
        Self::NotConnected { reason }
    }
}

/// Where the same command may succeed. Whether it is safe to send it again is another question: see [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// Nowhere: the agent would refuse it again, or cannot be understood.
    Never,
    /// On the same connection, after a while.
    SameConnection,
    /// On a new connection; this one is gone.
    NewConnection,
}

/// What became of a command that has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The agent never got it: sending it again repeats nothing.
    NotSent,
    /// The agent got it and said no. Of a change for which the cluster was not told in time it has done its own part.
    Refused,
    /// It may have been carried out, or may yet be.
    Unknown,
}

impl CallError {
    pub(crate) fn new(command: &'static str, kind: CallErrorKind) -> Self {
        Self { command, kind }
    }

    /// The error of a response whose header says `message`.
    pub(crate) fn refused(command: &'static str, message: BString, body: ErrorBody) -> Self {
        let kind = match body {
            ErrorBody::Nothing => CallErrorKind::Refused {
                refusal: Refusal::of(message.as_bstr()),
                message,
            },
            ErrorBody::Joined(joined) => CallErrorKind::Join { message, joined },
            ErrorBody::Keys(reply) => CallErrorKind::Keys { message, reply },
        };
        Self::new(command, kind)
    }

    /// Where the same command may succeed.
    pub fn retry(&self) -> Retry {
        match &self.kind {
            CallErrorKind::Lost { .. } => Retry::NewConnection,
            CallErrorKind::NotConnected { reason } if !reason.is_permanent() => {
                Retry::NewConnection
            }
            CallErrorKind::Refused {
                refusal: Refusal::NotBroadcast,
                ..
            }
            | CallErrorKind::Join { .. }
            | CallErrorKind::Keys { .. }
            | CallErrorKind::Timeout { .. }
            | CallErrorKind::TooManyStreams { .. } => Retry::SameConnection,
            CallErrorKind::Refused { .. }
            | CallErrorKind::NotConnected { .. }
            | CallErrorKind::Decode { .. }
            | CallErrorKind::Filter { .. }
            | CallErrorKind::OtherConnection => Retry::Never,
        }
    }

    /// What became of the command.
    pub fn outcome(&self) -> Outcome {
        match &self.kind {
            CallErrorKind::Refused { .. }
            | CallErrorKind::Join { .. }
            | CallErrorKind::Keys { .. } => Outcome::Refused,
            CallErrorKind::Timeout { sent: true, .. }
            | CallErrorKind::Lost { sent: true, .. }
            | CallErrorKind::Decode { .. } => Outcome::Unknown,
            CallErrorKind::Timeout { sent: false, .. }
            | CallErrorKind::Lost { sent: false, .. }
            | CallErrorKind::NotConnected { .. }
            | CallErrorKind::Filter { .. }
            | CallErrorKind::OtherConnection
            | CallErrorKind::TooManyStreams { .. } => Outcome::NotSent,
        }
    }

    /// Whether there was no reply in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, CallErrorKind::Timeout { .. })
    }

    /// Why the agent refused it, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self.kind {
            CallErrorKind::Refused { refusal, .. } => Some(refusal),
            _ => None,
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

/// Words of an agent in one line: white space is one blank, and what a terminal might obey is escaped.
struct OneLine<'a>(&'a BStr);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_str_lossy();
        for (at, word) in text.split_whitespace().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            for c in word.chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> CallError {
        CallError::refused("join", message.into(), ErrorBody::Nothing)
    }

    #[test]
    fn an_error_is_one_line_with_its_reason() {
        let words = "1 error occurred:\n\t* Failed to join 127.0.0.99: \x1b[2J\n\n";
        assert_eq!(
            refused(words).to_string(),
            "join: 1 error occurred: * Failed to join 127.0.0.99: \\u{1b}[2J"
        );
        let reason = ConnectionError::Io(Arc::new(io::Error::other("reset by peer")));
        let lost = CallError::new("members", CallErrorKind::Lost { reason, sent: true });
        let handshake = ConnectError::Handshake {
            addr: "agent:7373".into(),
            reason: lost,
        };
        assert_eq!(
            handshake.to_string(),
            "handshake with agent agent:7373 failed: members: connection lost: connection failed: reset by peer"
        );
        let source: Option<&dyn std::error::Error> = std::error::Error::source(&handshake);
        assert!(source.is_none(), "a chain would say it twice");
    }

    #[test]
    fn an_error_says_where_to_try_again_and_whether_it_may_have_been_done() {
        let lost = |sent| CallErrorKind::Lost {
            reason: ConnectionError::Closed,
            sent,
        };
        let late = |sent| CallErrorKind::Timeout {
            after: Duration::ZERO,
            sent,
        };
        for (kind, retry, outcome) in [
            (lost(true), Retry::NewConnection, Outcome::Unknown),
            (lost(false), Retry::NewConnection, Outcome::NotSent),
            (late(true), Retry::SameConnection, Outcome::Unknown),
            (late(false), Retry::SameConnection, Outcome::NotSent),
            (
                refused("Unsupported command").kind,
                Retry::Never,
                Outcome::Refused,
            ),
            (
                refused("timeout waiting for update broadcast").kind,
                Retry::SameConnection,
                Outcome::Refused,
            ),
            (
                CallErrorKind::OtherConnection,
                Retry::Never,
                Outcome::NotSent,
            ),
        ] {
            let error = CallError::new("event", kind);
            assert_eq!(
                (error.retry(), error.outcome()),
                (retry, outcome),
                "{error}"
            );
        }
    }
}
