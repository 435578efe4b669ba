//! The rules of Serf's RPC that no byte shows: request and reply headers in, what follows them out.
//!
//! Everything that is decided by an error's text is decided here (`cmd/serf/command/agent/ipc.go`).

use bstr::{BStr, BString, ByteSlice};

use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::framing::ObjectError;

/// The version of the protocol, the only one there is.
pub(crate) const VERSION: u64 = 1;

const UNSUPPORTED_COMMAND: &str = "Unsupported command";
const UNSUPPORTED_VERSION: &str = "Unsupported IPC version";
const HANDSHAKE_REQUIRED: &str = "Handshake required";
const AUTHENTICATION_REQUIRED: &str = "Authentication required";
const INVALID_TOKEN: &str = "Invalid authentication token";

/// What an agent answers a command with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseShape {
    /// A header alone.
    Header,
    /// A header and a body, even with most errors.
    Body,
    /// A header alone; if it is no error, then records, each a header and a body.
    Records,
    /// The same, until a record says that it is the last.
    RecordsUntilDone,
}

impl ResponseShape {
    /// Whether a body follows the first header of a reply of this shape.
    ///
    /// The agent writes a body with most refusals too, but not with those it decides on before it
    /// looks at the command's own request.
    pub(crate) fn body_follows(self, error: Option<&BStr>) -> bool {
        let before_the_command = [
            AUTHENTICATION_REQUIRED,
            HANDSHAKE_REQUIRED,
            UNSUPPORTED_COMMAND,
        ]
        .map(|text| Some(text.into()));
        self == Self::Body && !before_the_command.contains(&error)
    }
}

/// Why an agent refuses a command, as far as its words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It does not speak version 1 of the protocol.
    UnsupportedVersion,
    /// The key is not its own.
    InvalidKey,
    /// It wants a key first. It has not read the request's body and will take it for the next header: the connection is
    /// of no use any more.
    AuthenticationRequired,
    /// The query has been answered, by this client or another one of the agent.
    AlreadyAnswered,
    /// The time to answer the query is over, or it never came on this connection.
    QueryOver,
    /// The event, query, answer or tags are too long.
    #[non_exhaustive]
    TooLong {
        /// How many bytes are allowed, encoded; none if the agent does not say.
        limit: Option<u64>,
    },
    /// The change was made and the cluster could not be told in time.
    NotBroadcast,
    /// The name begins with `_serf_`.
    ReservedName,
    /// The connection follows the log already.
    MonitorExists,
    /// Anything else.
    Other,
}

/// How agents say that the cluster could not be told: of tags, of a member to be removed, of their own leave.
const NOT_BROADCAST: [&str; 3] = [
    "timeout waiting for update broadcast",
    "timed out broadcasting node removal",
    "timeout while waiting for graceful leave",
];

impl Refusal {
    pub(crate) fn of(error: &BStr) -> Self {
        let text = error.to_str_lossy();
        let text = text.trim_end();
        match text {
            UNSUPPORTED_VERSION => return Self::UnsupportedVersion,
            INVALID_TOKEN => return Self::InvalidKey,
            AUTHENTICATION_REQUIRED => return Self::AuthenticationRequired,
            "Monitor already exists" => return Self::MonitorExists,
            "No pending queries matching ID" => return Self::QueryOver,
            _ => {}
        }
        if text.ends_with("response already sent") {
            Self::AlreadyAnswered
        } else if text.ends_with("response is past the deadline") {
            Self::QueryOver
        } else if NOT_BROADCAST.iter().any(|words| text.ends_with(words)) {
            Self::NotBroadcast
        } else if text.contains("exceeds") && text.contains("limit of ") {
            let limit = text.split_once("limit of ").and_then(|(_, rest)| {
                let (limit, _) = rest.split_once(" bytes")?;
                limit.parse().ok()
            });
            Self::TooLong { limit }
        } else if text.contains("cannot contain the '_serf_' prefix") {
            Self::ReservedName
        } else {
            Self::Other
        }
    }
}

/// The header of a reply or of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) seq: u64,
    /// None for the empty text, which means success.
    pub(crate) error: Option<BString>,
}

impl Header {
    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let (mut seq, mut error) = (None, None);
        Reader::whole(value, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Seq" => seq = Some(value.uint("Seq")?),
                    b"Error" => {
                        error = Some(value.bytes()?)
                            .filter(|text| !text.is_empty())
                            .map(BString::from)
                    }
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        Ok(Self {
            seq: seq.ok_or(DecodeError::Missing { field: "Seq" })?,
            error,
        })
    }
}

/// Whether a value is a header: no body has a key `Seq`, and every header has one. As `Error` is its
/// only other one, a value that begins with any other key is not looked through.
///
/// It tells the two apart without any knowledge of the command, so it shows at once if
/// [`ResponseShape::body_follows`] was ever wrong.
pub(crate) fn is_header(value: &[u8]) -> bool {
    let mut reader = Reader::new(value);
    let Ok(pairs) = reader.map_len() else {
        return false;
    };
    for pair in 1..=pairs {
        match reader.bytes() {
            Ok(b"Seq") => return true,
            Ok(key) if pair == 1 && key != b"Error" => return false,
            Ok(_) if pair < pairs && reader.skip().is_ok() => {}
            _ => return false,
        }
    }
    false
}

