//! Whom to ask when: targets, answers and the time in, whom to ask now out. Pure.
//!
//! One server is asked once at a time. Who waits for traffic, who is suspected and who is only watched have lanes of
//! their own, so that the silence of some costs the others nothing; in each lane those who are new there go first, the
//! latest first of all. Who has not answered for long is asked less and less often, until something of his is a sign
//! of life. All lanes together, and every address, are bounded in the long run: members are free to name addresses of
//! others.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use planner::guard::{Probed, Target, Urgency};
use planner::model::ServerKey;

use super::lane::{Lanes, Rank, pause};
use crate::bucket::{Bucket, Rate};

/// So often somebody is asked before he waits behind those who are new.
const NEW: u32 = 3;
/// To one address.
const ADDRESS: Rate = Rate {
    per_second: 2,
    burst: 64,
};

/// Where a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not due before then.
    Sleeps(Instant),
    /// In its lane.
    Waits(Rank),
    /// Due, but its address has had its share.
    Blocked(Rank),
    UnderWay,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    arrival: u64,
    asked: u32,
    /// Since when it has not answered, or since when that counts.
    silent_since: Instant,
    /// When the last probe began.
    began: Instant,
    stage: Stage,
}

/// Somebody who is to be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) key: ServerKey,
    pub(super) target: Target,
    /// For the first time.
    pub(super) is_first: bool,
}

