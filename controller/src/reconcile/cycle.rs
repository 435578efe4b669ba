//! One cycle: what HAProxy runs is read, everything is decided anew, and the difference is applied.

use std::time::Duration;

use planner::guard::Decisions;
use planner::model::{Quarantine, SerfStatus, Servers};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::Reconciler;
use super::advice;
use super::applier::Intent;
use super::installer::Target;
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::runtime::State;
use crate::here;
use crate::probe::ProbeResult;

/// How long a cycle waits for the first answers of new probes: a server that listens answers within this, and is
/// added and admitted in one go.
const FIRST_ANSWERS: Duration = Duration::from_millis(5);

/// What is applied later than so long after the first hint has waited for something else than this controller.
const LATENCY: Duration = Duration::from_secs(10);

impl Reconciler {
    pub(super) async fn cycle(&mut self) {
        let started = clock::now();
        let due = self.desired.services_due();
        if due.is_some_and(|at| started >= at) {
            self.select();
        }
        if clock::now() >= self.next_drift {
            let config = &self.desired.loaded().config;
            self.next_drift = clock::now() + config.drift.interval;
            self.select();
            self.installer.look_at_file(&mut self.journal).await;
            self.installer.count_old_workers(&mut self.journal).await;
        }
        let new_probes = self.reconcile_probes().await;
        let looks = clock::now() >= self.applier.look_at();
        let no_worker = self.applier.worker().is_none();
        let with_stat = looks || no_worker || self.desired.guard().wants_stat();
        let runtime = self.applier.runtime().clone();
        let (found, read) = tokio::join!(
            first_answers(new_probes, &mut self.probed),
            runtime.read(with_stat)
        );
        for found in found {
            self.observe_probe(&found);
        }
        let state = self.observe_haproxy(read, with_stat).await;
        let in_force = self.decide();
        self.reconcile_probes().await;
        self.render(self.desired.lines(&in_force));
        self.applier.clear_plan();
        if let Some(state) = state {
            self.plan_and_apply(state, with_stat, &in_force).await;
        }
        self.look_for_rescue().await;
        self.install();
        self.look_around();
        self.remember();
        self.publish();
        let took = clock::since(started).as_secs_f64();
        self.journal.meters.cycles.observe(took);
    }

    /// Measures how long the change took that has just been applied. One that had to wait for a probe or a check says
    /// nothing of this controller.
    fn measure_latency(&mut self) {
        let latency = self.hinted.take().map(clock::since);
        if let Some(latency) = latency.filter(|latency| *latency < LATENCY) {
            self.journal.meters.latency.observe(latency.as_secs_f64());
        }
    }

    /// Picks the members anew, with the addresses that this host has now.
    pub(super) fn select(&mut self) {
        match here::addresses() {
            Ok(addresses) => {
                self.desired.set_addresses(addresses);
                self.journal.problems.clear("addresses");
            }
            Err(error) => self.journal.problems.set(
                "addresses",
                format!("cannot read this host's addresses, and takes those of before: {error}"),
                advice::ADDRESSES,
            ),
        }
        if let Some(text) = self.installer.on_disk() {
            self.desired.set_on_disk(&text.text);
        }
        if self.desired.select(clock::now()) {
            let services = self
                .desired
                .services()
                .iter()
                .map(|(name, _)| name.to_string());
            let services = services.collect::<Vec<_>>().join(" ");
            tracing::info!(services, "the services are others than before");
            self.installer.set_scope(self.desired.scope());
        }
    }

    /// Says what is to be asked from now on; returns how many servers are asked for the first time.
    async fn reconcile_probes(&mut self) -> usize {
        let news = self.desired.probe_news(clock::now());
        let checks = self.desired.loaded().probes();
        self.prober.reconcile(news, checks).await
    }

    /// Decides about every server; returns what may be in force now.
    fn decide(&mut self) -> Decisions {
        let now = clock::now();
        let before = self.desired.decide(now);
        let heard = self.desired.snapshot().read_at().is_some();
        self.journal.decided(
            &before,
            self.desired.decisions(),
            self.applier.running(),
            heard,
            now,
        );
        self.desired.in_force(now)
    }

