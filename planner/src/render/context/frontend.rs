//! What a template sees of the front ends. Pure.

use std::borrow::Cow;
use std::path::Path;

use ipnet::IpNet;
use serde::Serialize;

use crate::config::{Config, Frontend, Hsts, LogFormat, Mode, SniPattern};
use crate::syntax::time::span;

/// A log line of JSON for requests, around its URI. Whatever a client sends is escaped.
const JSON_HTTP: (&str, &str) = (
    concat!(
        r#"{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]","client":"%ci","port":%cp,"frontend":"%f","backend":"%b","server":"%s","#,
        r#""method":"%[capture.req.method,bytes(0,16),json(utf8s)]","host":"%[var(txn.log_host),json(utf8s)]","#,
        r#""uri":"%[capture.req.uri,bytes(0,"#,
    ),
    concat!(
        r#"),json(utf8s)]","status":%ST,"bytes":%B,"request_ms":%TR,"queue_ms":%Tw,"#,
        r#""connect_ms":%Tc,"response_ms":%Tr,"total_ms":%Ta,"end":"%ts","retries":"%rc","tls":"%sslv"}"#,
    ),
);

/// Bytes of a line that are no URI, at most: names, addresses, figures and a host.
const BESIDE_URI: usize = 704;

/// What is logged of a URI, so that a line is whole though each byte is escaped: HAProxy cuts lines to 1024 bytes, or to what
/// `len` says in its `log` line. It keeps no more than 1024 bytes of a URI.
fn json_http(log: Option<&str>) -> String {
    let mut words = log.unwrap_or_default().split(' ');
    let given = words.find(|word| *word == "len").and_then(|_| words.next());
    let len = given.and_then(|len| len.parse().ok()).unwrap_or(1024_usize);
    let uri = (len.saturating_sub(BESIDE_URI) / 2).clamp(1, 1024);
    format!("{}{uri}{}", JSON_HTTP.0, JSON_HTTP.1)
}

/// The same for connections.
const JSON_TCP: &str = concat!(
    r#"{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]","client":"%ci","port":%cp,"frontend":"%f","backend":"%b","server":"%s","#,
    r#""bytes":%B,"queue_ms":%Tw,"connect_ms":%Tc,"total_ms":%Tt,"end":"%ts","retries":"%rc","tls":"%sslv"}"#,
);

#[derive(Serialize)]
pub(super) struct FrontendView<'a> {
    name: &'a str,
    mode: &'static str,
    bind: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<SniView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hsts: Option<String>,
    forwarded: bool,
    trusted_proxies: Vec<String>,
    accept_proxy: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maxconn: Option<u32>,
    timeouts: TimeoutsView,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<Cow<'a, str>>,
    /// Whether the format has the variable `txn.log_host`.
    log_host: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats_bind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exporter_bind: Option<&'a str>,
}

#[derive(Serialize)]
struct TlsView<'a> {
    bind: &'a [String],
    /// Arguments of the `bind` lines that speak HTTP/3.
    quic_bind: Vec<String>,
    default: String,
    list: String,
    alpn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alt_svc_port: Option<u16>,
}

#[derive(Serialize)]
struct SniView<'a> {
    /// Whether the name stands in a handshake that goes through.
    passes: bool,
    routes: Vec<SniRouteView<'a>>,
}

#[derive(Serialize)]
struct SniRouteView<'a> {
    host: String,
    /// What stands for a name with `*.`: a regular expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
    backend: &'a str,
}

#[derive(Serialize)]
struct TimeoutsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_keep_alive: Option<String>,
}

/// All front ends, in the order of the config; `logs` says whether a `log` line was taken over.
pub(super) fn frontends(config: &Config, logs: bool) -> Vec<FrontendView<'_>> {
    let first = config.frontends.first();
    let global = logs || first.is_some_and(|first| first.log.is_some());
    let view = |(index, frontend)| {
        let own = if index == 0 { None } else { log(frontend) };
        view(config, frontend, own.or_else(|| global.then_some("global")))
    };
    config.frontends.iter().enumerate().map(view).collect()
}

fn log(frontend: &Frontend) -> Option<&str> {
    frontend.log.as_deref()
}

