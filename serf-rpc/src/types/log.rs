//! The agent's log: the body of a `monitor` record in, one line out.

use bstr::{BStr, BString, ByteSlice};

use crate::wire::codec::{DecodeError, Reader};

use super::record::{ConnectionId, Record, Sealed};

/// From which level up a [`LogStream`](crate::LogStream) carries lines, whatever the agent's own level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// The level of that word, as it stands in a line; none for any other.
    pub fn parse(word: impl AsRef<[u8]>) -> Option<Self> {
        let all = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Err];
        let word = word.as_ref();
        all.into_iter()
            .find(|level| level.as_str().as_bytes() == word)
    }
}

/// What the agent's log brings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogEntry {
    /// A line.
    Line(LogLine),
    /// The reader was too slow, and so many lines were left out here.
    Lagged(u64),
    /// The log was begun anew on another connection. Only in [`ManagedLog`](crate::ManagedLog).
    Resubscribed,
}

impl LogEntry {
    /// The line, if it is one.
    pub fn into_line(self) -> Option<LogLine> {
        match self {
            Self::Line(line) => Some(line),
            Self::Lagged(_) | Self::Resubscribed => None,
        }
    }
}

/// A line of the agent's log: `2006/01/02 15:04:05 [LEVEL] component: text`, in the agent's local
/// time, any bytes, sometimes with line breaks inside. Names in it come from all over the cluster, so its parts are a
/// guess: whoever can make the agent log may make it log what looks like another line.
///
/// ```
/// use serf_rpc::{LogLevel, LogLine};
///
/// let line = LogLine::new("2026/11/23 16:07:50 [INFO] serf: EventMemberJoin: web-1 10.0.0.7");
/// assert_eq!(line.time(), "2026/11/23 16:07:50");
/// assert_eq!(line.level(), Some(LogLevel::Info));
/// assert_eq!(line.component(), "serf");
/// assert_eq!(line.text(), "EventMemberJoin: web-1 10.0.0.7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine(BString);

impl LogLine {
    /// A line of these bytes.
    pub fn new(line: impl AsRef<[u8]>) -> Self {
        Self(line.as_ref().into())
    }

    /// The whole line, as the agent sent it.
    pub fn as_bytes(&self) -> &BStr {
        self.0.as_bstr()
    }

    /// When it was written, `2006/01/02 15:04:05` in the agent's local time; empty where the line has none.
    pub fn time(&self) -> &BStr {
        self.split().0
    }

    /// Its level, if it has one.
    pub fn level(&self) -> Option<LogLevel> {
        self.split().1
    }

    /// The part of the agent that wrote it, for instance `serf`, `memberlist`, `agent` or `agent.ipc`; empty where the
    /// line names none.
    pub fn component(&self) -> &BStr {
        self.split().2
    }

    /// What it says, without the line break at its end.
    pub fn text(&self) -> &BStr {
        self.split().3
    }

    /// Time, level, component and text.
    fn split(&self) -> (&BStr, Option<LogLevel>, &BStr, &BStr) {
        let empty = BStr::new("");
        let line = self.0.strip_suffix(b"\n").unwrap_or(&self.0);
        let head = line.split_once_str(" [").and_then(|(time, rest)| {
            let (level, message) = rest.split_once_str("] ")?;
            Some((time.as_bstr(), LogLevel::parse(level)?, message))
        });
        let Some((time, level, message)) = head else {
            return (empty, None, empty, line.as_bstr());
        };
        let is_name = |word: &[u8]| word.iter().all(|byte| byte.is_ascii_graphic());
        match message.split_once_str(": ") {
            Some((component, text)) if is_name(component) => {
                (time, Some(level), component.as_bstr(), text.as_bstr())
            }
            _ => (time, Some(level), empty, message.as_bstr()),
        }
    }
}

impl AsRef<[u8]> for LogLine {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Sealed for LogEntry {}

impl Record for LogEntry {
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
        line.map(|line| Self::Line(LogLine(line.into())))
            .ok_or(DecodeError::Missing { field: "Log" })
    }

    fn lagged(missed: u64) -> Self {
        Self::Lagged(missed)
    }

    fn resubscribed() -> Self {
        Self::Resubscribed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_line_of_an_agent_is_text_alone() {
        for text in ["", "serf: x", "now [LOUD] serf: x", "a [INFO]serf"] {
            let line = LogLine::new(text);
            assert_eq!((line.time(), line.level()), (BStr::new(""), None), "{text}");
            assert_eq!(line.text(), text);
        }
        let line = LogLine::new("t [WARN] no component here: x");
        assert_eq!(
            (line.component(), line.text()),
            ("".into(), "no component here: x".into())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_line(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let line = LogLine::new(&bytes);
            prop_assert!(line.text().len() <= bytes.len());
            prop_assert_eq!(line.as_bytes(), &bytes[..]);
        }
    }
}
