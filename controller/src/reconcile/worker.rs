//! A reading of HAProxy, where the owners meet: which worker answers, what it was started with, and what it runs.

use std::sync::Arc;

use planner::model::Worker;
use planner::syntax::{ConfigText, OtherFile};

use super::Reconciler;
use super::advice;
use super::journal::{ADDED, OTHERS};
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::runtime::{RuntimeError, State};
use crate::others::Others;

impl Reconciler {
    /// Takes what HAProxy was read to run; returns it as it concerns the members' servers.
    pub(super) async fn observe_haproxy(
        &mut self,
        read: Result<State, RuntimeError>,
        with_stat: bool,
    ) -> Option<State> {
        let mut state = match read {
            Ok(state) => state,
            Err(error) => {
                self.say_unreachable(&error);
                return None;
            }
        };
        let now = clock::now();
        self.journal.problems.clear("haproxy");
        match self.applier.detour() {
            Some(detour) => {
                let problem = detour.to_string();
                let problems = &mut self.journal.problems;
                problems.set("stats socket", problem, detour.advice());
            }
            None => self.journal.problems.clear("stats socket"),
        }
        self.installer.answered(now);
        self.journal.readings.haproxy = Some(now);
        if with_stat {
            self.journal.readings.checks = Some(now);
            self.applier.looked(&state, now);
        }
        self.observe_worker(&state.worker).await;
        let started_with = self.text_of(&state.worker);
        let scope = self.desired.scope();
        self.applier
            .observe(&mut state, started_with.as_deref(), scope, with_stat);
        self.desired.observe_running(&state.servers, clock::now());
        Some(state)
    }

    fn say_unreachable(&mut self, error: &RuntimeError) {
        let way = &self.desired.loaded().config.haproxy.reload;
        let advice = advice::of_haproxy(error, way);
        let problem = format!("HAProxy does not answer: {}", chain(error));
        self.journal.problems.set("haproxy", problem, advice);
        self.journal.problems.clear("stats socket");
        self.installer.unanswered(clock::now());
        self.applier.lose_worker();
    }

    /// Takes the worker that answers. Of one that is seen for the first time it is found out what it was started with.
    async fn observe_worker(&mut self, worker: &Worker) {
        if self.applier.is_last(worker) {
            self.installer.worker_goes_on(clock::now());
        } else {
            let state = self.journal.state();
            let saved = state.load_added(worker, clock::unix_secs());
            let journal = &mut self.journal;
            let remembered = saved.is_some();
            let appeared = self.installer.worker_appeared(worker, remembered, journal);
            let ours = appeared.await;
            tracing::info!(pid = worker.pid, "found {worker}");
            let before = self.applier.last_worker().map(|before| before.pid);
            if let Some(before) = before.filter(|_| !ours) {
                let known = self.installer.knows(worker);
                self.journal
                    .record_worker(worker, before, known, clock::now());
            }
            self.applier.set_added(saved.unwrap_or_default());
            self.remember_worker(worker);
        }
        if self.applier.set_worker(worker) {
            self.observe_others(worker);
        }
    }

    /// The text that this worker was started with, if it is known.
    pub(super) fn text_of(&mut self, worker: &Worker) -> Option<Arc<ConfigText>> {
        let (scope, state) = (self.desired.scope(), self.journal.state());
        self.installer.text_of(worker, scope, state)
    }

    /// Lets a later controller know the worker too, where its text is known.
    pub(super) fn remember_worker(&mut self, worker: &Worker) {
        if self.installer.knows(worker) {
            self.journal.problems.clear("text");
            self.save_added(worker);
        }
    }

    /// Keeps the options of added servers for a controller that starts later: it must know them, or reload. A crash before
    /// this line costs that reload, which is why it need not stand in the way of the traffic.
    pub(super) fn save_added(&mut self, worker: &Worker) {
        if self.installer.knows(worker) {
            self.journal.save_added(worker, self.applier.added());
        }
    }

    /// Saves what could not be saved of this worker.
    pub(super) fn save_worker_again(&mut self, worker: &Worker) {
        if self.journal.is_unsaved(OTHERS) {
            self.observe_others(worker);
        }
        if self.journal.is_unsaved(ADDED) {
            self.save_added(worker);
        }
    }

    /// Takes what this worker has read in the other files.
    pub(super) fn observe_others(&mut self, worker: &Worker) {
        let named = &self.desired.loaded().config.haproxy.files;
        let (state, now) = (self.journal.state(), clock::unix_secs());
        let others = Others::of(named, worker, state, now);
        let saved =
            (!named.is_empty()).then(|| state.save_others(worker, now, named, &others.files));
        let problems = &mut self.journal.problems;
        match others.problem() {
            Some(problem) => problems.set("other files", problem, advice::OTHER_FILES),
            None => problems.clear("other files"),
        }
        if let Some(saved) = saved {
            self.journal.saved(OTHERS, saved);
        }
        self.set_others(others.files);
    }

    /// Reads all texts anew where something else counts as theirs, or they inherit from something else.
    pub(super) fn set_others(&mut self, files: Vec<OtherFile>) {
        let scope = self.desired.loaded().scope.with_files(files);
        if self.desired.set_scope(scope) {
            self.installer.set_scope(self.desired.scope());
        }
    }
}
