//! The membership as last read: agents' answers in, an ordered [`Snapshot`] and its changes out.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bstr::{BString, ByteSlice};

use super::hints::Reasons;
use crate::link::AgentState;
use crate::types::{Member, MemberStatus};

/// How long a member that no agent lists is remembered.
const REMEMBER: Duration = Duration::from_secs(24 * 60 * 60);
/// How many of them are remembered whatever the size of the cluster.
const REMEMBER_AT_LEAST: usize = 1024;
/// How many of them are remembered for each member of the largest cluster ever seen.
const REMEMBER_PER_MEMBER: usize = 4;

/// All members known, in the order of their names. A clone shares them.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    revision: u64,
    entries: Arc<Vec<Entry>>,
    agent: AgentState,
    read_at: Option<SystemTime>,
    changed_at: Option<SystemTime>,
    /// The name of the agent's own node.
    local: Option<BString>,
    /// The most that were ever listed at once.
    most_listed: usize,
    reads: u64,
    hints: u64,
    hinted_at: Option<Instant>,
}

/// A member and whether the agent lists it now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// The member as last listed.
    pub member: Member,
    /// Whether the agent lists it now.
    pub presence: Presence,
}

impl Entry {
    /// Whether the member may be used: it is alive, as last listed, and the agent lists it or a fresh session has not
    /// listed it for no longer than `max_absence` yet. An agent that has just been restarted lists its members within a
    /// second or two.
    pub fn usable(&self, max_absence: Duration) -> bool {
        let is_alive = self.member.status() == MemberStatus::Alive;
        is_alive
            && match self.presence {
                Presence::Listed => true,
                Presence::Absent { since } => since.elapsed().unwrap_or_default() <= max_absence,
                Presence::Reaped { .. } => false,
            }
    }
}

/// Whether the agent lists a member now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Presence {
    /// The agent lists it.
    Listed,
    /// A fresh session (a reconnection, another agent, an agent that knows only itself) has not
    /// listed it yet. That says nothing about the member.
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

/// How an answer relates to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// The first of a connection: what it leaves out may be news to this agent only.
    Fresh,
    /// A later one of the same connection, hence of the same run of the same agent: what it leaves
    /// out and the one before it had, the agent has forgotten.
    Continuous,
}

/// A difference between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Alive, and was not: new, or back from `leaving`, `left`, `failed` or reaped.
    Joined(Member),
    /// Has announced a graceful leave.
    Leaving(Member),
    /// Has left gracefully.
    Left(Member),
    /// Was declared dead.
    Failed(Member),
    /// Took a status without a change of its own here (`none`, or one unknown to this library).
    Other(Member),
    /// Address, port, tags or versions changed, its status did not.
    Updated {
        /// As it was.
        before: Member,
        /// As it is.
        after: Member,
    },
    /// No longer listed after a new connection; see [`Presence::Absent`].
    Absent(Member),
    /// Listed again after it was absent, with whatever status it has now.
    Returned {
        /// As it was when it was last listed.
        before: Member,
        /// As it is.
        after: Member,
    },
    /// Reaped or pruned; see [`Presence::Reaped`].
    Reaped(Member),
    /// Neither listed nor remembered any more.
    Forgotten(Member),
}

impl Change {
    /// The member as it is, or as it was last known.
    pub fn member(&self) -> &Member {
        match self {
            Self::Joined(member)
            | Self::Leaving(member)
            | Self::Left(member)
            | Self::Failed(member)
            | Self::Other(member)
            | Self::Absent(member)
            | Self::Reaped(member)
            | Self::Forgotten(member)
            | Self::Updated { after: member, .. }
            | Self::Returned { after: member, .. } => member,
        }
    }
}

impl Default for Snapshot {
    /// Nobody known, no agent reached.
    fn default() -> Self {
        Self::restored([], SystemTime::UNIX_EPOCH)
    }
}

impl Snapshot {
    /// The members of an earlier run, all absent since then. Of equal names the last counts.
    pub fn restored(members: impl IntoIterator<Item = Member>, since: SystemTime) -> Self {
        let presence = Presence::Absent { since };
        let entries = members.into_iter().map(|member| Entry { member, presence });
        Self::of_entries(entries.collect())
    }

    /// These in the order of their names, as no agent has told yet. Of equal names the last counts.
    fn of_entries(mut entries: Vec<Entry>) -> Self {
        entries.reverse();
        entries.sort_by(|a, b| a.member.name().cmp(b.member.name()));
        entries.dedup_by(|a, b| a.member.name() == b.member.name());
        Self {
            revision: 0,
            most_listed: entries.len(),
            entries: Arc::new(entries),
            agent: AgentState::NeverReached,
            read_at: None,
            changed_at: None,
            local: None,
            reads: 0,
            hints: 0,
            hinted_at: None,
        }
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
        let at = self
            .entries
            .binary_search_by(|e| e.member.name().cmp(name))
            .ok()?;
        self.entries.get(at)
    }