    fn render(&mut self, servers: Servers) {
        match self.desired.render(servers) {
            Ok(true) => self.journal.problems.clear("template"),
            // A template that was refused since the text was rendered stays a problem.
            Ok(false) => {}
            Err(error) => {
                let problem = chain(&error);
                if self.fallback.is_some() {
                    self.revert_config(&problem);
                } else {
                    let problems = &mut self.journal.problems;
                    problems.set("template", problem, advice::TEMPLATE);
                }
            }
        }
    }

    /// Plans what brings HAProxy from this state to the wanted text, and executes the steps that go through the Runtime
    /// API.
    async fn plan_and_apply(&mut self, mut state: State, with_stat: bool, in_force: &Decisions) {
        let admins = in_force.admins();
        let Some(wanted) = self.desired.wanted().map(|wanted| wanted.text.clone()) else {
            return;
        };
        let on_disk = self.installer.on_disk().map(|text| text.parsed.clone());
        let config = self.desired.loaded().config.clone();
        let mut with_stat = with_stat;
        loop {
            let started_with = self.text_of(&state.worker);
            let intent = Intent {
                stamp: &wanted.stamp,
                wanted: &wanted.parsed,
                admins: &admins,
                decisions: self.desired.decisions(),
                started_with: started_with.as_deref(),
                on_disk: on_disk.as_deref(),
                retired_max: config.retired.max,
                drift_interval: config.drift.interval,
            };
            let Some(plan) = self.applier.draft(&state, with_stat, &intent).await else {
                let read = self.applier.runtime().read(true).await;
                let Some(read) = self.observe_haproxy(read, true).await else {
                    return;
                };
                (state, with_stat) = (read, true);
                continue;
            };
            let journal = &mut self.journal;
            let applier = &mut self.applier;
            let steps = journal.counters.steps;
            let added = applier.carry_out(plan, &state, &intent, journal).await;
            if self.journal.counters.steps != steps {
                self.measure_latency();
            }
            if added {
                self.save_added(&state.worker);
            }
            return;
        }
    }

    /// Asks for a reload where that is the last way to a worker that has not answered for a while.
    async fn look_for_rescue(&mut self) {
        if self.applier.worker().is_some() {
            return;
        }
        let wanted = self.desired.wanted();
        let last = self.applier.last_worker();
        let state = self.journal.state();
        if self.installer.may_rescue(wanted, last, state).await {
            let reason = planner::plan::ReloadReason::Unreachable;
            self.applier.want_reload(reason);
        }
    }

    /// Starts what brings the file to the disk and into force.
    fn install(&mut self) {
        let target = Target::of(&self.desired, &self.applier);
        self.installer.step(&target, &mut self.journal);
    }

    /// Says what of the agents and the servers needs a person.
    fn look_around(&mut self) {
        let snapshot = self.desired.snapshot();
        let config = &self.desired.loaded().config;
        self.feed
            .look_after_agent(snapshot, config, &mut self.journal);
        // That a member announces what is for others is nothing to put right.
        let unusable = self.quarantined(|status, why| {
            status == SerfStatus::Alive && *why != Quarantine::NotAllowed
        });
        let unrouted = &self.desired.loaded().unrouted;
        self.journal
            .judge_services(self.desired.services(), unrouted);
        self.journal.judge_servers(
            self.desired.decisions(),
            self.applier.checks(),
            &unusable,
            clock::now(),
        );
    }

    /// Keeps what a later start needs, if it has changed or could not be kept before.
    fn remember(&mut self) {
        let now = clock::now();
        if !self.journal.may_save(now) {
            return;
        }
        let worker = self.applier.worker().cloned();
        self.installer
            .save_again(worker.as_ref(), &mut self.journal);
        if let Some(worker) = &worker {
            self.save_worker_again(worker);
        }
        self.journal.save_members(&self.desired, now);
    }
}

/// Waits a moment for so many new probes, and takes what else has been found.
async fn first_answers(
    mut awaited: usize,
    found: &mut mpsc::Receiver<ProbeResult>,
) -> Vec<ProbeResult> {
    let deadline = tokio::time::Instant::now() + FIRST_ANSWERS;
    let mut answers = Vec::new();
    while awaited > 0 {
        let Ok(Some(answer)) = timeout_at(deadline, found.recv()).await else {
            break;
        };
        answers.push(answer);
        awaited -= 1;
    }
    while let Ok(answer) = found.try_recv() {
        answers.push(answer);
    }
    answers
}
