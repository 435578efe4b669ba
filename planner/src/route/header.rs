//! Methods and headers: what a route wants of them, and what it changes. Whitelisted types. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A method, as it is written (RFC 9110, 9.1): 1 to 32 upper-case letters and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(String);

impl Method {
    /// Takes a method.
    pub fn new(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_uppercase() || b == b'-';
        let is_method = (1..=32).contains(&text.len()) && text.bytes().all(fits);
        is_method.then(|| Self(text.to_owned()))
    }

    /// The method.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a header: 1 to 64 letters, digits, `-` and `_`. Two that differ in case only are one.
#[derive(Clone, Debug)]
pub struct HeaderName(String);

impl HeaderName {
    /// Takes a name.
    pub fn new(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let is_name = (1..=64).contains(&text.len()) && text.bytes().all(fits);
        is_name.then(|| Self(text.to_owned()))
    }

    /// The name, as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this one, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    fn small(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for HeaderName {}

impl PartialOrd for HeaderName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HeaderName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.small().cmp(&other.small())
    }
}

/// In small letters, as two of another case are one.
impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.small())
    }
}

/// The value of a header: up to 1024 printable ASCII characters, no blank at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderValue(String);

impl HeaderValue {
    /// No character.
    pub(crate) fn empty() -> Self {
        Self(String::new())
    }

    /// Takes a value.
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.bytes().all(|b| (b' '..=b'~').contains(&b));
        let fits = fits && text.len() <= 1024 && text.trim() == text;
        fits.then(|| Self(text.to_owned()))
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a header has to be. Where a request has it several times, the first counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeaderPattern {
    /// `*`: there.
    Present,
    /// This value, the whole of it.
    Value(HeaderValue),
}

impl HeaderPattern {
    /// Whether it is for what a request has.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Self::Present => value.is_some(),
            Self::Value(wanted) => value == Some(wanted.as_str()),
        }
    }
}

impl fmt::Display for HeaderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("*"),
            Self::Value(value) => f.write_str(value.as_str()),
        }
    }
}

/// What is changed of headers. What is set replaces what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Taken out, all that have the name. Done first.
    pub remove: BTreeSet<HeaderName>,
    /// Set.
    pub set: BTreeMap<HeaderName, HeaderValue>,
}

impl HeaderChanges {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }
}
