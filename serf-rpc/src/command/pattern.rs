//! What a name, status or tag must match: an expression or a text in, the expression that the agent reads out.

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice};

use crate::error::CallErrorKind;

use super::re2;

/// What a name, status or tag must match, as a whole: a regular expression in Go's syntax
/// ([`regexp/syntax`](https://pkg.go.dev/regexp/syntax)), or a text.
///
/// ```
/// use serf_rpc::Pattern;
///
/// assert!(Pattern::new("web-[0-9]+").check().is_ok());
/// assert!(Pattern::new("web-[0-9").check().is_err());
/// assert_eq!(Pattern::exactly("eu.west+1").as_str(), r"eu\.west\+1");
/// let number = 7;
/// let racks = Pattern::new(format!("{}-r{number}|spare", Pattern::escape("dc.1")));
/// assert_eq!(racks.as_str(), r"dc\.1-r7|spare");
/// ```
///
/// What no version of Go reads is refused before it is sent, because an agent closes the connection over it, or lets a
/// query go unanswered; what only some read is left to the agent: the names in `\p{…}`, groups named `(?<name>…)`, and
/// expressions that are huge or nested a thousand levels deep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A regular expression that must match the whole. It is read when it is sent; see [`Self::check`].
    pub fn new(expression: impl Into<String>) -> Self {
        Self(expression.into())
    }

    /// This text and nothing else.
    pub fn exactly(text: impl AsRef<str>) -> Self {
        Self(Self::escape(text))
    }

    /// A regular expression that must match somewhere, as those of `serf query -tag`.
    pub fn anywhere(expression: impl AsRef<str>) -> Self {
        Self(format!("(?s:.*)(?:{})(?s:.*)", expression.as_ref()))
    }

    /// The text as a part of an expression that matches it (Go's `regexp.QuoteMeta`).
    pub fn escape(text: impl AsRef<str>) -> String {
        let mut escaped = String::new();
        for c in text.as_ref().chars() {
            if r"\.+*?()|[]{}^$".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether agents can read the expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), MalformedPattern> {
        re2::check(&self.0).map_err(MalformedPattern)
    }

    /// As a group: what stands around it belongs to no alternative of it.
    pub(crate) fn grouped(&self) -> String {
        format!("(?:{})", self.0)
    }

    /// As a group that matches the whole.
    pub(crate) fn anchored(&self) -> String {
        format!("^(?:{})$", self.0)
    }

    /// The error of a call that would send it.
    pub(crate) fn check_for(&self, field: impl FnOnce() -> String) -> Result<(), CallErrorKind> {
        self.check().map_err(|malformed| CallErrorKind::Filter {
            field: field(),
            message: malformed.to_string(),
        })
    }
}

impl From<&str> for Pattern {
    fn from(expression: &str) -> Self {
        Self::new(expression)
    }
}

impl From<String> for Pattern {
    fn from(expression: String) -> Self {
        Self::new(expression)
    }
}

impl From<&String> for Pattern {
    fn from(expression: &String) -> Self {
        Self::new(expression)
    }
}

/// Why no agent can read an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedPattern(re2::Malformed);

/// What tags must match, by their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagPatterns(BTreeMap<BString, Pattern>);

impl TagPatterns {
    /// Adds one, or replaces the one of that key.
    pub(crate) fn insert(&mut self, key: impl AsRef<[u8]>, pattern: impl Into<Pattern>) {
        self.0.insert(key.as_ref().into(), pattern.into());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&BString, &Pattern)> {
        self.0.iter()
    }

    /// The first that no agent can read.
    pub(crate) fn check(&self) -> Result<(), CallErrorKind> {
        self.iter().try_for_each(|(key, pattern)| {
            pattern.check_for(|| format!("tag {}", key.escape_bytes()))
        })
    }
}
