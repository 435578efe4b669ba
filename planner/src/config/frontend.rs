//! What HAProxy listens on: the keys of `[frontend]` and of each `[[frontend]]` in, checked front ends out. Pure.
//!
//! HAProxy's Configuration Manual: section 5.1 "Bind options" for `ssl`, `crt`, `crt-list` and `alpn`; `maxconn`,
//! `log-format`, `http-request redirect`, `tcp-request connection expect-proxy`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::node::Node;
use super::section::{Section, section};
use super::value::{
    DAY, HOUR, MILLISECOND, backend_name, bind, binds, boolean, is_name, is_safe, networks, number,
    one_of, printed, printed_path, some, time,
};
use super::{Config, Mode};
use crate::model::BackendName;

/// Names of sections that the built-in template writes itself.
const TAKEN: [&str; 2] = ["stats", "exporter"];

/// The backend of those who answer ACME's challenges.
pub const ACME_BACKEND: &str = "acme-responder";

/// Words that the template puts behind an address of `tls_bind`.
const OF_TLS: [&str; 4] = ["ssl", "crt", "crt-list", "alpn"];

section! {
    /// `[frontend]`, or one of several `[[frontend]]`: what the built-in template listens on, and what it does with requests
    /// before a backend gets them.
    pub struct Frontend {
        /// What HAProxy calls it, unique.
        pub name: FrontendName = FrontendName::main(), frontend_name;
        /// Arguments of `bind` lines; one at least here or in `tls_bind`.
        pub bind: Vec<String> = Vec::new(), binds;
        /// Addresses where it speaks TLS, with the certificates of `certificates`.
        pub tls_bind: Vec<String> = Vec::new(), tls_binds;
        /// A directory of certificates with their keys.
        pub certificates: Option<PathBuf> = None, some(printed_path);
        /// What is offered in the handshake on `tls_bind`, the best first.
        pub alpn: Vec<String> = vec!["h2".to_owned(), "http/1.1".to_owned()], alpn;
        /// Whether the addresses of `tls_bind` speak HTTP/3 as well, over QUIC.
        pub h3: bool = false, boolean;
        /// What it takes: requests or connections; none given is what its default backend takes.
        pub mode: Mode = Mode::Http, one_of([("http", Mode::Http), ("tcp", Mode::Tcp)]);
        /// The backend that gets what nobody else does; none refuses it, beside `sni` only.
        pub default_backend: Option<BackendName> = None, some(backend_name);
        /// For a name in a TLS handshake, the backend that gets the connection. Names are in small letters.
        pub sni: BTreeMap<SniPattern, BackendName> = BTreeMap::new(), sni;
        /// Where whoever speaks HTTP is sent to over TLS; none is nowhere.
        pub https_redirect: Option<HttpsRedirect> = None, https_redirect;
        /// What browsers are told of coming back over TLS only; none is nothing.
        pub hsts: Option<Hsts> = None, hsts;
        /// Whether `X-Forwarded-For`, `-Proto`, `-Host` and `-Port` say to servers who asked for what.
        pub forwarded: bool = false, boolean;
        /// Whose word in these headers counts; nobody's otherwise.
        pub trusted_proxies: Vec<IpNet> = Vec::new(), networks;
        /// Who begins connections with the PROXY protocol; nobody else may.
        pub accept_proxy: Vec<IpNet> = Vec::new(), networks;
        /// Who answers ACME's challenges over HTTP (RFC 8555, section 8.3); none is the routes and servers.
        pub acme: Option<SocketAddr> = None, some(responder);
        /// Connections at a time; none is what HAProxy has room for.
        pub maxconn: Option<u32> = None, some(number(1..=2_147_483_647));
        /// `timeout client`; none is that of `[timeouts]`.
        pub timeout_client: Option<Duration> = None, some(time(MILLISECOND..=DAY));
        /// `timeout http-request`, likewise.
        pub timeout_http_request: Option<Duration> = None, some(time(MILLISECOND..=HOUR));
        /// `timeout http-keep-alive`, likewise.
        pub timeout_http_keep_alive: Option<Duration> = None, some(time(MILLISECOND..=HOUR));
        /// Argument of the `log` line; none is no log.
        pub log: Option<String> = None, some(printed);
        /// How a line of the access log looks.
        pub log_format: LogFormat = LogFormat::Default, log_format;
        /// Argument of the stats page's `bind` line; none is no stats page.
        pub stats_bind: Option<String> = None, some(bind);
        /// Where HAProxy's own figures are for Prometheus, likewise.
        pub exporter_bind: Option<String> = None, some(bind);
    }
}

