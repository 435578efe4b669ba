//! What a cycle leaves for people: the outcome of the cycle in, a [`Status`] for the control socket out.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use planner::config::{self, ProbeMode};
use planner::guard::{Decision, Evidence, Probed};
use planner::model::{
    Admin, BackendName, Check, Quarantine, SerfStatus, ServerKey, Version, WantedAdmin,
};
use planner::pending::PendingPlan;
use serf_rpc::{AgentState, Entry, Presence};

use super::Reconciler;
use super::journal::departed::Gone;
use crate::clock;
use crate::notify;
use crate::published::Published;
use crate::status::{Agent, Backend, Config, File, Haproxy, OldWorker, Server, Service, Status};

impl Reconciler {
    /// Publishes how everything stands, if it is time.
    pub(super) fn publish(&mut self) {
        if self.is_current() {
            self.options.notifier.settled();
            self.journal.meters.applied();
        }
        let started = clock::now();
        if !self.journal.may_publish(started) {
            return;
        }
        let plan = self.applier.plan();
        let (on_disk, wanted) = (self.installer.on_disk(), self.desired.wanted());
        let plan = PendingPlan {
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            reload: plan.reload.iter().map(ToString::to_string).collect(),
            unread: None,
            on_disk: on_disk.map(|text| text.text.to_string()),
            wanted: wanted.map_or_else(String::new, |wanted| wanted.text.text.to_string()),
        };
        let published = Published {
            status: self.status(),
            plan,
            members: Some(self.feed.snapshots()),
            ..Published::default()
        };
        self.journal.publish(published, started);
    }

    /// Tells the supervisor that the loop has turned, and how everything stands.
    pub(super) fn notify_supervisor(&mut self) {
        let standing = notify::standing(&self.journal.published().status);
        let is_proven = self.fallback.is_none() || self.is_current();
        let decided = is_proven && self.installer.is_idle();
        let notifier = &mut self.options.notifier;
        notifier.turned(clock::now(), &standing, decided);
    }

    /// Whether HAProxy was read, nothing is left to do, and the file is what it should be.
    pub(super) fn is_current(&self) -> bool {
        let is_done = self.applier.worker().is_some() && self.applier.plan().is_empty();
        is_done && self.is_file_current()
    }

    fn is_file_current(&self) -> bool {
        self.installer.has(self.desired.wanted())
    }

    fn status(&self) -> Status {
        Status {
            time: self.journal.anchor.unix_secs(clock::now()),
            revision: self.journal.revision,
            problems: self.journal.problems.list(),
            config: Config {
                digest: self.desired.loaded().digest.clone(),
                since: self.journal.anchor.unix_secs(self.journal.loaded_at),
            },
            agent: self.agent_status(),
            haproxy: self.haproxy_status(),
            file: File {
                path: self.installer.file().path().display().to_string(),
                state: if self.is_file_current() {
                    "current"
                } else {
                    "behind"
                }
                .to_owned(),
                stamp: self.installer.on_disk().map(|text| text.stamp.to_string()),
                age_seconds: None,
            },
            counters: self.journal.counters.clone(),
            backends: self.backend_statuses(),
            services: self.service_statuses(),
            quarantined: self.quarantined(|_, _| true),
        }
    }

    fn service_statuses(&self) -> BTreeMap<String, Service> {
        let (anchor, unrouted) = (&self.journal.anchor, &self.desired.loaded().unrouted);
        let status = |(name, service): (&BackendName, &planner::services::Service)| {
            let unrouted = unrouted.get(name);
            let status = Service {
                route: unrouted.is_none().then(|| service.to_string()),
                unrouted: unrouted.map_or_else(String::new, ToString::to_string),
                proto: service.proto.map(|proto| proto.as_str().to_owned()),
                disputes: service.disputes.iter().map(ToString::to_string).collect(),
                since: anchor.unix_secs(service.since),
                empty_since: service.empty.map(|at| anchor.unix_secs(at)),
            };
            (name.to_string(), status)
        };
        self.desired.services().iter().map(status).collect()
    }

    fn agent_status(&self) -> Agent {
        let (state, addr) = match self.desired.snapshot().agent() {
            AgentState::NeverReached => ("waiting", None),
            AgentState::Connected { addr } => ("connected", Some(addr.clone())),
            AgentState::Silent { addr, .. } => ("silent", Some(addr.clone())),
            AgentState::Lost { addr, .. } => ("lost", Some(addr.clone())),
            _ => ("lost", None),
        };
        let listed = self.desired.snapshot().entries().iter();
        let listed = listed.filter(|entry| entry.presence == Presence::Listed);
        Agent {
            state: state.to_owned(),
            addr,
            members: self.desired.snapshot().entries().len(),
            listed: listed.count(),
            // The ages are those of the moment when somebody asks.
            ..Agent::default()
        }
    }

