//! What a single value may be: a value as given in, a checked one or what is wrong with it out. Pure.
//!
//! Whatever reaches HAProxy's configuration is refused if it holds a character that is live there (HAProxy's
//! Configuration Manual, section 2.2 "Quoting and escaping") or on a line of the Runtime API (Management Guide 9.3).

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use regex::Regex;
use rustls_pki_types::DnsName;

use super::error::Fault;
use super::source::Value;
use super::{Mode, Observe, ProbeMode, SocketMode};
use crate::model::{BackendName, Weight};

/// Characters that HAProxy's configuration or its Runtime API gives a meaning of their own.
const LIVE: &[char] = &['"', '\'', '#', '\\', '$', ';', '{', '}', '<', '>'];

/// The balance algorithms that HAProxy 2.6 to 3.2 know.
const ALGORITHMS: [&str; 10] = [
    "roundrobin",
    "static-rr",
    "leastconn",
    "first",
    "random",
    "source",
    "uri",
    "url_param",
    "hash",
    "rdp-cookie",
];

/// Server keywords that the template writes itself, from other keys or from the member.
const OURS: [&str; 7] = [
    "check", "disabled", "enabled", "id", "maxconn", "no-check", "weight",
];

/// A regular expression that matches a whole member name.
#[derive(Clone, Debug)]
pub struct NodePattern(Regex);

impl Deref for NodePattern {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for NodePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A time span with a unit, `200ms`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&Value<'_>) -> Result<Duration, Fault> {
    move |value| {
        let text = value.text("a time span with its unit, such as \"200ms\"")?;
        if text.trim().bytes().all(|b| b.is_ascii_digit()) {
            return Err(value.fault(format!(
                "a time span without a unit; write \"{text}s\" or \"{text}ms\""
            )));
        }
        let span = humantime::parse_duration(text).map_err(|error| {
            value.fault(format!(
                "not a time span ({error}); write for example \"200ms\""
            ))
        })?;
        if range.contains(&span) {
            return Ok(span);
        }
        let [start, end] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
        Err(value.fault(format!("out of range; give {start} to {end}")))
    }
}

/// A share, `50%`.
pub(super) fn percent(value: &Value<'_>) -> Result<u8, Fault> {
    let what = "a share from \"0%\" to \"100%\"";
    let text = value.text(what)?;
    let number = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok());
    number
        .filter(|number| *number <= 100)
        .ok_or_else(|| value.fault(format!("expected {what}")))
}

/// A whole number of this type.
pub(super) fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl FnOnce(&Value<'_>) -> Result<T, Fault> {
    move |value| {
        let number = value.integer(range)?;
        T::try_from(number).map_err(|_| value.fault("too large"))
    }
}

/// A weight, 0 to 256.
pub(super) fn weight(value: &Value<'_>) -> Result<Weight, Fault> {
    let number = number(0..=256)(value)?;
    Weight::new(number).ok_or_else(|| value.fault("expected a whole number from 0 to 256"))
}

/// An absolute path without control characters.
pub(super) fn path(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let text = value.text("a path")?;
    if !text.starts_with('/') {
        return Err(value.fault("not an absolute path; begin it with `/`"));
    }
    if text.chars().any(char::is_control) {
        return Err(value.fault("a path with a control character"));
    }
    Ok(PathBuf::from(text))
}

/// Absolute paths.
pub(super) fn paths(value: &Value<'_>) -> Result<Vec<PathBuf>, Fault> {
    value.list().iter().map(path).collect()
}

/// An absolute path that is printed into HAProxy's configuration.
pub(super) fn printed_path(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = path(value)?;
    word(value.text("a path")?).map_err(|message| value.fault(message))?;
    Ok(path)
}

/// A program and its arguments.
pub(super) fn command(value: &Value<'_>) -> Result<Vec<String>, Fault> {
    let what = "a list of words, [\"program\", \"argument\"]";
    let words = match value {
        Value::File(file) if file.get_ref().is_array() => value.list(),
        _ => return Err(value.expected(what)),
    };
    let words: Vec<String> = words
        .iter()
        .map(|word| word.text(what).map(str::to_owned))
        .collect::<Result<_, _>>()?;
    match words.first() {
        Some(program) if !program.is_empty() && !words.iter().any(|word| word.contains('\0')) => {
            Ok(words)
        }
        _ => Err(value.fault(format!("expected {what}"))),
    }
}

/// A command in which `{path}` stands for the file.
pub(super) fn check_command(value: &Value<'_>) -> Result<Vec<String>, Fault> {
    let words = command(value)?;
    if words.iter().any(|word| word.contains("{path}")) {
        Ok(words)
    } else {
        Err(value.fault("no word holds `{path}`; put it where the file's name belongs"))
    }
}

