//! Commands that act on the cluster and on the agent's own membership of it.

use bstr::BString;

use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::protocol::ResponseShape;

use super::{Command, Response};
use crate::error::ErrorBody;

/// A user event for all members (`serf event`).
///
/// Name and payload are any bytes. Together, encoded, they may have 512 bytes unless the agent's
/// `user_event_size_limit` says otherwise; it refuses longer ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEvent {
    name: BString,
    payload: BString,
    coalesce: bool,
}

impl UserEvent {
    /// An event of that name, without a payload, that agents deliver each time it is sent.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().into(),
            payload: BString::default(),
            coalesce: false,
        }
    }

    /// What it carries.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().into();
        self
    }

    /// Whether agents may hold it back for 1–3 s and deliver only the last of that name.
    #[must_use]
    pub fn coalesce(mut self, coalesce: bool) -> Self {
        self.coalesce = coalesce;
        self
    }
}

/// `event`: sends a user event to all members.
impl Command for UserEvent {
    const NAME: &'static str = "event";
    type Response = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(3)
            .str("Name")
            .str(&self.name)
            .str("Payload")
            .str(&self.payload)
            .str("Coalesce")
            .bool(self.coalesce);
    }
}

/// `force-leave`: declares a failed member to have left.
pub(crate) struct ForceLeave<'a> {
    pub(crate) node: &'a [u8],
    pub(crate) prune: bool,
}

impl Command for ForceLeave<'_> {
    const NAME: &'static str = "force-leave";
    type Response = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(2)
            .str("Node")
            .str(self.node)
            .str("Prune")
            .bool(self.prune);
    }
}

/// `join`: makes the agent join the cluster of the members at these addresses.
pub(crate) struct Join<'a> {
    pub(crate) existing: &'a [&'a str],
    pub(crate) replay: bool,
}

impl Command for Join<'_> {
    const NAME: &'static str = "join";
    type Response = Joined;

    fn write_body(&self, body: &mut Vec<u8>) {
        let mut writer = Writer::new(body);
        writer
            .map(2)
            .str("Existing")
            .strings(self.existing)
            .str("Replay")
            .bool(self.replay);
    }
}

/// How many of the addresses were contacted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Joined(pub(crate) u64);

impl Response for Joined {
    const SHAPE: ResponseShape = ResponseShape::Body;

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut joined = 0;
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Num" => joined = value.uint("Num")?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        Ok(Self(joined))
    }

    fn error_body(body: &[u8]) -> ErrorBody {
        Self::decode(body).map_or(ErrorBody::Nothing, |Self(joined)| ErrorBody::Joined(joined))
    }
}

/// `leave`: the agent leaves the cluster gracefully and exits.
pub(crate) struct Leave;

impl Command for Leave {
    const NAME: &'static str = "leave";
    type Response = ();

    fn write_body(&self, _: &mut Vec<u8>) {}
}

/// A change of the agent's own tags (`serf tags`).
///
/// Tags are any bytes; all of a member's together may have 512 bytes, encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagChange {
    set: Vec<(BString, BString)>,
    delete: Vec<BString>,
}

impl TagChange {
    /// A change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a tag. One that is also deleted is set.
    #[must_use]
    pub fn set(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.set.push((key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Deletes a tag, if the agent has it.
    #[must_use]
    pub fn delete(mut self, key: impl AsRef<[u8]>) -> Self {
        self.delete.push(key.as_ref().into());
        self
    }
}

/// `tags`: changes the agent's own tags.
impl Command for TagChange {
    const NAME: &'static str = "tags";
    type Response = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        let mut writer = Writer::new(body);
        writer.map(2).str("Tags").map(self.set.len());
        for (key, value) in &self.set {
            writer.str(key).str(value);
        }
        writer.str("DeleteTags").strings(&self.delete);
    }
}
