//! The check of a backend: its key, a short form or a table, in, what HAProxy and the controller's probe ask out. Pure.
//!
//! HAProxy's Configuration Manual: `option httpchk`, `http-check send`, `http-check expect`, `timeout check`, and of
//! section 5.2 "Server and default-server options" `port`, `check-ssl`, `check-sni`, `check-send-proxy`, `inter`,
//! `rise`, `fall`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::Fault;
use super::source::{Section, Value};
use super::value;

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

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            request: None,
            port: None,
            tls: false,
            sni: None,
            send_proxy: None,
            interval: Duration::from_secs(1),
            timeout: None,
            rise: 2,
            fall: 2,
        }
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

/// The key `check` of a backend: none where it is `off`. `options` are the words of `server_options`.
pub(super) fn check(backend: &Section<'_>, options: &[String]) -> Option<CheckConfig> {
    if backend.is_table("check") {
        return Some(table(backend.section("check"), options));
    }
    let short = backend.get("check", short_form);
    short.unwrap_or_else(|| Some(CheckConfig::default()))
}

fn table(section: Section<'_>, options: &[String]) -> CheckConfig {
    let default = CheckConfig::default();
    let tenth = Duration::from_millis(100)..=Duration::from_secs(3600);
    let check = CheckConfig {
        request: request(&section),
        port: section.get("port", value::number(1..=65535)),
        tls: section
            .get("tls", |value| value.boolean())
            .unwrap_or(default.tls),
        sni: section.get("sni", value::sni),
        send_proxy: section
            .get("send_proxy", |value| send_proxy(value, options))
            .flatten(),
        interval: section
            .get("interval", value::duration(tenth))
            .unwrap_or(default.interval),
        timeout: section.get(
            "timeout",
            value::duration(Duration::from_millis(10)..=Duration::from_secs(60)),
        ),
        rise: section
            .get("rise", value::number(1..=100))
            .unwrap_or(default.rise),
        fall: section
            .get("fall", value::number(1..=100))
            .unwrap_or(default.fall),
    };
    if check.sni.is_some() && !check.tls {
        section.complain("sni", "is a name for TLS; add tls = true");
    }
    section.finish();
    check
}

/// Its request, where a key tells of one.
fn request(section: &Section<'_>) -> Option<Request> {
    let method = section.get("method", method);
    let path = section.get("path", path);
    let host = section.get("host", value::host);
    let status = section.get("status", status);
    if !section.has("method") && !section.has("path") {
        for key in ["host", "status"]
            .into_iter()
            .filter(|key| section.has(key))
        {
            section.complain(
                key,
                "is about a request; add path = \"/\", and method if it is not GET",
            );
        }
        return None;
    }
    Some(Request {
        method: method.unwrap_or_else(|| "GET".to_owned()),
        path: path.unwrap_or_else(|| "/".to_owned()),
        host,
        status: status.unwrap_or_default(),
    })
}

/// `tcp`, `off` or `METHOD /path`.
fn short_form(value: &Value<'_>) -> Result<Option<CheckConfig>, Fault> {
    let what = "\"tcp\", \"off\", \"METHOD /path\" or a table";
    let words = value::words(value, what)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tcp"] => Ok(Some(CheckConfig::default())),
        ["off"] => Ok(None),
        [method, path] if is_method(method) && path.starts_with('/') => Ok(Some(CheckConfig {
            request: Some(Request {
                method: (*method).to_owned(),
                path: (*path).to_owned(),
                host: None,
                status: StatusCodes::default(),
            }),
            ..CheckConfig::default()
        })),
        _ => Err(value.fault(format!("expected {what}, for example \"HEAD /health\""))),
    }
}

fn is_method(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase())
}

fn method(value: &Value<'_>) -> Result<String, Fault> {
    let what = "a method in upper case, such as \"GET\"";
    let text = value.text(what)?;
    if is_method(text) {
        return Ok(text.to_owned());
    }
    Err(value.fault(format!("expected {what}")))
}

fn path(value: &Value<'_>) -> Result<String, Fault> {
    let what = "a path, such as \"/health\"";
    match value::words(value, what)?.as_slice() {
        [path] if path.starts_with('/') => Ok(path.clone()),
        _ => Err(value.fault(format!(
            "expected {what}; it begins with `/` and has no blank"
        ))),
    }
}

fn status(value: &Value<'_>) -> Result<StatusCodes, Fault> {
    let what = "status codes, such as 200 or \"200,300-399\"";
    let text = match value.integer(100..=999) {
        Ok(code) => code.to_string(),
        Err(_) => value.text(what)?.to_owned(),
    };
    StatusCodes::parse(&text).ok_or_else(|| value.fault(format!("expected {what}")))
}

/// `true` is the version that the server lines have for the traffic, else the first.
fn send_proxy(value: &Value<'_>, options: &[String]) -> Result<Option<ProxyVersion>, Fault> {
    let version = if options.iter().any(|word| word.starts_with("send-proxy-v2")) {
        ProxyVersion::V2
    } else {
        ProxyVersion::V1
    };
    if let Ok(sends) = value.boolean() {
        return Ok(sends.then_some(version));
    }
    match value.text("true, false, \"v1\" or \"v2\"") {
        Ok("v1") => Ok(Some(ProxyVersion::V1)),
        Ok("v2") => Ok(Some(ProxyVersion::V2)),
        Ok(_) => Err(value.fault("expected true, false, \"v1\" or \"v2\"")),
        Err(fault) => Err(fault),
    }
}
