//! The check of a backend: its key, a short form or a table, in, what HAProxy and the controller's probe ask out. Pure.
//!
//! HAProxy's Configuration Manual: `option httpchk`, `http-check send`, `http-check expect`, `timeout check`, and of
//! section 5.2 "Server and default-server options" `port`, `check-ssl`, `check-sni`, `check-send-proxy`, `inter`,
//! `rise`, `fall`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::node::Node;
use super::section::{Section, section};
use super::value::{self, HOUR, MINUTE, boolean, number, some, time};

/// What the check of a server asks, whoever asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// The request; none is a connection and no more.
    pub request: Option<Request>,
    /// The port to ask, 1 to 65535; none is the server's own.
    pub port: Option<u16>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The name in its TLS handshake; none sends no name. Only with `tls`.
    pub sni: Option<String>,
    /// The PROXY protocol it begins with; none does without.
    pub send_proxy: Option<ProxyVersion>,
    /// Between two checks of HAProxy's, 100 ms to 1 h.
    pub interval: Duration,
    /// How long an answer may take, 10 ms to 1 min; none is as long as `interval`.
    pub timeout: Option<Duration>,
    /// Good checks in a row that make a server that is down up, 1 to 100.
    pub rise: u16,
    /// Bad checks in a row that make a server that is up down, 1 to 100.
    pub fall: u16,
}

/// The request of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Upper-case letters.
    pub method: String,
    /// Begins with `/`.
    pub path: String,
    /// Its header `Host`; with one it is HTTP/1.1, without HTTP/1.0.
    pub host: Option<String>,
    /// What a good answer has.
    pub status: StatusCodes,
}

/// Status codes, as `http-check expect status` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCodes(Vec<RangeInclusive<u16>>);

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

impl CheckConfig {
    /// Whether a config may say its request so.
    pub(crate) fn can_be_written(&self) -> bool {
        let request = self.request.iter();
        let mut sayable =
            request.map(|request| is_method(&request.method) && request.path.starts_with('/'));
        sayable.all(|sayable| sayable)
    }
}

impl Default for CheckConfig {
    fn default() -> Self {
        Keys::default().into()
    }
}

/// 200 to 399, as HAProxy's `option httpchk` takes them by itself.
impl Default for StatusCodes {
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl StatusCodes {
    /// Reads a list such as `200,204,300-399`, of codes from 100 to 999.
    pub fn parse(text: &str) -> Option<Self> {
        let code = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
            let code = text.parse().ok().filter(|_| digits);
            code.filter(|code| *code >= 100)
        };
        let range = |text: &str| {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            let (from, to): (u16, u16) = (code(from)?, code(to)?);
            (from <= to).then_some(from..=to)
        };
        text.split(',').map(range).collect::<Option<_>>().map(Self)
    }

    /// Whether this code is among them.
    pub fn contain(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl fmt::Display for StatusCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

/// What it asks, in a few words: `HEAD /health over TLS on port 8443`.
impl fmt::Display for CheckConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            Some(request) => write!(f, "{} {}", request.method, request.path)?,
            None => f.write_str("a connection")?,
        }
        if self.tls {
            f.write_str(" over TLS")?;
        }
        match self.send_proxy {
            Some(ProxyVersion::V1) => f.write_str(" after a PROXY line")?,
            Some(ProxyVersion::V2) => f.write_str(" after a PROXY header")?,
            None => {}
        }
        match self.port {
            Some(port) => write!(f, " on port {port}"),
            None => Ok(()),
        }
    }
}

section! {
    /// The keys of a check that is a table.
    struct Keys {
        method: Option<String> = None, some(method);
        path: Option<String> = None, some(path);
        host: Option<String> = None, some(value::host);
        status: StatusCodes = StatusCodes::default(), status;
        port: Option<u16> = None, some(number(1..=65535));
        tls: bool = false, boolean;
        sni: Option<String> = None, some(value::sni);
        send_proxy: Option<ProxyVersion> = None, send_proxy;
        interval: Duration = Duration::from_secs(1), time(Duration::from_millis(100)..=HOUR);
        timeout: Option<Duration> = None, some(time(Duration::from_millis(10)..=MINUTE));
        rise: u16 = 2, number(1..=100);
        fall: u16 = 2, number(1..=100);
    }
}

