//! The commands: one type a command in, the bytes of its request body out, and its reply decoded.

use std::collections::BTreeMap;

use crate::codec::{DecodeError, Reader, Writer};
use crate::member::{Member, MemberDecoder};
use crate::protocol::{self, ReplyShape};
use crate::subscription::{EventFilter, LogLevel};

/// A command of the agent (`cmd/serf/command/agent/ipc.go`).
pub(crate) trait Command {
    /// Its name on the wire.
    const NAME: &'static str;
    /// What the agent answers it with.
    type Reply: Reply;

    /// Appends the body of the request. A command that has none writes nothing: the agent would
    /// take it for the next header.
    fn write_body(&self, body: &mut Vec<u8>);
}

/// What a command is answered with.
pub(crate) trait Reply: Sized {
    /// What the agent sends.
    const SHAPE: ReplyShape;

    /// Decodes the body of a reply without an error; it is empty where the shape has none.
    fn decode(body: &[u8]) -> Result<Self, DecodeError>;
}

/// A header that says that it was done.
impl Reply for () {
    const SHAPE: ReplyShape = ReplyShape::Header;

    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(())
    }
}

/// A header that says that records will follow.
pub(crate) struct Records;

impl Reply for Records {
    const SHAPE: ReplyShape = ReplyShape::Records;

    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// The members, in random order.
impl Reply for Vec<Member> {
    const SHAPE: ReplyShape = ReplyShape::Body;

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut members = Self::new();
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Members" => members = MemberDecoder::members(value)?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        Ok(members)
    }
}

/// `handshake`: the first command of a connection.
pub(crate) struct Handshake;

impl Command for Handshake {
    const NAME: &'static str = "handshake";
    type Reply = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(1)
            .str("Version")
            .uint(protocol::VERSION);
    }
}

/// `auth`: an agent without a key accepts the empty one.
pub(crate) struct Auth<'a> {
    pub(crate) key: &'a str,
}

impl Command for Auth<'_> {
    const NAME: &'static str = "auth";
    type Reply = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body).map(1).str("AuthKey").str(self.key);
    }
}

/// `members`: all members the agent knows, itself included, in random order.
pub(crate) struct Members;

impl Command for Members {
    const NAME: &'static str = "members";
    type Reply = Vec<Member>;

    fn write_body(&self, _: &mut Vec<u8>) {}
}

/// `members-filtered`: the members whose name, status and tags match regular expressions.
///
/// The agent puts `^` and `$` around each without a group, so they are sent grouped.
pub(crate) struct MembersFiltered<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) status: Option<&'a str>,
    pub(crate) tags: &'a BTreeMap<String, String>,
}

impl Command for MembersFiltered<'_> {
    const NAME: &'static str = "members-filtered";
    type Reply = Vec<Member>;

    fn write_body(&self, body: &mut Vec<u8>) {
        let grouped = |expression: &str| format!("(?:{expression})");
        let named = [("Status", self.status), ("Name", self.name)];
        let named = named
            .into_iter()
            .filter_map(|(field, expression)| Some((field, expression?)));
        let mut writer = Writer::new(body);
        writer.map(1 + named.clone().count());
        writer.str("Tags").map(self.tags.len());
        for (tag, expression) in self.tags {
            writer.str(tag).str(grouped(expression));
        }
        for (field, expression) in named {
            writer.str(field).str(grouped(expression));
        }
    }
}

/// `stream`: events as they leave the agent's coalescer.
pub(crate) struct Stream<'a> {
    pub(crate) filter: &'a EventFilter,
}

impl Command for Stream<'_> {
    const NAME: &'static str = "stream";
    type Reply = Records;

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(1)
            .str("Type")
            .str(self.filter.as_bytes());
    }
}

/// `monitor`: the agent's log, the last 512 lines first.
pub(crate) struct Monitor {
    pub(crate) level: LogLevel,
}

impl Command for Monitor {
    const NAME: &'static str = "monitor";
    type Reply = Records;

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(1)
            .str("LogLevel")
            .str(self.level.as_str());
    }
}

/// `stop`: ends the stream or monitor that was begun with that sequence number.
pub(crate) struct Stop {
    pub(crate) stream: u64,
}

impl Command for Stop {
    const NAME: &'static str = "stop";
    type Reply = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body).map(1).str("Stop").uint(self.stream);
    }
}

#[cfg(test)]
mod tests;