/// What a record of a query is for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryPart {
    /// No more will come.
    Done,
    /// An acknowledgement or response of nobody. From the end of a query's time until it says so itself, an agent may
    /// send thousands of them (hashicorp/serf#408).
    OfNobody,
    /// Anything else, also what cannot be read.
    Other,
}

impl QueryPart {
    /// Tells what a record is.
    pub(crate) fn of(record: &[u8]) -> Self {
        let (mut done, mut of_nobody) = (false, false);
        let read = Reader::whole(record, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Type" => done = value.bytes()? == b"done",
                    b"From" => of_nobody = value.bytes()?.is_empty(),
                    _ => value.skip()?,
                }
                Ok(())
            })
        });
        match read {
            Ok(_) if done => Self::Done,
            Ok(_) if of_nobody => Self::OfNobody,
            _ => Self::Other,
        }
    }
}

/// How the agent's bytes break the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// They are no msgpack value, or one beyond the limits.
    #[error("malformed value: {0}")]
    Object(ObjectError),
    /// A body where a header was due.
    #[error("a body came where a header was due")]
    HeaderExpected,
    /// A header where a body was due.
    #[error("a header came where the body of {seq} was due")]
    #[non_exhaustive]
    BodyExpected {
        /// The sequence number whose body was due.
        seq: u64,
    },
    /// A header that does not decode.
    #[error("malformed header: {0}")]
    Header(DecodeError),
    /// A reply to nothing that was asked.
    #[error("a reply to sequence number {seq}, which is not in use")]
    #[non_exhaustive]
    UnknownSeq {
        /// The number.
        seq: u64,
    },
}

/// Appends the header of a request. Both fields are always written: the agent keeps the previous
/// request's value of one that is missing.
pub(crate) fn write_request_header(out: &mut Vec<u8>, command: &str, seq: u64) {
    Writer::new(out)
        .map(2)
        .str("Command")
        .str(command)
        .str("Seq")
        .uint(seq);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_follows_an_error_unless_the_agent_never_looked_at_the_request() {
        let follows = |shape: ResponseShape, error: &str| shape.body_follows(Some(error.into()));
        assert!(ResponseShape::Body.body_follows(None));
        assert!(follows(
            ResponseShape::Body,
            "1 error occurred:\n\t* Failed to join"
        ));
        for early in [
            "Authentication required",
            "Handshake required",
            "Unsupported command",
        ] {
            assert!(!follows(ResponseShape::Body, early));
        }
        assert!(!ResponseShape::Header.body_follows(None));
        assert!(!ResponseShape::Records.body_follows(None));
        assert!(!follows(ResponseShape::Records, "Monitor already exists"));
    }

    #[test]
    fn what_an_agent_refuses_has_a_type() {
        for (words, refusal) in [
            ("Authentication required", Refusal::AuthenticationRequired),
            (
                "failed to respond to key query: response already sent",
                Refusal::AlreadyAnswered,
            ),
            ("No pending queries matching ID", Refusal::QueryOver),
            (
                "failed to respond to key query: response exceeds limit of 1024 bytes",
                Refusal::TooLong { limit: Some(1024) },
            ),
            (
                "user event exceeds configured limit of 512 bytes before encoding",
                Refusal::TooLong { limit: Some(512) },
            ),
            (
                "Encoded length of tags exceeds limit of 512 bytes",
                Refusal::TooLong { limit: Some(512) },
            ),
            (
                "Queries cannot contain the '_serf_' prefix",
                Refusal::ReservedName,
            ),
            (
                "timeout waiting for update broadcast",
                Refusal::NotBroadcast,
            ),
            ("Monitor already exists", Refusal::MonitorExists),
            ("limit of nothing", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(words.into()), refusal, "{words}");
        }
    }

    #[test]
    fn headers_are_told_from_bodies_by_their_seq() {
        assert!(is_header(b"\x82\xa5Error\xa0\xa3Seq\x01"));
        assert!(is_header(b"\x82\xa3Seq\x01\xa5Error\xa0"));
        assert!(!is_header(b"\x81\xa7Members\x90"));
        assert!(!is_header(b"\x82\xa3Num\x00\xa5Error\xa3Seq"));
        assert!(!is_header(b"\xc0"));
        assert!(!is_header(b"\x93\xa3Seq\xa3Seq\x01"));
    }

    #[test]
    fn only_a_query_that_is_over_says_done_and_what_nobody_sent_is_told() {
        use QueryPart::{Done, OfNobody, Other};
        for (record, part) in [
            (&b"\x82\xa4From\xa0\xa4Type\xa4done"[..], Done),
            (b"\x82\xa4From\xa1a\xa4Type\xa3ack", Other),
            (b"\x82\xa4From\xa0\xa4Type\xa3ack", OfNobody),
            (
                b"\x83\xa4From\xa0\xa7Payload\xc0\xa4Type\xa8response",
                OfNobody,
            ),
            (b"\x81\xa7Payload\xa4done", Other),
            (b"\xc0", Other),
            (b"\x82\xa4Type\xa4done", Other),
        ] {
            assert_eq!(QueryPart::of(record), part, "{record:?}");
        }
    }

    #[test]
    fn a_header_needs_its_seq() {
        assert_eq!(
            Header::decode(b"\x81\xa5Error\xa0"),
            Err(DecodeError::Missing { field: "Seq" })
        );
        let header = Header::decode(b"\x82\xa5Error\xa1x\xa3Seq\xcd\x01\x00").unwrap();
        assert_eq!(
            header,
            Header {
                seq: 256,
                error: Some("x".into())
            }
        );
    }
}
