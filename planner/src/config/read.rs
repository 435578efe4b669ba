//! Key by key: a source in, a [`Config`] out, complaints left in the source. Pure.

use std::time::Duration;

use super::check;
use super::error::{Diagnostic, Fault, Location};
use super::loaded;
use super::source::{self, Section, Source};
use super::value;
use super::{
    BackendConfig, Config, Control, Damping, Debounce, Drain, DriftConfig, Frontend, GuardConfig,
    Haproxy, Http, Observe, OutputFile, Reload, ReloadMethod, Retired, Serf, SocketMode,
    StateConfig, Suspicion, Timeouts,
};
use crate::encoding::NotUtf8;
use crate::model::{BackendName, Weight};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
/// One member's tag cannot take nearly all of the traffic.
const MAX_WEIGHT: u16 = 10;
/// With these, GETs fail on none of several servers that die at once (`alone::deaths`).
const RETRIES: u8 = 8;
const ERROR_LIMIT: u16 = 5;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads everything; what is wrong or missing has its default, or is left out.
pub(super) fn config<'a>(source: &'a Source<'a>) -> Config {
    let root = source.root();
    let guard = guard(root.section("guard"), &GuardConfig::default());
    let drain = drain(root.section("drain"), &Drain::default());
    let backends = backends(&root, &guard, &drain);
    let frontend = root.section("frontend");
    let http = root.section("http");
    let config = Config {
        serf: serf(root.section("serf")),
        haproxy: haproxy(root.section("haproxy")),
        frontend: frontend
            .is_given()
            .then(|| self::frontend(frontend, &backends))
            .flatten(),
        debounce: debounce(root.section("debounce")),
        reload: reload(root.section("reload")),
        drift: drift(root.section("drift")),
        state: state(root.section("state")),
        http: http.is_given().then(|| self::http(http)),
        control: control(root.section("control")),
        retired: retired(root.section("retired")),
        suspicion: suspicion(root.section("suspicion")),
        damping: damping(root.section("damping")),
        timeouts: timeouts(root.section("timeouts")),
        files: root
            .sections("file", "path")
            .into_iter()
            .filter_map(file)
            .collect(),
        backends,
    };
    root.finish();
    config
}

/// What the parser of the file's syntax says.
pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Diagnostic {
    let location = error
        .span()
        .map_or(Location::File { line: 1, column: 1 }, |span| {
            source::location(text, span.start)
        });
    Diagnostic {
        location,
        key: String::new(),
        message: format!("{}; this is no TOML", error.message()),
    }
}

/// What is said of a file that is no text.
pub(super) fn encoding(error: &NotUtf8) -> Diagnostic {
    Diagnostic {
        location: Location::File {
            line: error.line,
            column: error.column,
        },
        key: String::new(),
        message: error.to_string(),
    }
}

fn serf(section: Section<'_>) -> Serf {
    let default = Serf::default();
    let serf = Serf {
        addr: section.get("addr", value::agents).unwrap_or(default.addr),
        auth_key_file: section.get("auth_key_file", value::path),
        resync: section
            .get("resync", value::duration(SECOND..=HOUR))
            .unwrap_or(default.resync),
        rejoin: section
            .get("rejoin", |value| value.boolean())
            .unwrap_or(default.rejoin),
        max_members: section
            .get("max_members", value::number(1..=1_000_000))
            .unwrap_or(default.max_members),
    };
    section.finish();
    serf
}

fn haproxy(section: Section<'_>) -> Haproxy {
    let default = Haproxy::default();
    let files = section.get("files", value::paths);
    let check_command = section.get("check_command", value::check_command);
    let stats_socket_group = section.get("stats_socket_group", value::account);
    let haproxy = Haproxy {
        config: section.get("config", value::path).unwrap_or(default.config),
        template: section.get("template", value::path),
        stats_socket: section
            .get("stats_socket", value::printed_path)
            .unwrap_or(default.stats_socket),
        stats_socket_mode: section
            .get("stats_socket_mode", value::socket_mode)
            .unwrap_or_else(|| SocketMode::with_group(stats_socket_group.is_some())),
        stats_socket_user: section.get("stats_socket_user", value::account),
        stats_socket_group,
        reload: reload_way(&section),
        files: files.clone().unwrap_or_else(|| {
            let command = check_command.as_deref();
            loaded::files(command.unwrap_or_default())
        }),
        check_command: check_command
            .unwrap_or_else(|| loaded::check_command(&files.unwrap_or_default())),
        user: section.get("user", value::account),
        group: section.get("group", value::account),
        chroot: section.get("chroot", value::printed_path),
        taken_over: default.taken_over,
        hard_stop_after: section
            .get("hard_stop_after", value::duration(SECOND..=DAY))
            .unwrap_or(default.hard_stop_after),
    };
    section.finish();
    haproxy
}