    fn haproxy_status(&self) -> Haproxy {
        match self.applier.worker() {
            Some(worker) => Haproxy {
                state: "running".to_owned(),
                pid: Some(worker.pid),
                version: Some(worker.version.to_string()),
                stamp: worker.stamp.as_ref().map(ToString::to_string),
                old_workers: self.installer.old_workers().map(<[_]>::len),
                old: self.old_worker_statuses(),
                ..Haproxy::default()
            },
            None => Haproxy {
                state: "unreachable".to_owned(),
                ..Haproxy::default()
            },
        }
    }

    fn old_worker_statuses(&self) -> Vec<OldWorker> {
        let status = |worker: &planner::model::OldWorker| OldWorker {
            pid: worker.pid,
            sessions: worker.sessions,
        };
        self.installer
            .old_workers()
            .unwrap_or_default()
            .iter()
            .map(status)
            .collect()
    }

    fn backend_statuses(&self) -> BTreeMap<String, Backend> {
        let read = self.applier.worker().is_some();
        let configured = self.desired.loaded().config.backends.iter();
        let mut backends: BTreeMap<_, _> = configured
            .map(|backend| {
                let admission = self.desired.loaded().admissions.get(&backend.name);
                let status = Backend {
                    checked: admission.is_some_and(|admission| admission.checked),
                    roles: backend.probe == ProbeMode::Check,
                    picks: picks(backend),
                    ..Backend::default()
                };
                (backend.name.to_string(), status)
            })
            .collect();
        for (name, budget) in &self.desired.decisions().budgets {
            let backend = backends.entry(name.to_string()).or_default();
            backend.in_rotation = read.then_some(budget.in_rotation);
            backend.answering = read.then_some(budget.answering);
            backend.removed = budget.used;
            backend.may_go = budget.limit;
        }
        for (key, decision) in self.desired.decisions().all() {
            let backend = backends.entry(key.backend.to_string()).or_default();
            let mut server = self.server_status(key, decision);
            if !read {
                self.forget_haproxy(&mut server, self.is_told(key, decision));
            } else if !self.is_told(key, decision) {
                server.why.push_str("; HAProxy has not been told yet");
                if decision.admin == Some(WantedAdmin::Ready) {
                    server.state = "pending".to_owned();
                    let less = backend.in_rotation.map(|count| count.saturating_sub(1));
                    backend.in_rotation = less;
                    backend.answering = backend.answering.min(less);
                }
            } else if let (Some(said), "down") = (self.check_said(key), &*server.state) {
                server.why = format!("{} ({said})", server.why);
            }
            backend.servers.insert(key.server.to_string(), server);
        }
        for (key, gone) in self.journal.departed().iter() {
            let backend = backends.entry(key.backend.to_string()).or_default();
            let server = self.gone_status(key, gone);
            backend.servers.insert(key.server.to_string(), server);
        }
        backends
    }

    /// What went wrong with the last check of a server.
    fn check_said(&self, key: &ServerKey) -> Option<&String> {
        self.applier.checks()?.1.get(key)
    }

    /// Takes back what is known of a server by HAProxy alone, which does not answer.
    fn forget_haproxy(&self, server: &mut Server, told: bool) {
        let (state, why) = (&server.state, &server.why);
        server.why = if told {
            format!("HAProxy does not answer; before that: {state}, {why}")
        } else {
            format!("HAProxy does not answer, and has not been told yet: {why}")
        };
        server.state = "unknown".to_owned();
        server.check = "not read".to_owned();
        server.agent = "none".to_owned();
        if let Some(read) = self.journal.readings.haproxy {
            server.since = self.journal.anchor.unix_secs(read);
        }
    }

    /// How a server is shown that has gone from its backend.
    fn gone_status(&self, key: &ServerKey, gone: &Gone) -> Server {
        let mut server = self.server_status(key, &gone.last);
        server.since = self.journal.anchor.unix_secs(gone.at);
        server.state = "gone".to_owned();
        server.check = "none".to_owned();
        server.held = false;
        server.gossip = match self.member(key) {
            Some(entry) if entry.presence == Presence::Listed => {
                entry.member.status().as_str().to_owned()
            }
            _ => "absent".to_owned(),
        };
        let version = self.applier.worker().map(|worker| worker.version);
        server
            .why
            .push_str(match version.map(Version::deletes_servers) {
                Some(true) if gone.kept => {
                    "; HAProxy deletes it when its last connection has ended"
                }
                Some(false) if gone.kept => "; HAProxy keeps it in maint until its next reload",
                _ => "",
            });
        server
    }

