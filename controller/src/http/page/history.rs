//! What was done and what is left to be done: entries and a plan in, what is shown of them out. Pure.

use std::sync::Arc;

use planner::pending::PendingPlan;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::clock_time;
use crate::history::Entry;

/// Entries that are shown, the latest.
const ENTRIES: usize = 60;
/// Lines of a diff that are shown.
const LINES: usize = 300;

/// Something that was done.
#[derive(Serialize)]
pub(super) struct Done<'a> {
    at: String,
    how: &'a str,
    took: String,
    error: Option<&'a str>,
    changes: Vec<Line<'a>>,
    reasons: &'a [String],
}

/// A line with what it does.
#[derive(Serialize)]
struct Line<'a> {
    /// `plus`, `minus` or `same`.
    class: &'static str,
    sign: &'static str,
    text: std::borrow::Cow<'a, str>,
}

/// What is left to be done.
#[derive(Serialize)]
pub(super) struct Left<'a> {
    steps: &'a [String],
    reload: &'a [String],
    diff: Vec<Line<'a>>,
    more: bool,
}

/// What was done, the latest first.
pub(super) fn entries(history: &[Arc<Entry>]) -> Vec<Done<'_>> {
    let latest = history.iter().rev().take(ENTRIES);
    latest.map(|entry| done(entry)).collect()
}

fn done(entry: &Entry) -> Done<'_> {
    let changes = entry.changes.iter().map(|change| line(change));
    Done {
        at: clock_time(entry.at_ms / 1000),
        how: &entry.how,
        took: format!("{:.1} ms", entry.took_ms),
        error: entry.error.as_deref(),
        changes: changes.collect(),
        reasons: &entry.reasons,
    }
}

/// A step by what it does to the servers that get requests.
fn line(change: &str) -> Line<'_> {
    let word = change.split(' ').next().unwrap_or_default();
    let (class, sign) = match word {
        "add" | "ready" => ("plus", "+"),
        "delete" | "maint" | "drain" => ("minus", "−"),
        _ => ("same", "·"),
    };
    Line {
        class,
        sign,
        text: change.into(),
    }
}

/// What is left to be done; none where that is nothing.
pub(super) fn plan(plan: &PendingPlan) -> Option<Left<'_>> {
    let on_disk = plan.on_disk.as_deref().unwrap_or_default();
    let differs = on_disk != plan.wanted;
    if plan.steps.is_empty() && plan.reload.is_empty() && !differs {
        return None;
    }
    let mut diff = if differs {
        lines(on_disk, &plan.wanted)
    } else {
        Vec::new()
    };
    let more = diff.len() > LINES;
    diff.truncate(LINES);
    Some(Left {
        steps: &plan.steps,
        reload: &plan.reload,
        diff,
        more,
    })
}

fn lines(before: &str, after: &str) -> Vec<Line<'static>> {
    let diff = TextDiff::from_lines(before, after);
    let changes = diff.iter_all_changes();
    let changed = changes.filter(|change| change.tag() != ChangeTag::Equal);
    let line = |change: similar::Change<&str>| {
        let (class, sign) = match change.tag() {
            ChangeTag::Insert => ("plus", "+"),
            ChangeTag::Delete => ("minus", "−"),
            ChangeTag::Equal => ("same", " "),
        };
        Line {
            class,
            sign,
            text: change.value().trim_end().to_owned().into(),
        }
    };
    changed.take(LINES + 1).map(line).collect()
}
