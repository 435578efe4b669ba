//! What an agent says of itself: the reply to `stats` in, figures by group and key out.

use std::collections::BTreeMap;

use bstr::{BStr, BString, ByteSlice};

/// The figures of an agent. Every value is text; groups and keys vary between versions of Serf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    groups: BTreeMap<BString, BTreeMap<BString, BString>>,
}

impl Stats {
    /// One figure, for instance `("serf", "members")`.
    pub fn figure(&self, group: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Option<&BStr> {
        let group = self.groups.get(group.as_ref().as_bstr())?;
        group.get(key.as_ref().as_bstr()).map(AsRef::as_ref)
    }

    /// All groups and their figures, in the order of their names.
    pub fn groups(&self) -> &BTreeMap<BString, BTreeMap<BString, BString>> {
        &self.groups
    }

    /// The name of the agent's own node.
    pub fn agent_name(&self) -> Option<&BStr> {
        self.figure("agent", "name")
    }

    /// How many members the agent knows, itself and those that left or failed included.
    pub fn members(&self) -> Option<u64> {
        self.serf("members")
    }

    /// How many of them have failed.
    pub fn failed(&self) -> Option<u64> {
        self.serf("failed")
    }

    /// How many of them have left.
    pub fn left(&self) -> Option<u64> {
        self.serf("left")
    }

    /// How ill the agent thinks itself, from 0 (well) up to 8 (`memberlist`'s awareness).
    pub fn health_score(&self) -> Option<u64> {
        self.serf("health_score")
    }

    /// The Lamport clock of membership.
    pub fn member_time(&self) -> Option<u64> {
        self.serf("member_time")
    }

    /// The Lamport clock of user events.
    pub fn event_time(&self) -> Option<u64> {
        self.serf("event_time")
    }

    /// The Lamport clock of queries.
    pub fn query_time(&self) -> Option<u64> {
        self.serf("query_time")
    }

    /// How many messages about members wait to be gossiped.
    pub fn intent_queue(&self) -> Option<u64> {
        self.serf("intent_queue")
    }

    /// How many user events wait to be gossiped.
    pub fn event_queue(&self) -> Option<u64> {
        self.serf("event_queue")
    }

    /// How many queries wait to be gossiped.
    pub fn query_queue(&self) -> Option<u64> {
        self.serf("query_queue")
    }

    /// Whether gossip is encrypted.
    pub fn encrypted(&self) -> Option<bool> {
        self.figure("serf", "encrypted")?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }

    /// How often the agent's network coordinate was reset because it had become invalid; none
    /// where coordinates are disabled.
    pub fn coordinate_resets(&self) -> Option<u64> {
        self.serf("coordinate_resets")
    }

    fn serf(&self, key: &str) -> Option<u64> {
        self.figure("serf", key)?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn group_mut(&mut self, group: &[u8]) -> &mut BTreeMap<BString, BString> {
        self.groups.entry(group.into()).or_default()
    }
}