    /// What the member is called whose server this is, where that is another name.
    fn member_name(&self, key: &ServerKey) -> Option<String> {
        let renamed = &self.desired.model().renamed;
        if renamed.is_empty() {
            return None;
        }
        renamed.get(key.server.member()).cloned()
    }

    /// The member whose server this is.
    fn member(&self, key: &ServerKey) -> Option<&Entry> {
        let snapshot = self.desired.snapshot();
        if let Some(name) = key.server.original() {
            return snapshot.get(&name);
        }
        let names = self.desired.loaded().config.serf.names;
        snapshot.entries().iter().find(|entry| {
            let server = names.server(entry.member.name());
            server.is_some_and(|server| server.member() == key.server.member())
        })
    }

    /// Whether HAProxy was last read to have the server as it is to be, in so far as that decides about its traffic.
    fn is_told(&self, key: &ServerKey, decision: &Decision) -> bool {
        let servers = self.applier.running().get(key.backend.as_str());
        let server = servers.and_then(|servers| servers.get(key.server.as_str()));
        let endpoint = decision.endpoint.addr;
        let endpoint = SocketAddr::new(endpoint.ip(), endpoint.port());
        match decision.admin {
            Some(WantedAdmin::Ready) => server.is_some_and(|server| {
                server.admin == Admin::Ready && server.addr == Some(endpoint)
            }),
            _ => server.is_none_or(|server| server.admin != Admin::Ready),
        }
    }

    fn server_status(&self, key: &ServerKey, decision: &Decision) -> Server {
        let Evidence {
            gossip,
            check,
            probe,
            suspected,
        } = decision.evidence;
        Server {
            state: decision.status.state.to_owned(),
            why: decision.status.why.to_string(),
            address: decision.endpoint.addr,
            weight: decision.endpoint.weight.get(),
            gossip: gossip_word(gossip).to_owned(),
            check: check.map_or("not read", check_word).to_owned(),
            probe: probe_word(probe).to_owned(),
            agent: self.applier.agent_says(key).to_owned(),
            suspected,
            held: decision.status.why.is_held(),
            member: self.member_name(key),
            origin: decision.origin.as_str().to_owned(),
            since: self.journal.anchor.unix_secs(decision.since),
        }
    }

    /// Who cannot be used, of those of whom gossip says such a thing and that are left out for such a reason.
    pub(super) fn quarantined(
        &self,
        such: impl Fn(SerfStatus, &Quarantine) -> bool,
    ) -> BTreeMap<String, String> {
        let model = self.desired.model();
        let candidates = model.candidates();
        let unusable = candidates.filter_map(|(key, candidate)| {
            let why = candidate.attributes.as_ref().err()?;
            such(candidate.gossip, why).then(|| (key.to_string(), why.to_string()))
        });
        let refused = model.unnameable.iter().chain(&model.refused);
        let unnameable = refused
            .filter(|(_, why)| such(SerfStatus::Alive, why))
            .map(|(name, why)| (name.clone(), why.to_string()));
        let offenders = self.desired.offenders().iter().map(|(key, offender)| {
            let reason = format!("the file is invalid with it: {}", offender.reason);
            (key.to_string(), reason)
        });
        unusable.chain(unnameable).chain(offenders).collect()
    }
}

/// Whom the rule of a backend picks.
fn picks(backend: &config::BackendConfig) -> String {
    if backend.is_service {
        return format!("`[services]` under the name {}", backend.name);
    }
    let tags = backend.tags.iter();
    let tags = tags.map(|(tag, pattern)| pattern.of(tag));
    let node = backend.node.iter();
    let node = node.map(|node| format!("name {}", node.source()));
    tags.chain(node).collect::<Vec<_>>().join(", ")
}

fn gossip_word(gossip: SerfStatus) -> &'static str {
    match gossip {
        SerfStatus::Alive => "alive",
        SerfStatus::Leaving => "leaving",
        SerfStatus::Left => "left",
        SerfStatus::Failed => "failed",
        SerfStatus::Absent => "absent",
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
