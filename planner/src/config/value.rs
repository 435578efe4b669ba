//! What a single value may be: the node of a key in, a checked value out, or none and a complaint. Pure.
//!
//! Whatever reaches HAProxy's configuration is refused if it holds a character that is live there (HAProxy's
//! Configuration Manual, section 2.2 "Quoting and escaping") or on a line of the Runtime API (Management Guide 9.3).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use regex::Regex;
use rustls_pki_types::DnsName;

use super::node::Node;
use super::section::Section;
use super::tag_pattern::{TagPattern, tag_pattern};
use super::{BackendConfig, SocketMode};
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

/// A millisecond.
pub const MILLISECOND: Duration = Duration::from_millis(1);
/// A second.
pub const SECOND: Duration = Duration::from_secs(1);
/// A minute.
pub const MINUTE: Duration = Duration::from_secs(60);
/// An hour.
pub const HOUR: Duration = Duration::from_secs(3600);
/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// A week.
pub const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A regular expression that matches a whole name or value.
#[derive(Clone, Debug)]
pub struct NodePattern(Regex);

impl NodePattern {
    /// As it was given.
    pub fn source(&self) -> &str {
        let whole = self.0.as_str().strip_prefix("^(?:");
        let whole = whole.and_then(|whole| whole.strip_suffix(")$"));
        whole.unwrap_or(self.0.as_str())
    }
}

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

impl Eq for NodePattern {}

/// The value of a key that may be left out.
pub fn some<T>(read: impl Fn(&Node<'_>) -> Option<T>) -> impl Fn(&Node<'_>) -> Option<Option<T>> {
    move |node| read(node).map(Some)
}

/// The tables of a `[[key]]`.
pub(super) fn tables<T: Section>(node: &Node<'_>) -> Option<Vec<T>> {
    if node.value().is_array() {
        return node.list(T::read);
    }
    node.expected_header("tables")
}

/// The tables of `[[backend]]`, each with a name.
pub(super) fn backends(node: &Node<'_>) -> Option<Vec<BackendConfig>> {
    for backend in node.parts().iter().filter(|part| part.value().is_table()) {
        if !backend.has("name") {
            backend.complain(
                "name",
                "is missing; give the backend a name, name = \"nodes\"",
            );
        }
    }
    tables(node)
}

/// One of these words.
pub fn one_of<T, const N: usize>(
    words: [(&'static str, T); N],
) -> impl FnOnce(&Node<'_>) -> Option<T> {
    move |node| {
        let quoted = words.each_ref().map(|(word, _)| format!("{word:?}"));
        let what = match quoted.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        };
        node.parse(&what, |text| {
            let named = words.into_iter().find(|(word, _)| *word == text);
            named.map(|(_, value)| value)
        })
    }
}

/// `true` or `false`.
pub fn boolean(node: &Node<'_>) -> Option<bool> {
    let boolean = node.as_boolean();
    boolean.or_else(|| node.expected("true or false"))
}

/// A time span with a unit, `200ms`.
pub fn time(range: RangeInclusive<Duration>) -> impl Fn(&Node<'_>) -> Option<Duration> {
    move |node| {
        let text = node.text("a time span with its unit, such as \"200ms\"")?;
        if text.trim().bytes().all(|b| b.is_ascii_digit()) {
            return node.refuse(format!(
                "a time span without a unit; write \"{text}s\" or \"{text}ms\""
            ));
        }
        let [start, end] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
        match humantime::parse_duration(text) {
            Ok(span) if range.contains(&span) => Some(span),
            Ok(_) => node.refuse(format!("out of range; give {start} to {end}")),
            Err(error) => node.refuse(format!(
                "not a time span ({error}); write for example \"200ms\""
            )),
        }
    }
}

/// A time span, of which `0s` is none.
pub(super) fn hold(node: &Node<'_>) -> Option<Option<Duration>> {
    let span = time(Duration::ZERO..=WEEK)(node)?;
    Some((!span.is_zero()).then_some(span))
}

/// A share, `50%`.
pub(super) fn percent(node: &Node<'_>) -> Option<u8> {
    node.parse("a share from \"0%\" to \"100%\"", |text| {
        let number = text.strip_suffix('%')?.parse().ok();
        number.filter(|number| *number <= 100)
    })
}

/// A whole number of this type.
pub fn number<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Node<'_>) -> Option<T> {
    move |node| {
        let number = T::try_from(node.integer(&range)?).ok();
        number.or_else(|| node.refuse("too large"))
    }
}

/// A weight, 0 to 256.
pub(super) fn weight(node: &Node<'_>) -> Option<Weight> {
    number(0..=256)(node).and_then(Weight::new)
}

/// An absolute path without control characters.
pub fn path(node: &Node<'_>) -> Option<PathBuf> {
    let text = node.text("an absolute path")?;
    if !text.starts_with('/') {
        return node.refuse("not an absolute path; begin it with `/`");
    }
    if text.chars().any(char::is_control) {
        return node.refuse("a path with a control character");
    }
    Some(PathBuf::from(text))
}

/// Absolute paths.
pub(super) fn paths(node: &Node<'_>) -> Option<Vec<PathBuf>> {
    node.list(path)
}

/// An absolute path that is printed into HAProxy's configuration.
pub(super) fn printed_path(node: &Node<'_>) -> Option<PathBuf> {
    path(node).filter(|path| are_safe(node, &[path.to_str().unwrap_or_default()]))
}

/// A program and its arguments.
pub(super) fn command(node: &Node<'_>) -> Option<Vec<String>> {
    let what = "a list of words, [\"program\", \"argument\"]";
    if !node.value().is_array() {
        return node.expected(what);
    }
    let words = node.list(|word| word.text(what).map(str::to_owned))?;
    match words.first() {
        Some(program) if !program.is_empty() && !words.iter().any(|word| word.contains('\0')) => {
            Some(words)
        }
        _ => node.refuse(format!("expected {what}")),
    }
}

/// A command in which `{path}` stands for the file.
pub(super) fn check_command(node: &Node<'_>) -> Option<Vec<String>> {
    let words = command(node)?;
    if words.iter().any(|word| word.contains("{path}")) {
        Some(words)
    } else {
        node.refuse("no word holds `{path}`; put it where the file's name belongs")
    }
}

/// One or several `host:port` of agents.
pub(super) fn agents(node: &Node<'_>) -> Option<Vec<String>> {
    not_empty(node, agent, "an empty list; name at least one agent")
}

/// One `host:port` of an agent.
pub fn agent(node: &Node<'_>) -> Option<String> {
    let text = node.text("an address, \"127.0.0.1:7373\"")?;
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    let named = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| is_name(host, b"-._") && is_port(port));
    let addr = text.parse::<SocketAddr>();
    if named || addr.is_ok_and(|addr| addr.port() != 0) {
        return Some(text.to_owned());
    }
    node.refuse(
        "not an address with a port; write \"127.0.0.1:7373\", \"[::1]:7373\" or \"host:7373\"",
    )
}

