//! What a cycle leaves for people: the outcome of the cycle in, a [`Status`] for the control socket out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serf_rpc::{AgentState, Presence};

use crate::control::Published;
use crate::guard::{Decision, Probed, Why, Witnesses};
use crate::haproxy::{self, Admin, Check};
use crate::model::{Gossip, Key};
use crate::notify;
use crate::pending::PendingPlan;
use crate::plan::WantedAdmin;
use crate::status::{Agent, Backend, File, Haproxy, OldWorker, Server, Status};

use super::Reconciler;

impl Reconciler {
    /// Publishes how everything stands.
    pub(super) fn publish(&mut self) {
        let current = self.is_current();
        if current {
            self.options.notifier.settled();
        }
        let status = self.status();
        let plan = PendingPlan {
            steps: self.plan.steps.iter().map(ToString::to_string).collect(),
            reload: self.plan.reload.iter().map(ToString::to_string).collect(),
            unread: None,
            on_disk: self.on_disk.as_ref().map(|text| text.text.to_string()),
            wanted: self
                .wanted
                .as_ref()
                .map(|wanted| wanted.text.text.to_string())
                .unwrap_or_default(),
        };
        self.published.send_replace(Arc::new(Published {
            status,
            plan,
            history: self.history.entries(),
        }));
    }

    /// Tells the supervisor that the loop has turned, and how everything stands.
    pub(super) fn tell_supervisor(&mut self) {
        let standing = notify::standing(&self.published.borrow().status);
        let is_proven = self.fallback.is_none() || self.is_current();
        let decided = is_proven && self.jobs.is_empty();
        let notifier = &mut self.options.notifier;
        notifier.turned(Instant::now(), &standing, decided);
    }

    /// Whether HAProxy was read, nothing is left to do, and the file is what it should be.
    pub(super) fn is_current(&self) -> bool {
        self.worker.is_some() && self.plan.is_empty() && self.is_file_current()
    }

    fn is_file_current(&self) -> bool {
        match (&self.wanted, &self.on_disk) {
            (Some(wanted), Some(on_disk)) => wanted.text.stamp == on_disk.stamp,
            _ => false,
        }
    }

    fn status(&self) -> Status {
        Status {
            time: self.epoch.unix_secs(Instant::now()),
            revision: self.revision,
            problems: self.problems.list(),
            agent: self.agent_status(),
            haproxy: self.haproxy_status(),
            file: File {
                path: self.file.path().display().to_string(),
                state: if self.is_file_current() {
                    "current"
                } else {
                    "behind"
                }
                .to_owned(),
                stamp: self.on_disk.as_ref().map(|text| text.stamp.to_string()),
            },
            counters: self.counters.clone(),
            backends: self.backend_statuses(),
            quarantined: self.quarantined(),
        }
    }

    fn agent_status(&self) -> Agent {
        let (state, addr) = match self.snapshot.agent() {
            AgentState::NeverReached => ("waiting", None),
            AgentState::Connected { addr } => ("connected", Some(addr.clone())),
            AgentState::Lost { addr, .. } => ("lost", Some(addr.clone())),
        };
        let age = self
            .snapshot
            .read_at()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let listed = self.snapshot.entries().iter();
        let listed = listed.filter(|entry| entry.presence == Presence::Listed);
        Agent {
            state: state.to_owned(),
            addr,
            members_age_seconds: age.map(|age| age.as_secs()),
            members: self.snapshot.entries().len(),
            listed: listed.count(),
        }
    }

    fn haproxy_status(&self) -> Haproxy {
        match &self.worker {
            Some(worker) => Haproxy {
                state: "running".to_owned(),
                pid: Some(worker.pid),
                version: Some(worker.version.to_string()),
                stamp: worker.stamp.as_ref().map(ToString::to_string),
                old_workers: self.old_workers.as_ref().map(Vec::len),
                old: self.old_worker_statuses(),
            },
            None => Haproxy {
                state: "unreachable".to_owned(),
                ..Haproxy::default()
            },
        }
    }

    fn old_worker_statuses(&self) -> Vec<OldWorker> {
        let status = |worker: &haproxy::OldWorker| OldWorker {
            pid: worker.pid,
            sessions: worker.sessions,
        };
        self.old_workers.iter().flatten().map(status).collect()
    }

