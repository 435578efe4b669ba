//! Readers of the keys about policy: the node of a key in, a checked value out, or none and a complaint. Pure.

use std::path::PathBuf;

use super::{Eject, Section, Secure, ServerNameSent};
use crate::config::node::Node;
use crate::config::value::{self, not_empty, printed_path};

/// What `retry-on` of HAProxy 2.6 to 3.2 takes (Configuration Manual, section 4.2), but for `all-retryable-errors`.
const RETRY_EVENTS: [&str; 16] = [
    "none",
    "conn-failure",
    "empty-response",
    "junk-response",
    "response-timeout",
    "0rtt-rejected",
    "401",
    "403",
    "404",
    "408",
    "425",
    "500",
    "501",
    "502",
    "503",
    "504",
];

/// A key that is a table, `true` for all its defaults, or `false` for what it does when it is left out.
pub(in crate::config) fn switch<T: Switch>(node: &Node<'_>) -> Option<Option<T>> {
    match node.as_boolean() {
        Some(true) => Some(Some(T::default())),
        Some(false) => Some(T::off()),
        None if node.value().is_table() => T::read(node).map(Some),
        None => node.expected("true, false or a table"),
    }
}

/// What `false` is.
pub(in crate::config) trait Switch: Section {
    /// It says nothing, unless a default goes on then.
    fn off() -> Option<Self> {
        None
    }
}

impl Switch for super::Sticky {}
impl Switch for super::Breaker {}
impl Switch for super::Overload {}
impl Switch for super::Tls {}
impl Switch for super::Retry {}
impl Switch for Eject {
    fn off() -> Option<Self> {
        Some(Self::OFF)
    }
}

/// The name of a cookie.
pub(super) fn cookie_name(node: &Node<'_>) -> Option<String> {
    node.parse("a name of up to 64 letters, digits, `_` and `-`", |text| {
        is_token(text, b"_-", 64).then(|| text.to_owned())
    })
}

/// What cookies are made with.
pub(super) fn cookie_secret(node: &Node<'_>) -> Option<String> {
    node.parse(
        "8 to 128 letters, digits, `_`, `.` and `-`, the same on all balancers",
        |text| (text.len() >= 8 && is_token(text, b"_.-", 128)).then(|| text.to_owned()),
    )
}

/// `true`, `false` or `"auto"`.
pub(super) fn secure(node: &Node<'_>) -> Option<Secure> {
    match node.as_boolean() {
        Some(true) => Some(Secure::Always),
        Some(false) => Some(Secure::Never),
        None => node.parse("true, false or \"auto\"", |text| {
            (text == "auto").then_some(Secure::Auto)
        }),
    }
}

/// Words of `retry-on`, statuses as numbers too.
pub(super) fn retry_events(node: &Node<'_>) -> Option<Vec<String>> {
    let event = |node: &Node<'_>| {
        let known = || {
            let words = RETRY_EVENTS.map(|word| format!("{word:?}"));
            format!("one of {}", words.join(", "))
        };
        let number = node.value().as_integer().map(|it| it.as_str().to_owned());
        let text = match number {
            Some(number) => number,
            None => node.text(&known())?.to_owned(),
        };
        if RETRY_EVENTS.contains(&text.as_str()) {
            return Some(text);
        }
        node.refuse(format!("expected {}", known()))
    };
    let events = not_empty(node, event, "an empty list; \"none\" is nothing")?;
    if events.len() > 1 && events.iter().any(|event| event == "none") {
        return node.refuse("\"none\" goes with no other word; leave it out");
    }
    Some(events)
}

/// Methods, in capitals.
pub(super) fn methods(node: &Node<'_>) -> Option<Vec<String>> {
    let method = |node: &Node<'_>| {
        node.parse("a method in upper case, such as \"GET\"", |text| {
            let is_method = text.len() <= 32 && text.bytes().all(|b| b.is_ascii_uppercase());
            (is_method && !text.is_empty()).then(|| text.to_owned())
        })
    };
    let empty = "an empty list; where nothing is to be sent twice, say on = [\"conn-failure\"]";
    not_empty(node, method, empty)
}

/// A share that is not nothing.
pub(super) fn ratio(node: &Node<'_>) -> Option<u8> {
    node.parse("a share from \"1%\" to \"100%\"", |text| {
        let number = text.strip_suffix('%')?.parse().ok();
        number.filter(|number| (1..=100).contains(number))
    })
}

/// A status of an answer that turns somebody away.
pub(super) fn status(node: &Node<'_>) -> Option<u16> {
    value::number(400..=599)(node)
}

/// `"host"`, or a name.
pub(super) fn server_name(node: &Node<'_>) -> Option<ServerNameSent> {
    let text = node.text("\"host\", or a host's name, such as \"www.example.com\"")?;
    if text == "host" {
        return Some(ServerNameSent::Host);
    }
    value::sni(node).map(ServerNameSent::Name)
}

/// A file of certificates.
pub(super) fn tls_files(node: &Node<'_>) -> Option<PathBuf> {
    printed_path(node)
}

/// Media types, `text/html`.
pub(in crate::config) fn media_types(node: &Node<'_>) -> Option<Vec<String>> {
    let media_type = |node: &Node<'_>| {
        node.parse("a media type, such as \"text/html\"", |text| {
            let (kind, name) = text.split_once('/')?;
            let fits = |part: &str| is_token(part, b"!&^_.+-", 64);
            (fits(kind) && fits(name)).then(|| text.to_ascii_lowercase())
        })
    };
    node.list(media_type)
}

fn is_token(text: &str, also: &[u8], longest: usize) -> bool {
    let mut bytes = text.bytes();
    let fits = (1..=longest).contains(&text.len());
    fits && bytes.all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}