/// Where the checked certificates of a front end lie, which HAProxy reads: beside its configuration, never in the directory
/// that people change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePlace {
    /// What a client gets whose name none of the others has, with its key.
    pub default: PathBuf,
    /// HAProxy's list of the others.
    pub list: PathBuf,
    /// Where these are.
    pub certificates: PathBuf,
}

impl Config {
    /// Where the checked certificates of a front end lie.
    pub fn certificate_place(&self, frontend: &FrontendName) -> CertificatePlace {
        let own = self.haproxy.config.with_extension("certificates");
        let own = own.join(frontend.as_str());
        CertificatePlace {
            default: own.join("default.pem"),
            list: own.join("crt-list"),
            certificates: own.join("certificates"),
        }
    }
}

/// What a front end is called: letters, digits, `_`, `.` and `-`, 64 at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrontendName(BackendName);

impl FrontendName {
    /// What the only one is called.
    fn main() -> Self {
        Self(BackendName::new("main").unwrap_or_else(BackendName::unnamed))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for FrontendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name in a TLS handshake, in small letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SniPattern {
    /// The whole name.
    Exact(String),
    /// `*.` before this: one label more, whatever it is.
    Wildcard(String),
}

/// Where clients that speak HTTP find the same over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpsRedirect {
    /// At the port of the first `tls_bind`.
    TlsBind,
    /// At this port.
    Port(u16),
}

section! {
    /// `Strict-Transport-Security` (RFC 6797).
    pub struct Hsts {
        /// How long a browser remembers it.
        pub max_age: Duration = YEAR, time(Duration::ZERO..=DECADE);
        /// Whether names below count too.
        pub subdomains: bool = false, boolean;
        /// Whether browsers may be shipped with it.
        pub preload: bool = false, boolean;
    }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const DECADE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// How a line of the access log looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// HAProxy's `option httplog` or `option tcplog`.
    Default,
    /// An object of JSON.
    Json,
    /// HAProxy's `log-format` with this: printable ASCII without `'`.
    Own(String),
}

impl Frontend {
    /// The port that the first address of `tls_bind` has; 443 where it has none.
    pub(crate) fn tls_port(&self) -> u16 {
        let first = self.tls_bind.first().and_then(|bind| port(bind));
        first.unwrap_or(443)
    }

    /// The port that clients of HTTP are sent to; none where they are sent nowhere.
    pub fn redirect_port(&self) -> Option<u16> {
        self.https_redirect.map(|redirect| match redirect {
            HttpsRedirect::TlsBind => self.tls_port(),
            HttpsRedirect::Port(port) => port,
        })
    }
}

/// The port at the end of an address, of a range the first.
pub(crate) fn port(bind: &str) -> Option<u16> {
    let addr = bind.split(' ').next()?;
    let (_, ports) = addr.rsplit_once(':')?;
    ports.split('-').next()?.parse().ok()
}

/// `[frontend]`, or all `[[frontend]]`.
pub(super) fn frontends(node: &Node<'_>) -> Option<Vec<Frontend>> {
    if node.value().is_table() {
        return Frontend::read(node).map(|frontend| vec![frontend]);
    }
    if !node.value().is_array() {
        return node.expected_header("a table");
    }
    node.list(|node| {
        if node.value().is_table() && !node.has("name") {
            node.complain(
                "name",
                "is missing; give the front end a name, name = \"main\"",
            );
        }
        Frontend::read(node)
    })
}

/// Where the keys of each front end stand.
pub(super) fn sections<'a>(root: &Node<'a>) -> Vec<Node<'a>> {
    match root.get("frontend") {
        Some(node) if node.value().is_table() => vec![node],
        _ => root.elements("frontend"),
    }
}

