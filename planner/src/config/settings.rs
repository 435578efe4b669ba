//! What can be set, with its defaults. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::check::CheckConfig;
use super::value::NodePattern;
use crate::model::{BackendName, Weight};
use crate::review::taken_over::TakenOver;

/// All settings, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the members come from.
    pub serf: Serf,
    /// The HAProxy that is looked after.
    pub haproxy: Haproxy,
    /// What the built-in template listens on; none only beside a template of one's own.
    pub frontend: Option<Frontend>,
    /// The backends, at least one, in the order of the file, names unique.
    pub backends: Vec<BackendConfig>,
    /// How additions gather.
    pub debounce: Debounce,
    /// Limits of reloads.
    pub reload: Reload,
    /// How often HAProxy is read back.
    pub drift: DriftConfig,
    /// What survives a restart.
    pub state: StateConfig,
    /// The HTTP listener; none where the section is left out.
    pub http: Option<Http>,
    /// The control socket.
    pub control: Control,
    /// Servers that HAProxy cannot forget.
    pub retired: Retired,
    /// What is done about members that the agent suspects.
    pub suspicion: Suspicion,
    /// How flapping members are held back.
    pub damping: Damping,
    /// HAProxy's timeouts.
    pub timeouts: Timeouts,
    /// Other files rendered from the same data.
    pub files: Vec<OutputFile>,
}

/// `[serf]`: the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serf {
    /// RPC addresses `host:port`, tried in order, at least one.
    pub addr: Vec<String>,
    /// A file with the RPC auth key.
    pub auth_key_file: Option<PathBuf>,
    /// How often the members are fetched again though nothing was heard.
    pub resync: Duration,
    /// Whether an agent that knows only itself is told to join the members that are remembered.
    pub rejoin: bool,
    /// Members that an agent may list, 1 to 1,000,000: a longer list is not taken.
    pub max_members: usize,
}

/// `[haproxy]`: its files and sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Haproxy {
    /// The configuration file that is written.
    pub config: PathBuf,
    /// The template; none is the built-in one.
    pub template: Option<PathBuf>,
    /// The Runtime API's socket, level admin.
    pub stats_socket: PathBuf,
    /// Who may use it, where the built-in template makes it.
    pub stats_socket_mode: SocketMode,
    /// Who owns it there; none is whoever starts HAProxy.
    pub stats_socket_user: Option<String>,
    /// Its group there, likewise.
    pub stats_socket_group: Option<String>,
    /// How a reload is asked for.
    pub reload: ReloadMethod,
    /// Files and directories that HAProxy reads before ours, in that order: somebody else's, never written.
    pub files: Vec<PathBuf>,
    /// The command that judges a file, `{path}` standing for it.
    pub check_command: Vec<String>,
    /// The user that the built-in template lets HAProxy run as; none is that of the file that was taken over, or else the
    /// one it was started by.
    pub user: Option<String>,
    /// The group, likewise.
    pub group: Option<String>,
    /// The directory that it is locked up in, likewise.
    pub chroot: Option<PathBuf>,
    /// No key: what the file that is written, or the one that was there before it, has of this.
    pub taken_over: TakenOver,
    /// HAProxy's `hard-stop-after`: how long an old worker may live, and how long a child has to finish at the end;
    /// 1 s to 24 h.
    pub hard_stop_after: Duration,
}

/// The rights of a unix socket; others have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub(super) u32);

impl SocketMode {
    /// `600`.
    pub const OWNER: Self = Self(0o600);
    /// `660`.
    pub const GROUP: Self = Self(0o660);