    /// Whether the agent answers now.
    pub fn agent(&self) -> &AgentState {
        &self.agent
    }

    /// When the members were last read, whatever came of it; none before the first answer. A snapshot that was
    /// announced keeps its own: the latest is in [`Watcher::snapshots`](crate::Watcher::snapshots) at any time.
    pub fn read_at(&self) -> Option<SystemTime> {
        self.read_at
    }

    /// When what was read was last otherwise than before; none before the first answer.
    pub fn changed_at(&self) -> Option<SystemTime> {
        self.changed_at
    }

    /// How often the members were read.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// How many hints at a change of them were read, of those that came before they were read last.
    pub fn hints(&self) -> u64 {
        self.hints
    }

    /// When the first hint came that they were read for; none where nothing hinted at a change.
    pub fn hinted_at(&self) -> Option<Instant> {
        self.hinted_at
    }

    /// The same members, asked for because of this.
    pub(crate) fn because_of(self, reasons: Reasons) -> Self {
        Self {
            hints: self.hints + reasons.hints,
            hinted_at: reasons.first.map(tokio::time::Instant::into_std),
            ..self
        }
    }

    /// When the agent was last heard, if it does not answer now; none while it does, and before any ever did.
    pub fn stale_since(&self) -> Option<SystemTime> {
        self.agent.stale_since()
    }

    /// The member that the agent itself is; none before it was asked for its name.
    pub fn local(&self) -> Option<&Entry> {
        self.get(self.local.as_deref()?)
    }

    /// The same members as seen by an agent of that name.
    #[must_use]
    pub fn with_local(&self, name: Option<BString>) -> Self {
        Self {
            local: name,
            ..self.clone()
        }
    }

    /// The same members with another state of the agent.
    #[must_use]
    pub fn with_agent(&self, agent: AgentState) -> Self {
        Self {
            agent,
            ..self.clone()
        }
    }

    /// The snapshot of whoever knew this one and is told now, by an agent asked for the first time, that these are the
    /// members: as a [`Watcher`](crate::Watcher) that has just connected would have it. Who is not among them is absent.
    #[must_use]
    pub fn relisted(&self, members: Vec<Member>, now: SystemTime) -> Self {
        self.merge(members, Continuity::Fresh, now).0
    }

    /// The snapshot after an agent's answer to `members`, read at `now`, and what changed, in the
    /// order of the members' names. The state of the agent is taken over.
    ///
    /// An agent always lists itself, so an empty answer says nothing about anybody: all become
    /// absent, as by a fresh one. What is not listed any more is forgotten after 24 h, and the
    /// oldest of it beyond four times the most members ever listed, or 1024.
    pub(crate) fn merge(
        &self,
        answer: Vec<Member>,
        kind: Continuity,
        now: SystemTime,
    ) -> (Self, Vec<Change>) {
        let kind = if answer.is_empty() {
            Continuity::Fresh
        } else {
            kind
        };
        let answer = in_order(answer);
        let most_listed = self.most_listed.max(answer.len());
        let mut merge = Merge {
            kind,
            now,
            entries: Vec::with_capacity(answer.len()),
            changes: Vec::new(),
        };
        let mut known = self.entries.iter().peekable();
        for member in answer {
            while let Some(entry) = known.next_if(|entry| entry.member.name() < member.name()) {
                merge.unlisted(entry);
            }
            let before = known.next_if(|entry| entry.member.name() == member.name());
            merge.listed(before, member);
        }
        known.for_each(|entry| merge.unlisted(entry));
        merge.forget(REMEMBER_AT_LEAST.max(most_listed.saturating_mul(REMEMBER_PER_MEMBER)));
        let Merge {
            entries, changes, ..
        } = merge;
        let next = Self {
            revision: self.revision + u64::from(!changes.is_empty()),
            entries: if changes.is_empty() {
                self.entries.clone()
            } else {
                Arc::new(entries)
            },
            agent: self.agent.clone(),
            read_at: Some(now),
            changed_at: if changes.is_empty() {
                self.changed_at
            } else {
                Some(now)
            },
            local: self.local.clone(),
            most_listed,
            reads: self.reads + 1,
            hints: self.hints,
            hinted_at: None,
        };
        (next, changes)
    }
}

/// In the order of their names, of equal names the last one only.
fn in_order(mut members: Vec<Member>) -> Vec<Member> {
    members.reverse();
    members.sort_by(|a, b| a.name().cmp(b.name()));
    members.dedup_by(|a, b| a.name() == b.name());
    members
}

