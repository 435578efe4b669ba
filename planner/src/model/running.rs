//! What HAProxy says of itself, as it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::ServerKey;
use crate::stamp::Stamp;

/// Major and minor version of HAProxy, `3.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
}

impl Version {
    /// Takes what HAProxy prints of itself, `2.6.12-1+deb12u4` or `3.3-dev7`; none when it does not start with two
    /// numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.trim().split_once('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        Some(Self {
            major: major.parse().ok()?,
            minor: rest.get(..digits)?.parse().ok()?,
        })
    }

    /// Whether a server can be deleted at runtime without danger (commits 1b8c5abee and 95c4d2482, both in 3.0).
    pub fn deletes_servers(self) -> bool {
        let v3_0 = Self { major: 3, minor: 0 };
        self >= v3_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The worker that answered on the Runtime API (`show info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its process id; repeats in containers.
    pub pid: u32,
    /// How long it has been running, in whole seconds. The time that it stood still (`SIGSTOP`, a paused machine) is not
    /// in it.
    pub uptime: Duration,
    /// When it started, in seconds since 1970 as it read its clock then (`Start_time_sec`): it says the same for as long as
    /// it lives, whatever the clock does. None where this version does not tell.
    pub start: Option<u64>,
    /// Its version.
    pub version: Version,
    /// The stamp of the text it started with; none when the file was not ours.
    pub stamp: Option<Stamp>,
}

impl Worker {
    /// Whether `later`, read after this one, can be the same process: its pid, stamp and start are equal; where a version
    /// tells no start, it has not become younger.
    pub fn is_same(&self, later: &Self) -> bool {
        let same_start = match (self.start, later.start) {
            (Some(before), Some(now)) => before == now,
            _ => self.uptime <= later.uptime,
        };
        self.pid == later.pid && self.stamp == later.stamp && same_start
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "worker {} of HAProxy {}, up {} s, ",
            self.pid,
            self.version,
            self.uptime.as_secs()
        )?;
        match &self.stamp {
            Some(stamp) => write!(f, "stamp {stamp}"),
            None => f.write_str("no stamp of ours"),
        }
    }
}

/// A worker of an earlier reload: it finishes what its clients had begun, with the servers it had then, and cannot be
/// changed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldWorker {
    /// Its process id.
    pub pid: u32,
    /// The connections of clients that it holds; none where it did not say so in time.
    pub sessions: Option<u64>,
}

/// The backends that have servers, and none that HAProxy would send a request to (`show stat`, their own line).
pub type DownBackends = BTreeSet<String>;

/// The servers of all backends as the worker runs them.
pub type RunningServers = BTreeMap<String, BTreeMap<String, RunningServer>>;

/// What a worker runs, read in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Who answered.
    pub worker: Worker,
    /// Its servers.
    pub servers: RunningServers,
    /// Its backends that serve nobody; empty where `show stat` was not read.
    pub down: DownBackends,
}

/// A server as the worker runs it (`show servers state`, and `show stat` where read).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningServer {
    /// Its address; none where HAProxy shows `-` or a unix socket.
    pub addr: Option<SocketAddr>,
    /// Its effective absolute weight (`srv_uweight`), 0 to 256.
    pub weight: u16,
    /// Its admin state: bits 1 and 8 only.
    pub admin: Admin,
    /// Its agent check (`agent-check`), where it has one.
    pub agent: Option<AgentCheck>,
    /// What `show stat` says, where it was read.
    pub stat: Option<ServerStat>,
}

impl RunningServer {
    /// Whether its agent may speak: then its admin state and weight are what the agent said last.
    pub(crate) fn is_asked(&self) -> bool {
        self.agent.is_some_and(|agent| agent.asked)
    }
}

/// An agent check, a server's own word on its state and weight (Configuration Manual, `agent-check`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AgentCheck {
    /// Whether it runs; on a server added at runtime it does so from `enable agent` on.
    pub asked: bool,
    /// The server's weight by the file or by its `add server` (`srv_iweight`), 0 to 256: an agent's `50%` is of this.
    pub initial_weight: u16,
    /// Whether the file had the server `disabled` (bit 4 of `srv_admin_state`, which stays): then it is in maint by the
    /// file until it has been made ready once.
    pub by_file: bool,
    /// Whether the server is down although its check is not: the agent says so.
    pub down: bool,
}

/// The admin state that HAProxy reports (bits 1 and 8 of `srv_admin_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Admin {
    /// Neither bit.
    Ready,
    /// Bit 8 without bit 1: no new load-balanced requests, persistent ones continue.
    Drain,
    /// Bit 1: nothing at all.
    Maint,
}

/// A line of `show stat` of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStat {
    /// What HAProxy's check says.
    pub check: Check,
    /// What went wrong with the last check, in HAProxy's code and words for it: `L4CON: connection failed`; none where
    /// nothing did.
    pub said: Option<String>,
    /// Requests and sessions running on it now (`scur`) and waiting for it (`qcur`).
    pub in_flight: u64,
    /// `slim`, its `maxconn`; none when unlimited.
    pub maxconn: Option<u32>,
    /// All sessions it ever had (`stot`).
    pub total: u64,
    /// The value that its clients' cookies have; none where the backend has no cookie for it.
    pub cookie: Option<String>,
}

/// What HAProxy's check says of a server (`status` and `check_status` of `show stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// No check runs: none is configured, it is switched off, or the server is in maint.
    None,
    /// A check runs and has no result yet; HAProxy takes the server as up (`INI`).
    Pending,
    /// Not declared down, and the last check came back good.
    Up,
    /// The last check came back bad, not often enough yet (`fall`) to be declared down.
    Falling,
    /// Declared down, also while it is rising again.
    Down,
}