/// One or several `host:port` of agents.
pub(super) fn agents(value: &Value<'_>) -> Result<Vec<String>, Fault> {
    let agents: Vec<String> = value.list().iter().map(agent).collect::<Result<_, _>>()?;
    if agents.is_empty() {
        Err(value.fault("an empty list; name at least one agent"))
    } else {
        Ok(agents)
    }
}

fn agent(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text("an address, \"127.0.0.1:7373\"")?;
    let named = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if named
        || text
            .parse::<SocketAddr>()
            .is_ok_and(|addr| addr.port() != 0)
    {
        return Ok(text.to_owned());
    }
    Err(value.fault(
        "not an address with a port; write \"127.0.0.1:7373\", \"[::1]:7373\" or \"host:7373\"",
    ))
}

/// An IP address and port to listen on.
pub(super) fn listen(value: &Value<'_>) -> Result<SocketAddr, Fault> {
    let text = value.text("an address, \"127.0.0.1:9280\"")?;
    text.parse().map_err(|_| {
        value.fault("not an IP address with a port; write \"127.0.0.1:9280\" or \"[::1]:9280\"")
    })
}

/// The name of a backend.
pub(super) fn backend_name(value: &Value<'_>) -> Result<BackendName, Fault> {
    BackendName::new(value.text("a name")?).ok_or_else(|| {
        value.fault("not a name; use 1 to 64 of letters, digits, `_`, `.` and `-`, beginning with a letter or digit")
    })
}

/// The name of a user or group.
pub(super) fn account(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text("a name")?;
    let fits = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(value.fault("not the name of a user or group"))
    }
}

/// Who may use a socket: three octal digits, and nothing for others.
pub(super) fn socket_mode(value: &Value<'_>) -> Result<SocketMode, Fault> {
    let text = value.text("three octal digits, \"660\"")?;
    let octal = text.len() == 3 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(bits) if octal && bits & 0o7 == 0 => Ok(SocketMode(bits)),
        Ok(_) if octal => Err(value.fault(
            "this lets every user of the machine in; name a group instead, and end the mode with 0",
        )),
        _ => Err(value.expected("three octal digits, \"660\"")),
    }
}

/// Tag names and, for each, the values of which one must match.
pub(super) fn tags(value: &Value<'_>) -> Result<Vec<(String, Vec<String>)>, Fault> {
    let one = |(key, value): (&str, Value<'_>)| {
        let values: Vec<String> = value
            .list()
            .iter()
            .map(|value| {
                value
                    .text("a string or a list of strings")
                    .map(str::to_owned)
            })
            .collect::<Result<_, _>>()?;
        if values.is_empty() {
            return Err(value.fault(format!("no value for tag `{key}`; list at least one")));
        }
        Ok((key.to_owned(), values))
    };
    value
        .table("a table, { role = \"backend\" }")?
        .into_iter()
        .map(one)
        .collect()
}

/// A regular expression on the whole member name.
pub(super) fn node(value: &Value<'_>) -> Result<NodePattern, Fault> {
    let text = value.text("a regular expression")?;
    Regex::new(text)
        .and_then(|_| Regex::new(&format!("^(?:{text})$")))
        .map(NodePattern)
        .map_err(|error| {
            let error = error.to_string();
            let reason = error
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            value.fault(format!("not a regular expression: {reason}"))
        })
}

/// A balance algorithm with its arguments.
pub(super) fn balance(value: &Value<'_>) -> Result<String, Fault> {
    let words = words(value, "a string")?;
    let first = words.first().map(String::as_str).unwrap_or_default();
    let name = first.split('(').next().unwrap_or_default();
    if ALGORITHMS.contains(&name) || (name == "hdr" && first.ends_with(')')) {
        return Ok(words.join(" "));
    }
    Err(value.fault(format!(
        "not a balance algorithm; use one of {}, hdr(NAME)",
        ALGORITHMS.join(", ")
    )))
}

/// `http` or `tcp`.
pub(super) fn mode(value: &Value<'_>) -> Result<Mode, Fault> {
    match value.text("\"http\" or \"tcp\"")? {
        "http" => Ok(Mode::Http),
        "tcp" => Ok(Mode::Tcp),
        _ => Err(value.fault("expected \"http\" or \"tcp\"")),
    }
}

/// `layer4`, `layer7` or `off`.
pub(super) fn observe(value: &Value<'_>) -> Result<Option<Observe>, Fault> {
    let what = "\"layer4\", \"layer7\" or \"off\"";
    match value.text(what)? {
        "layer4" => Ok(Some(Observe::Layer4)),
        "layer7" => Ok(Some(Observe::Layer7)),
        "off" => Ok(None),
        _ => Err(value.fault(format!("expected {what}"))),
    }
}

/// `on`, `off` or `check`.
pub(super) fn probe(value: &Value<'_>) -> Result<ProbeMode, Fault> {
    let what = "\"on\", \"off\" or \"check\"";
    match value.text(what)? {
        "on" => Ok(ProbeMode::On),
        "off" => Ok(ProbeMode::Off),
        "check" => Ok(ProbeMode::Check),
        _ => Err(value.fault(format!("expected {what}"))),
    }
}