/// What follows from other keys.
pub(super) fn fill(config: &mut Config, root: &Node<'_>) {
    let first = config.backends.first().map(|backend| backend.name.clone());
    let modes: BTreeMap<_, _> = config
        .backends
        .iter()
        .map(|backend| (backend.name.clone(), backend.mode))
        .collect();
    for (frontend, node) in config.frontends.iter_mut().zip(sections(root)) {
        if frontend.sni.is_empty() && !node.has("default_backend") {
            frontend.default_backend.clone_from(&first);
        }
        if !node.has("mode") {
            let default = frontend.default_backend.as_ref();
            let default = default.and_then(|name| modes.get(name).copied());
            let mode = if frontend.sni.is_empty() {
                Mode::Http
            } else {
                Mode::Tcp
            };
            frontend.mode = default.unwrap_or(mode);
        }
        if !node.has("forwarded") {
            let is_edge = !frontend.tls_bind.is_empty() || !frontend.trusted_proxies.is_empty();
            frontend.forwarded = is_edge && frontend.mode == Mode::Http;
        }
    }
}

/// Complains about what does not fit together.
pub(super) fn check(config: &Config, root: &Node<'_>) {
    if config.frontends.is_empty() {
        if config.haproxy.template.is_none() {
            let hint = "the built-in template needs it; add it with bind = [\"*:80\"], or set haproxy.template";
            root.complain("frontend", format!("the section is missing; {hint}"));
        }
        return;
    }
    let mut names = BTreeSet::new();
    for (frontend, section) in config.frontends.iter().zip(sections(root)) {
        if !names.insert(&frontend.name) {
            section.complain(
                "name",
                "another front end has this name; rename one of them",
            );
        }
        addresses(frontend, &section);
        if frontend.certificates.is_some() && !is_printable(&config.haproxy.config) {
            let message = "the checked certificates would lie beside haproxy.config, whose path has characters that are not \
                           safe in HAProxy's configuration; write that file elsewhere";
            section.complain("certificates", message);
        }
        backends(config, frontend, &section);
        match frontend.mode {
            Mode::Http => of_http(frontend, &section),
            Mode::Tcp => of_tcp(frontend, &section),
        }
    }
    once(config, root);
    let responds = config.frontends.iter().any(|it| it.acme.is_some());
    let mut backends = config.backends.iter().zip(root.elements("backend"));
    if let Some((_, section)) =
        backends.find(|(backend, _)| responds && backend.name.as_str() == ACME_BACKEND)
    {
        section.complain("name", "is that of acme's responder; rename it");
    }
}

fn is_printable(path: &std::path::Path) -> bool {
    let text = path.to_str().unwrap_or(" ");
    text.chars().all(is_safe)
}

fn addresses(frontend: &Frontend, section: &Node<'_>) {
    if frontend.bind.is_empty() && frontend.tls_bind.is_empty() {
        let hint = "give the addresses to listen on, bind = [\"*:80\"]";
        section.complain("bind", format!("is missing; {hint}"));
    }
    match (&frontend.certificates, frontend.tls_bind.is_empty()) {
        (None, false) => section.complain(
            "tls_bind",
            "has no certificates; name their directory, certificates = \"/etc/haproxy/certs\"",
        ),
        (Some(_), true) => section.complain(
            "certificates",
            "nothing listens with them; add tls_bind = [\"*:443\"]",
        ),
        _ => {}
    }
    if frontend.tls_bind.is_empty() {
        for key in ["alpn", "h3"].into_iter().filter(|key| section.has(key)) {
            section.complain(key, "is about TLS; add tls_bind = [\"*:443\"]");
        }
    }
    if frontend.h3
        && frontend
            .tls_bind
            .iter()
            .any(|bind| port(bind).is_none() || bind.contains('-'))
    {
        section.complain("h3", "needs addresses with one port each in tls_bind");
    }
    if frontend.https_redirect.is_some() {
        if frontend.bind.is_empty() {
            section.complain(
                "https_redirect",
                "nobody speaks HTTP there; add bind = [\"*:80\"]",
            );
        }
        if frontend.https_redirect == Some(HttpsRedirect::TlsBind)
            && frontend.tls_bind.is_empty()
            && frontend.trusted_proxies.is_empty()
        {
            section.complain(
                "https_redirect",
                "nothing there speaks TLS; add tls_bind = [\"*:443\"], or name the port that does, https_redirect = 443",
            );
        }
    }
}