/// The options of the servers added at runtime; which worker they live in is the caller's to know.
pub type AddedOptions = BTreeMap<ServerKey, Vec<String>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_debian_and_of_development_are_read() {
        let version = |text| Version::parse(text).map(|v| v.to_string());
        assert_eq!(version("2.6.12-1+deb12u4").as_deref(), Some("2.6"));
        assert_eq!(version("3.0.11-1+deb13u2").as_deref(), Some("3.0"));
        assert_eq!(version("3.3-dev7").as_deref(), Some("3.3"));
        for odd in ["", "3", "3.", ".1", "a.b", "99999999.1"] {
            assert_eq!(Version::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_worker_that_tells_its_start_is_known_by_it_however_long_it_stood_still() {
        let worker = Worker {
            pid: 8,
            uptime: Duration::from_secs(5),
            start: Some(1_700_000_000),
            version: Version { major: 3, minor: 0 },
            stamp: None,
        };
        for uptime in [0, 4, 5, 500] {
            let uptime = Duration::from_secs(uptime);
            let later = Worker {
                uptime,
                ..worker.clone()
            };
            assert!(worker.is_same(&later), "{later}");
            let start = Some(1_700_000_001);
            assert!(!worker.is_same(&Worker { start, ..later }));
        }
    }

    #[test]
    fn a_worker_is_another_when_pid_stamp_or_age_say_so() {
        let worker = Worker {
            pid: 8,
            uptime: Duration::from_secs(5),
            start: None,
            version: Version { major: 3, minor: 0 },
            stamp: Some(Stamp("0123456789abcdef".into())),
        };
        assert!(worker.is_same(&Worker {
            uptime: Duration::from_secs(6),
            ..worker.clone()
        }));
        assert!(!worker.is_same(&Worker {
            uptime: Duration::from_secs(4),
            ..worker.clone()
        }));
        assert!(!worker.is_same(&Worker {
            pid: 9,
            ..worker.clone()
        }));
        assert!(!worker.is_same(&Worker {
            stamp: None,
            ..worker.clone()
        }));
    }
}
