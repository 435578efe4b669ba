//! From a plan to a changed HAProxy: read, plan, execute, and notice what did not hold.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::haproxy::listen::listeners;
use crate::haproxy::runtime::{Executed, RuntimeError, State};
use crate::haproxy::{Stamp, Worker};
use crate::model::Key;
use crate::others::Others;
use crate::plan::{
    Action, ConfigText, Input, OtherFile, ReloadReason, Step, WantedAdmins, plan, wants_probe,
    wants_stat,
};
use crate::state::StateError;

use super::book::millis;
use super::drift::{REPAIRS, Verdict};
use super::{Reconciler, Text, advice, chain};

impl Reconciler {
    /// Takes what HAProxy was read to run, and lets the guard see it.
    pub(super) async fn take_reading(
        &mut self,
        read: Result<State, RuntimeError>,
    ) -> Option<State> {
        match read {
            Ok(mut state) => {
                self.problems.clear("haproxy");
                self.rescue.answered(Instant::now());
                match self.runtime.detour() {
                    Some(detour) => {
                        self.problems
                            .set("stats socket", detour.to_string(), detour.advice());
                    }
                    None => self.problems.clear("stats socket"),
                }
                self.notice(&state.worker).await;
                let running = self.text_of(&state.worker);
                self.scope
                    .retain(&mut state.servers, running.as_deref(), &self.added);
                self.agents.read(&state.worker, &mut state.servers);
                self.guard.read(&state.servers, Instant::now());
                self.running = state.servers.clone();
                Some(state)
            }
            Err(error) => {
                let way = &self.design.config.haproxy.reload;
                self.problems.set(
                    "haproxy",
                    format!("HAProxy does not answer: {}", chain(&error)),
                    advice::of_haproxy(&error, way),
                );
                self.problems.clear("stats socket");
                self.rescue.failed(Instant::now());
                self.worker = None;
                None
            }
        }
    }

    async fn notice(&mut self, worker: &Worker) {
        let is_same = |before: &Worker| before.is_same(worker);
        if self.last_worker.as_ref().is_some_and(is_same) {
            self.loaded.goes_on(Instant::now());
        } else {
            let saved = self.state.load_added(worker, unix_secs());
            self.judge_text(worker, saved.is_some()).await;
            self.record_worker(worker);
            self.added = saved.unwrap_or_default();
            self.remember_worker(worker);
        }
        if !self.worker.as_ref().is_some_and(is_same) {
            self.accepts_add.clear();
            self.refusals = 0;
            self.look_at_others(worker);
        }
        self.last_worker = Some(worker.clone());
        self.worker = Some(worker.clone());
    }

    /// Finds out whether a worker that is seen for the first time runs the text that its stamp names. An earlier
    /// controller has `remembered` it if so.
    async fn judge_text(&mut self, worker: &Worker, remembered: bool) {
        let now = Instant::now();
        let genuine = remembered || !self.is_edited().await;
        self.loaded.appeared(worker, genuine, now);
        if !self.loaded.is_known(worker) {
            self.problems.set(
                "text",
                format!(
                    "HAProxy was started or reloaded while {} held another hand's text: what it runs is not known",
                    self.file.path().display()
                ),
                advice::UNKNOWN_TEXT,
            );
        }
    }

    /// Lets a later controller know the worker too, where its text is known.
    pub(super) fn remember_worker(&mut self, worker: &Worker) {
        if self.loaded.is_known(worker) {
            self.problems.clear("text");
            self.save_added(worker);
        }
    }

    /// Whether there is a text in the file that another hand has written or changed.
    async fn is_edited(&self) -> bool {
        let Ok(Some(text)) = self.file.read().await else {
            return false;
        };
        let ours = self.on_disk.as_ref().filter(|on_disk| on_disk.is_ours());
        ours.is_none_or(|ours| *text != *ours.text) && Stamp::genuine(&text).is_none()
    }

