//! The agent's log: the body of a `monitor` record in, one line out.

use bstr::BString;

use crate::wire::codec::{DecodeError, Reader};

use super::record::{ConnectionId, Record, Sealed};

/// From which level up a [`LogStream`](crate::LogStream) carries lines, whatever the agent's own level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What the agent receives and sends, and all below.
    Debug,
    /// What happens to members, and all below.
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Err,
}

impl LogLevel {
    /// Serf's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Err => "ERR",
        }
    }
}

/// A line of the agent's log: `2006/01/02 15:04:05 [LEVEL] component: text`, in the agent's local
/// time, any bytes, sometimes with line breaks inside. Names in it come from all over the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine(pub BString);

impl Sealed for LogLine {}

impl Record for LogLine {
    fn decode(body: &[u8], _: ConnectionId) -> Result<Self, DecodeError> {
        let mut line = None;
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Log" => line = Some(value.bytes()?),
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        line.map(|line| Self(line.into()))
            .ok_or(DecodeError::Missing { field: "Log" })
    }
}
