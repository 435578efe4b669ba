//! What a later start needs, kept in the state directory. What could not be written is tried again until it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use planner::model::{AddedOptions, Endpoint, ServerKey, Worker};
use planner::pipeline::Desired;
use serf_rpc::Entry;

use super::Journal;
use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::error_chain::chain;
use crate::reconcile::advice;
use crate::state::{
    PastRemoval, PastReport, PastService, PersistedState, StateError, is_remembered,
};

/// The longest pause before what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is kept, each with a problem of its own.
const MEMBERS: &str = "state members";
pub(in crate::reconcile) const ADDED: &str = "state added servers";
pub(in crate::reconcile) const TEXTS: &str = "state texts";
pub(in crate::reconcile) const OTHERS: &str = "state other files";
pub(in crate::reconcile) const OUTPUTS: &str = "state outputs";

impl Journal {
    /// Whether the state directory is to be tried: it works, or it is time for another try.
    pub(in crate::reconcile) fn may_save(&self, now: Instant) -> bool {
        self.retry.is_due(now)
    }

    /// Whether this could not be written.
    pub(in crate::reconcile) fn is_unsaved(&self, what: &str) -> bool {
        self.problems.is(what)
    }

    /// Keeps the members and what is known of their servers, if that has changed or could not be kept before.
    pub(in crate::reconcile) fn save_members(&mut self, desired: &Desired, now: Instant) {
        let state = persisted(desired, &self.anchor, now);
        if state != self.saved {
            let outcome = self.state.save(&state);
            if self.saved(MEMBERS, outcome) {
                self.saved = state;
            }
        }
        if !self.problems.any("state ") {
            self.retry.succeeded();
        }
    }

    /// Keeps the options of the servers that were added to this worker.
    pub(in crate::reconcile) fn save_added(&mut self, worker: &Worker, added: &AddedOptions) {
        let outcome = self.state.save_added(worker, clock::unix_secs(), added);
        self.saved(ADDED, outcome);
    }

    /// Takes how it went to write something down; says whether it went well.
    pub(in crate::reconcile) fn saved(
        &mut self,
        what: &'static str,
        outcome: Result<(), StateError>,
    ) -> bool {
        match &outcome {
            Ok(()) => self.problems.clear(what),
            Err(error) => {
                self.problems
                    .set(what, chain(error), advice::of_state(error));
                self.retry.failed_for(RETRY, clock::now());
            }
        }
        outcome.is_ok()
    }
}

fn persisted(desired: &Desired, anchor: &ClockAnchor, now: Instant) -> PersistedState {
    let guard = desired.guard();
    let in_rotation: BTreeMap<ServerKey, Endpoint> = guard.in_rotation().collect();
    let owners: BTreeSet<_> = guard.absent_owners().collect();
    let in_use = in_rotation.keys().chain(owners.iter().map(|(key, _)| key));
    let in_use: BTreeSet<&str> = in_use.map(|key| key.server.member()).collect();
    let names = desired.loaded().config.serf.names;
    let is_in_use = |entry: &Entry| {
        let server = names.server(entry.member.name());
        server.is_some_and(|server| in_use.contains(server.member()))
    };
    let members = desired.snapshot().entries().iter();
    let members = members.filter(|entry| is_remembered(entry, is_in_use(entry)));
    let words = guard.words(now).map(|(key, report)| {
        let report = PastReport {
            endpoint: report.endpoint,
            gossip: report.gossip,
            since: anchor.unix_secs(report.since),
        };
        (key, report)
    });
    let removals = guard.removals().map(|(key, removal)| {
        let removal = PastRemoval {
            endpoint: removal.endpoint,
            at: anchor.unix_secs(removal.at),
            agreed: removal.agreed,
        };
        (key, removal)
    });
    let services = desired.services().iter();
    let services = services.map(|(name, it)| (name.clone(), PastService::of(it, anchor)));
    PersistedState {
        members: members.map(|entry| entry.member.clone()).collect(),
        words: words.collect(),
        removals: removals.collect(),
        owners: owners.clone(),
        services: services.collect(),
        in_rotation,
    }
}