fn backends(config: &Config, frontend: &Frontend, section: &Node<'_>) {
    if config.backends.is_empty() && config.services.is_none() {
        return;
    }
    let names: Vec<&str> = config
        .backends
        .iter()
        .map(|backend| backend.name.as_str())
        .collect();
    let judge = |name: &BackendName, key: &str| {
        let named = config.backends.iter().find(|backend| backend.name == *name);
        match named {
            None if names.is_empty() => {
                let message =
                    "there is no [[backend]], and that of a service comes and goes; leave it out";
                section.complain(key, message);
            }
            None => {
                let known = names.join(", ");
                section.complain(key, format!("there is no such backend; use one of {known}"));
            }
            Some(backend) if frontend.mode == Mode::Http && backend.mode == Mode::Tcp => {
                let message = format!(
                    "{name} takes connections and no requests; give the front end mode = \"tcp\""
                );
                section.complain(key, message);
            }
            Some(_) => {}
        }
    };
    if let Some(name) = &frontend.default_backend {
        judge(name, "default_backend");
    }
    for name in frontend.sni.values() {
        judge(name, "sni");
    }
}

fn of_http(frontend: &Frontend, section: &Node<'_>) {
    if !frontend.sni.is_empty() {
        let message =
            "is about connections; set mode = \"tcp\", or write a [[route]] with host for requests";
        section.complain("sni", message);
    }
    if !frontend.forwarded && !frontend.trusted_proxies.is_empty() {
        section.complain(
            "trusted_proxies",
            "has no meaning beside forwarded = false; leave one of them out",
        );
    }
}

fn of_tcp(frontend: &Frontend, section: &Node<'_>) {
    let message = "is about requests, and mode is \"tcp\"; leave it out";
    let given = [
        ("https_redirect", frontend.https_redirect.is_some()),
        ("hsts", frontend.hsts.is_some()),
        ("forwarded", frontend.forwarded),
        ("trusted_proxies", !frontend.trusted_proxies.is_empty()),
        ("acme", frontend.acme.is_some()),
        ("h3", frontend.h3),
        (
            "timeout_http_request",
            frontend.timeout_http_request.is_some(),
        ),
        (
            "timeout_http_keep_alive",
            frontend.timeout_http_keep_alive.is_some(),
        ),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        section.complain(key, message);
    }
    if !frontend.sni.is_empty() && !frontend.bind.is_empty() && !frontend.tls_bind.is_empty() {
        let message = "the name is read from the handshake on bind, and from TLS that ends here on tls_bind; keep one of \
                       them, and make another [[frontend]] for the other";
        section.complain("sni", message);
    }
}

/// Of what the template writes a section of its own for, there is one.
fn once(config: &Config, root: &Node<'_>) {
    for (key, given) in [
        (
            "stats_bind",
            (|it| it.stats_bind.is_some()) as fn(&Frontend) -> bool,
        ),
        ("exporter_bind", |it| it.exporter_bind.is_some()),
    ] {
        let all = config.frontends.iter().zip(sections(root));
        for (_, section) in all.filter(|(it, _)| given(it)).skip(1) {
            section.complain(key, "another front end has it; keep one");
        }
    }
}

