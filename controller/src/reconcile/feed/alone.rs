//! The agent that knows only itself while a cluster is remembered: snapshots and time in, what to say and whom to join
//! again out. Pure, but for [`join`].
//!
//! An agent that starts without `retry_join` and without a snapshot of its own is a cluster of one. It answers, and
//! nothing is wrong with it; but nobody hears any more who joins and who leaves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serf_rpc::{AgentState, ConnectOptions, MemberStatus, Presence, Snapshot, WatchError};

use crate::reconcile::retry::Retry;

/// An agent with `retry_join` or a snapshot is back among the others within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many members are named, and joined at once.
const AT_ONCE: usize = 3;
/// What to do where that fails.
pub(super) const REJOIN: &str = "it is tried again by itself, with others of them too; `serf join` shows whether they can be reached";
/// How long a join may take: an agent waits 10 s for each address that is silent, by Serf's default.
const JOIN_TIMEOUT: Duration = Duration::from_secs(35);

/// Since when the agent has been alone, and what was done about it.
#[derive(Debug, Default)]
pub(super) struct Alone {
    since: Option<Instant>,
    /// When another join is worth a try.
    retry: Retry,
    /// So many were tried before.
    joins: usize,
}

/// The members that an agent which is alone does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    count: usize,
    /// Where they gossip, in the order of their names.
    addrs: Vec<SocketAddr>,
}

impl Remembered {
    /// Nobody, unless an agent answers that lists itself alone. Whoever left is not waited for.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let listed = |presence| presence == Presence::Listed;
        let entries = snapshot.entries();
        let answers = matches!(snapshot.agent(), AgentState::Connected { .. });
        let mut here = entries.iter().filter(|entry| listed(entry.presence));
        let (Some(_), None, true) = (here.next(), here.next(), answers) else {
            return Self::default();
        };
        let missing = entries.iter().filter(|entry| {
            let status = entry.member.status();
            matches!(entry.presence, Presence::Absent { .. })
                && matches!(status, MemberStatus::Alive | MemberStatus::Failed)
        });
        let addr = |ip, port| Some(SocketAddr::new(ip, port)).filter(|_| port != 0);
        let missing = missing.map(|entry| &entry.member);
        Self {
            count: missing.clone().count(),
            addrs: missing
                .filter_map(|member| addr(member.addr()?, member.port()))
                .collect(),
        }
    }

    /// What is wrong.
    pub(super) fn problem(&self) -> String {
        format!(
            "the agent knows only itself, while {} of its cluster {} remembered: who joins or leaves is not heard of",
            self.count,
            if self.count == 1 { "is" } else { "are" }
        )
    }

    /// What to do about it.
    pub(super) fn advice(&self, rejoin: bool) -> String {
        let some: Vec<String> = self
            .addrs
            .iter()
            .take(AT_ONCE)
            .map(ToString::to_string)
            .collect();
        let some = if some.is_empty() {
            "ADDRESS".to_owned()
        } else {
            some.join(" ")
        };
        let now = if rejoin {
            "it is told to join them (`[serf] rejoin`)".to_owned()
        } else {
            format!("`serf join {some}` brings it back")
        };
        format!(
            "{now}, and `retry_join` or `snapshot_path` in its own configuration keeps it from being alone after a restart"
        )
    }
}

impl Alone {
    /// Takes whom the agent does not know; says whether that is a problem by now.
    pub(super) fn look(&mut self, remembered: &Remembered, now: Instant) -> bool {
        if remembered.count == 0 {
            *self = Self::default();
            return false;
        }
        now >= *self.since.get_or_insert(now) + PATIENCE
    }

    /// Whom to join now, if it is time: a few, others every time.
    pub(super) fn turn(
        &mut self,
        remembered: &Remembered,
        now: Instant,
    ) -> Option<Vec<SocketAddr>> {
        if remembered.addrs.is_empty() || !self.retry.is_due(now) {
            return None;
        }
        let addrs = remembered.addrs.iter().cycle();
        let skipped = (self.joins * AT_ONCE) % remembered.addrs.len();
        let several = AT_ONCE.min(remembered.addrs.len());
        self.joins = self.joins.wrapping_add(1) % remembered.addrs.len();
        self.retry.failed(now);
        Some(addrs.skip(skipped).take(several).copied().collect())
    }

    /// When time alone changes something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = self.since? + PATIENCE;
        Some(self.retry.at().map_or(since, |at| at.max(since)))
    }
}

