//! Every key that can be set, with its type, its default and how it is read. Pure.
//!
//! A new key is a line here, and one in `config.sample.toml`. If templates are to print it, [`crate::render`] hands it to
//! them, and docs/reference/template.md tells its name. How it goes with other keys is a matter of `derived` and `between`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::check::{CheckConfig, check};
use super::loaded;
use super::node::Node;
use super::route::RouteConfig;
use super::section::{Section, section};
use super::services::Services;
use super::tag_pattern::TagPattern;
use super::value::{
    DAY, HOUR, MILLISECOND, MINUTE, NodePattern, SECOND, account, agents, backend_name, backends,
    balance, bind, binds, boolean, check_command, command, hold, hosts, listen, networks,
    node_pattern, number, one_of, path, paths, percent, ports, printed, printed_path,
    server_options, socket_mode, some, tables, tag_name, tags, time, weight,
};
use crate::model::{BackendName, Naming, Weight};
use crate::review::taken_over::TakenOver;
use crate::route::Routes;

section! {
    /// All settings, checked.
    pub struct Config
    beside {
        /// The routes of the config, of which one wins every request.
        pub routing: Routes = Routes::default();
    }
    {
        /// Where the members come from.
        pub serf: Serf = Serf::default(), Serf::read;
        /// The HAProxy that is looked after.
        pub haproxy: Haproxy = Haproxy::default(), Haproxy::read;
        /// What the built-in template listens on; none only beside a template of one's own.
        pub frontend: Option<Frontend> = None, some(Frontend::read);
        /// The backends, at least one, in the order of the file, names unique.
        pub backends as backend: Vec<BackendConfig> = Vec::new(), backends;
        /// Which requests go where, in the order of the file.
        pub routes as route: Vec<RouteConfig> = Vec::new(), tables;
        /// What members may announce; nothing where the section is left out.
        pub services: Option<Services> = None, some(Services::read);
        /// What the backends have that say nothing else.
        pub(super) guard: GuardConfig = GuardConfig::default(), GuardConfig::read;
        pub(super) drain: Drain = Drain::default(), Drain::read;
        /// How additions gather.
        pub debounce: Debounce = Debounce::default(), Debounce::read;
        /// Limits of reloads.
        pub reload: Reload = Reload::default(), Reload::read;
        /// How often HAProxy is read back.
        pub drift: DriftConfig = DriftConfig::default(), DriftConfig::read;
        /// What survives a restart.
        pub state: StateConfig = StateConfig::default(), StateConfig::read;
        /// The HTTP listener; none where the section is left out.
        pub http: Option<Http> = None, some(Http::read);
        /// The control socket.
        pub control: Control = Control::default(), Control::read;
        /// Servers that HAProxy cannot forget.
        pub retired: Retired = Retired::default(), Retired::read;
        /// What is done about members that the agent suspects.
        pub suspicion: Suspicion = Suspicion::default(), Suspicion::read;
        /// How flapping members are held back.
        pub damping: Damping = Damping::default(), Damping::read;
        /// What the tags are called that say something of a server.
        pub tags: TagNames = TagNames::default(), TagNames::read;
        /// HAProxy's timeouts.
        pub timeouts: Timeouts = Timeouts::default(), Timeouts::read;
        /// Other files rendered from the same data.
        pub files as file: Vec<OutputFile> = Vec::new(), tables;
    }

    /// `[tags]`: what members call the tags that say something of their servers.
    pub struct TagNames {
        /// The port that the server listens on.
        pub port: String = "port".to_owned(), tag_name;
        /// Its weight.
        pub weight: String = "weight".to_owned(), tag_name;
        /// What it is to be: `ready`, `drain` or `maint`.
        pub state: String = "state".to_owned(), tag_name;
        /// The services that the member has.
        pub services: String = "svc".to_owned(), tag_name;
        /// The host of a service.
        pub host: String = "host".to_owned(), tag_name;
        /// The path of a service.
        pub path: String = "path".to_owned(), tag_name;
        /// Whether the server of a service only serves when the others do not.
        pub backup: String = "backup".to_owned(), tag_name;
        /// What a service speaks.
        pub proto: String = "proto".to_owned(), tag_name;
    }

    /// `[serf]`: the agent.
    pub struct Serf {
        /// RPC addresses `host:port`, tried in order, at least one.
        pub addr: Vec<String> = vec!["127.0.0.1:7373".to_owned()], agents;
        /// A file with the RPC auth key.
        pub auth_key_file: Option<PathBuf> = None, some(path);
        /// How often the members are fetched again though nothing was heard.
        pub resync: Duration = Duration::from_secs(10), time(SECOND..=HOUR);
        /// Whether an agent that knows only itself is told to join the members that are remembered.
        pub rejoin: bool = false, boolean;
        /// Members that an agent may list, 1 to 1,000,000: a longer list is not taken.
        pub max_members: usize = 50_000, number(1..=1_000_000);
        /// What becomes of members whose names can be no server's.
        pub names: Naming = Naming::Quarantine,
            one_of([("quarantine", Naming::Quarantine), ("map", Naming::Map)]);
    }

    /// `[haproxy]`: its files and sockets.
    pub struct Haproxy
    beside {
        /// What the file that is written, or the one that was there before it, has of this.
        pub taken_over: TakenOver = TakenOver::default();
    }
    {
        /// The configuration file that is written.
        pub config: PathBuf = "/etc/haproxy/haproxy.cfg".into(), path;
        /// The template; none is the built-in one.
        pub template: Option<PathBuf> = None, some(path);
        /// The Runtime API's socket, level admin.
        pub stats_socket: PathBuf = "/run/haproxy/admin.sock".into(), printed_path;
        /// Who may use it, where the built-in template makes it.
        pub stats_socket_mode: SocketMode = SocketMode::OWNER, socket_mode;
        /// Who owns it there; none is whoever starts HAProxy.
        pub stats_socket_user: Option<String> = None, some(account);
        /// Its group there, likewise.
        pub stats_socket_group: Option<String> = None, some(account);
        /// How a reload is asked for: on the master's socket, unless one of the next two keys is set.
        pub reload as master_socket: ReloadMethod = ReloadMethod::MasterSocket("/run/haproxy-master.sock".into()),
            |node| path(node).map(ReloadMethod::MasterSocket);
        pub(super) reload_command: Vec<String> = Vec::new(), command;
        pub(super) spawn: bool = false, boolean;
        /// Files and directories that HAProxy reads before ours, in that order: somebody else's, never written.
        pub files: Vec<PathBuf> = Vec::new(), paths;
        /// The command that judges a file, `{path}` standing for it.
        pub check_command: Vec<String> = loaded::check_command(&[]), check_command;
        /// The user that the built-in template lets HAProxy run as; none is that of the file that was taken over, or else the
        /// one it was started by.
        pub user: Option<String> = None, some(account);
        /// The group, likewise.
        pub group: Option<String> = None, some(account);
        /// The directory that it is locked up in, likewise.
        pub chroot: Option<PathBuf> = None, some(printed_path);
        /// HAProxy's `hard-stop-after`: how long an old worker may live, and how long a child has to finish at the end;
        /// 1 s to 24 h.
        pub hard_stop_after: Duration = Duration::from_secs(30), time(SECOND..=DAY);
    }
}