fn timeouts(section: Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let get = |key, longest, default| {
        let value = section.get(key, value::duration(MILLISECOND..=longest));
        value.unwrap_or(default)
    };
    let timeouts = Timeouts {
        connect: get("connect", MINUTE, default.connect),
        queue: get("queue", HOUR, default.queue),
        client: get("client", DAY, default.client),
        server: get("server", DAY, default.server),
        tunnel: get("tunnel", 7 * DAY, default.tunnel),
        http_request: get("http_request", HOUR, default.http_request),
        http_keep_alive: get("http_keep_alive", HOUR, default.http_keep_alive),
    };
    section.finish();
    timeouts
}

fn reload_way(section: &Section<'_>) -> ReloadMethod {
    let socket = section
        .get("master_socket", value::path)
        .map(ReloadMethod::MasterSocket);
    let command = section
        .get("reload_command", value::command)
        .map(ReloadMethod::Command);
    let spawn = section
        .get("spawn", |value| value.boolean())
        .filter(|spawn| *spawn)
        .map(|_| ReloadMethod::Spawn);
    let given = [
        ("master_socket", socket),
        ("reload_command", command),
        ("spawn", spawn),
    ];
    let mut given = given.into_iter().filter_map(|(key, way)| Some((key, way?)));
    let Some((first, way)) = given.next() else {
        return ReloadMethod::default();
    };
    for (key, _) in given {
        section.complain(
            key,
            format!("there is {first} already; keep one way to reload"),
        );
    }
    way
}

fn frontend(section: Section<'_>, backends: &[BackendConfig]) -> Option<Frontend> {
    let bind = section.require(
        "bind",
        "give the addresses to listen on, bind = [\"*:80\"]",
        value::binds,
    );
    let default_backend = section.get("default_backend", value::backend_name);
    let frontend = Frontend {
        bind: bind.unwrap_or_default(),
        default_backend: default_backend
            .or_else(|| backends.first().map(|backend| backend.name.clone()))?,
        stats_bind: section.get("stats_bind", value::bind),
        log: section.get("log", value::printed),
    };
    section.finish();
    Some(frontend)
}

fn backends(root: &Section<'_>, guard: &GuardConfig, drain: &Drain) -> Vec<BackendConfig> {
    let sections = root.sections("backend", "name");
    sections
        .into_iter()
        .filter_map(|section| backend(section, guard, drain))
        .collect()
}

fn backend(section: Section<'_>, guard: &GuardConfig, drain: &Drain) -> Option<BackendConfig> {
    let name = section.require(
        "name",
        "give the backend a name, name = \"nodes\"",
        value::backend_name,
    );
    let server_options = section
        .get("server_options", value::server_options)
        .unwrap_or_default();
    let port = section.get("port", value::number(1..=65535));
    let ports = section.get("ports", value::ports);
    let backend = BackendConfig {
        name: name.clone().or_else(|| BackendName::new("unnamed"))?,
        tags: section
            .get("tags", value::tags)
            .unwrap_or_default()
            .into_iter()
            .collect(),
        node: section.get("node", value::node),
        port,
        balance: section
            .get("balance", value::balance)
            .unwrap_or_else(|| "roundrobin".to_owned()),
        mode: section.get("mode", value::mode).unwrap_or_default(),
        check: check::check(&section, &server_options),
        probe: section.get("probe", value::probe).unwrap_or_default(),
        retries: section
            .get("retries", value::number(1..=100))
            .unwrap_or(RETRIES),
        observe: section
            .get("observe", value::observe)
            .unwrap_or_else(|| observe(&server_options)),
        error_limit: section
            .get("error_limit", value::number(1..=1000))
            .unwrap_or(ERROR_LIMIT),
        maxconn: section.get("maxconn", value::number(1..=u64::from(u32::MAX >> 1))),
        server_options,
        networks: section.get("networks", value::networks),
        ports: ports.unwrap_or_else(|| port.into_iter().map(|port| port..=port).collect()),
        max_weight: section
            .get("max_weight", value::weight)
            .or_else(|| Weight::new(MAX_WEIGHT))?,
        guard: self::guard(section.section("guard"), guard),
        drain: self::drain(section.section("drain"), drain),
    };
    section.finish();
    name.map(|_| backend)
}

