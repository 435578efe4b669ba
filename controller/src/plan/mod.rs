//! What has to be done so that HAProxy runs the wanted text: two texts and the running state in, a [`Plan`] out. Pure.
//!
//! [`ConfigText`] splits a configuration into the members' servers and everything else, by a [`Scope`]; [`plan`]
//! compares. A difference in servers becomes [`Step`]s for the Runtime API, any other a [`ReloadReason`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::haproxy::{AddedOptions, RunningServers, Version};
use crate::model::{BackendName, ServerName, Weight};

mod balance;
mod classify;
mod diff;
mod keywords;
mod lexed;
mod options;
mod reader;
mod reason;
mod scope;
mod skeleton;
mod text;

pub use classify::{Join, Obstacle};
pub use options::Options;
pub use reason::ReloadReason;
pub use scope::{OtherFile, Scope};
pub(crate) use text::SECTIONS;
pub use text::{ConfigText, Opaque, OpaqueCause, ServerLine};

/// What the text cannot say: the admin state a server is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WantedAdmin {
    /// In rotation.
    Ready,
    /// Drained, but with HAProxy's check running: to be admitted by that check.
    Waiting,
    /// No new requests; the running ones finish.
    Drain,
    /// Nothing.
    Maint,
    /// Maint at once and its sessions shut.
    Cut,
}

/// The admin state of every server that matters, whether the text lists it or not.
///
/// A server of the text that is not named here is wanted in maint if its line says `disabled`, else ready. Of the
/// servers that the text does not list, those wanted drained stay (drained); all others go.
pub type WantedAdmins = BTreeMap<(BackendName, ServerName), WantedAdmin>;

/// One change through the Runtime API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The backend.
    pub backend: BackendName,
    /// The server.
    pub server: ServerName,
    /// What to do to it.
    pub action: Action,
}

/// What a [`Step`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// `add server` with these keywords; it starts in maint, unchecked.
    Add {
        /// Where it listens.
        addr: SocketAddr,
        /// The words after the address.
        options: Vec<String>,
    },
    /// `set server … addr … port …`.
    Address(SocketAddr),
    /// `set server … weight`.
    Weight(Weight),
    /// `set maxconn server`; 0 is unlimited.
    Maxconn(u32),
    /// Into rotation: `enable health` where it has a check, then `state ready`.
    Ready {
        /// Whether it has a check.
        check: bool,
    },
    /// `state drain`, and `disable health` or `enable health` in the same line where it has a check.
    Drain {
        /// Whether it has a check.
        check: bool,
        /// Whether the check is to run (admission by it).
        keep_check: bool,
    },
    /// `enable agent` or `disable agent`: whether the server's agent is asked.
    Agent {
        /// Whether it is.
        asked: bool,
    },
    /// `state maint`.
    Maint,
    /// `shutdown sessions server`.
    Shut,
    /// `del server`.
    Delete,
}

/// Everything [`plan`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The worker's version.
    pub version: Version,
    /// The text the worker started with; `None` where it is not known.
    pub running: Option<&'a ConfigText>,
    /// The members' servers that the worker has ([`Scope::retain`]). Whether a server is idle, and its `maxconn`, are only known with `show stat`:
    /// see [`wants_stat`].
    pub servers: &'a RunningServers,
    /// The options of the servers that were added to this worker at runtime ([`Action::Add`]'s words).
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

/// Compares what runs with what is wanted.
///
/// Only backends of the wanted text are touched, and of those none that is [`Opaque`] in either text.
pub fn plan(input: &Input<'_>) -> Plan {
    diff::draft(input).plan
}

/// The backends whose plan depends on whether they take servers at runtime, of which neither the running text says so nor
/// HAProxy was asked: its answer costs an `[ALERT]` in its own log.
pub fn wants_probe(input: &Input<'_>) -> BTreeSet<BackendName> {
    diff::draft(input).unprobed
}

/// Whether the plan would depend on `show stat`, which was not read.
pub fn wants_stat(input: &Input<'_>) -> bool {
    diff::draft(input).wants_stat
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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {}", self.backend, self.server, self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { addr, options } if options.is_empty() => write!(f, "add {addr}"),
            Self::Add { addr, options } => write!(f, "add {addr} {}", options.join(" ")),
            Self::Address(addr) => write!(f, "move to {addr}"),
            Self::Weight(weight) => write!(f, "weight {}", weight.get()),
            Self::Maxconn(0) => write!(f, "maxconn unlimited"),
            Self::Maxconn(maxconn) => write!(f, "maxconn {maxconn}"),
            Self::Ready { .. } => write!(f, "ready"),
            Self::Drain {
                keep_check: true, ..
            } => write!(f, "drain, checked"),
            Self::Drain { .. } => write!(f, "drain"),
            Self::Agent { asked: true } => write!(f, "ask its agent"),
            Self::Agent { asked: false } => write!(f, "no longer ask its agent"),
            Self::Maint => write!(f, "maint"),
            Self::Shut => write!(f, "shut its sessions"),
            Self::Delete => write!(f, "delete"),
        }
    }
}

#[cfg(test)]
mod tests;