    /// Takes what this worker has read in the other files.
    pub(super) fn look_at_others(&mut self, worker: &Worker) {
        let named = &self.design.config.haproxy.files;
        let now = unix_secs();
        let others = Others::of(named, worker, &self.state, now);
        match others.problem() {
            Some(problem) => self
                .problems
                .set("other files", problem, advice::OTHER_FILES),
            None => self.problems.clear("other files"),
        }
        if !named.is_empty()
            && let Err(error) = self.state.save_others(worker, now, named, &others.files)
        {
            self.cannot_save(&error);
        }
        self.take_scope(others.files);
    }

    /// Reads all texts anew where something else counts as theirs, or they inherit from something else.
    pub(super) fn take_scope(&mut self, files: impl Into<Arc<[OtherFile]>>) {
        let scope = self.design.scope.with_files(files);
        if scope == self.scope {
            return;
        }
        self.scope = scope;
        self.elsewhere = self.scope.other_texts().flat_map(listeners).collect();
        self.texts.clear();
        let wanted = self.wanted.as_mut().map(|wanted| &mut wanted.text);
        for text in self.on_disk.as_mut().into_iter().chain(wanted) {
            text.parsed = Arc::new(self.scope.read(&text.text));
        }
    }

    /// Plans, and executes the steps that go through the Runtime API.
    pub(super) async fn plan_and_apply(
        &mut self,
        mut running: State,
        wanted: &Text,
        admins: &WantedAdmins,
    ) {
        let stamp = &wanted.stamp;
        let wanted = &*wanted.parsed;
        let texts = Texts {
            started_with: self.text_of(&running.worker),
            on_disk: self.on_disk.as_ref().map(|text| Arc::clone(&text.parsed)),
        };
        if wants_stat(&self.input(&running, &texts, wanted, admins)) {
            let read = self.runtime.read(true).await;
            let Some(state) = self.take_reading(read).await else {
                return;
            };
            running = state;
        }
        let unprobed: Vec<_> = wants_probe(&self.input(&running, &texts, wanted, admins))
            .into_iter()
            .collect();
        if !unprobed.is_empty() {
            match self.runtime.accepts_add(&unprobed).await {
                Ok(answers) => self.accepts_add.extend(answers),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot ask which backends take servers")
                }
            }
        }
        self.plan = plan(&self.input(&running, &texts, wanted, admins));
        let now = Instant::now();
        let verdict = self.drift.judge(
            (stamp, admins),
            (&running.worker, &running.servers),
            &self.plan.steps,
            self.design.config.drift.interval,
            now,
        );
        let drift = match verdict {
            Verdict::Ours => Some(Vec::new()),
            Verdict::Repair(found) => Some(found),
            Verdict::Wait => None,
        };
        if let Some(drift) = drift
            && !self.plan.steps.is_empty()
            && self.retry.is_due(now)
        {
            for found in &drift {
                tracing::warn!("somebody else changed HAProxy: {found}; changing it back");
            }
            self.counters.repairs += u64::from(!drift.is_empty());
            let whole = self.apply(&running.worker, &drift).await;
            if whole && drift.is_empty() {
                self.drift
                    .settle((stamp, admins), (&running.worker, &running.servers));
            }
        }
        let refused = self.refused.clone().filter(|_| self.refusals >= REPAIRS);
        let undone = self.drift.wants_reload().cloned();
        if let Some(Key { backend, server }) = refused.or(undone) {
            self.plan
                .reload
                .push(ReloadReason::RepairFailed { backend, server });
        }
    }

    fn input<'a>(
        &'a self,
        running: &'a State,
        texts: &'a Texts,
        wanted: &'a ConfigText,
        admins: &'a WantedAdmins,
    ) -> Input<'a> {
        Input {
            version: running.worker.version,
            running: texts.started_with.as_deref(),
            servers: &running.servers,
            added: &self.added,
            wanted,
            admins,
            accepts_add: &self.accepts_add,
            on_disk: texts.on_disk.as_deref(),
            retired_max: self.design.config.retired.max,
        }
    }

    /// Executes the steps; says whether each of them was carried out.
    async fn apply(&mut self, worker: &Worker, drift: &[String]) -> bool {
        let steps = std::mem::take(&mut self.plan.steps);
        let started = Instant::now();
        let executed = self.runtime.execute(worker, &steps).await;
        self.record_steps(&steps, drift, started, &executed);
        match executed {
            Ok(executed) => {
                let elapsed_ms = millis(started);
                for step in &steps {
                    tracing::info!(backend = %step.backend, server = %step.server, elapsed_ms, "{step}");
                }
                if steps.iter().all(|step| {
                    matches!(
                        step.action,
                        Action::Ready { .. } | Action::Agent { asked: true }
                    )
                }) {
                    self.counters.admissions += 1;
                } else {
                    self.counters.applies += 1;
                }
                let done =
                    |step: &&Step| !executed.refused.iter().any(|(refused, _)| refused == *step);
                self.record_added(worker, steps.iter().filter(done));
                self.judge(&executed);
                let whole = executed.refused.is_empty();
                self.running.extend(executed.servers);
                whole
            }
            Err(error) => {
                self.counters.failures += 1;
                self.record_added(
                    worker,
                    steps.iter().filter(|step| step.action != Action::Delete),
                );
                tracing::warn!(error = %chain(&error), "the changes may not have reached HAProxy; planning again");
                self.retry.failed(Instant::now());
                false
            }
        }
    }

    /// A server that cannot be deleted yet has connections left, which is no fault; any other refusal is.
    fn judge(&mut self, executed: &Executed) {
        for (step, refusal) in &executed.refused {
            self.counters.refused += 1;
            tracing::warn!(backend = %step.backend, server = %step.server, "HAProxy refused `{step}`: {refusal}");
        }
        let fault = executed
            .refused
            .iter()
            .find(|(step, _)| step.action != Action::Delete);
        self.refused = fault.map(|(step, _)| Key {
            backend: step.backend.clone(),
            server: step.server.clone(),
        });
        if executed.refused.is_empty() {
            self.refusals = 0;
            self.retry.succeeded();
        } else {
            self.refusals += u32::from(self.refused.is_some());
            self.retry.failed(Instant::now());
        }
    }

    /// Writes the options of added servers down, for a controller that starts later: it must know them, or reload. A
    /// crash before this line costs that reload, which is why it need not stand in the way of the traffic.
    fn record_added<'a>(&mut self, worker: &Worker, done: impl Iterator<Item = &'a Step>) {
        let mut changed = false;
        for step in done {
            self.agents.did(step);
            let key = (step.backend.clone(), step.server.clone());
            match &step.action {
                Action::Add { options, .. } => {
                    self.added.insert(key, options.clone());
                    changed = true;
                }
                Action::Delete => changed |= self.added.remove(&key).is_some(),
                _ => {}
            }
        }
        if changed && self.loaded.is_known(worker) {
            self.save_added(worker);
        }
    }

    fn save_added(&mut self, worker: &Worker) {
        if let Err(error) = self.state.save_added(worker, unix_secs(), &self.added) {
            self.cannot_save(&error);
        }
    }

    /// Notes that what a later start needs could not be written down.
    pub(super) fn cannot_save(&mut self, error: &StateError) {
        self.problems
            .set("state", chain(error), advice::of_state(error));
    }

    /// The text that this worker started with, if it is known.
    fn text_of(&mut self, worker: &Worker) -> Option<Arc<ConfigText>> {
        let stamp = worker.stamp.as_ref();
        let stamp = stamp.filter(|_| self.loaded.is_known(worker))?;
        if let Some(text) = self.texts.get(stamp) {
            return Some(Arc::clone(text));
        }
        let text = Arc::new(self.scope.read(&self.state.load_text(stamp)?));
        self.texts.insert(stamp.clone(), Arc::clone(&text));
        Some(text)
    }
}

/// The texts that a plan looks at beside the wanted one.
struct Texts {
    started_with: Option<Arc<ConfigText>>,
    on_disk: Option<Arc<ConfigText>>,
}

fn unix_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
