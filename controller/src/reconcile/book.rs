//! What the loop writes down and answers for: the history, the revision, and approvals.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use planner::guard::{Approval, Decisions, ServerStatus};
use planner::model::{BackendName, ServerKey, ServerName, Step, Worker};

use super::job::{Job, JobError};
use super::{Reconciler, chain};
use crate::control::{Approve, Approving, Asking};
use crate::haproxy::file::Replaced;
use crate::haproxy::runtime::{Executed, RuntimeError};
use crate::history::Entry;
use crate::preview::InForce;

impl Reconciler {
    /// Puts new decisions in the place of the old ones, and counts and logs what has changed.
    pub(super) fn take_decisions(&mut self, mut decisions: Decisions, now: Instant) {
        let heard = self.snapshot.read_at().is_some();
        if !heard {
            decisions.before_gossip();
        }
        let before = std::mem::replace(&mut self.decisions, decisions);
        self.departed
            .take(&before, &self.decisions, &self.running, now);
        let (news, changed) = self.told.news(&self.decisions, heard, now);
        for (ServerKey { backend, server }, ServerStatus { state, why }) in news {
            tracing::info!(%backend, %server, "{state}: {why}");
        }
        self.revision += u64::from(changed);
    }

    /// Answers a client; says whether anything may follow from it.
    pub(super) fn answer(&mut self, asking: Asking) -> bool {
        match asking {
            Asking::Approve(approving) => {
                self.approve(approving);
                true
            }
            Asking::InForce(answer) => {
                // Whoever asked may have gone away.
                let _ = answer.send(InForce {
                    config_path: self.options.config_path.clone(),
                    env: self.options.env.clone(),
                    started_with: Arc::clone(&self.started_with),
                    loaded: self.loaded.clone(),
                    snapshot: Arc::clone(&self.snapshot),
                    guard: self.guard.clone(),
                    accepts_add: self.accepts_add.clone(),
                });
                false
            }
        }
    }

    /// Lets go who is held, as somebody asks.
    fn approve(&mut self, approving: Approving) {
        let outcome = self.approved(&approving.approve);
        if let Ok(keys) = &outcome {
            tracing::info!(servers = keys.join(" "), "removals were approved");
        }
        // Whoever asked may have gone away; what was approved stays so.
        let _ = approving.answer.send(outcome);
    }

    fn approved(&mut self, approve: &Approve) -> Result<Vec<String>, String> {
        if let Some(revision) = approve.revision
            && revision != self.revision
        {
            return Err(format!(
                "things have changed: revision {}, not {revision}; look at `status` again",
                self.revision
            ));
        }
        let approvals = if approve.targets.is_empty() {
            vec![Approval::All]
        } else {
            let targets = approve.targets.iter();
            targets
                .map(|target| self.approval(target))
                .collect::<Result<_, _>>()?
        };
        let keys: BTreeSet<ServerKey> = approvals
            .iter()
            .flat_map(|approval| self.guard.approve(approval))
            .collect();
        if keys.is_empty() {
            return Err("none of these servers is held".to_owned());
        }
        Ok(keys.iter().map(ToString::to_string).collect())
    }

    fn approval(&self, target: &str) -> Result<Approval, String> {
        let (backend, server) = match target.split_once('/') {
            None => (target, None),
            Some((backend, server)) => (backend, Some(server)),
        };
        let backend = BackendName::new(backend)
            .filter(|name| self.decisions.budgets.contains_key(name))
            .ok_or_else(|| format!("there is no backend {}", target.escape_debug()))?;
        let Some(server) = server else {
            return Ok(Approval::Backend(backend));
        };
        ServerName::new(server)
            .map(|server| ServerKey { backend, server })
            .filter(|key| self.decisions.servers.contains_key(key))
            .map(Approval::Server)
            .ok_or_else(|| format!("there is no server {}", target.escape_debug()))
    }

