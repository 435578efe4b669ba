//! Questions of clients: what the loop goes by, and which held servers somebody lets go.

use std::collections::BTreeSet;
use std::sync::Arc;

use planner::guard::Approval;
use planner::model::{BackendName, ServerKey, ServerName};

use super::Reconciler;
use crate::published::{Approve, Approving, InForce};

impl Reconciler {
    /// What it goes by, for whoever works out what it would do with other files.
    pub(super) fn in_force(&self) -> InForce {
        InForce {
            config_path: self.options.config_path.clone(),
            env: self.options.env.clone(),
            started_with: Arc::clone(&self.started_with),
            loaded: self.desired.loaded().clone(),
            snapshot: Arc::clone(self.desired.snapshot()),
            guard: self.desired.guard().clone(),
            services: self.desired.services().clone(),
            accepts_add: self.applier.accepts_add().clone(),
        }
    }

    /// Lets go who is held, as somebody asks.
    pub(super) fn approve(&mut self, approving: Approving) {
        let outcome = self.approved(&approving.approve);
        if let Ok(keys) = &outcome {
            tracing::info!(servers = keys.join(" "), "removals were approved");
        }
        // Whoever asked may have gone away; what was approved stays so.
        let _ = approving.answer.send(outcome);
    }

    fn approved(&mut self, approve: &Approve) -> Result<Vec<String>, String> {
        let now = self.journal.revision;
        if let Some(revision) = approve.revision.filter(|revision| *revision != now) {
            return Err(format!(
                "things have changed: revision {now}, not {revision}; look at `status` again"
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
            .flat_map(|approval| self.desired.approve(approval))
            .collect();
        if keys.is_empty() {
            return Err("none of these servers is held".to_owned());
        }
        Ok(keys.iter().map(ToString::to_string).collect())
    }

    fn approval(&self, target: &str) -> Result<Approval, String> {
        let decisions = self.desired.decisions();
        let (backend, server) = match target.split_once('/') {
            None => (target, None),
            Some((backend, server)) => (backend, Some(server)),
        };
        let backend = BackendName::new(backend)
            .filter(|name| decisions.budgets.contains_key(name))
            .ok_or_else(|| format!("there is no backend {}", target.escape_debug()))?;
        let Some(server) = server else {
            return Ok(Approval::Backend(backend));
        };
        ServerName::new(server)
            .map(|server| ServerKey { backend, server })
            .filter(|key| {
                let mut known = decisions.all();
                known.any(|(other, _)| {
                    key.backend == other.backend && key.server.means(&other.server)
                })
            })
            .map(Approval::Server)
            .ok_or_else(|| format!("there is no server {}", target.escape_debug()))
    }
}
