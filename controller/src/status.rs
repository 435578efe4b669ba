//! What the controller says of itself: the outcome of a cycle in, JSON or text that a person can read out. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How everything stands after a cycle. Its JSON form is an interface: names are stable, values are added only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When it was so, in seconds since 1970.
    pub time: u64,
    /// Counts up whenever a server stands otherwise than before; `approve --revision` takes it.
    pub revision: u64,
    /// Whether anything is wrong, in sentences; empty when all is well.
    pub problems: Vec<String>,
    /// The Serf agent.
    pub agent: Agent,
    /// HAProxy.
    pub haproxy: Haproxy,
    /// The configuration file.
    pub file: File,
    /// What was done since this process started.
    pub counters: Counters,
    /// Every backend.
    pub backends: BTreeMap<String, Backend>,
    /// Members that a rule picks and that cannot be used, by their escaped name, with the reason.
    pub quarantined: BTreeMap<String, String>,
}

/// The Serf agent that membership comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// `connected`, `lost` or `waiting`.
    pub state: String,
    /// `host:port` of the agent, once one has answered.
    pub addr: Option<String>,
    /// How long ago the members were last read, in seconds.
    pub members_age_seconds: Option<u64>,
    /// Members known, all statuses.
    pub members: usize,
    /// Those of them that the agent lists, itself among them; the others are remembered.
    pub listed: usize,
}

/// The worker that answers on the stats socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Haproxy {
    /// `running` or `unreachable`.
    pub state: String,
    /// The worker's process id.
    pub pid: Option<u32>,
    /// Its version, `3.0`.
    pub version: Option<String>,
    /// The stamp of the text it started with.
    pub stamp: Option<String>,
    /// Workers of earlier reloads that still finish what they had begun; unknown without a master socket.
    pub old_workers: Option<usize>,
    /// Each of them. They keep the servers they had, whatever happens to those since.
    pub old: Vec<OldWorker>,
}

/// A worker of an earlier reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldWorker {
    /// Its process id.
    pub pid: u32,
    /// The connections of clients that it still holds, counted every `drift.interval`; unknown where it did not say.
    pub sessions: Option<u64>,
}

/// The configuration file that the controller owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where it is.
    pub path: String,
    /// `current` or `behind`.
    pub state: String,
    /// The stamp of what is on disk.
    pub stamp: Option<String>,
}

/// What was done since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Executions of a plan that did more than admit servers whose probe came true.
    pub applies: u64,
    /// Executions that only admitted such servers.
    pub admissions: u64,
    /// Steps that HAProxy refused.
    pub refused: u64,
    /// Executions that put back what somebody else had changed.
    pub repairs: u64,
    /// Files written.
    pub writes: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads and writes that failed.
    pub failures: u64,
    /// Reloads that took effect, by their first reason.
    pub reloads_by_reason: BTreeMap<String, u64>,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Servers in rotation.
    pub in_rotation: usize,
    /// Those of them that nobody calls dead.
    pub answering: usize,
    /// Servers that went without intent and count still.
    pub removed: usize,
    /// So many may go on the word of one witness.
    pub may_go: usize,
    /// Its servers, by name.
    pub servers: BTreeMap<String, Server>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `ready`, `pending`, `waiting`, `drain`, `maint`, `leaving` or `out`. One that is pending is to be ready, and
    /// HAProxy was not read to have it so.
    pub state: String,
    /// Why.
    pub why: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its weight, 0 to 256.
    pub weight: u16,
    /// What gossip says of it: `alive`, `leaving`, `left`, `failed` or `absent`.
    pub gossip: String,
    /// What HAProxy's check says: `up`, `falling`, `down`, `pending` or `none`.
    pub check: String,
    /// What the controller's own probe says: `good`, `refused`, `failed` or `none`.
    pub probe: String,
    /// What its agent says (`agent-check`): `ready`, `drain`, `maint` or `down`, with `, weight 50 of 100` where it is not
    /// the whole; `not asked` where that is switched off, `none` where it has no agent.
    #[serde(default)]
    pub agent: String,
    /// The agent, or its neighbours, could not reach the member just now.
    pub suspected: bool,
    /// One witness would have it out, and the guard keeps it: `approve` lets it go.
    pub held: bool,
    /// How the controller came to know it: `member`, `before` (by its own book or file) or `worker`.
    pub origin: String,
    /// Since when it has stood so, in seconds since 1970.
    pub since: u64,
}