    fn backend_statuses(&self) -> BTreeMap<String, Backend> {
        let configured = self.design.config.backends.iter();
        let mut backends: BTreeMap<_, _> = configured
            .map(|backend| (backend.name.to_string(), Backend::default()))
            .collect();
        for (name, budget) in &self.decisions.budgets {
            let backend = backends.entry(name.to_string()).or_default();
            backend.in_rotation = budget.in_rotation;
            backend.answering = budget.answering;
            backend.removed = budget.used;
            backend.may_go = budget.limit;
        }
        for (key, decision) in &self.decisions.servers {
            let backend = backends.entry(key.backend.to_string()).or_default();
            let mut server = self.server_status(key, decision);
            if !self.is_told(key, decision) {
                server.why.push_str("; HAProxy has not been told yet");
                if decision.admin == Some(WantedAdmin::Ready) {
                    server.state = "pending".to_owned();
                    backend.in_rotation = backend.in_rotation.saturating_sub(1);
                    backend.answering = backend.answering.min(backend.in_rotation);
                }
            }
            backend.servers.insert(key.server.to_string(), server);
        }
        backends
    }

    /// Whether HAProxy was last read to have the server as it is to be, in so far as that decides about its traffic.
    fn is_told(&self, key: &Key, decision: &Decision) -> bool {
        let servers = self.running.get(key.backend.as_str());
        let server = servers.and_then(|servers| servers.get(key.server.as_str()));
        let place = decision.place.addr;
        let place = SocketAddr::new(place.ip(), place.port());
        match decision.admin {
            Some(WantedAdmin::Ready) => server
                .is_some_and(|server| server.admin == Admin::Ready && server.addr == Some(place)),
            _ => server.is_none_or(|server| server.admin != Admin::Ready),
        }
    }

    fn server_status(&self, key: &Key, decision: &Decision) -> Server {
        let Witnesses {
            gossip,
            check,
            probe,
            suspected,
        } = decision.witnesses;
        Server {
            state: decision.standing.state.to_owned(),
            why: decision.standing.why.to_string(),
            address: decision.place.addr,
            weight: decision.place.weight.get(),
            gossip: gossip_word(gossip).to_owned(),
            check: check_word(check).to_owned(),
            probe: probe_word(probe).to_owned(),
            agent: self
                .agents
                .says(key.backend.as_str(), key.server.as_str())
                .to_owned(),
            suspected,
            held: matches!(
                decision.standing.why,
                Why::Held(_) | Why::KeptWithoutAgent | Why::DidNotLeave
            ),
            origin: decision.origin.as_str().to_owned(),
            since: self.epoch.unix_secs(decision.since),
        }
    }

    fn quarantined(&self) -> BTreeMap<String, String> {
        let unusable = self.model.candidates().filter_map(|(key, candidate)| {
            Some((
                key.to_string(),
                candidate.attributes.as_ref().err()?.to_string(),
            ))
        });
        let unnameable = self
            .model
            .unnameable
            .iter()
            .map(|(name, reason)| (name.clone(), reason.to_string()));
        let culprits = self.culprits.iter().map(|(key, culprit)| {
            let reason = format!("the file is invalid with it: {}", culprit.reason);
            (key.to_string(), reason)
        });
        unusable.chain(unnameable).chain(culprits).collect()
    }
}

fn gossip_word(gossip: Gossip) -> &'static str {
    match gossip {
        Gossip::Alive => "alive",
        Gossip::Leaving => "leaving",
        Gossip::Left => "left",
        Gossip::Failed => "failed",
        Gossip::Absent => "absent",
    }
}

fn check_word(check: Check) -> &'static str {
    match check {
        Check::None => "none",
        Check::Pending => "pending",
        Check::Up => "up",
        Check::Falling => "falling",
        Check::Down => "down",
    }
}

fn probe_word(probe: Option<Probed>) -> &'static str {
    match probe {
        None => "none",
        Some(Probed::Good) => "good",
        Some(Probed::Refused) => "refused",
        Some(Probed::Failed) => "failed",
    }
}
