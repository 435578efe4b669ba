//! What was done and what is left to be done: entries and a plan in, what is shown of them out. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use planner::pending::PendingPlan;
use planner::review::changed::changed_servers;
use serde::Serialize;

use super::clock_time;
use crate::history::Entry;

/// Entries that are shown, the latest.
const ENTRIES: usize = 60;
/// Servers of a file to come that are shown.
const SERVERS: usize = 200;

/// Something that was done.
#[derive(Serialize)]
pub(super) struct Done<'a> {
    at: String,
    how: &'a str,
    took: String,
    error: Option<&'a str>,
    changes: Vec<Line<'a>>,
    diff: Vec<Line<'a>>,
    reasons: &'a [String],
}

/// A line with what it does.
#[derive(Serialize)]
struct Line<'a> {
    /// `plus`, `minus` or `same`.
    class: &'static str,
    sign: &'static str,
    text: Cow<'a, str>,
}

/// What is left to be done.
#[derive(Serialize)]
pub(super) struct Left<'a> {
    steps: &'a [String],
    reload: &'a [String],
    diff: Vec<Line<'a>>,
}

/// What was done, the latest first.
pub(super) fn entries(history: &[Arc<Entry>]) -> Vec<Done<'_>> {
    let latest = history.iter().rev().take(ENTRIES);
    latest.map(|entry| done(entry)).collect()
}

fn done(entry: &Entry) -> Done<'_> {
    Done {
        at: clock_time(entry.at_ms / 1000),
        how: &entry.how,
        took: format!("{:.1} ms", entry.took_ms),
        error: entry.error.as_deref(),
        changes: lines(&entry.changes),
        diff: lines(&entry.diff),
        reasons: &entry.reasons,
    }
}

fn lines(texts: &[String]) -> Vec<Line<'_>> {
    let texts = texts.iter().map(String::as_str);
    texts.map(|text| line(text.into())).collect()
}

/// A step, or a line of a file, by what it does to the servers that get requests.
fn line(text: Cow<'_, str>) -> Line<'_> {
    let (_, step) = text.split_once(": ").unwrap_or_default();
    let (class, sign) = match (text.get(..2), step.split(' ').next()) {
        (Some("+ "), _) => ("plus", ""),
        (Some("- "), _) => ("minus", ""),
        (_, Some("add" | "ready")) => ("plus", "+ "),
        (_, Some("delete" | "maint" | "drain" | "drain,")) => ("minus", "- "),
        _ => ("same", "  "),
    };
    Line { class, sign, text }
}

/// What is left to be done; none where that is nothing.
pub(super) fn plan(plan: &PendingPlan) -> Option<Left<'_>> {
    let on_disk = plan.on_disk.as_deref().unwrap_or_default();
    if plan.steps.is_empty() && plan.reload.is_empty() && on_disk == plan.wanted {
        return None;
    }
    let diff = changed_servers(on_disk, &plan.wanted, SERVERS);
    Some(Left {
        steps: &plan.steps,
        reload: &plan.reload,
        diff: diff.into_iter().map(|text| line(text.into())).collect(),
    })
}
