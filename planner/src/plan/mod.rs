//! What has to be done so that HAProxy runs the wanted text: two texts and the running state in, a [`Plan`] out. Pure.
//!
//! [`ConfigText`] splits a configuration into the members' servers and everything else, by a [`Scope`](crate::syntax::Scope); [`draft`]
//! compares. A difference in servers becomes [`Step`]s for the Runtime API, any other a [`ReloadReason`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::model::{AddedOptions, BackendName, RunningServers, Step, Version, WantedAdmins};
use crate::syntax::ConfigText;

mod balance;
mod classify;
mod diff;
mod reason;
mod round;
mod skeleton;

pub use classify::{Join, Obstacle};
pub use reason::ReloadReason;
pub use round::first_round;

/// Everything [`draft`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The worker's version.
    pub version: Version,
    /// The text the worker started with; `None` where it is not known.
    pub running: Option<&'a ConfigText>,
    /// The members' servers that the worker has ([`Scope::retain`](crate::syntax::Scope::retain)). Whether a server is idle, and its `maxconn`, are only known with `show stat`:
    /// see [`Draft::wants_stat`].
    pub servers: &'a RunningServers,
    /// The options of the servers that were added to this worker at runtime ([`Action::Add`](crate::model::Action::Add)'s words).
    pub added: &'a AddedOptions,
    /// The text it is to run.
    pub wanted: &'a ConfigText,
    /// The admin states its servers are to have.
    pub admins: &'a WantedAdmins,
    /// Whether a backend takes servers at runtime, where HAProxy was asked; of one that is not named the running text says
    /// it, or it is taken to do so.
    pub accepts_add: &'a BTreeMap<BackendName, bool>,
    /// The text on disk: a server that it still lists is not deleted yet.
    pub on_disk: Option<&'a ConfigText>,
    /// How many retired servers a backend may have before a reload sweeps them.
    pub retired_max: usize,
}

/// What to do, in order, and why a reload is needed as well (if it is).
///
/// The steps come first, also where a reload follows: they are right for what runs now. Order: backends by name; in
/// each, servers that come (back) into use, then changes, then those that leave, then deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The changes through the Runtime API. Neighbours that concern the same server belong into one line of it, so
    /// that no traffic falls between them.
    pub steps: Vec<Step>,
    /// Why a reload is needed; sorted, none twice, empty if none is.
    pub reload: Vec<ReloadReason>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.reload.is_empty()
    }
}

/// A plan, and what it would be surer with. It is right as it stands, and may leave out what has to be asked first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// What to do.
    pub plan: Plan,
    /// Whether the plan depends on `show stat`, which was not read.
    pub wants_stat: bool,
    /// The backends whose plan depends on whether they take servers at runtime, of which neither the running text says so
    /// nor HAProxy was asked: its answer costs an `[ALERT]` in its own log.
    pub unprobed: BTreeSet<BackendName>,
}

/// Compares what runs with what is wanted.
///
/// Only backends of the wanted text are touched, and of those none that is [`Opaque`](crate::syntax::Opaque) in either
/// text.
pub fn draft(input: &Input<'_>) -> Draft {
    diff::draft(input)
}

/// The plan of [`draft`], for whoever has asked all there is to ask.
pub fn plan(input: &Input<'_>) -> Plan {
    draft(input).plan
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for reason in &self.reload {
            writeln!(f, "reload: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
