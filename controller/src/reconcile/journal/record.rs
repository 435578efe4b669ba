//! The history: what was done, or was found to have been done, in; entries out.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use planner::guard::Decisions;
use planner::model::{Action, ServerKey, Step, Worker};
use planner::plan::ReloadReason;
use planner::stamp::Stamp;

use super::Journal;
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::file::Replaced;
use crate::haproxy::runtime::{Executed, RuntimeError};
use crate::history::Entry;

/// A text that was written, or was to be.
pub(in crate::reconcile) struct Written<'a> {
    pub(in crate::reconcile) path: &'a Path,
    pub(in crate::reconcile) stamp: &'a Stamp,
    /// Why HAProxy was reloaded with it; none for a mere write.
    pub(in crate::reconcile) reload: Option<&'a [ReloadReason]>,
    pub(in crate::reconcile) replaced: &'a Replaced,
    /// Whether a text of ours was there before.
    pub(in crate::reconcile) before: bool,
    pub(in crate::reconcile) started: Instant,
    /// The servers that differ from those of the text before.
    pub(in crate::reconcile) diff: Vec<String>,
    pub(in crate::reconcile) error: Option<String>,
}

impl Journal {
    /// Writes down what was done through the Runtime API: because of these decisions, or to repair what was found to be
    /// another hand's.
    pub(in crate::reconcile) fn record_steps(
        &mut self,
        steps: &[Step],
        decisions: &Decisions,
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
        let servers: BTreeSet<ServerKey> = steps.iter().map(Step::key).collect();
        let reason = |key: &ServerKey| {
            let why = &decisions.get(key)?.status.why;
            Some(format!("{key}: {why}"))
        };
        let reasons = if drift.is_empty() {
            servers.iter().filter_map(reason).collect()
        } else {
            let found = drift.iter();
            let found = found.map(|found| format!("somebody else: {found}"));
            found.collect()
        };
        self.record(Entry {
            at_ms: self.anchor.unix_millis(started),
            how: "runtime".to_owned(),
            changes: steps.iter().map(ToString::to_string).collect(),
            reasons,
            diff: Vec::new(),
            took_ms: clock::millis_since(started),
            error,
        });
    }

    /// Writes down what was changed of the map of routes.
    pub(in crate::reconcile) fn record_map(
        &mut self,
        changes: Vec<String>,
        started: Instant,
        error: Option<String>,
    ) {
        self.record(Entry {
            at_ms: self.anchor.unix_millis(started),
            how: "runtime".to_owned(),
            changes,
            reasons: vec!["the routes are others, or somebody else had changed the map".to_owned()],
            diff: Vec::new(),
            took_ms: clock::millis_since(started),
            error,
        });
    }

    /// Writes down that a worker is there that no reload of ours has put there. `known` says whether its text is.
    pub(in crate::reconcile) fn record_worker(
        &mut self,
        worker: &Worker,
        before: u32,
        known: bool,
        now: Instant,
    ) {
        let edited = if known {
            ""
        } else {
            ", with another hand's text in the file"
        };
        let reason = format!("somebody else reloaded or restarted HAProxy{edited}");
        tracing::warn!(pid = worker.pid, before, "{reason}");
        self.record(Entry {
            at_ms: self.anchor.unix_millis(now),
            how: "found".to_owned(),
            changes: vec![format!("{worker} in the place of worker {before}")],
            reasons: vec![reason],
            diff: Vec::new(),
            took_ms: 0.0,
            error: None,
        });
    }

    /// Writes down that the file was written, or HAProxy reloaded, or that it failed.
    pub(in crate::reconcile) fn record_written(&mut self, written: Written<'_>) {
        let mut reasons: Vec<String> = written
            .reload
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        match written.replaced {
            Replaced::Edited(copy) => reasons.push(format!(
                "somebody else had changed the file; a copy of that is {}",
                copy.display()
            )),
            Replaced::Adopted => {
                reasons.push("a file of somebody else's was taken over".to_owned());
            }
            _ if written.reload.is_some() => {}
            _ if written.before => {
                reasons.push("HAProxy's next start is to have the servers of now".to_owned());
            }
            _ => reasons.push("there was no file of ours".to_owned()),
        }
        let how = if written.reload.is_some() {
            "reload"
        } else {
            "write"
        };
        self.record(Entry {
            at_ms: self.anchor.unix_millis(written.started),
            how: how.to_owned(),
            changes: vec![format!(
                "{} with stamp {}",
                written.path.display(),
                written.stamp
            )],
            reasons,
            diff: written.diff,
            took_ms: clock::millis_since(written.started),
            error: written.error,
        });
    }

    /// Writes down that another file was written, and the program told that reads it.
    pub(in crate::reconcile) fn record_output(
        &mut self,
        path: String,
        started: Instant,
        error: Option<String>,
    ) {
        self.record(Entry {
            at_ms: self.anchor.unix_millis(started),
            how: "file".to_owned(),
            changes: vec![path],
            reasons: Vec::new(),
            diff: Vec::new(),
            took_ms: clock::millis_since(started),
            error,
        });
    }

    /// Counts an apply; one that only lets in servers that were there already is an admission.
    pub(in crate::reconcile) fn count_apply(&mut self, steps: &[Step]) {
        let admits = |step: &Step| {
            matches!(
                step.action,
                Action::Ready { .. } | Action::Agent { asked: true }
            )
        };
        self.counters.steps += steps.len() as u64;
        if steps.iter().all(admits) {
            self.counters.admissions += u64::from(!steps.is_empty());
        } else {
            self.counters.applies += 1;
        }
    }

    /// Counts a reload that came into force, and says why it was.
    pub(in crate::reconcile) fn count_reload(&mut self, reasons: &[ReloadReason]) {
        self.counters.reloads += 1;
        for reason in reasons {
            tracing::info!(reason = reason.label(), "reloaded HAProxy: {reason}");
        }
        if let Some(reason) = reasons.first() {
            let by_reason = &mut self.counters.reloads_by_reason;
            *by_reason.entry(reason.label().to_owned()).or_default() += 1;
        }
    }

    fn record(&mut self, entry: Entry) {
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