impl Haproxy {
    /// The map of routes, beside the configuration file: `haproxy.routes.map` beside `haproxy.cfg`.
    pub fn routes_map(&self) -> PathBuf {
        self.config.with_extension("routes.map")
    }
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

section! {
    /// `[timeouts]`: HAProxy's `timeout` lines of the built-in templates, each at least 1 ms (Configuration Manual,
    /// section 4.2 "Alphabetically sorted keywords reference").
    pub struct Timeouts {
        /// `connect`: how long a connection to a server may take, at most a minute.
        pub connect: Duration = Duration::from_millis(500), time(MILLISECOND..=MINUTE);
        /// `queue`: how long a request waits for a server that is at its `maxconn`, at most an hour.
        pub queue: Duration = Duration::from_secs(5), time(MILLISECOND..=HOUR);
        /// `client`: how long a client may be silent, at most a day.
        pub client: Duration = Duration::from_secs(30), time(MILLISECOND..=DAY);
        /// `server`: how long a server may be silent, at most a day.
        pub server: Duration = Duration::from_secs(30), time(MILLISECOND..=DAY);
        /// `tunnel`: how long both may be once they speak another protocol (WebSocket), at most a week.
        pub tunnel: Duration = Duration::from_secs(3600), time(MILLISECOND..=7 * DAY);
        /// `http-request`: how long a client may take to send the head of a request, at most an hour.
        pub http_request: Duration = Duration::from_secs(10), time(MILLISECOND..=HOUR);
        /// `http-keep-alive`: how long a client may wait before its next request, at most an hour.
        pub http_keep_alive: Duration = Duration::from_secs(10), time(MILLISECOND..=HOUR);
    }
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

section! {
    /// `[frontend]`: what the built-in template listens on.
    pub struct Frontend {
        /// Arguments of `bind` lines, at least one.
        pub bind: Vec<String> = Vec::new(), binds,
            "give the addresses to listen on, bind = [\"*:80\"]";
        /// The backend that gets the traffic.
        pub default_backend: BackendName = BackendName::unnamed(), backend_name;
        /// Argument of the stats page's `bind` line; none is no stats page.
        pub stats_bind: Option<String> = None, some(bind);
        /// Argument of the `log` line; none is no log.
        pub log: Option<String> = None, some(printed);
    }

    /// A `[[backend]]`.
    pub struct BackendConfig
    beside {
        /// Its members have named it; then its rules pick nobody.
        pub is_service: bool = false;
    }
    {
        /// Its name, unique.
        pub name: BackendName = BackendName::unnamed(), backend_name;
        /// Tags that must all match: each is one of the values, a list that contains one, or matches an expression.
        pub tags: BTreeMap<String, TagPattern> = BTreeMap::new(), tags;
        /// Must match the whole member name.
        pub node: Option<NodePattern> = None, some(node_pattern);
        /// The port of members without a tag `port`, and without `ports` of all.
        pub port: Option<u16> = None, some(number(1..=65535));
        /// The tag with the port, where it is another one than that of all.
        pub port_tag: Option<String> = None, some(tag_name);
        /// HAProxy's `balance`, words separated by one blank.
        pub balance: String = "roundrobin".to_owned(), balance;
        /// HAProxy's `mode`.
        pub mode: Mode = Mode::Http, one_of([("http", Mode::Http), ("tcp", Mode::Tcp)]);
        /// What HAProxy's check and the controller's own probe ask; none is no check, and a probe that only connects.
        pub check: Option<CheckConfig> = Some(CheckConfig::default()), check;
        /// Who lets a new server in.
        pub probe: ProbeMode = ProbeMode::On,
            one_of([("on", ProbeMode::On), ("off", ProbeMode::Off), ("check", ProbeMode::Check)]);
        /// HAProxy's `retries`: how often a request tries another server, 1 to 100.
        // With these, GETs fail on none of several servers that die at once (`alone::deaths`).
        pub retries: u8 = 8, number(1..=100);
        /// HAProxy's `observe`; none looks at no traffic. Nothing without a check.
        pub observe: Option<Observe> = Some(Observe::Layer4),
            one_of([("layer4", Some(Observe::Layer4)), ("layer7", Some(Observe::Layer7)), ("off", None)]);
        /// HAProxy's `error-limit`: errors in a row that the traffic meets until its server is marked down, 1 to 1000.
        pub error_limit: u16 = 5, number(1..=1000);
        /// `maxconn` of each server; none is unlimited.
        pub maxconn: Option<u32> = None, some(number(1..=2_147_483_647));
        /// More words for each server line.
        pub server_options: Vec<String> = Vec::new(), server_options;
        /// Where servers may be; none is any unicast address but loopback, link-local, reserved and unspecified ones, and those
        /// of cloud metadata services.
        pub networks: Option<Vec<IpNet>> = None, some(networks);
        /// Ports that servers may have; `port` alone where the config says nothing else.
        pub ports: Vec<RangeInclusive<u16>> = Vec::new(), ports;
        /// A greater weight in a tag counts as this one.
        // One member's tag cannot take nearly all of the traffic.
        pub max_weight: Weight = Weight::TEN, weight;
        /// How servers are held in rotation.
        pub guard: GuardConfig = GuardConfig::default(), GuardConfig::read;
        /// How servers are taken out.
        pub drain: Drain = Drain::default(), Drain::read;
    }
}

impl BackendConfig {
    /// Whether a server may have this port.
    pub fn may_have(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }
}

/// HAProxy's `mode` of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeMode {
    /// `on`: the controller's own probe, once it was answered well.
    On,
    /// `off`: HAProxy's check, once it came back good.
    Off,
    /// `check`: HAProxy's check, once it came back at all; from then on HAProxy alone decides who gets requests.
    Check,
}

section! {
    /// `[guard]`: how much may go on the word of one witness.
    pub struct GuardConfig {
        /// Answering servers that stay whatever a single witness says.
        pub min_servers: usize = 1, number(0..=100_000);
        /// Servers that are in rotation at most, 1 to 100,000: whoever answers beyond them waits.
        pub max_servers: usize = 1000, number(1..=100_000);
        /// Share of the servers in rotation that may go within `window`, 0 to 100.
        pub max_removal_percent as max_removal: u8 = 50, percent;
        /// How long a removal counts.
        pub window: Duration = Duration::from_secs(300), time(SECOND..=DAY);
        /// How long a server stays that answers though its agent is gone; none is for ever.
        pub hold: Option<Duration> = Some(Duration::from_secs(600)), hold;
        /// Probes that must fail in a row before a server without a check counts as dead, 1 to 100.
        pub probe_fall: u32 = 3, number(1..=100);
    }

    /// `[drain]`: how servers are taken out.
    pub struct Drain {
        /// How long running requests may take before they are cut.
        pub timeout: Duration = Duration::from_secs(30), time(Duration::ZERO..=DAY);
    }

    /// `[debounce]`: how additions gather.
    pub struct Debounce {
        /// Without a change for so long, the gathered ones are applied.
        pub quiet: Duration = Duration::from_millis(200), time(Duration::ZERO..=HOUR);
        /// At the latest after so long; not below `quiet`.
        pub max_wait: Duration = Duration::from_secs(2), time(Duration::ZERO..=HOUR);
    }

    /// `[reload]`: limits of reloads.
    pub struct Reload {
        /// Reloads are at least so far apart.
        pub min_interval: Duration = Duration::from_secs(2), time(Duration::ZERO..=HOUR);
        /// A reload that has brought no new worker by then has failed.
        pub timeout: Duration = Duration::from_secs(30), time(SECOND..=HOUR);
    }

    /// `[drift]`: how often HAProxy is read back.
    pub struct DriftConfig {
        /// Between two reads.
        pub interval: Duration = Duration::from_secs(10), time(SECOND..=HOUR);
    }

    /// `[state]`: what survives a restart.
    pub struct StateConfig {
        /// A directory of this controller's own.
        pub dir: PathBuf = "/var/lib/serf-haproxy".into(), path;
    }

    /// `[http]`: the listener for people and monitoring.
    pub struct Http {
        /// Where it listens.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9280)), listen;
        /// A file with the word that whoever asks has to give; none lets everybody who can connect ask.
        pub token_file: Option<PathBuf> = None, some(path);
        /// Names that it may be asked for by, beside those of this host's loopback and the address that it listens on.
        pub hosts: Vec<String> = Vec::new(), hosts;
    }

    /// `[control]`: what `status` and `plan` ask.
    pub struct Control {
        /// A unix socket.
        pub socket: PathBuf = "/run/serf-haproxy/control.sock".into(), path;
        /// Who may ask: everybody who may can approve removals.
        pub mode: SocketMode = SocketMode::OWNER, socket_mode;
        /// Its group; none is the controller's own.
        pub group: Option<String> = None, some(account);
    }

    /// `[retired]`: servers that a HAProxy below 3.0 keeps in maint because it cannot delete them safely.
    pub struct Retired {
        /// So many in one backend lead to a reload.
        pub max: usize = 100, number(0..=100_000);
    }

    /// `[suspicion]`: members that the agent suspects.
    pub struct Suspicion {
        /// Whether a suspected server without a check is probed and taken out when it is dead.
        pub enabled: bool = true, boolean;
    }

    /// `[damping]`: members that come and go.
    pub struct Damping {
        /// The longest that a rejoin is held back.
        pub max_penalty: Duration = Duration::from_secs(30), time(Duration::ZERO..=DAY);
    }

    /// A `[[file]]`: another file rendered from the same data.
    pub struct OutputFile {
        /// Its template.
        pub template: PathBuf = PathBuf::new(), path, "name the template of the file";
        /// Where it is written, unique.
        pub path: PathBuf = PathBuf::new(), path, "say where the file is written";
        /// The command that judges it, `{path}` standing for it.
        pub check_command: Option<Vec<String>> = None, some(check_command);
        /// Run after it changed.
        pub reload_command: Option<Vec<String>> = None, some(command);
    }
}
