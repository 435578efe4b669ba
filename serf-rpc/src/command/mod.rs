//! The commands: one type a command in, the bytes of its request body out, and its response decoded.

mod agent;
mod cluster;
mod keys;
mod members;
mod pattern;
mod query;
mod re2;
mod streams;

use crate::error::ErrorBody;
use crate::wire::codec::DecodeError;
use crate::wire::protocol::ResponseShape;

pub(crate) use agent::{Auth, GetCoordinate, Handshake, StatsCommand};
pub(crate) use cluster::{ForceLeave, Join, Leave};
pub use cluster::{TagChange, UserEvent};
pub(crate) use keys::{InstallKey, ListKeys, RemoveKey, UseKey};
pub use members::MemberFilter;
pub(crate) use members::Members;
pub use pattern::{MalformedPattern, Pattern};
pub use query::Query;
pub(crate) use query::Respond;
pub(crate) use streams::{Monitor, Stop, Stream};

/// A command of the agent (`cmd/serf/command/agent/ipc.go`).
pub(crate) trait Command {
    /// Its name on the wire.
    const NAME: &'static str;
    /// What the agent answers it with.
    type Response: Response;

    /// Appends the body of the request. A command that has none writes nothing: the agent would
    /// take it for the next header.
    fn write_body(&self, body: &mut Vec<u8>);

    /// The stream that it stops.
    fn stops(&self) -> Option<u64> {
        None
    }
}

/// What a command is answered with.
pub(crate) trait Response: Sized {
    /// What the agent sends.
    const SHAPE: ResponseShape;

    /// Decodes the body of a reply without an error; it is empty where the shape has none.
    fn decode(body: &[u8]) -> Result<Self, DecodeError>;

    /// What the body of a response with an error says.
    fn error_body(_body: &[u8]) -> ErrorBody {
        ErrorBody::Nothing
    }
}

/// A header that says that it was done.
impl Response for () {
    const SHAPE: ResponseShape = ResponseShape::Header;

    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(())
    }
}

/// A header that says that records will follow.
pub(crate) struct Records;

impl Response for Records {
    const SHAPE: ResponseShape = ResponseShape::Records;

    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// A header that says that records will follow, and a last one.
pub(crate) struct RecordsUntilDone;

impl Response for RecordsUntilDone {
    const SHAPE: ResponseShape = ResponseShape::RecordsUntilDone;

    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
