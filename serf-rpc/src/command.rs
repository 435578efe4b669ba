//! The commands: one type a command in, the bytes of its request body out, and its reply decoded.

mod cluster;
mod keys;

use std::collections::BTreeMap;

use bstr::BString;

use crate::codec::{DecodeError, Reader, Writer};
use crate::coordinate::Coordinate;
use crate::error::CallError;
use crate::member::{Member, MemberDecoder};
use crate::protocol::{self, ReplyShape};
use crate::stats::Stats;
use crate::subscription::{EventFilter, LogLevel};

pub(crate) use cluster::{ForceLeave, Join, Leave};
pub use cluster::{TagChange, UserEvent};
pub use keys::KeyReply;
pub(crate) use keys::{InstallKey, ListKeys, RemoveKey, UseKey};

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

    /// What a reply with an error is to the caller.
    fn refusal(command: &'static str, message: BString, _body: &[u8]) -> CallError {
        CallError::Agent { command, message }
    }
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

/// A header that says that records will follow, and a last one.
pub(crate) struct RecordsUntilDone;

impl Reply for RecordsUntilDone {
    const SHAPE: ReplyShape = ReplyShape::RecordsUntilDone;

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

/// The groups of figures.
impl Reply for Stats {
    const SHAPE: ReplyShape = ReplyShape::Body;

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut stats = Self::default();
        Reader::whole(body, |reader| {
            reader.fields(|group, figures| {
                let group = stats.group_mut(group);
                figures.fields(|key, value| {
                    group.insert(key.into(), value.bytes()?.into());
                    Ok(())
                })
            })
        })?;
        Ok(stats)
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

/// `stats`: figures of the agent.
pub(crate) struct StatsCommand;

impl Command for StatsCommand {
    const NAME: &'static str = "stats";
    type Reply = Stats;

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

/// `get-coordinate`: where a member is in the network.
pub(crate) struct GetCoordinate<'a> {
    pub(crate) node: &'a [u8],
}

impl Command for GetCoordinate<'_> {
    const NAME: &'static str = "get-coordinate";
    type Reply = Option<Coordinate>;

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body).map(1).str("Node").str(self.node);
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
mod recorded;
#[cfg(test)]
mod tests;