/// All targets, and when each of them is asked.
#[derive(Debug)]
pub(super) struct Schedule {
    entries: BTreeMap<ServerKey, Entry>,
    sleeping: BTreeSet<(Instant, ServerKey)>,
    lanes: Lanes,
    /// Those of each address that has had its share, perhaps nobody any more, and when it has one again.
    blocked: BTreeMap<IpAddr, BTreeSet<(Rank, ServerKey)>>,
    opening: BTreeSet<(Instant, IpAddr)>,
    addresses: HashMap<IpAddr, Bucket>,
    arrivals: u64,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            entries: BTreeMap::new(),
            sleeping: BTreeSet::new(),
            lanes: Lanes::new(now),
            blocked: BTreeMap::new(),
            opening: BTreeSet::new(),
            addresses: HashMap::new(),
            arrivals: 0,
        }
    }

    /// The target that a server has now, if any.
    pub(super) fn target(&self, key: &ServerKey) -> Option<Target> {
        self.entries.get(key).map(|entry| entry.target)
    }

    /// All servers that have one.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&ServerKey, Target)> {
        let entries = self.entries.iter();
        entries.map(|(key, entry)| (key, entry.target))
    }

    /// Takes a target that is new or another than before; the probe under way, if there is one, is none any more.
    pub(super) fn add(&mut self, key: &ServerKey, target: Target, now: Instant) {
        self.remove(key);
        self.arrivals += 1;
        let turn = Rank::New(Reverse(self.arrivals));
        let entry = Entry {
            target,
            arrival: self.arrivals,
            asked: 0,
            silent_since: now,
            began: now,
            stage: Stage::Waits(turn),
        };
        self.lanes.of(target.urgency).put(turn, key.clone());
        self.entries.insert(key.clone(), entry);
    }

    /// Takes a sign of life: who has been silent for long is asked often again.
    pub(super) fn revive(&mut self, key: &ServerKey, sign: Instant, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if sign <= entry.target.sign {
            return;
        }
        entry.target.sign = sign;
        entry.silent_since = entry.silent_since.max(sign);
        if let Stage::Sleeps(until) = entry.stage {
            self.sleeping.remove(&(until, key.clone()));
            let at = next(entry, now).min(until);
            entry.stage = Stage::Sleeps(at);
            self.sleeping.insert((at, key.clone()));
        }
    }

    /// Forgets a target.
    pub(super) fn remove(&mut self, key: &ServerKey) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        match entry.stage {
            Stage::Sleeps(at) => {
                self.sleeping.remove(&(at, key.clone()));
            }
            Stage::Waits(turn) => {
                self.lanes.of(entry.target.urgency).take_back(turn, key);
            }
            Stage::Blocked(turn) => {
                if let Some(blocked) = self.blocked.get_mut(&entry.target.addr.ip()) {
                    blocked.remove(&(turn, key.clone()));
                }
            }
            Stage::UnderWay => {}
        }
    }

    /// Who is to be asked now, if anybody is; he counts as under way until [`Schedule::ended`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Turn> {
        self.wake_up(now);
        [Urgency::Admission, Urgency::Suspect, Urgency::Watch]
            .into_iter()
            .find_map(|urgency| self.next_in(urgency, now))
    }

    /// Takes that a probe of this urgency has ended, whatever became of its target.
    pub(super) fn ended(&mut self, urgency: Urgency) {
        self.lanes.of(urgency).ended();
    }

    /// Takes what the probe under way has found.
    pub(super) fn found(&mut self, key: &ServerKey, probed: Probed, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.stage != Stage::UnderWay {
            return;
        }
        if probed == Probed::Good {
            entry.silent_since = now;
        }
        let at = next(entry, now);
        entry.stage = Stage::Sleeps(at);
        self.sleeping.insert((at, key.clone()));
    }

    /// When [`Schedule::next`] is worth another call, if no probe ends and no target comes before.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let lanes = self.lanes.all().filter_map(|lane| lane.opens_at(now));
        let sleeping = self.sleeping.first().map(|(at, _)| *at);
        let opening = self.opening.first().map(|(at, _)| *at);
        lanes.chain(sleeping).chain(opening).min()
    }

    /// Whose pause is over goes to his lane, and so does one of each address that has a share again.
    fn wake_up(&mut self, now: Instant) {
        while let Some((at, _)) = self.sleeping.first()
            && *at <= now
            && let Some((at, key)) = self.sleeping.pop_first()
        {
            self.wait(&key, Rank::Again(at));
        }
        while let Some((at, _)) = self.opening.first()
            && *at <= now
            && let Some((_, ip)) = self.opening.pop_first()
        {
            let Some(blocked) = self.blocked.get_mut(&ip) else {
                continue;
            };
            let first = blocked.pop_first();
            if blocked.is_empty() {
                self.blocked.remove(&ip);
            } else if let Some(bucket) = self.addresses.get(&ip) {
                // The one that goes now takes its share when it is asked.
                let mut bucket = *bucket;
                bucket.take(ADDRESS, now);
                self.opening.insert((bucket.opens_at(ADDRESS, now), ip));
            }
            if let Some((turn, key)) = first {
                self.wait(&key, turn);
            }
        }
    }

    /// Puts somebody into his lane; who is new stays so for a few turns.
    fn wait(&mut self, key: &ServerKey, turn: Rank) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let turn = if entry.asked < NEW {
            Rank::New(Reverse(entry.arrival))
        } else {
            turn
        };
        entry.stage = Stage::Waits(turn);
        self.lanes.of(entry.target.urgency).put(turn, key.clone());
    }

    fn next_in(&mut self, urgency: Urgency, now: Instant) -> Option<Turn> {
        loop {
            let lane = self.lanes.of(urgency);
            let (turn, key) = lane.pop(now)?;
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            let ip = entry.target.addr.ip();
            let address = self.addresses.entry(ip);
            let address = address.or_insert_with(|| Bucket::new(now));
            let opens = address.opens_at(ADDRESS, now);
            if opens > now {
                entry.stage = Stage::Blocked(turn);
                let blocked = self.blocked.entry(ip).or_insert_with(|| {
                    self.opening.insert((opens, ip));
                    BTreeSet::new()
                });
                blocked.insert((turn, key));
                continue;
            }
            address.take(ADDRESS, now);
            lane.begun(now);
            entry.asked += 1;
            entry.began = now;
            entry.stage = Stage::UnderWay;
            let turn = Turn {
                key,
                target: entry.target,
                is_first: entry.asked == 1,
            };
            self.forget_addresses(now);
            return Some(turn);
        }
    }

    /// Addresses that nobody was asked at for long are as good as new ones.
    fn forget_addresses(&mut self, now: Instant) {
        if self.addresses.len() > 2 * self.entries.len() + 64 {
            self.addresses.retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

/// When somebody is due again who has just been asked.
fn next(entry: &Entry, now: Instant) -> Instant {
    let silent = now.saturating_duration_since(entry.silent_since);
    let pause = pause(entry.target.urgency, silent);
    (entry.began + pause).max(now)
}
