//! The patterns that routes have for a path. Pure.

use std::fmt;

/// The longest path of a route, in bytes.
const LONGEST: usize = 512;

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// Any.
    Any,
    /// This one, and those below it by whole segments: `/api` is for `/api`, `/api/` and `/api/x`, not for `/apix`. It has a
    /// segment, and no final `/`.
    Prefix(String),
    /// This one and no other, a final `/` included.
    Exact(String),
}

impl PathPattern {
    /// Takes a path, or `=` and a path; `/` alone is any.
    ///
    /// # Errors
    /// What is wrong with it, and the way out.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (is_exact, path) = match text.strip_prefix('=') {
            Some(path) => (true, path),
            None => (false, text),
        };
        if !path.starts_with('/') {
            return Err(
                "begins with no `/`; write \"/api\", or \"=/health\" for that path alone".into(),
            );
        }
        if path.len() > LONGEST {
            return Err(format!(
                "is longer than {LONGEST} bytes; give the beginning only"
            ));
        }
        let fits = |c: &char| c.is_ascii_alphanumeric() || "/-._~+@:=".contains(*c);
        match path.chars().find(|c| !fits(c)) {
            Some('%') => {
                return Err(
                    "has a `%`; paths are compared decoded, so write the character itself".into(),
                );
            }
            Some('*') => {
                return Err(
                    "has a `*`; a path is for all below it as it is, so leave that out".into(),
                );
            }
            Some('?') => {
                return Err(
                    "has a `?`; routes know nothing of what is behind it, so leave that out".into(),
                );
            }
            Some(c) => {
                return Err(format!(
                    "has the character {c:?}; use letters, digits and `-._~+@:=`"
                ));
            }
            None => {}
        }
        if path.contains("//") {
            return Err("has `//`, which counts as `/`; write one".into());
        }
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(
                "has a segment `.` or `..`, which no request may have; leave it out".into(),
            );
        }
        if is_exact {
            return Ok(Self::Exact(path.to_owned()));
        }
        Ok(match path.strip_suffix('/').unwrap_or(path) {
            "" => Self::Any,
            path => Self::Prefix(path.to_owned()),
        })
    }

    /// Whether it is for a path, in the form of [`super::Request`].
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => {
                let rest = path.strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// Its path; empty for any.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Prefix(path) | Self::Exact(path) => path,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("/"),
            Self::Prefix(path) => f.write_str(path),
            Self::Exact(path) => write!(f, "={path}"),
        }
    }
}
