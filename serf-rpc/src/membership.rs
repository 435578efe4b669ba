//! The membership as last read: agents' answers in, an ordered [`Snapshot`] and its changes out.

use std::time::SystemTime;

use bstr::ByteSlice;

use crate::Member;

/// All members known, in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    revision: u64,
    entries: Vec<Entry>,
    agent: AgentState,
    read_at: Option<SystemTime>,
}

/// A member and whether the agent lists it now.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The member as last listed.
    pub member: Member,
    /// Whether the agent lists it now.
    pub presence: Presence,
}

/// Whether the agent lists a member now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The agent lists it.
    Listed,
    /// A fresh session (a reconnection, another agent, an agent that knows only itself) does not list it.
    Absent {
        /// Since when.
        since: SystemTime,
    },
    /// It disappeared in a continuous session: reaped or pruned.
    Reaped {
        /// Since when.
        since: SystemTime,
    },
}

/// Whether the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// No agent has answered yet.
    NeverReached,
    /// The agent at that address answers.
    Connected {
        /// `host:port`.
        addr: String,
    },
    /// The last agent is lost.
    Lost {
        /// `host:port` of the last agent.
        addr: String,
        /// Since when.
        since: SystemTime,
    },
}

impl Snapshot {
    /// The members of an earlier run, all absent since then.
    pub fn restored(members: impl IntoIterator<Item = Member>, since: SystemTime) -> Self {
        let mut entries: Vec<_> = members
            .into_iter()
            .map(|member| Entry { member, presence: Presence::Absent { since } })
            .collect();
        entries.sort_by(|a, b| a.member.name().cmp(b.member.name()));
        Self { revision: 0, entries, agent: AgentState::NeverReached, read_at: None }
    }

    /// Counts the changes of the membership; equal revisions of one watcher mean equal entries.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All members, in the order of their names, each name once.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The member of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&Entry> {
        let name = name.as_ref().as_bstr();
        let at = self.entries.binary_search_by(|e| e.member.name().cmp(name)).ok()?;
        self.entries.get(at)
    }

    /// Whether the agent answers now.
    pub fn agent(&self) -> &AgentState {
        &self.agent
    }

    /// When the members were last read; none before the first answer.
    pub fn read_at(&self) -> Option<SystemTime> {
        self.read_at
    }
}
