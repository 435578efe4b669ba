//! What a template sees: settings and servers in, a value without nulls out; docs/reference/template.md lists it. Pure.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use serde::Serialize;

use super::routes::RoutesView;
use super::{Server, Servers, ids::ids};
use std::time::Duration;

use crate::config::{
    BackendConfig, CheckConfig, Config, Frontend, Mode, Observe, ProxyVersion, StatusCodes,
    Timeouts,
};
use crate::syntax::time::span;

/// How often HAProxy asks a server that changes its mind.
const FAST: Duration = Duration::from_millis(300);

#[derive(Serialize)]
struct Context<'a> {
    hard_stop_after: String,
    timeouts: TimeoutsView,
    haproxy: Haproxy<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frontend: Option<FrontendView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<RoutesView<'a>>,
    backends: Vec<BackendView<'a>>,
}

#[derive(Serialize)]
struct TimeoutsView {
    connect: String,
    queue: String,
    client: String,
    server: String,
    tunnel: String,
    http_request: String,
    http_keep_alive: String,
}

#[derive(Serialize)]
struct Haproxy<'a> {
    config: String,
    stats_socket: String,
    stats_socket_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats_socket_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats_socket_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chroot: Option<String>,
    taken_over: Vec<&'a str>,
    logs: bool,
}

#[derive(Serialize)]
struct FrontendView<'a> {
    name: &'static str,
    mode: &'static str,
    bind: &'a [String],
    default_backend: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats_bind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'a str>,
}

#[derive(Serialize)]
struct BackendView<'a> {
    name: &'a str,
    mode: &'static str,
    balance: &'a str,
    hash: bool,
    ids: bool,
    check: CheckView<'a>,
    retries: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    observe: Option<&'static str>,
    error_limit: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    maxconn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_options: Option<String>,
    servers: Vec<ServerView<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum CheckView<'a> {
    Tcp {
        #[serde(flatten)]
        words: CheckWords<'a>,
    },
    Http {
        method: &'a str,
        path: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        #[serde(flatten)]
        words: CheckWords<'a>,
    },
    Off,
}

/// What every check has, with or without a request.
#[derive(Serialize)]
struct CheckWords<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_proxy: Option<&'static str>,
    interval: String,
    fast_interval: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    rise: u16,
    fall: u16,
}

#[derive(Serialize)]
struct ServerView<'a> {
    name: &'a str,
    addr: String,
    ip: String,
    port: u16,
    weight: u16,
    ready: bool,
    backup: bool,
    tags: &'a BTreeMap<String, String>,
    id: u32,
}

/// The context of a render but for the stamp.
pub(super) fn context(config: &Config, servers: &Servers) -> Value {
    let backends = config.backends.iter();
    Value::from(Serde(Context {
        hard_stop_after: span(config.haproxy.hard_stop_after),
        timeouts: timeouts(&config.timeouts),
        haproxy: haproxy(config),
        frontend: config
            .frontend
            .as_ref()
            .map(|frontend| self::frontend(config, frontend)),
        routes: RoutesView::new(config),
        backends: backends
            .map(|b| backend(b, servers.get(&b.name).map_or(&[], Vec::as_slice)))
            .collect(),
    }))
}

fn haproxy(config: &Config) -> Haproxy<'_> {
    let haproxy = &config.haproxy;
    let log = config.frontend.as_ref().and_then(|it| it.log.as_ref());
    let given = [
        ("user", haproxy.user.is_some()),
        ("group", haproxy.group.is_some()),
        ("chroot", haproxy.chroot.is_some()),
        ("log", log.is_some()),
    ];
    let taken_over: Vec<(&str, &str)> = haproxy.taken_over.beside(&given).collect();
    let chroot = haproxy.chroot.as_ref();
    Haproxy {
        config: haproxy.config.display().to_string(),
        stats_socket: haproxy.stats_socket.display().to_string(),
        stats_socket_mode: haproxy.stats_socket_mode.to_string(),
        stats_socket_user: haproxy.stats_socket_user.as_deref(),
        stats_socket_group: haproxy.stats_socket_group.as_deref(),
        user: haproxy.user.as_deref(),
        group: haproxy.group.as_deref(),
        chroot: chroot.map(|chroot| chroot.display().to_string()),
        logs: taken_over.iter().any(|(keyword, _)| *keyword == "log"),
        taken_over: taken_over.into_iter().map(|(_, line)| line).collect(),
    }
}

