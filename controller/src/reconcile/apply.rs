//! From a plan to a changed HAProxy: read, plan, execute, and notice what did not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use planner::model::{
    Action, BackendName, RunningServers, ServerKey, ServerName, Step, WantedAdmins, Worker,
};
use planner::plan::{Input, ReloadReason, draft, first_round};
use planner::runtime::refusal::Refusal;
use planner::stamp::Stamp;
use planner::syntax::listeners::listeners;
use planner::syntax::{ConfigText, OtherFile};

use super::book::millis;
use super::drift::{Classification, REPAIRS};
use super::remember::{ADDED, OTHERS};
use super::{Reconciler, Text, advice, chain};
use crate::haproxy::runtime::{Executed, RuntimeError, State};
use crate::others::Others;

/// The longest pause before another try to delete a server that still has connections.
const DELETE_RETRY: Duration = Duration::from_secs(2);
/// So many steps are carried out before HAProxy is read again, and news is heard: some tens of milliseconds.
const ROUND: usize = 300;

impl Reconciler {
    /// Takes what HAProxy was read to run, and lets the guard see it.
    pub(super) async fn take_reading(
        &mut self,
        read: Result<State, RuntimeError>,
        with_stat: bool,
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
                let now = Instant::now();
                self.readings.haproxy = Some(now);
                if with_stat {
                    self.readings.checks = Some(now);
                    self.look.take(&state, self.runtime.detour().is_some(), now);
                }
                self.notice(&state.worker).await;
                let running = self.text_of(&state.worker);
                self.scope
                    .retain(&mut state.servers, running.as_deref(), &self.added);
                self.agents.read(&state.worker, &mut state.servers);
                if with_stat {
                    self.down.clone_from(&state.down);
                    self.checks = bad_checks(&state.servers);
                }
                self.guard.read(&state.servers, Instant::now());
                self.running = state.servers.clone();
                Some(state)
            }
            Err(error) => {
                let way = &self.loaded.config.haproxy.reload;
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
            self.worker_text.goes_on(Instant::now());
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
        self.worker_text.appeared(worker, genuine, now);
        if !self.worker_text.is_known(worker) {
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
        if self.worker_text.is_known(worker) {
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
        let named = &self.loaded.config.haproxy.files;
        let now = unix_secs();
        let others = Others::of(named, worker, &self.state, now);
        match others.problem() {
            Some(problem) => self
                .problems
                .set("other files", problem, advice::OTHER_FILES),
            None => self.problems.clear("other files"),
        }
        if !named.is_empty() {
            let outcome = self.state.save_others(worker, now, named, &others.files);
            self.saved_state(OTHERS, outcome);
        }
        self.take_scope(others.files);
    }

    /// Reads all texts anew where something else counts as theirs, or they inherit from something else.
    pub(super) fn take_scope(&mut self, files: impl Into<Arc<[OtherFile]>>) {
        let scope = self.loaded.scope.with_files(files);
        if scope == self.scope {
            return;
        }
        self.scope = scope;
        self.elsewhere = self.scope.other_texts().flat_map(listeners).collect();
        self.texts.reread();
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
        let mut drafted = draft(&self.input(&running, &texts, wanted, admins));
        if drafted.wants_stat {
            let read = self.runtime.read(true).await;
            let Some(state) = self.take_reading(read, true).await else {
                return;
            };
            running = state;
            drafted = draft(&self.input(&running, &texts, wanted, admins));
        }
        if !drafted.unprobed.is_empty() {
            let unprobed: Vec<_> = drafted.unprobed.into_iter().collect();
            match self.runtime.accepts_add(&unprobed).await {
                Ok(answers) => self.accepts_add.extend(answers),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot ask which backends take servers")
                }
            }
            drafted = draft(&self.input(&running, &texts, wanted, admins));
        }
        self.plan = drafted.plan;
        let now = Instant::now();
        self.put_off_deletes(&running, now);
        let verdict = self.drift.judge(
            (stamp, admins),
            (&running.worker, &running.servers),
            &self.plan.steps,
            self.loaded.config.drift.interval,
            now,
        );
        let drift = match verdict {
            Classification::Ours => Some(Vec::new()),
            Classification::Repair(found) => Some(found),
            Classification::Wait => None,
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
        if let Some(ServerKey { backend, server }) = refused.or(undone) {
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
            retired_max: self.loaded.config.retired.max,
        }
    }

    /// Executes the first round of the steps; says whether that were all, and each of them was carried out.
    async fn apply(&mut self, worker: &Worker, drift: &[String]) -> bool {
        let steps = first_round(&mut self.plan.steps, ROUND);
        self.unfinished = !self.plan.steps.is_empty();
        let started = Instant::now();
        let mut executed = self.runtime.execute(worker, &steps).await;
        let busy = executed.as_mut().map(take_busy).unwrap_or_default();
        let tried: Vec<Step> = steps
            .iter()
            .filter(|step| !busy.contains(step))
            .cloned()
            .collect();
        if !tried.is_empty() {
            self.record_steps(&tried, drift, started, &executed);
        }
        match executed {
            Ok(executed) => {
                let elapsed_ms = millis(started);
                let refused = |step: &&Step| executed.refused.iter().any(|(it, _)| it == *step);
                let done = tried.iter().filter(|step| !refused(step));
                for step in done.clone() {
                    tracing::info!(backend = %step.backend, server = %step.server, elapsed_ms, "{step}");
                }
                self.count_apply(&tried);
                self.record_added(worker, done);
                self.note_busy(&busy);
                self.judge(&executed);
                let whole = executed.refused.is_empty() && busy.is_empty() && !self.unfinished;
                self.running.extend(executed.servers);
                whole
            }
            Err(error) => {
                self.record_added(
                    worker,
                    steps.iter().filter(|step| step.action != Action::Delete),
                );
                tracing::warn!(error = %chain(&error), "the changes may not have reached HAProxy; planning again");
                self.retry.failed(Instant::now());
                self.unfinished = false;
                false
            }
        }
    }

    fn count_apply(&mut self, steps: &[Step]) {
        let admits = |step: &Step| {
            matches!(
                step.action,
                Action::Ready { .. } | Action::Agent { asked: true }
            )
        };
        if steps.iter().all(admits) {
            self.counters.admissions += u64::from(!steps.is_empty());
        } else {
            self.counters.applies += 1;
        }
    }

    /// Notes which servers could not be deleted yet: they are tried again by and by, and hold up nothing else.
    fn note_busy(&mut self, busy: &[Step]) {
        for step in busy.iter().filter(|step| step.action == Action::Delete) {
            tracing::debug!(backend = %step.backend, server = %step.server, "not deleted yet, connections are open");
            let retry = self.undeleted.entry(key_of(step)).or_default();
            retry.failed_for(DELETE_RETRY, Instant::now());
        }
    }

    /// Leaves out of the plan the servers that could not be deleted a moment ago, with all that follows their deletion.
    fn put_off_deletes(&mut self, running: &State, now: Instant) {
        self.undeleted.retain(|key, _| {
            let servers = running.servers.get(key.backend.as_str());
            servers.is_some_and(|servers| servers.contains_key(key.server.as_str()))
        });
        let is_due = |key: &ServerKey| {
            self.undeleted
                .get(key)
                .is_none_or(|retry| retry.is_due(now))
        };
        let deletes = self.plan.steps.iter();
        let deletes = deletes.filter(|step| step.action == Action::Delete);
        let later: BTreeSet<ServerKey> = deletes.map(key_of).filter(|key| !is_due(key)).collect();
        self.plan
            .steps
            .retain(|step| !later.contains(&key_of(step)));
    }

    /// Refusals, but for those of servers that cannot be deleted yet, are faults.
    fn judge(&mut self, executed: &Executed) {
        for (step, refusal) in &executed.refused {
            self.counters.refused += 1;
            tracing::warn!(backend = %step.backend, server = %step.server, "HAProxy refused `{step}`: {refusal}");
        }
        let fault = executed
            .refused
            .iter()
            .find(|(step, _)| step.action != Action::Delete);
        self.refused = fault.map(|(step, _)| ServerKey {
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
        if changed && self.worker_text.is_known(worker) {
            self.save_added(worker);
        }
    }

    pub(super) fn save_added(&mut self, worker: &Worker) {
        let outcome = self.state.save_added(worker, unix_secs(), &self.added);
        self.saved_state(ADDED, outcome);
    }

    /// The text that this worker started with, if it is known.
    fn text_of(&mut self, worker: &Worker) -> Option<Arc<ConfigText>> {
        let stamp = worker.stamp.as_ref();
        let stamp = stamp.filter(|_| self.worker_text.is_known(worker))?;
        if self.texts.text(stamp).is_none() {
            self.texts
                .insert(stamp, self.state.load_text(stamp)?.into());
        }
        self.texts.parsed(stamp, &self.scope)
    }
}

/// Takes the steps out that HAProxy did not do because connections are open to a server that is to be deleted, with what
/// was to follow the deletion.
fn take_busy(executed: &mut Executed) -> Vec<Step> {
    let is_busy = |(step, refusal): &&(Step, Refusal)| {
        step.action == Action::Delete && *refusal == Refusal::Busy
    };
    let busy = executed.refused.iter().filter(is_busy);
    let busy: BTreeSet<ServerKey> = busy.map(|(step, _)| key_of(step)).collect();
    let of_busy = |(step, _): &mut (Step, Refusal)| busy.contains(&key_of(step));
    let taken = executed.refused.extract_if(.., of_busy);
    taken.map(|(step, _)| step).collect()
}

fn key_of(step: &Step) -> ServerKey {
    ServerKey {
        backend: step.backend.clone(),
        server: step.server.clone(),
    }
}

/// What went wrong with the last check of each server.
fn bad_checks(servers: &RunningServers) -> BTreeMap<ServerKey, String> {
    let mut checks = BTreeMap::new();
    for (backend, servers) in servers {
        for (name, server) in servers {
            let said = server.stat.as_ref().and_then(|stat| stat.said.as_ref());
            let key = BackendName::new(backend).zip(ServerName::new(name));
            if let (Some(said), Some((backend, server))) = (said, key) {
                checks.insert(ServerKey { backend, server }, said.clone());
            }
        }
    }
    checks
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