/// An agent's words are several lines, and may be any bytes.
pub(super) fn one_line(text: &str) -> String {
    let printable = text.replace(char::is_control, " ");
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Has the agent join the cluster of these, on a connection of its own: nothing else waits for it. User events from
/// before are not replayed.
pub(super) async fn join(agent: ConnectOptions, addrs: Vec<SocketAddr>) -> Result<u64, WatchError> {
    let client = agent.connect().await?.with_call_timeout(JOIN_TIMEOUT);
    Ok(client.join(addrs.iter().map(ToString::to_string)).await?)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;
    use std::time::SystemTime;

    use serf_rpc::Member;

    use crate::reconcile::retry::PAUSE;

    use super::*;

    fn member(name: &str, last: u8, status: MemberStatus) -> Member {
        let builder = Member::builder(name).addr([10, 0, 0, last].into(), 7946);
        builder.status(status).build()
    }

    /// An agent answers with these, while those are remembered.
    fn snapshot(listed: &[Member], remembered: &[Member]) -> Snapshot {
        let now = SystemTime::UNIX_EPOCH;
        let before = Snapshot::restored(remembered.iter().cloned(), now);
        let connected = AgentState::Connected {
            addr: "127.0.0.1:7373".to_owned(),
        };
        let next = before.relisted(listed.to_vec(), now);
        next.with_agent(connected)
    }

    fn remembered(count: u8) -> Remembered {
        let own = [member("lb", 1, MemberStatus::Alive)];
        let others: Vec<_> = (0..count)
            .map(|n| member(&format!("s{n}"), 10 + n, MemberStatus::Alive))
            .collect();
        Remembered::of(&snapshot(&own, &others))
    }

    #[test]
    fn an_agent_is_alone_that_lists_itself_only_while_others_are_remembered_who_did_not_leave() {
        let own = member("lb", 1, MemberStatus::Alive);
        let others = [
            member("alive", 2, MemberStatus::Alive),
            member("failed", 3, MemberStatus::Failed),
            member("left", 4, MemberStatus::Left),
        ];
        let alone = Remembered::of(&snapshot(from_ref(&own), &others));
        assert_eq!(alone.count, 2);
        let words = alone.problem();
        assert!(
            words.contains("knows only itself, while 2 of its cluster are remembered"),
            "{words}"
        );
        let words = alone.advice(false);
        assert!(
            words.contains("`serf join 10.0.0.2:7946 10.0.0.3:7946`"),
            "{words}"
        );
        assert!(
            words.contains("`retry_join`") && words.contains("`snapshot_path`"),
            "{words}"
        );

        let nobody = Remembered::default();
        let [alive, failed, left] = others;
        for known in [&alive, &failed, &left] {
            let listed = [own.clone(), known.clone()];
            let both = snapshot(&listed, &[alive.clone(), failed.clone()]);
            assert_eq!(Remembered::of(&both), nobody, "it knows another one");
        }
        assert_eq!(Remembered::of(&snapshot(from_ref(&own), &[left])), nobody);
        assert_eq!(Remembered::of(&snapshot(&[], from_ref(&alive))), nobody);
        let lost = AgentState::Lost {
            addr: String::new(),
            since: SystemTime::UNIX_EPOCH,
        };
        let lost = snapshot(&[own], &[alive]).with_agent(lost);
        assert_eq!(Remembered::of(&lost), nobody, "no agent answers");
    }

    #[test]
    fn an_agent_that_finds_the_others_soon_is_no_problem() {
        let (mut alone, start) = (Alone::default(), Instant::now());
        let others = remembered(2);
        assert!(!alone.look(&others, start));
        assert_eq!(alone.deadline(), Some(start + PATIENCE));
        assert!(!alone.look(&others, start + PATIENCE / 2));
        assert!(!alone.look(&Remembered::default(), start + PATIENCE));
        assert_eq!(alone.deadline(), None);
        assert!(!alone.look(&others, start + PATIENCE * 2));
        assert!(alone.look(&others, start + PATIENCE * 3));
    }

    #[test]
    fn a_few_are_joined_at_a_time_everybody_has_a_turn_and_the_pauses_grow() {
        let (mut alone, mut now) = (Alone::default(), Instant::now());
        let others = remembered(7);
        alone.look(&others, now);
        now += PATIENCE;
        let mut pauses = Vec::new();
        let mut joined = std::collections::BTreeSet::new();
        for _ in 0..12 {
            alone.look(&others, now);
            let some = alone.turn(&others, now).unwrap();
            assert_eq!(some.len(), AT_ONCE);
            joined.extend(some);
            assert_eq!(alone.turn(&others, now), None, "not again at once");
            let next = alone.deadline().unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(joined.len(), 7);
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&PAUSE.1));
        assert_eq!(alone.turn(&Remembered::default(), now), None);
        let only = remembered(1);
        assert_eq!(Alone::default().turn(&only, now).unwrap().len(), 1);
    }
}