fn frontend_name(node: &Node<'_>) -> Option<FrontendName> {
    let name = backend_name(node)?;
    if TAKEN.contains(&name.as_str()) {
        return node.refuse(format!(
            "{name} is a section of the template's; use another name"
        ));
    }
    Some(FrontendName(name))
}

fn tls_binds(node: &Node<'_>) -> Option<Vec<String>> {
    let binds = binds(node)?;
    let mut words = binds.iter().flat_map(|bind| bind.split(' '));
    match words.find(|word| OF_TLS.contains(word)) {
        Some(word) => node.refuse(format!(
            "`{word}` is written by the template; leave it out, or write the whole line in bind"
        )),
        None => Some(binds),
    }
}

fn alpn(node: &Node<'_>) -> Option<Vec<String>> {
    let what = "the name of a protocol, such as \"h2\"";
    let name = |node: &Node<'_>| {
        node.parse(what, |text| {
            (is_name(text, b"/._-") && text.len() <= 32).then(|| text.to_owned())
        })
    };
    super::value::not_empty(node, name, "an empty list; leave it out")
}

fn responder(node: &Node<'_>) -> Option<SocketAddr> {
    let what = "an IP address with a port, such as \"127.0.0.1:8402\"";
    node.parse(what, |text| {
        text.parse()
            .ok()
            .filter(|addr: &SocketAddr| addr.port() != 0)
    })
}

fn sni(node: &Node<'_>) -> Option<BTreeMap<SniPattern, BackendName>> {
    let names = node.names("a table, { \"db.example.com\" = \"db\" }")?;
    let one = |(name, node): (&str, Node<'_>)| {
        let name = name.to_ascii_lowercase();
        let is_host = |name: &str| {
            name.len() <= 253
                && name
                    .split('.')
                    .all(|label| label.len() <= 63 && is_name(label, b"-_"))
        };
        let pattern = match name.strip_prefix("*.") {
            Some(rest) if is_host(rest) => SniPattern::Wildcard(rest.to_owned()),
            None if is_host(&name) => SniPattern::Exact(name),
            _ => {
                return node.refuse(format!(
                    "{name:?} is no name of a host; write \"db.example.com\" or \"*.example.com\""
                ));
            }
        };
        Some((pattern, backend_name(&node)?))
    };
    names.into_iter().map(one).collect()
}

fn https_redirect(node: &Node<'_>) -> Option<Option<HttpsRedirect>> {
    if let Some(redirects) = node.as_boolean() {
        return Some(redirects.then_some(HttpsRedirect::TlsBind));
    }
    if node.value().is_integer() {
        let port = number(1..=65535)(node)?;
        return Some(Some(HttpsRedirect::Port(port)));
    }
    node.expected("true, false or a port")
}

fn hsts(node: &Node<'_>) -> Option<Option<Hsts>> {
    if node.value().is_table() {
        return Hsts::read(node).map(Some);
    }
    if let Some(says) = node.as_boolean() {
        return Some(says.then(Hsts::default));
    }
    if node.value().as_str().is_none() {
        return node.expected("true, false, a time span such as \"365days\", or a table");
    }
    let max_age = time(Duration::ZERO..=DECADE)(node)?;
    Some(Some(Hsts {
        max_age,
        ..Hsts::default()
    }))
}

fn log_format(node: &Node<'_>) -> Option<LogFormat> {
    const PRINTABLE: RangeInclusive<u8> = b' '..=b'~';
    match node.text("\"default\", \"json\" or a log-format of HAProxy's")? {
        "default" => Some(LogFormat::Default),
        "json" => Some(LogFormat::Json),
        "" => node.refuse("is empty; leave it out"),
        own if own.bytes().any(|b| b == b'\'' || !PRINTABLE.contains(&b)) => {
            node.refuse("may hold printable ASCII without `'` only")
        }
        own => Some(LogFormat::Own(own.to_owned())),
    }
}

#[cfg(test)]
mod tests;
