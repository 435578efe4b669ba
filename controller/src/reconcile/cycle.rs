//! One cycle: what HAProxy runs is read, everything is decided anew, and the difference is applied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BStr;
use planner::model::{ServerName, Servers};
use planner::pipeline::{Wanted, in_force};
use planner::plan::Plan;
use planner::select::select;
use serf_rpc::{Entry, Presence, Snapshot};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::{Reconciler, Retry, UNREACHABLE_RETRY, advice, chain};
use crate::here;
use crate::probe::ProbeResult;

/// How long a cycle waits for the first answers of new probes: a server that listens answers within this, and is
/// added and admitted in one go.
const FIRST_ANSWERS: Duration = Duration::from_millis(5);

/// How often the stats socket is tried again while the master's is used.
const DETOUR_RETRY: Duration = Duration::from_secs(1);

impl Reconciler {
    /// Hears what gossip says now.
    pub(super) fn hear(&mut self, snapshot: &Arc<Snapshot>) {
        let snapshot = &self.bounded(snapshot);
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        if before.revision() != snapshot.revision() || before.local() != snapshot.local() {
            self.select();
        }
    }

    /// The members, or those of before where these are more than may be: whoever can make so many may make any.
    fn bounded(&mut self, snapshot: &Arc<Snapshot>) -> Arc<Snapshot> {
        let most = self.loaded.config.serf.max_members;
        let is_listed = |entry: &&Entry| entry.presence == Presence::Listed;
        let listed = snapshot.entries().iter().filter(is_listed).count();
        if listed <= most {
            self.problems.clear("max_members");
            return Arc::clone(snapshot);
        }
        let problem = format!(
            "the agent lists {listed} members, more than max_members = {most}: its list is not taken, and that of before stays in force"
        );
        self.problems
            .set("max_members", problem, advice::MAX_MEMBERS);
        Arc::new(self.snapshot.with_agent(snapshot.agent().clone()))
    }

    /// Picks the members anew, with the addresses that this host has now.
    pub(super) fn select(&mut self) {
        match here::addresses() {
            Ok(addresses) => {
                self.addresses = addresses;
                self.problems.clear("addresses");
            }
            Err(error) => {
                let blind = "cannot read this host's addresses, and takes those of before";
                self.problems
                    .set("addresses", format!("{blind}: {error}"), advice::ADDRESSES);
            }
        }
        if let Some(text) = &self.on_disk {
            self.listeners.read(&text.text);
        }
        let own = [self.listeners.of_text(), &self.elsewhere].concat();
        let defaults = self.loaded.defaults(&self.snapshot, &self.addresses, &own);
        self.model = select(&self.snapshot, &self.loaded.config.backends, &defaults);
        self.guard.hear(&self.model, Instant::now());
    }

    /// Hears that the agent suspects a member; says whether anything may follow from it.
    pub(super) fn hear_suspicion(&mut self, name: &BStr) -> bool {
        ServerName::new(name).is_some_and(|name| self.guard.suspect(&name, Instant::now()))
    }

    /// Hears a probe; says whether anything may follow from it.
    pub(super) fn hear_probe(&mut self, found: &ProbeResult) -> bool {
        self.guard.probed(&found.key, found.addr, found.probed)
    }

    /// When the loop has to turn again, if nothing else happens.
    pub(super) fn next_wake(&self) -> Instant {
        let now = Instant::now();
        if self.unfinished {
            return now;
        }
        let poll = match &self.worker {
            None => Some(UNREACHABLE_RETRY),
            Some(_) if self.runtime.detour().is_some() => Some(
                self.decisions
                    .poll
                    .map_or(DETOUR_RETRY, |poll| poll.min(DETOUR_RETRY)),
            ),
            Some(_) => self.decisions.poll,
        };
        let due_later = [
            self.retry.at(),
            self.write_retry.at(),
            self.state_retry.at(),
            self.drift.retry_at(),
            self.alone.deadline(),
            self.options.notifier.deadline(),
            self.told.deadline(),
            self.reload_allowed_at()
                .filter(|_| !self.plan.reload.is_empty()),
        ];
        let due_later = due_later
            .into_iter()
            .flatten()
            .chain(self.files.retry_at())
            .chain(self.unserved.deadlines())
            .chain(self.undeleted.values().filter_map(Retry::at))
            .filter(|&at| at > now);
        [
            self.decisions.deadline,
            self.additions.deadline(),
            self.writes.deadline(),
        ]
        .into_iter()
        .flatten()
        .chain(due_later)
        .chain(poll.map(|poll| now + poll))
        .fold(self.next_drift, Instant::min)
    }

    pub(super) async fn cycle(&mut self, found: &mut mpsc::Receiver<ProbeResult>) {
        if Instant::now() >= self.next_drift {
            self.next_drift = Instant::now() + self.loaded.config.drift.interval;
            self.select();
            self.look_at_file().await;
            self.count_old_workers().await;
        }
        let new_probes = self.run_probes().await;
        let looks = Instant::now() >= self.look.next;
        let with_stat = looks || self.worker.is_none() || self.guard.wants_stat();
        let runtime = self.runtime.clone();
        let (found, read) = tokio::join!(first_answers(new_probes, found), runtime.read(with_stat));
        for found in found {
            self.hear_probe(&found);
        }
        let running = self.take_reading(read, with_stat).await;
        let now = Instant::now();
        let decisions = self.guard.decide(now);
        self.take_decisions(decisions, now);
        self.run_probes().await;
        let in_force = in_force(&self.decisions, &mut self.additions, now);
        let in_force = self.without_offenders(in_force);
        self.render(in_force.lines());
        self.plan = Plan::default();
        self.unfinished = false;
        if let (Some(running), Some(wanted)) = (running, &self.wanted) {
            let wanted = wanted.text.clone();
            self.plan_and_apply(running, &wanted, &in_force.admins())
                .await;
        }
        if self.worker.is_none() {
            self.look_for_rescue().await;
        }
        self.write_and_reload();
        self.look_at_agent();
        self.look_after_agent();
        self.look_at_servers();
        self.remember();
        self.publish();
    }

    async fn run_probes(&self) -> usize {
        let targets = self.guard.targets(Instant::now());
        self.prober.reconcile(targets, self.loaded.probes()).await
    }

    fn render(&mut self, servers: Servers) {
        if self
            .wanted
            .as_ref()
            .is_some_and(|wanted| wanted.servers == servers)
        {
            return;
        }
        match Wanted::render(&self.loaded, &self.scope, servers) {
            Ok(wanted) => {
                self.problems.clear("template");
                self.wanted = Some(wanted);
            }
            Err(error) => {
                let problem = chain(&error);
                if self.fallback.is_some() {
                    self.revert_config(&problem);
                } else {
                    self.problems.set("template", problem, advice::TEMPLATE);
                }
            }
        }
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
