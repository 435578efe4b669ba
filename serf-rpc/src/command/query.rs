//! `query` and `respond`: a question and an answer in, their request bodies out.

use std::time::Duration;

use bstr::BString;

use crate::error::CallErrorKind;
use crate::wire::codec::Writer;

use super::pattern::{Pattern, TagPatterns};
use super::{Command, RecordsUntilDone};

/// A question to the members (`serf query`).
///
/// Everything of it, encoded, may have 1024 bytes unless the agent's `query_size_limit` says
/// otherwise. Answers travel in single UDP packets, and one that is lost is not sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    name: BString,
    payload: BString,
    nodes: Vec<BString>,
    tags: TagPatterns,
    acks: bool,
    relay_factor: u8,
    timeout: Duration,
}

impl Query {
    /// A query of that name to all members, without a payload. Names that begin with `_serf_` are
    /// Serf's own; of these only `_serf_ping` is allowed, without a payload.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().into(),
            payload: BString::default(),
            nodes: Vec::new(),
            tags: TagPatterns::default(),
            acks: false,
            relay_factor: 0,
            timeout: Duration::ZERO,
        }
    }

    /// What it carries.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().into();
        self
    }

    /// Asks only members of that name, and of the names given before.
    #[must_use]
    pub fn node(mut self, name: impl AsRef<[u8]>) -> Self {
        self.nodes.push(name.as_ref().into());
        self
    }

    /// Asks only members whose tag of that key matches; one that lacks it is taken to have an empty one. As in a
    /// [`MemberFilter`](crate::MemberFilter) the [`Pattern`] must match the whole of it, and what no agent can read is
    /// refused before it is sent.
    #[must_use]
    pub fn tag(mut self, key: impl AsRef<[u8]>, pattern: impl Into<Pattern>) -> Self {
        self.tags.insert(key, pattern);
        self
    }

    /// Asks only members whose tag of that key has that value.
    #[must_use]
    pub fn tag_is(self, key: impl AsRef<[u8]>, value: impl AsRef<str>) -> Self {
        self.tag(key, Pattern::exactly(value))
    }

    /// Whether each member says at once that it got the query.
    #[must_use]
    pub fn request_ack(mut self, acks: bool) -> Self {
        self.acks = acks;
        self
    }

    /// Through how many other members, 0–255, each answer is sent once more.
    #[must_use]
    pub fn relay_factor(mut self, members: u8) -> Self {
        self.relay_factor = members;
        self
    }

    /// How long members may take to answer, in nanoseconds up to 292 years. Zero stands for Serf's
    /// default, which grows with the cluster: 1.6 s at `profile=local`, 3.2 s at `lan`, 8 s at
    /// `wan` for up to 9 members, twice that for up to 99.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The first expression that no agent can read: nobody would answer.
    pub(crate) fn check(&self) -> Result<(), CallErrorKind> {
        self.tags.check()
    }
}

/// `query`: asks the members.
impl Command for Query {
    const NAME: &'static str = "query";
    type Response = RecordsUntilDone;

    fn write_body(&self, body: &mut Vec<u8>) {
        let nanoseconds = i64::try_from(self.timeout.as_nanos()).unwrap_or(i64::MAX);
        let mut writer = Writer::new(body);
        writer.map(7).str("FilterNodes").strings(&self.nodes);
        writer.str("FilterTags").map(self.tags.len());
        // Agents do not anchor these (`serf/query.go`, `shouldProcessQuery`).
        for (key, pattern) in self.tags.iter() {
            writer.str(key).str(pattern.anchored());
        }
        writer
            .str("RequestAck")
            .bool(self.acks)
            .str("RelayFactor")
            .uint(self.relay_factor.into())
            .str("Timeout")
            .uint(nanoseconds.unsigned_abs())
            .str("Name")
            .str(&self.name)
            .str("Payload")
            .str(&self.payload);
    }
}

/// `respond`: answers a query that a stream of this connection has brought.
pub(crate) struct Respond<'a> {
    pub(crate) id: u64,
    pub(crate) payload: &'a [u8],
}

impl Command for Respond<'_> {
    const NAME: &'static str = "respond";
    type Response = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(2)
            .str("ID")
            .uint(self.id)
            .str("Payload")
            .str(self.payload);
    }
}