fn timeouts(timeouts: &Timeouts) -> TimeoutsView {
    TimeoutsView {
        connect: span(timeouts.connect),
        queue: span(timeouts.queue),
        client: span(timeouts.client),
        server: span(timeouts.server),
        tunnel: span(timeouts.tunnel),
        http_request: span(timeouts.http_request),
        http_keep_alive: span(timeouts.http_keep_alive),
    }
}

fn frontend<'a>(config: &'a Config, frontend: &'a Frontend) -> FrontendView<'a> {
    let default = config
        .backends
        .iter()
        .find(|backend| backend.name == frontend.default_backend);
    FrontendView {
        name: "main",
        mode: mode(default.map_or(Mode::Http, |backend| backend.mode)),
        bind: &frontend.bind,
        default_backend: frontend.default_backend.as_str(),
        stats_bind: frontend.stats_bind.as_deref(),
        log: frontend.log.as_deref(),
    }
}

fn backend<'a>(backend: &'a BackendConfig, servers: &'a [Server]) -> BackendView<'a> {
    let algorithm = backend.balance.split([' ', '(']).next().unwrap_or_default();
    let hash = matches!(
        algorithm,
        "source" | "uri" | "url_param" | "hdr" | "hash" | "rdp-cookie"
    );
    let ids = ids(servers.iter().map(|server| &server.name));
    let view = |server: &'a Server| ServerView {
        name: server.name.as_str(),
        addr: server.addr.to_string(),
        ip: server.addr.ip().to_string(),
        port: server.addr.port(),
        weight: server.weight.get(),
        ready: server.ready,
        backup: server.details.backup,
        tags: &server.details.tags,
        id: ids.get(&server.name).copied().unwrap_or_default(),
    };
    let mut views: Vec<ServerView<'_>> = servers.iter().map(view).collect();
    views.sort_by_key(|server| server.name);
    BackendView {
        name: backend.name.as_str(),
        mode: mode(backend.mode),
        balance: &backend.balance,
        hash,
        ids: hash || algorithm == "first",
        check: backend.check.as_ref().map_or(CheckView::Off, check),
        retries: backend.retries,
        observe: backend
            .observe
            .filter(|_| backend.check.is_some())
            .map(observe),
        error_limit: backend.error_limit,
        maxconn: backend.maxconn,
        server_options: (!backend.server_options.is_empty())
            .then(|| backend.server_options.join(" ")),
        servers: views,
    }
}

fn check(check: &CheckConfig) -> CheckView<'_> {
    let words = CheckWords {
        port: check.port,
        tls: check.tls,
        sni: check.sni.as_deref(),
        send_proxy: check.send_proxy.map(|version| match version {
            ProxyVersion::V1 => "v1",
            ProxyVersion::V2 => "v2",
        }),
        interval: span(check.interval),
        fast_interval: span(check.interval.min(FAST)),
        timeout: check.timeout.map(span),
        rise: check.rise,
        fall: check.fall,
    };
    match &check.request {
        None => CheckView::Tcp { words },
        Some(request) => CheckView::Http {
            method: &request.method,
            path: &request.path,
            host: request.host.as_deref(),
            status: (request.status != StatusCodes::default()).then(|| request.status.to_string()),
            words,
        },
    }
}

fn observe(observe: Observe) -> &'static str {
    match observe {
        Observe::Layer4 => "layer4",
        Observe::Layer7 => "layer7",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Http => "http",
        Mode::Tcp => "tcp",
    }
}