    /// As `chmod` takes them.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// What is meant where only a group is named.
    pub(super) fn with_group(is_named: bool) -> Self {
        if is_named { Self::GROUP } else { Self::OWNER }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

/// `[timeouts]`: HAProxy's `timeout` lines of the built-in templates, each at least 1 ms (Configuration Manual,
/// section 4.2 "Alphabetically sorted keywords reference").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect`: how long a connection to a server may take, at most a minute.
    pub connect: Duration,
    /// `queue`: how long a request waits for a server that is at its `maxconn`, at most an hour.
    pub queue: Duration,
    /// `client`: how long a client may be silent, at most a day.
    pub client: Duration,
    /// `server`: how long a server may be silent, at most a day.
    pub server: Duration,
    /// `tunnel`: how long both may be once they speak another protocol (WebSocket), at most a week.
    pub tunnel: Duration,
    /// `http-request`: how long a client may take to send the head of a request, at most an hour.
    pub http_request: Duration,
    /// `http-keep-alive`: how long a client may wait before its next request, at most an hour.
    pub http_keep_alive: Duration,
}

/// How a reload is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadMethod {
    /// `reload` on the master's socket.
    MasterSocket(PathBuf),
    /// A program and its arguments.
    Command(Vec<String>),
    /// HAProxy is a child, and its master listens in the state directory.
    Spawn,
}

/// `[frontend]`: what the built-in template listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Arguments of `bind` lines, at least one.
    pub bind: Vec<String>,
    /// The backend that gets the traffic.
    pub default_backend: BackendName,
    /// Argument of the stats page's `bind` line; none is no stats page.
    pub stats_bind: Option<String>,
    /// Argument of the `log` line; none is no log.
    pub log: Option<String>,
}

/// A `[[backend]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendConfig {
    /// Its name, unique.
    pub name: BackendName,
    /// Tags that must all match, each with one of the values.
    pub tags: BTreeMap<String, Vec<String>>,
    /// Must match the whole member name.
    pub node: Option<NodePattern>,
    /// The port of members without a tag `port`, and without `ports` of all.
    pub port: Option<u16>,
    /// HAProxy's `balance`, words separated by one blank.
    pub balance: String,
    /// HAProxy's `mode`.
    pub mode: Mode,
    /// What HAProxy's check and the controller's own probe ask; none is no check, and a probe that only connects.
    pub check: Option<CheckConfig>,
    /// Who lets a new server in.
    pub probe: ProbeMode,
    /// HAProxy's `retries`: how often a request tries another server, 1 to 100.
    pub retries: u8,
    /// HAProxy's `observe`; none looks at no traffic. Nothing without a check.
    pub observe: Option<Observe>,
    /// HAProxy's `error-limit`: errors in a row that the traffic meets until its server is marked down, 1 to 1000.
    pub error_limit: u16,
    /// `maxconn` of each server; none is unlimited.
    pub maxconn: Option<u32>,
    /// More words for each server line.
    pub server_options: Vec<String>,
    /// Where servers may be; none is any unicast address but loopback, link-local, reserved and unspecified ones, and those
    /// of cloud metadata services.
    pub networks: Option<Vec<IpNet>>,
    /// Ports that servers may have; `port` alone where the config says nothing else.
    pub ports: Vec<RangeInclusive<u16>>,
    /// A greater weight in a tag counts as this one.
    pub max_weight: Weight,
    /// How servers are held in rotation.
    pub guard: GuardConfig,
    /// How servers are taken out.
    pub drain: Drain,
}

impl BackendConfig {
    /// Whether a server may have this port.
    pub fn may_have(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }
}

/// HAProxy's `mode` of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Requests.
    #[default]
    Http,
    /// Connections.
    Tcp,
}

/// HAProxy's `observe`: what of the traffic counts as an error of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observe {
    /// A connection that cannot be made.
    Layer4,
    /// That, and an answer that is none or has a status from 500 on but 501 and 505.
    Layer7,
}

/// Who lets a new server in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeMode {
    /// `on`: the controller's own probe, once it was answered well.
    #[default]
    On,
    /// `off`: HAProxy's check, once it came back good.
    Off,
    /// `check`: HAProxy's check, once it came back at all; from then on HAProxy alone decides who gets requests.
    Check,
}

/// `[guard]`: how much may go on the word of one witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardConfig {
    /// Answering servers that stay whatever a single witness says.
    pub min_servers: usize,
    /// Servers that are in rotation at most, 1 to 100,000: whoever answers beyond them waits.
    pub max_servers: usize,
    /// Share of the servers in rotation that may go within `window`, 0 to 100.
    pub max_removal_percent: u8,
    /// How long a removal counts.
    pub window: Duration,
    /// How long a server stays that answers though its agent is gone; none is for ever.
    pub hold: Option<Duration>,
    /// Probes that must fail in a row before a server without a check counts as dead, 1 to 100.
    pub probe_fall: u32,
}