/// Connections, unless the server lines say something of their own.
fn observe(server_options: &[String]) -> Option<Observe> {
    let own = server_options.iter().any(|word| word == "observe");
    (!own).then_some(Observe::Layer4)
}

fn guard(section: Section<'_>, base: &GuardConfig) -> GuardConfig {
    let hold = section.get("hold", value::duration(Duration::ZERO..=7 * DAY));
    let guard = GuardConfig {
        min_servers: section
            .get("min_servers", value::number(0..=100_000))
            .unwrap_or(base.min_servers),
        max_servers: section
            .get("max_servers", value::number(1..=100_000))
            .unwrap_or(base.max_servers),
        max_removal_percent: section
            .get("max_removal", value::percent)
            .unwrap_or(base.max_removal_percent),
        window: section
            .get("window", value::duration(SECOND..=DAY))
            .unwrap_or(base.window),
        hold: hold.map_or(base.hold, |hold| (!hold.is_zero()).then_some(hold)),
        probe_fall: section
            .get("probe_fall", value::number(1..=100))
            .unwrap_or(base.probe_fall),
    };
    section.finish();
    guard
}

fn drain(section: Section<'_>, base: &Drain) -> Drain {
    only(section, "timeout", value::duration(Duration::ZERO..=DAY))
        .map_or_else(|| base.clone(), |timeout| Drain { timeout })
}

fn debounce(section: Section<'_>) -> Debounce {
    let default = Debounce::default();
    let debounce = Debounce {
        quiet: section
            .get("quiet", value::duration(Duration::ZERO..=HOUR))
            .unwrap_or(default.quiet),
        max_wait: section
            .get("max_wait", value::duration(Duration::ZERO..=HOUR))
            .unwrap_or(default.max_wait),
    };
    section.finish();
    debounce
}

fn reload(section: Section<'_>) -> Reload {
    let default = Reload::default();
    let reload = Reload {
        min_interval: section
            .get("min_interval", value::duration(Duration::ZERO..=HOUR))
            .unwrap_or(default.min_interval),
        timeout: section
            .get("timeout", value::duration(SECOND..=HOUR))
            .unwrap_or(default.timeout),
    };
    section.finish();
    reload
}

fn drift(section: Section<'_>) -> DriftConfig {
    only(section, "interval", value::duration(SECOND..=HOUR))
        .map_or_else(DriftConfig::default, |interval| DriftConfig { interval })
}

fn state(section: Section<'_>) -> StateConfig {
    only(section, "dir", value::path).map_or_else(StateConfig::default, |dir| StateConfig { dir })
}

fn http(section: Section<'_>) -> Http {
    only(section, "listen", value::listen).map_or_else(Http::default, |listen| Http { listen })
}

fn control(section: Section<'_>) -> Control {
    let default = Control::default();
    let group = section.get("group", value::account);
    let control = Control {
        socket: section.get("socket", value::path).unwrap_or(default.socket),
        mode: section
            .get("mode", value::socket_mode)
            .unwrap_or_else(|| SocketMode::with_group(group.is_some())),
        group,
    };
    section.finish();
    control
}

fn retired(section: Section<'_>) -> Retired {
    only(section, "max", value::number(0..=100_000))
        .map_or_else(Retired::default, |max| Retired { max })
}

fn suspicion(section: Section<'_>) -> Suspicion {
    only(section, "enabled", |value| value.boolean())
        .map_or_else(Suspicion::default, |enabled| Suspicion { enabled })
}

fn damping(section: Section<'_>) -> Damping {
    let max_penalty = only(
        section,
        "max_penalty",
        value::duration(Duration::ZERO..=DAY),
    );
    max_penalty.map_or_else(Damping::default, |max_penalty| Damping { max_penalty })
}

fn file(section: Section<'_>) -> Option<OutputFile> {
    let template = section.require("template", "name the template of the file", value::path);
    let path = section.require("path", "say where the file is written", value::path);
    let check_command = section.get("check_command", value::check_command);
    let reload_command = section.get("reload_command", value::command);
    section.finish();
    Some(OutputFile {
        template: template?,
        path: path?,
        check_command,
        reload_command,
    })
}

/// The key of a section that has no other.
fn only<T>(
    section: Section<'_>,
    key: &'static str,
    parse: impl FnOnce(&source::Value<'_>) -> Result<T, Fault>,
) -> Option<T> {
    let value = section.get(key, parse);
    section.finish();
    value
}
