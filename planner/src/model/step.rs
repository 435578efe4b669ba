//! What is to be done to servers: the admin state that each is to have, and the steps of the Runtime API that bring it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::{BackendName, ServerKey, ServerName, Weight};

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
pub type WantedAdmins = BTreeMap<ServerKey, WantedAdmin>;

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

impl Step {
    /// The server's identity.
    pub fn key(&self) -> ServerKey {
        ServerKey::new(&self.backend, &self.server)
    }
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
    /// `set dynamic-cookie-key backend`: below 3.0 a server that was added has the value of its cookie only by this. It is the
    /// key that the worker has, so all others keep theirs.
    CookieKey(String),
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
            Self::CookieKey(_) => write!(f, "cookie"),
            Self::Agent { asked: true } => write!(f, "ask its agent"),
            Self::Agent { asked: false } => write!(f, "no longer ask its agent"),
            Self::Maint => write!(f, "maint"),
            Self::Shut => write!(f, "shut its sessions"),
            Self::Delete => write!(f, "delete"),
        }
    }
}
