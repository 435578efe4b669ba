//! Who waits for a probe of one urgency, in order, and how many of them may go: never behind those of another. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use planner::guard::Urgency;
use planner::model::ServerKey;

use crate::bucket::{Bucket, Rate};

/// Whose turn it is in a lane: the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// New there, by the order of coming.
    New(Reverse<u64>),
    /// Asked before, by the time from which it waits.
    Again(Instant),
}

/// The lanes of all urgencies.
#[derive(Debug)]
pub(super) struct Lanes {
    admission: Lane,
    suspect: Lane,
    watch: Lane,
}

/// Those who wait for a probe of one urgency.
#[derive(Debug)]
pub(super) struct Lane {
    waiting: BTreeSet<(Rank, ServerKey)>,
    under_way: usize,
    bucket: Bucket,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Probes under way at once.
    at_once: usize,
    /// The same for those who are not new; the rest is kept for who is.
    at_once_again: usize,
    rate: Rate,
}

/// The longest time from one probe of a server to the next.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long after its last probe a server is asked again that has been silent for so long.
pub(super) fn pause(urgency: Urgency, silent: Duration) -> Duration {
    let (shortest, part) = match urgency {
        Urgency::Admission => (50, 10),
        Urgency::Suspect => (200, 10),
        Urgency::Watch => (500, 20),
    };
    (silent / part).clamp(Duration::from_millis(shortest), LONGEST_PAUSE)
}

impl Lanes {
    /// Empty ones. Together they ask 50 times a second in the long run.
    pub(super) fn new(now: Instant) -> Self {
        let lane = |per_second, burst, at_once, at_once_again| {
            let rate = Rate { per_second, burst };
            let limits = Limits {
                at_once,
                at_once_again,
                rate,
            };
            Lane {
                waiting: BTreeSet::new(),
                under_way: 0,
                bucket: Bucket::new(now),
                limits,
            }
        };
        Self {
            admission: lane(20, 3000, 512, 256),
            suspect: lane(15, 2000, 256, 128),
            watch: lane(15, 2000, 256, 128),
        }
    }

    pub(super) fn of(&mut self, urgency: Urgency) -> &mut Lane {
        match urgency {
            Urgency::Admission => &mut self.admission,
            Urgency::Suspect => &mut self.suspect,
            Urgency::Watch => &mut self.watch,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Lane> {
        [&self.admission, &self.suspect, &self.watch].into_iter()
    }
}

impl Lane {
    pub(super) fn put(&mut self, rank: Rank, key: ServerKey) {
        self.waiting.insert((rank, key));
    }

    pub(super) fn take_back(&mut self, rank: Rank, key: &ServerKey) {
        self.waiting.remove(&(rank, key.clone()));
    }

    /// Whose turn it is, if somebody may be asked now. Whoever is asked then is [`Lane::begun`].
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Rank, ServerKey)> {
        let may = self.opens_at(now).is_some_and(|at| at <= now);
        may.then(|| self.waiting.pop_first())?
    }

    /// When somebody may be asked, if anybody waits and no probe has to end before.
    pub(super) fn opens_at(&self, now: Instant) -> Option<Instant> {
        let (rank, _) = self.waiting.first()?;
        let most = match rank {
            Rank::New(_) => self.limits.at_once,
            Rank::Again(_) => self.limits.at_once_again,
        };
        let has_room = self.under_way < most;
        has_room.then(|| self.bucket.opens_at(self.limits.rate, now))
    }

    /// Takes that a probe has begun.
    pub(super) fn begun(&mut self, now: Instant) {
        self.bucket.take(self.limits.rate, now);
        self.under_way += 1;
    }

    /// Takes that a probe has ended.
    pub(super) fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }
}
