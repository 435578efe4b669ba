//! The applier: readings of HAProxy and what it is to run in; steps through the Runtime API out, and why a reload is
//! needed. It notices what did not hold.
//!
//! Nothing is believed of HAProxy beyond what was just read, but for what only this controller knows: the options of the
//! servers that it added, and what agents say.

mod agents;
mod drift;
mod look;
#[cfg(test)]
mod tests;
mod undeleted;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agents::Agents;
use drift::{Classification, Drift, REPAIRS};
use look::Look;
use planner::guard::Decisions;
use planner::model::{
    Action, AddedOptions, BackendName, DownBackends, RunningServers, ServerKey, Step, WantedAdmins,
    Worker,
};
use planner::plan::{Input, Plan, ReloadReason, draft, first_round};
use planner::runtime::refusal::Refusal;
use planner::stamp::Stamp;
use planner::syntax::{ConfigText, Scope};
use undeleted::Undeleted;

use super::journal::Journal;
use super::retry::Retry;
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::runtime::{Detour, Executed, RuntimeApi, State};

/// So many steps are carried out before HAProxy is read again, and news is heard: some tens of milliseconds.
const ROUND: usize = 300;
/// How often a HAProxy that does not answer is tried.
const UNREACHABLE_RETRY: Duration = Duration::from_millis(200);
/// How often the stats socket is tried again while the master's is used.
const DETOUR_RETRY: Duration = Duration::from_secs(1);

/// What brings HAProxy to what it is to run.
pub(super) struct Applier {
    runtime: RuntimeApi,
    /// The worker that answers.
    worker: Option<Worker>,
    /// The one that was there last, whether it still answers or not.
    last_worker: Option<Worker>,
    /// The servers as they were last read: what HAProxy has been told.
    running: RunningServers,
    checks: Checks,
    look: Look,
    /// The options of the servers that were added to the worker.
    added: AddedOptions,
    accepts_add: BTreeMap<BackendName, bool>,
    agents: Agents,
    /// What is left to be done.
    plan: Plan,
    /// Steps of the last plan wait for another round.
    unfinished: bool,
    /// When the Runtime API is worth another try.
    retry: Retry,
    refusals: Refusals,
    drift: Drift,
    undeleted: Undeleted,
}

/// What HAProxy's checks said when they were last read.
#[derive(Default)]
struct Checks {
    /// The backends that serve nobody.
    down: DownBackends,
    /// What went wrong with the last check of each server.
    said: BTreeMap<ServerKey, String>,
}

/// Steps that HAProxy refused.
#[derive(Default)]
struct Refusals {
    /// So many rounds in a row.
    count: u32,
    /// The server of the last one.
    server: Option<ServerKey>,
}

/// What became of a round of steps.
struct Applied {
    /// They were all that was left, and each of them was carried out.
    whole: bool,
    /// Other servers count as added than before.
    added: bool,
}

/// What HAProxy is to run, and what is known of what it was started with.
#[derive(Clone, Copy)]
pub(super) struct Intent<'a> {
    pub(super) stamp: &'a Stamp,
    pub(super) wanted: &'a ConfigText,
    pub(super) admins: &'a WantedAdmins,
    /// Why each server is to be so.
    pub(super) decisions: &'a Decisions,
    /// The text that the worker was started with, where that is known.
    pub(super) started_with: Option<&'a ConfigText>,
    pub(super) on_disk: Option<&'a ConfigText>,
    /// How many servers that left may stay in maint, where none can be deleted.
    pub(super) retired_max: usize,
    pub(super) drift_interval: Duration,
}

impl Applier {
    pub(super) fn new(runtime: RuntimeApi, now: Instant) -> Self {
        Self {
            runtime,
            worker: None,
            last_worker: None,
            running: RunningServers::new(),
            checks: Checks::default(),
            look: Look::new(now),
            added: AddedOptions::new(),
            accepts_add: BTreeMap::new(),
            agents: Agents::default(),
            plan: Plan::default(),
            unfinished: false,
            retry: Retry::default(),
            refusals: Refusals::default(),
            drift: Drift::default(),
            undeleted: Undeleted::default(),
        }
    }

