//! One thing that `check` has found: where, what, and the way out.

use std::fmt;
use std::path::Path;

use planner::render::{Origin, Rendered};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// `run` would not work.
    Error,
    /// It would; something is worse than it could be, or not there yet.
    Warning,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Place, fact and way out, in one line where HAProxy's words are.
    pub text: String,
}

impl Finding {
    /// What keeps `run` from working.
    pub(super) fn error(text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            text: text.into(),
        }
    }

    /// What does not.
    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            text: text.into(),
        }
    }
}

/// As it is printed: an error bare, so that an editor finds its place, a warning called so.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.severity {
            Severity::Error => f.write_str(&self.text),
            Severity::Warning => write!(f, "warning: {}", self.text),
        }
    }
}

/// A line of a rendered file, `haproxy.cfg:12`, and where in the template it comes from, as words to put behind.
pub(super) fn place(path: &Path, rendered: &Rendered, line: usize) -> (String, String) {
    let place = format!("{}:{line}", path.display());
    (place, origin(rendered.origin(line)))
}

/// Where in a template a line comes from, as words to add.
pub(super) fn origin(origin: Option<&Origin>) -> String {
    origin.map_or_else(String::new, |origin| format!(" (from {origin})"))
}
