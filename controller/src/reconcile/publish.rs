//! What a cycle leaves for people: the outcome of the cycle in, a [`Status`] for the control socket out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serf_rpc::AgentState;

use crate::control::{PendingPlan, Published};
use crate::model::Gossip;
use crate::status::{Agent, Backend, File, Haproxy, Server, Status};

use super::Reconciler;

impl Reconciler {
    /// Publishes how everything stands, and tells the supervisor once when everything is in place.
    pub(super) fn publish(&mut self) {
        let current = self.is_current();
        if current && !self.ready {
            self.ready = true;
            tracing::info!("HAProxy and its file are as they should be");
            // Without NOTIFY_SOCKET this does nothing; a supervisor that went away is no reason to stop.
            if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
                tracing::debug!(%error, "cannot notify the supervisor");
            }
        }
        let status = self.status();
        let plan = PendingPlan {
            steps: self.plan.steps.iter().map(ToString::to_string).collect(),
            reload: self.plan.reload.iter().map(ToString::to_string).collect(),
            on_disk: self.on_disk.as_ref().map(|text| text.text.to_string()),
            wanted: self
                .wanted
                .as_ref()
                .map(|wanted| wanted.text.text.to_string())
                .unwrap_or_default(),
        };
        let text = self
            .wanted
            .as_ref()
            .map(|wanted| Arc::clone(&wanted.text.text))
            .unwrap_or_default();
        self.published
            .send_replace(Arc::new(Published { status, plan, text }));
    }

    /// Whether HAProxy was read, nothing is left to do, and the file is what it should be.
    fn is_current(&self) -> bool {
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
            problems: self.problems.0.values().cloned().collect(),
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
        Agent {
            state: state.to_owned(),
            addr,
            members_age_seconds: age.map(|age| age.as_secs()),
            members: self.snapshot.entries().len(),
        }
    }

    fn haproxy_status(&self) -> Haproxy {
        match &self.worker {
            Some(worker) => Haproxy {
                state: "running".to_owned(),
                pid: Some(worker.pid),
                version: Some(worker.version.to_string()),
                stamp: worker.stamp.as_ref().map(ToString::to_string),
            },
            None => Haproxy {
                state: "unreachable".to_owned(),
                ..Haproxy::default()
            },
        }
    }

    fn backend_statuses(&self) -> BTreeMap<String, Backend> {
        let names = self
            .design
            .config
            .backends
            .iter()
            .map(|backend| backend.name.to_string());
        let mut backends: BTreeMap<_, _> = names.map(|name| (name, Backend::default())).collect();
        for (key, decision) in &self.decisions.servers {
            let server = Server {
                state: decision.standing.state.to_owned(),
                why: decision.standing.why.to_string(),
                address: decision.place.addr,
                weight: decision.place.weight.get(),
                gossip: gossip_word(decision.witnesses.gossip).to_owned(),
            };
            let backend = backends.entry(key.backend.to_string()).or_default();
            backend.servers.insert(key.server.to_string(), server);
        }
        backends
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
        unusable.chain(unnameable).collect()
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