fn view<'a>(
    config: &'a Config,
    frontend: &'a Frontend,
    log_to: Option<&'a str>,
) -> FrontendView<'a> {
    let first = config.frontends.first().and_then(log);
    FrontendView {
        name: frontend.name.as_str(),
        mode: super::mode(frontend.mode),
        bind: &frontend.bind,
        tls: (!frontend.tls_bind.is_empty()).then(|| tls(config, frontend)),
        default_backend: frontend.default_backend.as_ref().map(|name| name.as_str()),
        sni: (!frontend.sni.is_empty()).then(|| sni(frontend)),
        redirect_port: frontend.redirect_port(),
        hsts: frontend.hsts.as_ref().map(hsts),
        forwarded: frontend.forwarded,
        trusted_proxies: networks(&frontend.trusted_proxies),
        accept_proxy: networks(&frontend.accept_proxy),
        acme: frontend.acme.map(|addr| addr.to_string()),
        maxconn: frontend.maxconn,
        timeouts: TimeoutsView {
            client: frontend.timeout_client.map(span),
            http_request: frontend.timeout_http_request.map(span),
            http_keep_alive: frontend.timeout_http_keep_alive.map(span),
        },
        log: log(frontend),
        log_to,
        log_format: match &frontend.log_format {
            LogFormat::Default => None,
            LogFormat::Json if frontend.mode == Mode::Http => {
                Some(json_http(log(frontend).or(first)).into())
            }
            LogFormat::Json => Some(JSON_TCP.into()),
            LogFormat::Own(format) => Some(format.into()),
        },
        log_host: frontend.mode == Mode::Http && frontend.log_format == LogFormat::Json,
        stats_bind: frontend.stats_bind.as_deref(),
        exporter_bind: frontend.exporter_bind.as_deref(),
    }
}

fn tls<'a>(config: &'a Config, frontend: &'a Frontend) -> TlsView<'a> {
    let place = config.certificate_place(&frontend.name);
    let printed = |path: &Path| path.display().to_string();
    let quic = frontend.tls_bind.iter().filter(|_| frontend.h3);
    let offers_http = frontend.mode == Mode::Http;
    TlsView {
        bind: &frontend.tls_bind,
        quic_bind: quic.map(|bind| quic_bind(bind)).collect(),
        default: printed(&place.default),
        list: printed(&place.list),
        alpn: if offers_http {
            frontend.alpn.join(",")
        } else {
            String::new()
        },
        alt_svc_port: frontend.h3.then(|| frontend.tls_port()),
    }
}

/// The address of a `bind` line, over UDP.
fn quic_bind(bind: &str) -> String {
    let addr = bind.split(' ').next().unwrap_or_default();
    let family = if addr.starts_with('[') || addr.matches(':').count() > 1 {
        "quic6"
    } else {
        "quic4"
    };
    format!("{family}@{addr}")
}

fn sni(frontend: &Frontend) -> SniView<'_> {
    let mut patterns: Vec<_> = frontend.sni.iter().collect();
    // a whole name goes before any pattern, a longer pattern before a shorter one
    patterns.sort_by_key(|(pattern, _)| match pattern {
        SniPattern::Exact(_) => 0,
        SniPattern::Wildcard(rest) => usize::MAX - rest.len(),
    });
    let routes = patterns.into_iter().map(|(pattern, backend)| {
        let (host, regex) = match pattern {
            SniPattern::Exact(host) => (host.clone(), None),
            SniPattern::Wildcard(rest) => {
                let escaped = rest.replace('.', "\\.");
                (format!("*.{rest}"), Some(format!("^[^.]+\\.{escaped}$")))
            }
        };
        SniRouteView {
            host,
            regex,
            backend: backend.as_str(),
        }
    });
    SniView {
        passes: frontend.tls_bind.is_empty(),
        routes: routes.collect(),
    }
}

fn hsts(hsts: &Hsts) -> String {
    let mut value = format!("max-age={}", hsts.max_age.as_secs());
    if hsts.subdomains {
        value.push_str("; includeSubDomains");
    }
    if hsts.preload {
        value.push_str("; preload");
    }
    value
}

fn networks(networks: &[IpNet]) -> Vec<String> {
    networks.iter().map(IpNet::to_string).collect()
}