/// The next snapshot in the making. Every difference of an entry is a change, and the reverse.
struct Merge {
    kind: Continuity,
    now: SystemTime,
    entries: Vec<Entry>,
    changes: Vec<Change>,
}

impl Merge {
    fn listed(&mut self, before: Option<&Entry>, member: Member) {
        let after = || member.clone();
        let change = match before {
            None
            | Some(Entry {
                presence: Presence::Reaped { .. },
                ..
            }) => Some(by_status(after())),
            Some(Entry {
                presence: Presence::Absent { .. },
                member: before,
            }) => Some(Change::Returned {
                before: before.clone(),
                after: after(),
            }),
            Some(Entry {
                presence: Presence::Listed,
                member: before,
            }) => {
                if before.status() != member.status() {
                    Some(by_status(after()))
                } else if *before != member {
                    Some(Change::Updated {
                        before: before.clone(),
                        after: after(),
                    })
                } else {
                    None
                }
            }
        };
        self.changes.extend(change);
        self.entries.push(Entry {
            member,
            presence: Presence::Listed,
        });
    }

    fn unlisted(&mut self, entry: &Entry) {
        let since = self.now;
        let mut entry = entry.clone();
        let gone_for = |since| self.now.duration_since(since).unwrap_or_default();
        match (entry.presence, self.kind) {
            (Presence::Listed, Continuity::Fresh) => {
                entry.presence = Presence::Absent { since };
                self.changes.push(Change::Absent(entry.member.clone()));
            }
            (Presence::Listed, Continuity::Continuous) => {
                entry.presence = Presence::Reaped { since };
                self.changes.push(Change::Reaped(entry.member.clone()));
            }
            (Presence::Absent { since } | Presence::Reaped { since }, _) => {
                if gone_for(since) >= REMEMBER {
                    self.changes.push(Change::Forgotten(entry.member));
                    return;
                }
            }
        }
        self.entries.push(entry);
    }

    /// Forgets the longest gone beyond so many.
    fn forget(&mut self, keep: usize) {
        let mut gone: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| gone_since(entry.presence))
            .collect();
        let Some(surplus) = gone.len().checked_sub(keep).filter(|surplus| *surplus > 0) else {
            return;
        };
        gone.sort_by_key(|since| Reverse(*since));
        let Some(&oldest_kept) = gone.get(keep.saturating_sub(1)) else {
            return;
        };
        // Of those that went at the same moment as the last one kept, some must go too.
        let older = gone.iter().filter(|since| **since < oldest_kept).count();
        let mut of_same_age = surplus - older;
        let changes = &mut self.changes;
        self.entries.retain(|entry| {
            let forgotten = match gone_since(entry.presence) {
                Some(since) if since == oldest_kept && of_same_age > 0 => {
                    of_same_age -= 1;
                    true
                }
                Some(since) => since < oldest_kept,
                None => false,
            };
            if forgotten {
                changes.push(Change::Forgotten(entry.member.clone()));
            }
            !forgotten
        });
    }
}

fn gone_since(presence: Presence) -> Option<SystemTime> {
    match presence {
        Presence::Listed => None,
        Presence::Absent { since } | Presence::Reaped { since } => Some(since),
    }
}

fn by_status(member: Member) -> Change {
    match member.status() {
        MemberStatus::Alive => Change::Joined(member),
        MemberStatus::Leaving => Change::Leaving(member),
        MemberStatus::Left => Change::Left(member),
        MemberStatus::Failed => Change::Failed(member),
        MemberStatus::None | MemberStatus::Unknown => Change::Other(member),
    }
}

/// Snapshots as they are kept from one run to the next.
#[cfg(feature = "serde")]
mod saved {
    use std::time::SystemTime;

    use bstr::BString;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Entry, Presence, Snapshot};

    #[derive(Serialize, Deserialize)]
    struct Saved {
        entries: Vec<Entry>,
        read_at: Option<SystemTime>,
        #[serde(with = "crate::types::text::option")]
        local: Option<BString>,
    }

    impl Serialize for Snapshot {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let saved = Saved {
                entries: self.entries().to_vec(),
                read_at: self.read_at,
                local: self.local.clone(),
            };
            saved.serialize(serializer)
        }
    }

    /// What was listed when it was saved is absent since it was read.
    impl<'de> Deserialize<'de> for Snapshot {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let saved = Saved::deserialize(deserializer)?;
            let since = saved.read_at.unwrap_or(SystemTime::UNIX_EPOCH);
            let entries = saved.entries.into_iter().map(|entry| Entry {
                presence: match entry.presence {
                    Presence::Listed => Presence::Absent { since },
                    gone => gone,
                },
                ..entry
            });
            let restored = Self::of_entries(entries.collect());
            Ok(restored.with_local(saved.local))
        }
    }
}

#[cfg(test)]
mod tests;