impl From<Keys> for CheckConfig {
    fn from(keys: Keys) -> Self {
        let has_request = keys.method.is_some() || keys.path.is_some();
        let request = Request {
            method: keys.method.unwrap_or_else(|| "GET".to_owned()),
            path: keys.path.unwrap_or_else(|| "/".to_owned()),
            host: keys.host,
            status: keys.status,
        };
        Self {
            request: has_request.then_some(request),
            port: keys.port,
            tls: keys.tls,
            sni: keys.sni,
            send_proxy: keys.send_proxy,
            interval: keys.interval,
            timeout: keys.timeout,
            rise: keys.rise,
            fall: keys.fall,
        }
    }
}

/// A check, as a table or in a short form: `tcp`, `off` or `METHOD /path`. None where it is off.
pub(super) fn check(node: &Node<'_>) -> Option<Option<CheckConfig>> {
    if node.value().is_table() {
        let keys = Keys::read(node)?;
        if keys.sni.is_some() && !keys.tls {
            node.complain("sni", "is a name for TLS; add tls = true");
        }
        if !node.has("method") && !node.has("path") {
            for key in ["host", "status"].into_iter().filter(|key| node.has(key)) {
                let message = "is about a request; add path = \"/\", and method if it is not GET";
                node.complain(key, message);
            }
        }
        return Some(Some(keys.into()));
    }
    let what = "\"tcp\", \"off\", \"METHOD /path\" or a table";
    let request = match value::words(node, what)?.as_slice() {
        ["tcp"] => None,
        ["off"] => return Some(None),
        [method, path] if is_method(method) && path.starts_with('/') => Some(Request {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            host: None,
            status: StatusCodes::default(),
        }),
        _ => return node.refuse(format!("expected {what}, for example \"HEAD /health\"")),
    };
    Some(Some(CheckConfig {
        request,
        ..CheckConfig::default()
    }))
}

fn is_method(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase())
}

fn method(node: &Node<'_>) -> Option<String> {
    node.parse("a method in upper case, such as \"GET\"", |text| {
        is_method(text).then(|| text.to_owned())
    })
}

fn path(node: &Node<'_>) -> Option<String> {
    let what = "a path, such as \"/health\"";
    match value::words(node, what)?.as_slice() {
        [path] if path.starts_with('/') => Some((*path).to_owned()),
        _ => node.refuse(format!(
            "expected {what}; it begins with `/` and has no blank"
        )),
    }
}

fn status(node: &Node<'_>) -> Option<StatusCodes> {
    if node.value().is_integer() {
        let code = number(100..=999)(node)?;
        return Some(StatusCodes(vec![code..=code]));
    }
    let what = "status codes, such as 200 or \"200,300-399\"";
    node.parse(what, |text| {
        let parts = text.split(',').map(|part| match part.strip_suffix("xx") {
            Some(class) if class.len() == 1 => format!("{class}00-{class}99"),
            _ => part.to_owned(),
        });
        StatusCodes::parse(&parts.collect::<Vec<_>>().join(","))
    })
}

/// What a check begins with; `true` is the first version, unless the traffic begins with the other.
fn send_proxy(node: &Node<'_>) -> Option<Option<ProxyVersion>> {
    if let Some(sends) = node.as_boolean() {
        return Some(sends.then_some(ProxyVersion::V1));
    }
    node.parse("true, false, \"v1\" or \"v2\"", |text| match text {
        "v1" => Some(Some(ProxyVersion::V1)),
        "v2" => Some(Some(ProxyVersion::V2)),
        _ => None,
    })
}