impl Haproxy {
    fn write_old(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.old.is_empty() {
            return Ok(());
        }
        let sessions: u64 = self.old.iter().filter_map(|old| old.sessions).sum();
        let workers = self.old.len();
        write!(
            f,
            "old      {workers} {} of earlier reloads, with {sessions} {}",
            plural(workers == 1, "worker"),
            plural(sessions == 1, "session")
        )?;
        let silent = self.old.iter().filter(|old| old.sessions.is_none()).count();
        if silent > 0 {
            write!(f, " and those of {silent} that did not say")?;
        }
        writeln!(f, ", keep the servers of their time")
    }
}

fn plural(is_one: bool, what: &str) -> String {
    format!("{what}{}", if is_one { "" } else { "s" })
}

impl Backend {
    fn write(&self, f: &mut fmt::Formatter<'_>, name: &str, now: u64) -> fmt::Result {
        writeln!(
            f,
            "\nbackend {name}: {} in rotation, {} answering; {} removed of {} that may go on one witness's word",
            self.in_rotation, self.answering, self.removed, self.may_go
        )?;
        if self.servers.is_empty() {
            return writeln!(f, "  no servers");
        }
        let width = |text: fn(&Server) -> String| {
            let widths = self.servers.values().map(|server| text(server).len());
            widths.max().unwrap_or(0)
        };
        let names = self
            .servers
            .keys()
            .map(String::len)
            .max()
            .unwrap_or(0)
            .max(4);
        let addresses = width(|server| server.address.to_string()).max(7);
        writeln!(
            f,
            "  {:names$}  {:8}{:>5}  {:addresses$} {:>6}  {:8} {:8} {:8} why",
            "name", "state", "for", "address", "weight", "gossip", "check", "probe"
        )?;
        for (name, server) in &self.servers {
            let address = server.address.to_string();
            let mark = if server.suspected { " (suspected)" } else { "" };
            let agent = match server.agent.as_str() {
                "" | "none" | "ready" => String::new(),
                says => format!(" (agent: {says})"),
            };
            writeln!(
                f,
                "  {name:names$}  {:8}{:>5}  {address:addresses$} {:>6}  {:8} {:8} {:8} {}{mark}{agent}",
                server.state,
                ago(now.saturating_sub(server.since)),
                server.weight,
                server.gossip,
                server.check,
                server.probe,
                server.why
            )?;
        }
        Ok(())
    }
}

/// A time in its greatest unit: `12s`, `3m`, `5h`, `2d`.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "PROBLEM  {problem}")?;
        }
        let none = || "-".to_owned();
        let age = self
            .agent
            .members_age_seconds
            .map_or_else(none, |age| format!("{age}s old"));
        let addr = self.agent.addr.clone().unwrap_or_else(none);
        writeln!(
            f,
            "agent    {} {addr}, {} members, {} of them listed, list {age}",
            self.agent.state, self.agent.members, self.agent.listed
        )?;
        let pid = self.haproxy.pid.map_or_else(none, |pid| pid.to_string());
        let version = self.haproxy.version.clone().unwrap_or_else(none);
        let stamp = self.haproxy.stamp.clone().unwrap_or_else(none);
        writeln!(
            f,
            "haproxy  {}, version {version}, worker {pid}, started with {stamp}",
            self.haproxy.state
        )?;
        self.haproxy.write_old(f)?;
        let stamp = self.file.stamp.clone().unwrap_or_else(none);
        writeln!(
            f,
            "file     {}, {}, {stamp}",
            self.file.path, self.file.state
        )?;
        let counters = &self.counters;
        writeln!(
            f,
            "done     {} applies, {} admissions, {} writes, {} reloads, {} failures",
            counters.applies,
            counters.admissions,
            counters.writes,
            counters.reloads,
            counters.failures
        )?;
        writeln!(f, "revision {}", self.revision)?;
        for (name, backend) in &self.backends {
            backend.write(f, name, self.time)?;
        }
        if !self.quarantined.is_empty() {
            writeln!(f, "\nquarantined")?;
        }
        for (name, reason) in &self.quarantined {
            writeln!(f, "  {name}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_workers_are_told_with_the_sessions_they_hold() {
        let old = |sessions: &[Option<u64>]| {
            let status = Status {
                haproxy: Haproxy {
                    old: sessions
                        .iter()
                        .map(|&sessions| OldWorker { pid: 7, sessions })
                        .collect(),
                    ..Haproxy::default()
                },
                ..Status::default()
            };
            let text = status.to_string();
            let line = text.lines().find(|line| line.starts_with("old"));
            line.unwrap_or_default().to_owned()
        };
        assert_eq!(old(&[]), "");
        assert_eq!(
            old(&[Some(1)]),
            "old      1 worker of earlier reloads, with 1 session, keep the servers of their time"
        );
        assert_eq!(
            old(&[Some(11), None, Some(2)]),
            "old      3 workers of earlier reloads, with 13 sessions and those of 1 that did not say, keep the servers of their time"
        );
    }
}