/// `[drain]`: how servers are taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long running requests may take before they are cut.
    pub timeout: Duration,
}

/// `[debounce]`: how additions gather.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// Without a change for so long, the gathered ones are applied.
    pub quiet: Duration,
    /// At the latest after so long; not below `quiet`.
    pub max_wait: Duration,
}

/// `[reload]`: limits of reloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Reloads are at least so far apart.
    pub min_interval: Duration,
    /// A reload that has brought no new worker by then has failed.
    pub timeout: Duration,
}

/// `[drift]`: how often HAProxy is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftConfig {
    /// Between two reads.
    pub interval: Duration,
}

/// `[state]`: what survives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// A directory of this controller's own.
    pub dir: PathBuf,
}

/// `[http]`: the listener for people and monitoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// `[control]`: what `status` and `plan` ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// A unix socket.
    pub socket: PathBuf,
    /// Who may ask: everybody who may can approve removals.
    pub mode: SocketMode,
    /// Its group; none is the controller's own.
    pub group: Option<String>,
}

/// `[retired]`: servers that a HAProxy below 3.0 keeps in maint because it cannot delete them safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// So many in one backend lead to a reload.
    pub max: usize,
}

/// `[suspicion]`: members that the agent suspects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// Whether a suspected server without a check is probed and taken out when it is dead.
    pub enabled: bool,
}

/// `[damping]`: members that come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damping {
    /// The longest that a rejoin is held back.
    pub max_penalty: Duration,
}

/// A `[[file]]`: another file rendered from the same data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Its template.
    pub template: PathBuf,
    /// Where it is written, unique.
    pub path: PathBuf,
    /// The command that judges it, `{path}` standing for it.
    pub check_command: Option<Vec<String>>,
    /// Run after it changed.
    pub reload_command: Option<Vec<String>>,
}

impl Default for Serf {
    fn default() -> Self {
        Self {
            addr: vec!["127.0.0.1:7373".to_owned()],
            auth_key_file: None,
            resync: Duration::from_secs(10),
            rejoin: false,
            max_members: 50_000,
        }
    }
}

impl Default for Haproxy {
    fn default() -> Self {
        Self {
            config: "/etc/haproxy/haproxy.cfg".into(),
            template: None,
            stats_socket: "/run/haproxy/admin.sock".into(),
            stats_socket_mode: SocketMode::OWNER,
            stats_socket_user: None,
            stats_socket_group: None,
            reload: ReloadMethod::default(),
            files: Vec::new(),
            check_command: super::loaded::check_command(&[]),
            user: None,
            group: None,
            chroot: None,
            taken_over: TakenOver::default(),
            hard_stop_after: Duration::from_secs(30),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(500),
            queue: Duration::from_secs(5),
            client: Duration::from_secs(30),
            server: Duration::from_secs(30),
            tunnel: Duration::from_secs(3600),
            http_request: Duration::from_secs(10),
            http_keep_alive: Duration::from_secs(10),
        }
    }
}

impl Default for ReloadMethod {
    fn default() -> Self {
        Self::MasterSocket("/run/haproxy-master.sock".into())
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            min_servers: 1,
            max_servers: 1000,
            max_removal_percent: 50,
            window: Duration::from_secs(300),
            hold: Some(Duration::from_secs(600)),
            probe_fall: 3,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Debounce {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(200),
            max_wait: Duration::from_secs(2),
        }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_secs(2),
            timeout: Duration::from_secs(30),
        }
    }
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
        }
    }
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            dir: "/var/lib/serf-haproxy".into(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9280)),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: "/run/serf-haproxy/control.sock".into(),
            mode: SocketMode::OWNER,
            group: None,
        }
    }
}

impl Default for Retired {
    fn default() -> Self {
        Self { max: 100 }
    }
}

impl Default for Suspicion {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            max_penalty: Duration::from_secs(30),
        }
    }
}
