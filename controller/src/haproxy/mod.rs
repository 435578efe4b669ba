//! What HAProxy says of itself, as types. [P]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{BackendName, ServerName, Weight};

/// Major and minor version of HAProxy, `3.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
}

/// The first 16 hex digits of the SHA-256 of a text rendered with an empty stamp.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub String);

/// The worker that answered on the Runtime API (`show info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its process id; repeats in containers.
    pub pid: u32,
    /// How long it has been running, in whole seconds.
    pub uptime: Duration,
    /// Its version.
    pub version: Version,
    /// The stamp of the text it started with; none when the file was not ours.
    pub stamp: Option<Stamp>,
}

/// The servers of all backends as the worker runs them.
pub type RunningServers = BTreeMap<String, BTreeMap<String, RunningServer>>;

/// A server as the worker runs it (`show servers state`, and `show stat` where read).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningServer {
    /// Its address; none where HAProxy shows `-` or a unix socket.
    pub addr: Option<SocketAddr>,
    /// Its effective absolute weight.
    pub weight: u16,
    /// Its admin state: bits 1 and 8 only.
    pub admin: Admin,
    /// What `show stat` says, where it was read.
    pub stat: Option<ServerStat>,
}

/// The admin state that HAProxy reports (bits 1 and 8 of `srv_admin_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Admin {
    /// Neither bit.
    Ready,
    /// Bit 8: no new load-balanced requests, persistent ones continue.
    Drain,
    /// Bit 1: nothing at all.
    Maint,
}

/// A line of `show stat` of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStat {
    /// What HAProxy's check says.
    pub check: Check,
    /// Requests and sessions running on it now (`scur`) and waiting for it (`qcur`).
    pub in_flight: u64,
    /// `slim`, its `maxconn`; none when unlimited.
    pub maxconn: Option<u32>,
    /// All sessions it ever had (`stot`).
    pub total: u64,
}

/// What HAProxy's check says of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// No check, or no result of it yet.
    None,
    /// The last check came back good.
    Up,
    /// Declared down.
    Down,
}

/// An added server and the options it was added with; which worker it lives in is the caller's to know.
pub type AddedOptions = BTreeMap<(BackendName, ServerName), Vec<String>>;

/// A backend's weight type, kept together so that plan and runtime print the same.
pub type AbsoluteWeight = Weight;