/// An IP address and port to listen on.
pub fn listen(node: &Node<'_>) -> Option<SocketAddr> {
    let addr = node.text("an address, \"127.0.0.1:9280\"")?.parse().ok();
    addr.or_else(|| {
        node.refuse("not an IP address with a port; write \"127.0.0.1:9280\" or \"[::1]:9280\"")
    })
}

/// Names or addresses of a host, without a port, in small letters.
pub(super) fn hosts(node: &Node<'_>) -> Option<Vec<String>> {
    node.list(|host| {
        let text = host.text("a name, \"lb.example.com\"")?;
        let named = is_name(text, b"-._") || text.parse::<IpAddr>().is_ok();
        let name = named.then(|| text.trim_end_matches('.').to_ascii_lowercase());
        name.or_else(|| {
            host.refuse("not the name or address of a host; write \"lb.example.com\", without scheme and port")
        })
    })
}

/// The name of a backend.
pub fn backend_name(node: &Node<'_>) -> Option<BackendName> {
    BackendName::new(node.text("a name of letters, digits, `_`, `.` and `-`")?).or_else(|| {
        node.refuse("not a name; use 1 to 64 of letters, digits, `_`, `.` and `-`, beginning with a letter or digit")
    })
}

/// The name of a user or group.
pub(super) fn account(node: &Node<'_>) -> Option<String> {
    let text = node.text("the name of a user or group")?;
    if is_name(text, b"-._") {
        Some(text.to_owned())
    } else {
        node.refuse("not the name of a user or group")
    }
}

/// Who may use a socket: three octal digits, and nothing for others.
pub(super) fn socket_mode(node: &Node<'_>) -> Option<SocketMode> {
    let what = "three octal digits, \"660\"";
    let text = node.text(what)?;
    let octal = text.len() == 3 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(bits) if octal && bits & 0o7 == 0 => Some(SocketMode(bits)),
        Ok(_) if octal => node.refuse(
            "this lets every user of the machine in; name a group instead, and end the mode with 0",
        ),
        _ => node.expected(what),
    }
}

/// Tag names and, for each, what it has to be.
pub(super) fn tags(node: &Node<'_>) -> Option<BTreeMap<String, TagPattern>> {
    let tags = node.names("a table, { role = \"backend\" }")?;
    let one = |(tag, node): (&str, Node<'_>)| Some((tag.to_owned(), tag_pattern(tag, &node)?));
    tags.into_iter().map(one).collect()
}

/// The name of a tag. Serf takes any bytes for one; what is meant to be typed is not empty.
pub fn tag_name(node: &Node<'_>) -> Option<String> {
    node.parse("the name of a tag", |text| {
        (!text.is_empty()).then(|| text.to_owned())
    })
}

/// A regular expression on the whole of a name or value.
pub(super) fn node_pattern(node: &Node<'_>) -> Option<NodePattern> {
    let text = node.text("a regular expression")?;
    let regex = Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")));
    match regex {
        Ok(regex) => Some(NodePattern(regex)),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            node.refuse(format!("not a regular expression: {reason}"))
        }
    }
}

