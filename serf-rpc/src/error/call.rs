//! Why a call has no result, where to try it again, and whether it may have been carried out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};

use super::{ConnectionError, WatchError};
use crate::types::KeyReply;
use crate::wire::codec::DecodeError;
use crate::wire::protocol::Refusal;

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

/// What the body of a response with an error says beside the error's text.
#[derive(Debug)]
pub(crate) enum ErrorBody {
    /// Nothing, or it does not decode.
    Nothing,
    /// `join`: how many addresses were reached.
    Joined(u64),
    /// A command for keys: what the members said.
    Keys(Box<KeyReply>),
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