    /// Takes another way to HAProxy.
    pub(super) fn set_runtime(&mut self, runtime: RuntimeApi) {
        self.runtime = runtime;
    }

    /// The way to HAProxy.
    pub(super) fn runtime(&self) -> &RuntimeApi {
        &self.runtime
    }

    /// The worker that answers.
    pub(super) fn worker(&self) -> Option<&Worker> {
        self.worker.as_ref()
    }

    /// The one that was there last, whether it still answers or not.
    pub(super) fn last_worker(&self) -> Option<&Worker> {
        self.last_worker.as_ref()
    }

    /// Takes the worker that answers; says whether another one did at the last reading, or none.
    pub(super) fn set_worker(&mut self, worker: &Worker) -> bool {
        let is_new = !self.is_current(worker);
        if is_new {
            self.accepts_add.clear();
            self.refusals.count = 0;
        }
        self.last_worker = Some(worker.clone());
        self.worker = Some(worker.clone());
        is_new
    }

    /// Takes that no worker answers.
    pub(super) fn lose_worker(&mut self) {
        self.worker = None;
    }

    /// Whether this worker is the one that answered at the last reading.
    pub(super) fn is_current(&self, worker: &Worker) -> bool {
        let current = self.worker.as_ref();
        current.is_some_and(|before| before.is_same(worker))
    }

    /// Whether this worker is the one that was seen last.
    pub(super) fn is_last(&self, worker: &Worker) -> bool {
        let last = self.last_worker.as_ref();
        last.is_some_and(|before| before.is_same(worker))
    }

    /// The options of the servers that were added to the worker.
    pub(super) fn added(&self) -> &AddedOptions {
        &self.added
    }

    /// Takes those of another worker.
    pub(super) fn set_added(&mut self, added: AddedOptions) {
        self.added = added;
    }

    /// Which backends of the worker take servers, as far as it was asked.
    pub(super) fn accepts_add(&self) -> &BTreeMap<BackendName, bool> {
        &self.accepts_add
    }

    /// The servers as they were last read.
    pub(super) fn running(&self) -> &RunningServers {
        &self.running
    }

    /// What HAProxy's checks said: the backends that serve nobody, and what went wrong with servers. None where HAProxy
    /// does not answer.
    pub(super) fn checks(&self) -> Option<(&DownBackends, &BTreeMap<ServerKey, String>)> {
        let checks = (&self.checks.down, &self.checks.said);
        self.worker.is_some().then_some(checks)
    }

    /// What the agent of a server says, in words.
    pub(super) fn agent_says(&self, key: &ServerKey) -> &str {
        self.agents.says(key)
    }

    /// What is left to be done.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Forgets what was left to be done: it is planned anew.
    pub(super) fn clear_plan(&mut self) {
        self.plan = Plan::default();
        self.unfinished = false;
    }

    /// Takes another reason for a reload.
    pub(super) fn want_reload(&mut self, reason: ReloadReason) {
        self.plan.reload.push(reason);
    }

    /// Takes that HAProxy was reloaded: what was refused or did not hold is swept away.
    pub(super) fn reloaded(&mut self) {
        self.refusals = Refusals::default();
        self.drift.reloaded();
    }

    /// Takes a reading of the current worker: puts right in it what only this controller knows.
    pub(super) fn observe(
        &mut self,
        state: &mut State,
        started_with: Option<&ConfigText>,
        scope: &Scope,
        with_stat: bool,
    ) {
        scope.retain(&mut state.servers, started_with, &self.added);
        self.agents.read(&state.worker, &mut state.servers);
        if with_stat {
            self.checks = Checks {
                down: state.down.clone(),
                said: bad_checks(&state.servers),
            };
        }
        self.running = state.servers.clone();
    }

    /// Takes a reading with what the checks say as one that was looked at.
    pub(super) fn looked(&mut self, state: &State, now: Instant) {
        self.look.take(state, self.runtime.detour().is_some(), now);
    }

