//! What has to be done so that HAProxy runs the wanted text: two texts and the running state in, a [`Plan`] out. [P]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::model::{BackendName, ServerName, Weight};

/// What the text cannot say: the admin state a server is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WantedAdmin {
    /// In rotation.
    Ready,
    /// No new requests; the running ones finish.
    Drain,
    /// Nothing.
    Maint,
    /// Maint at once and its sessions shut.
    Cut,
}

/// The admin state of every server that matters, whether the text lists it or not.
pub type WantedAdmins = BTreeMap<(BackendName, ServerName), WantedAdmin>;

/// One change through the Runtime API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The backend.
    pub backend: BackendName,
    /// The server.
    pub server: ServerName,
    /// What to do to it.
    pub action: Action,
}

/// What a [`Step`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// `state drain` and `disable health` in one line.
    Drain {
        /// Whether it has a check.
        check: bool,
        /// Whether the check is to run (admission by HAProxy's own check, `probe = "off"`).
        keep_check: bool,
    },
    /// `state maint`.
    Maint,
    /// `shutdown sessions server`.
    Shut,
    /// `del server`.
    Delete,
}
