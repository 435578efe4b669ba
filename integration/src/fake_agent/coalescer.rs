//! How an agent holds its member events back: what happens in, the records of a flush out.
//!
//! The rule is that of `serf/coalesce.go` and `serf/coalesce_member.go`, its oddities included.

use std::collections::BTreeMap;
use std::time::Duration;

use bstr::BString;
use bytes::Bytes;
use serf_rpc::MemberEventKind;
use tokio::time::Instant;

/// For how long an agent holds events back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// They go out when nothing has happened for that long,
    pub quiet: Duration,
    /// and that long after the first of them at the latest.
    pub longest: Duration,
}

impl Default for Coalescing {
    /// What is built into the real one.
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(1),
            longest: Duration::from_secs(3),
        }
    }
}

#[derive(Debug)]
pub(super) struct Coalescer {
    periods: Coalescing,
    /// When the first and the last event since the last flush came.
    window: Option<(Instant, Instant)>,
    /// The last event of each member, and the member as it was then. Never cleared, as in the
    /// original, where updates are therefore sent again with every flush.
    latest: BTreeMap<BString, (MemberEventKind, Bytes)>,
    /// The last that was sent of each.
    sent: BTreeMap<BString, MemberEventKind>,
}

impl Coalescer {
    pub(super) fn new(periods: Coalescing) -> Self {
        Self {
            periods,
            window: None,
            latest: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    /// Takes an event; of several of a member in one window only the last counts.
    pub(super) fn take(
        &mut self,
        kind: MemberEventKind,
        name: BString,
        member: Bytes,
        now: Instant,
    ) {
        let first = self.window.map_or(now, |(first, _)| first);
        self.window = Some((first, now));
        self.latest.insert(name, (kind, member));
    }

    /// When the next flush is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.window?;
        Some((last + self.periods.quiet).min(first + self.periods.longest))
    }

    /// Drops everything, as by a restart.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.periods);
    }

    /// One record a kind. What was sent last of a member is not sent again, but updates are.
    pub(super) fn flush(&mut self) -> Vec<(MemberEventKind, Vec<Bytes>)> {
        self.window = None;
        let mut records: Vec<(MemberEventKind, Vec<Bytes>)> = Vec::new();
        for (name, (kind, member)) in &self.latest {
            let repeats = self.sent.get(name) == Some(kind);
            if repeats && *kind != MemberEventKind::Update {
                continue;
            }
            self.sent.insert(name.clone(), *kind);
            match records.iter_mut().find(|(of, _)| of == kind) {
                Some((_, members)) => members.push(member.clone()),
                None => records.push((*kind, vec![member.clone()])),
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use MemberEventKind::{Failed, Join, Leave, Update};

    use super::*;

    fn coalescer() -> (Coalescer, Instant) {
        (Coalescer::new(Coalescing::default()), Instant::now())
    }

    fn take(coalescer: &mut Coalescer, kind: MemberEventKind, name: &'static str, now: Instant) {
        coalescer.take(kind, name.into(), Bytes::from_static(name.as_bytes()), now);
    }

    fn record(kind: MemberEventKind, names: &[&'static str]) -> (MemberEventKind, Vec<Bytes>) {
        let members = names.iter().map(|name| Bytes::from_static(name.as_bytes()));
        (kind, members.collect())
    }

    #[test]
    fn events_go_out_a_quiet_period_after_the_last_and_never_much_after_the_first() {
        let (mut coalescer, start) = coalescer();
        assert_eq!(coalescer.due(), None);
        let after = |millis| start + Duration::from_millis(millis);
        take(&mut coalescer, Join, "a", start);
        assert_eq!(coalescer.due(), Some(after(1000)));
        take(&mut coalescer, Join, "b", after(900));
        assert_eq!(coalescer.due(), Some(after(1900)));
        take(&mut coalescer, Leave, "c", after(2800));
        assert_eq!(coalescer.due(), Some(after(3000)));
        assert_eq!(
            coalescer.flush(),
            [record(Join, &["a", "b"]), record(Leave, &["c"])]
        );
        assert_eq!(coalescer.due(), None);
    }

    #[test]
    fn a_rejoin_within_a_window_says_nothing_and_updates_are_said_for_ever() {
        let (mut coalescer, now) = coalescer();
        take(&mut coalescer, Join, "a", now);
        coalescer.flush();
        take(&mut coalescer, Failed, "a", now);
        take(&mut coalescer, Join, "a", now);
        assert_eq!(coalescer.flush(), []);
        take(&mut coalescer, Update, "a", now);
        assert_eq!(coalescer.flush(), [record(Update, &["a"])]);
        take(&mut coalescer, Join, "b", now);
        assert_eq!(
            coalescer.flush(),
            [record(Update, &["a"]), record(Join, &["b"])]
        );
    }
}
