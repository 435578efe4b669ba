//! The host of a request and the patterns that routes have for it. Pure.

use std::fmt;

/// The name of a host in small letters, without a port and a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Host {
    /// Takes 1 to 253 bytes of labels, each 1 to 63 of letters, digits, `-` and `_`, no `-` at either end, in any case and
    /// with a final dot or without.
    pub fn new(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            let dash = label.starts_with('-') || label.ends_with('-');
            (1..=63).contains(&label.len()) && label.bytes().all(fits) && !dash
        };
        let fits = name.len() <= 253 && name.split('.').all(is_label);
        fits.then(|| Self(name.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which hosts a route is for. The later, the more specific.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Any, and requests that name none.
    Any,
    /// `*.example.com`: one label more than this name, neither none nor two, as in a certificate (RFC 6125, 6.4.3) and in
    /// an Ingress of Kubernetes.
    Wildcard(Host),
    /// This one.
    Exact(Host),
}

impl HostPattern {
    /// Takes a name, or `*.` and a name.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(rest) => Host::new(rest).map(Self::Wildcard),
            None => Host::new(text).map(Self::Exact),
        }
    }

    /// Whether it is for a host, in the form of [`super::Request`]; none is a request that names none.
    pub fn matches(&self, host: Option<&str>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Exact(name), Some(host)) => name.0 == host,
            (Self::Wildcard(name), Some(host)) => {
                let split = host.split_once('.');
                split.is_some_and(|(label, rest)| !label.is_empty() && rest == name.0)
            }
        }
    }
}

/// As it begins a key of the map: a name, `*.` and a name, or `*`.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(name) => write!(f, "*.{}", name.0),
            Self::Exact(name) => f.write_str(&name.0),
        }
    }
}