/// A host's name or address, a port after it or not.
pub(super) fn host(value: &Value<'_>) -> Result<String, Fault> {
    let what = "a host's name, such as \"www.example.com\"";
    let text = value.text(what)?;
    let fits = (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(value.fault(format!("expected {what}")))
    }
}

/// A name for a TLS handshake, which is no address.
pub(super) fn sni(value: &Value<'_>) -> Result<String, Fault> {
    let what = "a host's name, such as \"www.example.com\"";
    let text = value.text(what)?;
    if DnsName::try_from(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(value.fault(format!("expected {what}")))
    }
}

/// Words that are appended to a server line.
pub(super) fn server_options(value: &Value<'_>) -> Result<Vec<String>, Fault> {
    let words = words(value, "a string")?;
    match words.iter().find(|word| OURS.contains(&word.as_str())) {
        Some(word) => {
            Err(value.fault(format!("`{word}` is written by the template; leave it out")))
        }
        None => Ok(words),
    }
}

/// Anything that is printed as words into HAProxy's configuration.
pub(super) fn printed(value: &Value<'_>) -> Result<String, Fault> {
    words(value, "a string").map(|words| words.join(" "))
}

/// One or several addresses that HAProxy binds, each with its options.
pub(super) fn binds(value: &Value<'_>) -> Result<Vec<String>, Fault> {
    let binds: Vec<String> = value.list().iter().map(bind).collect::<Result<_, _>>()?;
    if binds.is_empty() {
        Err(value.fault("an empty list; give at least one address"))
    } else {
        Ok(binds)
    }
}

/// An address that HAProxy binds, with its options.
pub(super) fn bind(value: &Value<'_>) -> Result<String, Fault> {
    let words = words(value, "a string")?;
    let addr = words.first().map(String::as_str).unwrap_or_default();
    let local = ["/", "unix@", "abns@", "fd@"]
        .iter()
        .any(|prefix| addr.starts_with(prefix));
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    let ported = addr
        .rsplit_once(':')
        .is_some_and(|(_, ports)| match ports.split_once('-') {
            Some((from, to)) => port(from) && port(to),
            None => port(ports),
        });
    if local || ported {
        return Ok(words.join(" "));
    }
    Err(value.fault(
        "not an address with a port from 1 to 65535; write for example \"*:80\" or \"[::]:80\"",
    ))
}

/// Networks in CIDR form; a bare address is a network of one.
pub(super) fn networks(value: &Value<'_>) -> Result<Vec<IpNet>, Fault> {
    let network = |value: &Value<'_>| {
        let text = value.text("a network, \"10.0.0.0/8\"")?;
        let network = text
            .parse()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.ok_or_else(|| value.fault("not a network; write for example \"10.0.0.0/8\""))
    };
    let networks: Vec<IpNet> = value.list().iter().map(network).collect::<Result<_, _>>()?;
    if networks.is_empty() {
        Err(value.fault("an empty list lets nobody in; leave it out"))
    } else {
        Ok(networks)
    }
}

/// Ports, each a number or a range `8000-8999`.
pub(super) fn ports(value: &Value<'_>) -> Result<Vec<RangeInclusive<u16>>, Fault> {
    let ports: Vec<_> = value
        .list()
        .iter()
        .map(port_range)
        .collect::<Result<_, _>>()?;
    if ports.is_empty() {
        Err(value.fault("an empty list lets nobody in; leave it out"))
    } else {
        Ok(ports)
    }
}

fn port_range(value: &Value<'_>) -> Result<RangeInclusive<u16>, Fault> {
    if let Value::File(file) = value
        && file.get_ref().is_integer()
    {
        let port = number(1..=65535)(value)?;
        return Ok(port..=port);
    }
    let text = value.text("a port or a range of ports, \"8000-8999\"")?;
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.trim().parse::<u16>(), to.trim().parse::<u16>()) {
        (Ok(from), Ok(to)) if from != 0 && from <= to => Ok(from..=to),
        _ => Err(value.fault("not a port or a range of ports; write 8080 or \"8000-8999\"")),
    }
}

/// Splits at blanks; refuses what is live in HAProxy's configuration, and an empty text.
pub(super) fn words(value: &Value<'_>, what: &str) -> Result<Vec<String>, Fault> {
    let text = value.text(what)?;
    let words: Vec<String> = text
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    if words.is_empty() {
        return Err(value.fault("is empty; leave it out"));
    }
    words
        .iter()
        .try_for_each(|text| word(text))
        .map_err(|message| value.fault(message))?;
    Ok(words)
}

fn word(text: &str) -> Result<(), String> {
    match text
        .chars()
        .find(|c| !c.is_ascii_graphic() || LIVE.contains(c))
    {
        Some(c) => Err(format!(
            "the character {c:?} is not safe in HAProxy's configuration; leave it out"
        )),
        None => Ok(()),
    }
}