/// A balance algorithm with its arguments.
pub(super) fn balance(node: &Node<'_>) -> Option<String> {
    let words = words(node, "a balance algorithm with its arguments")?;
    let first = words.first().copied().unwrap_or_default();
    let name = first.split('(').next().unwrap_or_default();
    if ALGORITHMS.contains(&name) || (name == "hdr" && first.ends_with(')')) {
        return Some(words.join(" "));
    }
    let known = ALGORITHMS.join(", ");
    node.refuse(format!(
        "not a balance algorithm; use one of {known}, hdr(NAME)"
    ))
}

/// A host's name or address, a port after it or not.
pub(super) fn host(node: &Node<'_>) -> Option<String> {
    node.parse("a host's name, such as \"www.example.com\"", |text| {
        let fits = text.len() <= 253 && is_name(text, b"-._:[]");
        fits.then(|| text.to_owned())
    })
}

/// A name for a TLS handshake, which is no address.
pub(super) fn sni(node: &Node<'_>) -> Option<String> {
    node.parse("a host's name, such as \"www.example.com\"", |text| {
        DnsName::try_from(text).ok().map(|_| text.to_owned())
    })
}

/// Words that are appended to a server line.
pub(super) fn server_options(node: &Node<'_>) -> Option<Vec<String>> {
    let words = words(node, "words of a server line")?;
    match words.iter().find(|word| OURS.contains(word)) {
        Some(word) => node.refuse(format!("`{word}` is written by the template; leave it out")),
        None => Some(words.into_iter().map(str::to_owned).collect()),
    }
}

/// Anything that is printed as words into HAProxy's configuration.
pub(super) fn printed(node: &Node<'_>) -> Option<String> {
    words(node, "words of HAProxy's configuration").map(|words| words.join(" "))
}

/// One or several addresses that HAProxy binds, each with its options.
pub(super) fn binds(node: &Node<'_>) -> Option<Vec<String>> {
    not_empty(node, bind, "an empty list; give at least one address")
}

/// An address that HAProxy binds, with its options.
pub(super) fn bind(node: &Node<'_>) -> Option<String> {
    let words = words(node, "an address with its options, \"*:80\"")?;
    let addr = words.first().copied().unwrap_or_default();
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
        return Some(words.join(" "));
    }
    node.refuse(
        "not an address with a port from 1 to 65535; write for example \"*:80\" or \"[::]:80\"",
    )
}

/// Networks in CIDR form; a bare address is a network of one.
pub fn networks(node: &Node<'_>) -> Option<Vec<IpNet>> {
    let network = |node: &Node<'_>| {
        let text = node.text("a network, \"10.0.0.0/8\"")?;
        let addr = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse().or_else(|_| addr()).ok();
        network.or_else(|| node.refuse("not a network; write for example \"10.0.0.0/8\""))
    };
    not_empty(node, network, LETS_NOBODY_IN)
}

/// Ports, each a number or a range `8000-8999`.
pub(super) fn ports(node: &Node<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |node: &Node<'_>| {
        if node.value().is_integer() {
            return number(1..=65535)(node).map(|port| port..=port);
        }
        let text = node.text("a port or a range of ports, \"8000-8999\"")?;
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.trim().parse::<u16>(), to.trim().parse::<u16>()) {
            (Ok(from), Ok(to)) if from != 0 && from <= to => Some(from..=to),
            _ => node.refuse("not a port or a range of ports; write 8080 or \"8000-8999\""),
        }
    };
    not_empty(node, range, LETS_NOBODY_IN)
}

const LETS_NOBODY_IN: &str = "an empty list lets nobody in; leave it out";

/// A list that says something; `empty` is what is wrong with one that does not.
pub fn not_empty<T>(
    node: &Node<'_>,
    read: impl Fn(&Node<'_>) -> Option<T>,
    empty: &str,
) -> Option<Vec<T>> {
    let list = node.list(read)?;
    if list.is_empty() {
        return node.refuse(empty);
    }
    Some(list)
}

/// Whether it is letters, digits and these, and not empty.
pub(super) fn is_name(text: &str, also: &[u8]) -> bool {
    let mut bytes = text.bytes();
    !text.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

/// Splits at blanks; refuses what is live in HAProxy's configuration, and an empty text.
pub(super) fn words<'a>(node: &Node<'a>, what: &str) -> Option<Vec<&'a str>> {
    let text = node.text(what)?;
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return node.refuse("is empty; leave it out");
    }
    are_safe(node, &words).then_some(words)
}

/// Whether a character means itself in a word of HAProxy's configuration.
pub(super) fn is_safe(c: char) -> bool {
    c.is_ascii_graphic() && !LIVE.contains(&c)
}

fn are_safe(node: &Node<'_>, words: &[&str]) -> bool {
    let mut chars = words.iter().flat_map(|word| word.chars());
    let live = chars.find(|c| !is_safe(*c));
    let refuse = |c: char| {
        node.refuse(format!(
            "the character {c:?} is not safe in HAProxy's configuration; leave it out"
        ))
    };
    live.and_then(refuse).unwrap_or(live.is_none())
}
