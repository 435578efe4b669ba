//! Servers that HAProxy does not delete yet, for connections to them are still open: refused deletions in, which steps are
//! put off out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use planner::model::{Action, RunningServers, ServerKey, Step};

use crate::reconcile::retry::Retry;

/// The longest pause before another try to delete a server that still has connections.
const DELETE_RETRY: Duration = Duration::from_secs(2);

/// Those servers, each with the time of the next try. They hold up nothing else.
#[derive(Debug, Default)]
pub(super) struct Undeleted(BTreeMap<ServerKey, Retry>);

impl Undeleted {
    /// Takes steps that were not done because of open connections.
    pub(super) fn failed(&mut self, busy: &[Step], now: Instant) {
        for step in busy.iter().filter(|step| step.action == Action::Delete) {
            tracing::debug!(backend = %step.backend, server = %step.server, "not deleted yet, connections are open");
            let retry = self.0.entry(step.key()).or_default();
            retry.failed_for(DELETE_RETRY, now);
        }
    }

    /// Leaves out of a plan the servers that could not be deleted a moment ago, with all that follows their deletion.
    pub(super) fn put_off(
        &mut self,
        steps: &mut Vec<Step>,
        running: &RunningServers,
        now: Instant,
    ) {
        self.0.retain(|key, _| {
            let servers = running.get(key.backend.as_str());
            servers.is_some_and(|servers| servers.contains_key(key.server.as_str()))
        });
        let is_due = |key: &ServerKey| self.0.get(key).is_none_or(|retry| retry.is_due(now));
        let deletes = steps.iter().filter(|step| step.action == Action::Delete);
        let later: BTreeSet<ServerKey> =
            deletes.map(Step::key).filter(|key| !is_due(key)).collect();
        steps.retain(|step| !later.contains(&step.key()));
    }

    /// When another try is due.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.0.values().filter_map(Retry::at)
    }
}
