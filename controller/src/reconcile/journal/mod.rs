//! The journal: what happens in; what is wrong, what was done, and what a later start needs out.
//!
//! It decides nothing. The other owners write into it, and a cycle publishes what it holds.

mod concerns;
pub(super) mod departed;
mod problems;
pub(super) mod record;
mod saved;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use concerns::Unserved;
use departed::Departed;
use planner::guard::{Decisions, ServerStatus};
use planner::model::{BackendName, DownBackends, RunningServers, ServerKey};
use planner::services::{Book, Unrouted};
use problems::Problems;
use tokio::sync::watch;
use told::Told;

use super::retry::Retry;
use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::freshness::Readings;
use crate::history::History;
use crate::meters::Meters;
use crate::published::Published;
use crate::state::{PersistedState, StateDir};
use crate::status::Counters;

pub(super) use saved::{ADDED, OTHERS, OUTPUTS, TEXTS};

/// What is written down.
pub(super) struct Journal {
    /// What needs a person now.
    pub(super) problems: Problems,
    pub(super) counters: Counters,
    /// What is measured as it happens.
    pub(super) meters: Arc<Meters>,
    /// When each thing was last read.
    pub(super) readings: Readings,
    pub(super) anchor: ClockAnchor,
    /// When the config in force was taken.
    pub(super) loaded_at: Instant,
    /// Counts up whenever a server stands otherwise than before.
    pub(super) revision: u64,
    history: History,
    state: StateDir,
    saved: PersistedState,
    /// When the state directory is worth another try.
    retry: Retry,
    told: Told,
    departed: Departed,
    unserved: Unserved,
    published: watch::Sender<Arc<Published>>,
    publishing: Publishing,
}

/// When what people see is worded anew: in a large fleet that takes longer than a cycle.
struct Publishing {
    /// Not before this.
    next: Instant,
    /// A cycle has ended since that people have not seen.
    owed: bool,
}

/// Wording what people see takes one part of so many of the time, at most.
const PUBLISH_SHARE: u32 = 20;

impl Journal {
    /// Goes on with the state directory of an earlier run, of which `saved` was read.
    pub(super) fn new(
        state: StateDir,
        saved: PersistedState,
        anchor: ClockAnchor,
        published: watch::Sender<Arc<Published>>,
        now: Instant,
    ) -> Self {
        Self {
            problems: Problems::new(anchor),
            counters: Counters::default(),
            meters: Arc::default(),
            readings: Readings::new(anchor),
            anchor,
            loaded_at: now,
            revision: 0,
            history: History::load(&state.history_path()),
            state,
            saved,
            retry: Retry::default(),
            told: Told::new(now),
            departed: Departed::default(),
            unserved: Unserved::default(),
            published,
            publishing: Publishing {
                next: now,
                owed: false,
            },
        }
    }

    /// The state directory.
    pub(super) fn state(&self) -> &StateDir {
        &self.state
    }

    /// Takes new decisions in the place of those `before`: counts and logs what is otherwise. `heard` says whether an agent
    /// has ever answered.
    pub(super) fn decided(
        &mut self,
        before: &Decisions,
        decisions: &Decisions,
        running: &RunningServers,
        heard: bool,
        now: Instant,
    ) {
        self.departed.take(before, decisions, running, now);
        let (news, changed) = self.told.news(before, decisions, heard, now);
        for (ServerKey { backend, server }, ServerStatus { state, why }) in news {
            tracing::info!(%backend, %server, "{state}: {why}");
        }
        self.revision += u64::from(changed);
    }

    /// Says what of the servers needs a person. HAProxy's checks, the backends that it calls down and what went wrong, are
    /// none where it does not answer.
    pub(super) fn judge_servers(
        &mut self,
        decisions: &Decisions,
        checks: Option<(&DownBackends, &BTreeMap<ServerKey, String>)>,
        unusable: &BTreeMap<String, String>,
        now: Instant,
    ) {
        match checks {
            Some((down, said)) => {
                let unserved = self.unserved.look(decisions, down, said, now);
                self.problems.set_all("backend ", unserved);
            }
            None => {
                // That HAProxy does not answer says it all.
                self.unserved = Unserved::default();
                self.problems.forget("backend ");
            }
        }
        self.problems.set_all("held ", concerns::held(decisions));
        self.problems
            .set_all("doubled ", concerns::doubled(decisions, now));
        self.problems
            .set_all("crowded ", concerns::crowded(decisions));
        self.problems
            .set_all("members", concerns::unusable(unusable));
    }

    /// Says what members disagree about.
    pub(super) fn judge_services(
        &mut self,
        services: &Book,
        unrouted: &BTreeMap<BackendName, Unrouted>,
    ) {
        let disputed = concerns::disputed(services, unrouted);
        self.problems.set_all("service ", disputed);
    }

    /// The servers that have gone lately.
    pub(super) fn departed(&self) -> &Departed {
        &self.departed
    }

    /// When time alone changes something in it.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let own = [self.retry.at(), self.told.deadline()];
        own.into_iter().flatten().chain(self.unserved.deadlines())
    }

    /// Whether it is time to word what people see; where it is not, that is owed.
    pub(super) fn may_publish(&mut self, now: Instant) -> bool {
        self.publishing.owed = now < self.publishing.next;
        !self.publishing.owed
    }

    /// When what is owed to people is due.
    pub(super) fn publish_at(&self) -> Option<Instant> {
        self.publishing.owed.then_some(self.publishing.next)
    }

    /// Puts what people see in the place of what they saw; it was begun to be worded at `started`.
    pub(super) fn publish(&mut self, published: Published, started: Instant) {
        let now = clock::now();
        self.publishing.next = now + now.saturating_duration_since(started) * PUBLISH_SHARE;
        let before = self.published();
        let mut published = Published {
            history: self.history.entries(),
            readings: Some(self.readings),
            ..published
        };
        let differs = !published.says_the_same(&before);
        published.number = before.number + u64::from(differs);
        self.published.send_replace(Arc::new(published));
    }

    /// Says that HAProxy was read just now and is as it was.
    pub(super) fn read_again(&mut self, now: Instant) {
        self.readings.haproxy = Some(now);
        self.readings.checks = Some(now);
        let readings = Some(self.readings);
        self.published.send_modify(|published| {
            Arc::make_mut(published).readings = readings;
        });
    }

    /// For one more who shows it to people.
    pub(super) fn readers(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// What people see.
    pub(super) fn published(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }
}