    /// Looks at HAProxy; says whether a cycle has to follow. Where it does not answer, one has.
    pub(super) async fn look(&mut self, journal: &mut Journal) -> bool {
        let Ok(state) = self.runtime.read(true).await else {
            return true;
        };
        let now = clock::now();
        if self.look.take(&state, self.runtime.detour().is_some(), now) {
            // The cycle reads once more, and takes it.
            self.look = Look::new(now);
            return true;
        }
        journal.read_again(now);
        false
    }

    /// When the next look is due.
    pub(super) fn look_at(&self) -> Instant {
        self.look.next
    }

    /// Why the worker is spoken to by its master, where it is.
    pub(super) fn detour(&self) -> Option<Detour> {
        self.runtime.detour()
    }

    /// How soon HAProxy has to be read again, where the decisions want it after `poll`.
    pub(super) fn poll(&self, poll: Option<Duration>) -> Option<Duration> {
        match &self.worker {
            None => Some(UNREACHABLE_RETRY),
            Some(_) if self.detour().is_some() => {
                Some(poll.map_or(DETOUR_RETRY, |poll| poll.min(DETOUR_RETRY)))
            }
            Some(_) => poll,
        }
    }

    /// Whether steps wait that need nothing but another round.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// When time alone makes something worth another try.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let own = [self.retry.at(), self.drift.retry_at()];
        own.into_iter().flatten().chain(self.undeleted.deadlines())
    }

    /// Drafts what is to be done; none where HAProxy has to be read with what its checks say first.
    pub(super) async fn draft(
        &mut self,
        state: &State,
        with_stat: bool,
        intent: &Intent<'_>,
    ) -> Option<Plan> {
        let drafted = draft(&self.input(state, intent));
        if drafted.wants_stat && !with_stat {
            return None;
        }
        if drafted.unprobed.is_empty() {
            return Some(drafted.plan);
        }
        let unprobed: Vec<_> = drafted.unprobed.into_iter().collect();
        match self.runtime.accepts_add(&unprobed).await {
            Ok(answers) => self.accepts_add.extend(answers),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot ask which backends take servers");
            }
        }
        Some(draft(&self.input(state, intent)).plan)
    }

    fn input<'a>(&'a self, state: &'a State, intent: &Intent<'a>) -> Input<'a> {
        Input {
            version: state.worker.version,
            running: intent.started_with,
            servers: &state.servers,
            added: &self.added,
            wanted: intent.wanted,
            admins: intent.admins,
            accepts_add: &self.accepts_add,
            on_disk: intent.on_disk,
            retired_max: intent.retired_max,
        }
    }

    /// Takes a plan for what was read, and executes the steps of it that are due; says whether other servers count as
    /// added then.
    pub(super) async fn carry_out(
        &mut self,
        plan: Plan,
        state: &State,
        intent: &Intent<'_>,
        journal: &mut Journal,
    ) -> bool {
        self.plan = plan;
        let now = clock::now();
        self.undeleted
            .put_off(&mut self.plan.steps, &state.servers, now);
        let (wanted, read) = (
            (intent.stamp, intent.admins),
            (&state.worker, &state.servers),
        );
        let classified =
            self.drift
                .judge(wanted, read, &self.plan.steps, intent.drift_interval, now);
        let mut added = false;
        let drift = match classified {
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
            journal.counters.repairs += u64::from(!drift.is_empty());
            let applied = self.apply(&state.worker, intent, &drift, journal).await;
            added = applied.added;
            if applied.whole && drift.is_empty() {
                self.drift.settle(wanted, read);
            }
        }
        if let Some(server) = self.hopeless() {
            let reason = ReloadReason::RepairFailed { server };
            self.plan.reload.push(reason);
        }
        added
    }

    /// A server for which only a reload may help: its steps are refused, or do not hold.
    fn hopeless(&self) -> Option<ServerKey> {
        let refused = self.refusals.server.as_ref();
        let refused = refused.filter(|_| self.refusals.count >= REPAIRS);
        refused.or(self.drift.wants_reload()).cloned()
    }

    /// Executes the first round of the steps.
    async fn apply(
        &mut self,
        worker: &Worker,
        intent: &Intent<'_>,
        drift: &[String],
        journal: &mut Journal,
    ) -> Applied {
        let steps = first_round(&mut self.plan.steps, ROUND);
        self.unfinished = !self.plan.steps.is_empty();
        let started = clock::now();
        let mut executed = self.runtime.execute(worker, &steps).await;
        let busy = executed.as_mut().map(take_busy).unwrap_or_default();
        let tried = steps.iter().filter(|step| !busy.contains(step));
        let tried: Vec<Step> = tried.cloned().collect();
        if !tried.is_empty() {
            journal.record_steps(&tried, intent.decisions, drift, started, &executed);
        }
        match executed {
            Ok(executed) => {
                let elapsed_ms = clock::millis_since(started);
                let refused = |step: &&Step| executed.refused.iter().any(|(it, _)| it == *step);
                let done: Vec<&Step> = tried.iter().filter(|step| !refused(step)).collect();
                for step in &done {
                    tracing::info!(backend = %step.backend, server = %step.server, elapsed_ms, "{step}");
                }
                journal.count_apply(&tried);
                let added = self.note_done(done);
                self.undeleted.failed(&busy, clock::now());
                self.note_refused(&executed, journal);
                let whole = executed.refused.is_empty() && busy.is_empty() && !self.unfinished;
                self.running.extend(executed.servers);
                Applied { whole, added }
            }
            Err(error) => {
                let sent = steps.iter().filter(|step| step.action != Action::Delete);
                let added = self.note_done(sent);
                tracing::warn!(error = %chain(&error), "the changes may not have reached HAProxy; planning again");
                self.retry.failed(clock::now());
                self.unfinished = false;
                let whole = false;
                Applied { whole, added }
            }
        }
    }

    /// Notes the options of servers that were added, and what agents were told; says whether other servers count as added.
    fn note_done<'a>(&mut self, done: impl IntoIterator<Item = &'a Step>) -> bool {
        let mut changed = false;
        for step in done {
            self.agents.did(step);
            match &step.action {
                Action::Add { options, .. } => {
                    self.added.insert(step.key(), options.clone());
                    changed = true;
                }
                Action::Delete => changed |= self.added.remove(&step.key()).is_some(),
                _ => {}
            }
        }
        changed
    }

    /// Refusals are faults, but for those of servers that cannot be deleted yet.
    fn note_refused(&mut self, executed: &Executed, journal: &mut Journal) {
        for (step, refusal) in &executed.refused {
            journal.counters.refused += 1;
            tracing::warn!(backend = %step.backend, server = %step.server, "HAProxy refused `{step}`: {refusal}");
        }
        let mut refused = executed.refused.iter().map(|(step, _)| step);
        let fault = refused.find(|step| step.action != Action::Delete);
        self.refusals.server = fault.map(Step::key);
        if executed.refused.is_empty() {
            self.refusals.count = 0;
            self.retry.succeeded();
        } else {
            self.refusals.count += u32::from(self.refusals.server.is_some());
            self.retry.failed(clock::now());
        }
    }
}

/// Takes the steps out that HAProxy did not do because connections are open to a server that is to be deleted, with what
/// was to follow the deletion.
fn take_busy(executed: &mut Executed) -> Vec<Step> {
    let is_busy = |(step, refusal): &&(Step, Refusal)| {
        step.action == Action::Delete && *refusal == Refusal::Busy
    };
    let busy = executed.refused.iter().filter(is_busy);
    let busy: Vec<ServerKey> = busy.map(|(step, _)| step.key()).collect();
    let of_busy = |(step, _): &mut (Step, Refusal)| busy.contains(&step.key());
    let taken = executed.refused.extract_if(.., of_busy);
    taken.map(|(step, _)| step).collect()
}

/// What went wrong with the last check of each server.
fn bad_checks(servers: &RunningServers) -> BTreeMap<ServerKey, String> {
    let mut checks = BTreeMap::new();
    for (backend, servers) in servers {
        for (name, server) in servers {
            let said = server.stat.as_ref().and_then(|stat| stat.said.as_ref());
            if let (Some(said), Some(key)) = (said, ServerKey::read(backend, name)) {
                checks.insert(key, said.clone());
            }
        }
    }
    checks
}
