//! Answers to a query: the body of a record in, an acknowledgement or a response out.

use bstr::BString;

use crate::wire::codec::{DecodeError, Reader};

use super::record::{ConnectionId, Record, Sealed};

/// What comes back from a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryReply {
    /// A member got the query.
    Ack {
        /// Its name, any bytes.
        from: BString,
    },
    /// A member's response. There is at most one of each.
    Response {
        /// Its name, any bytes.
        from: BString,
        /// Its answer, any bytes.
        payload: BString,
    },
    /// The reader was too slow, and so many answers were left out here.
    Lagged(u64),
}

/// A record of a query that is not its last; none where it says nothing. When the time is up agents
/// send acknowledgements and responses of nobody (hashicorp/serf#408), and a kind that this library
/// does not know says nothing to it either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryRecord(pub(crate) Option<QueryReply>);

impl Sealed for QueryRecord {}

impl Record for QueryRecord {
    fn decode(body: &[u8], _: ConnectionId) -> Result<Self, DecodeError> {
        let (mut kind, mut from, mut payload) = (None, &[][..], &[][..]);
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Type" => kind = Some(value.bytes()?),
                    b"From" => from = value.bytes()?,
                    b"Payload" => payload = value.bytes()?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        let kind = kind.ok_or(DecodeError::Missing { field: "Type" })?;
        let from = BString::from(from);
        Ok(Self(match kind {
            _ if from.is_empty() => None,
            b"ack" => Some(QueryReply::Ack { from }),
            b"response" => Some(QueryReply::Response {
                from,
                payload: payload.into(),
            }),
            _ => None,
        }))
    }

    fn lagged(missed: u64) -> Self {
        Self(Some(QueryReply::Lagged(missed)))
    }

    fn resubscribed() -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: &[u8]) -> Result<Option<QueryReply>, DecodeError> {
        QueryRecord::decode(bytes, crate::recordings::CONNECTION).map(|record| record.0)
    }

    #[test]
    fn answers_of_nobody_say_nothing() {
        let empty = b"\x83\xa4From\xa0\xa7Payload\xc0\xa4Type\xa8response";
        assert_eq!(record(empty), Ok(None));
        let later = b"\x82\xa4From\xa1a\xa4Type\xa4new!";
        assert_eq!(record(later), Ok(None));
        let missing = Err(DecodeError::Missing { field: "Type" });
        assert_eq!(record(b"\x81\xa4From\xa1a"), missing);
    }
}
