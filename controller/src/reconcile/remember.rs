//! What a later start needs, kept in the state directory. What could not be written is tried again until it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use planner::model::{Endpoint, ServerKey};
use serf_rpc::Entry;

use super::{Reconciler, advice, chain};
use crate::state::{PastRemoval, PastReport, PersistedState, StateError, is_remembered};

/// The longest pause before what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is kept, each with a problem of its own.
pub(super) const MEMBERS: &str = "state members";
pub(super) const ADDED: &str = "state added servers";
pub(super) const TEXTS: &str = "state texts";
pub(super) const OTHERS: &str = "state other files";
pub(super) const OUTPUTS: &str = "state outputs";

impl Reconciler {
    /// Keeps what a later start needs, if it has changed or could not be kept before.
    pub(super) fn remember(&mut self) {
        let now = Instant::now();
        if !self.state_retry.is_due(now) {
            return;
        }
        self.save_again();
        let memory = self.memory();
        if memory != self.saved {
            let outcome = self.state.save_memory(&memory);
            if self.saved_state(MEMBERS, outcome) {
                self.saved = memory;
            }
        }
        if !self.problems.any("state ") {
            self.state_retry.succeeded();
        }
    }

    /// Takes how it went to write something down; says whether it went well.
    pub(super) fn saved_state(
        &mut self,
        what: &'static str,
        outcome: Result<(), StateError>,
    ) -> bool {
        match &outcome {
            Ok(()) => self.problems.clear(what),
            Err(error) => {
                self.problems
                    .set(what, chain(error), advice::of_state(error));
                self.state_retry.failed_for(RETRY, Instant::now());
            }
        }
        outcome.is_ok()
    }

    /// Writes what could not be written: it has not changed since, but a later start needs it.
    fn save_again(&mut self) {
        if self.problems.is(TEXTS) {
            self.save_texts();
        }
        if self.problems.is(OUTPUTS) {
            let mut outputs = self.files.ours();
            let outcome = outputs.try_for_each(|(path, stamp)| self.state.save_output(path, stamp));
            drop(outputs);
            self.saved_state(OUTPUTS, outcome);
        }
        let Some(worker) = self.worker.clone() else {
            return;
        };
        if self.problems.is(OTHERS) {
            self.look_at_others(&worker);
        }
        if self.problems.is(ADDED) && self.worker_text.is_known(&worker) {
            self.save_added(&worker);
        }
    }

    fn save_texts(&mut self) {
        let stamps = self.stamps_in_use();
        let outcome = stamps.iter().try_for_each(|stamp| {
            let text = self.texts.text(stamp);
            text.map_or(Ok(()), |text| self.state.save_text(stamp, text, &stamps))
        });
        self.saved_state(TEXTS, outcome);
    }

    fn memory(&self) -> PersistedState {
        let now = Instant::now();
        let in_rotation: BTreeMap<ServerKey, Endpoint> = self.guard.in_rotation().collect();
        let owners: BTreeSet<_> = self.guard.absent_owners().collect();
        let in_use = in_rotation.keys().chain(owners.iter().map(|(key, _)| key));
        let in_use: BTreeSet<&[u8]> = in_use.map(|key| key.server.as_str().as_bytes()).collect();
        let is_in_use = |entry: &Entry| in_use.contains(&**entry.member.name());
        PersistedState {
            members: self
                .snapshot
                .entries()
                .iter()
                .filter(|entry| is_remembered(entry, is_in_use(entry)))
                .map(|entry| entry.member.clone())
                .collect(),
            words: self
                .guard
                .words(now)
                .map(|(key, word)| {
                    let said = PastReport {
                        endpoint: word.endpoint,
                        gossip: word.gossip,
                        since: self.anchor.unix_secs(word.since),
                    };
                    (key, said)
                })
                .collect(),
            in_rotation,
            removals: self
                .guard
                .removals()
                .map(|(key, removal)| {
                    let removed = PastRemoval {
                        endpoint: removal.endpoint,
                        at: self.anchor.unix_secs(removal.at),
                        agreed: removal.agreed,
                    };
                    (key, removed)
                })
                .collect(),
            owners,
        }
    }
}