    /// Writes down what was done through the Runtime API.
    pub(super) fn record_steps(
        &mut self,
        steps: &[Step],
        drift: &[String],
        started: Instant,
        executed: &Result<Executed, RuntimeError>,
    ) {
        let error = match executed {
            Ok(executed) if executed.refused.is_empty() => None,
            Ok(executed) => {
                let refused = executed.refused.iter();
                let refused = refused.map(|(step, refusal)| format!("`{step}`: {refusal}"));
                Some(format!(
                    "HAProxy refused {}",
                    refused.collect::<Vec<_>>().join(", ")
                ))
            }
            Err(error) => Some(chain(error)),
        };
        let servers: BTreeSet<ServerKey> = steps
            .iter()
            .map(|step| ServerKey {
                backend: step.backend.clone(),
                server: step.server.clone(),
            })
            .collect();
        let reason = |key: &ServerKey| {
            let why = &self.decisions.servers.get(key)?.status.why;
            Some(format!("{key}: {why}"))
        };
        let entry = Entry {
            at_ms: self.anchor.unix_millis(started),
            how: "runtime".to_owned(),
            changes: steps.iter().map(ToString::to_string).collect(),
            reasons: if drift.is_empty() {
                servers.iter().filter_map(reason).collect()
            } else {
                let found = drift.iter();
                found
                    .map(|found| format!("somebody else: {found}"))
                    .collect()
            },
            took_ms: millis(started),
            error,
        };
        self.record(entry);
    }

    /// Writes down that another worker is there, if no reload of ours has put it there.
    pub(super) fn record_worker(&mut self, worker: &Worker) {
        tracing::info!(pid = worker.pid, "found {worker}");
        let ours = std::mem::take(&mut self.reloading);
        let Some(before) = self
            .last_worker
            .as_ref()
            .map(|before| before.pid)
            .filter(|_| !ours)
        else {
            return;
        };
        let edited = if self.worker_text.is_known(worker) {
            ""
        } else {
            ", with another hand's text in the file"
        };
        tracing::warn!(
            pid = worker.pid,
            before,
            "somebody else reloaded or restarted HAProxy{edited}"
        );
        self.record(Entry {
            at_ms: self.anchor.unix_millis(Instant::now()),
            how: "found".to_owned(),
            changes: vec![format!("{worker} in the place of worker {before}")],
            reasons: vec![format!(
                "somebody else reloaded or restarted HAProxy{edited}"
            )],
            took_ms: 0.0,
            error: None,
        });
    }

    /// Writes down that the file was written, or HAProxy reloaded, or that it failed.
    pub(super) fn record_job(
        &mut self,
        job: &Job,
        started: Instant,
        replaced: &Replaced,
        error: Option<&JobError>,
    ) {
        let reload = job.reload.iter().flat_map(|reload| &reload.reasons);
        let mut reasons: Vec<String> = reload.map(ToString::to_string).collect();
        if let Replaced::Edited(copy) = replaced {
            reasons.push(format!(
                "somebody else had changed the file; a copy of that is {}",
                copy.display()
            ));
        } else if *replaced == Replaced::Adopted {
            reasons.push("a file of somebody else's was taken over".to_owned());
        } else if job.reload.is_none() && job.before.is_some() {
            reasons.push("HAProxy's next start is to have the servers of now".to_owned());
        } else if job.reload.is_none() {
            reasons.push("there was no file of ours".to_owned());
        }
        let how = if job.reload.is_some() {
            "reload"
        } else {
            "write"
        };
        let entry = Entry {
            at_ms: self.anchor.unix_millis(started),
            how: how.to_owned(),
            changes: vec![format!(
                "{} with stamp {}",
                self.file.path().display(),
                job.text.stamp
            )],
            reasons,
            took_ms: millis(started),
            error: error.map(|error| chain(error)),
        };
        self.record(entry);
    }

    pub(super) fn record(&mut self, entry: Entry) {
        self.counters.failures += u64::from(entry.error.is_some());
        match self.history.add(entry) {
            Ok(()) => self.problems.clear("history"),
            Err(error) => self.problems.set(
                "history",
                format!("cannot write the history: {error}"),
                "make room in the state directory, and let the user that runs serf-haproxy write there",
            ),
        }
    }
}

/// The time since then in milliseconds, to the microsecond.
pub(super) fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
