//! Where the requests of a service come from: hosts and paths as members and the config write them in, whitelisted types out.

use std::fmt;

use crate::route::Host;

/// A path below which requests are meant: `/`, or whole segments as in `/api/v2`; 128 bytes at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// Takes segments of letters, digits, `-`, `.`, `_` and `~` (RFC 3986, 2.3 "Unreserved Characters"), none of them `.`
    /// or `..`; a slash at the end makes no difference.
    pub fn new(text: &str) -> Option<Self> {
        let segments = text.strip_prefix('/')?;
        let segments = segments.strip_suffix('/').unwrap_or(segments);
        let is_segment = |segment: &str| {
            let is_safe =
                |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_safe)
        };
        let fits = text.len() <= 128
            && text != "//"
            && (segments.is_empty() || segments.split('/').all(is_segment));
        fits.then(|| Self(format!("/{segments}")))
    }

    /// `/`: every path.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The path, without a slash at its end but where it is `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the other one, or below it.
    pub fn is_below(&self, other: &Self) -> bool {
        let rest = self.0.strip_prefix(other.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The host of a service that names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultHost {
    /// `*`: requests for any.
    Any,
    /// A text in which `{service}` stands for the name of the service.
    Named(String),
}

impl DefaultHost {
    /// Takes `{service}.example.com`, a host, or `*`.
    pub fn new(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        Host::new(&text.replace("{service}", "service")).map(|_| Self::Named(text.to_owned()))
    }

    /// The host of this service; none where its name can be no part of one.
    pub fn of(&self, service: &str) -> Option<Option<Host>> {
        match self {
            Self::Any => Some(None),
            Self::Named(text) => Host::new(&text.replace("{service}", service)).map(Some),
        }
    }
}

/// Names of services: `shop`, or with `*` for any text, `api-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(String);

impl Names {
    /// Takes the characters of a backend's name, and `*`.
    pub fn new(text: &str) -> Option<Self> {
        let is_safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'*');
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_safe);
        fits.then(|| Self(text.to_owned()))
    }

    /// The one name that is meant, where it is one.
    pub fn literal(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    /// Whether this name is meant.
    pub fn has(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let Some(mut left) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            match left.split_once(part) {
                Some((_, after)) => left = after,
                None => return false,
            }
        }
        left.ends_with(last)
    }
}

macro_rules! shown {
    ($($name:ident)*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )* };
}

shown!(Path Names);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_whole_segments() {
        let path = |text: &str| Path::new(text).map(|path| path.to_string());
        assert_eq!(path("/").as_deref(), Some("/"));
        assert_eq!(path("/api/v2/").as_deref(), Some("/api/v2"));
        for odd in [
            "", "api", "//", "/a//b", "/../etc", "/a/.", "/a b", "/a%20", "/a?b", "/a;b",
        ] {
            assert_eq!(path(odd), None, "{odd}");
        }
        let below = |path: &str, other: &str| {
            Path::new(path)
                .unwrap()
                .is_below(&Path::new(other).unwrap())
        };
        assert!(below("/api", "/") && below("/api", "/api") && below("/api/v2", "/api"));
        assert!(!below("/apis", "/api") && !below("/", "/api"));
    }

    #[test]
    fn a_default_host_has_the_service_in_it_or_is_any() {
        let host = |text: &str, service: &str| {
            let of = DefaultHost::new(text).unwrap().of(service)?;
            Some(of.map_or_else(|| "any".to_owned(), |host| host.as_str().to_owned()))
        };
        assert_eq!(
            host("{service}.example.com", "Shop").as_deref(),
            Some("shop.example.com")
        );
        assert_eq!(
            host("www.example.com", "shop").as_deref(),
            Some("www.example.com")
        );
        assert_eq!(host("*", "shop").as_deref(), Some("any"));
        assert_eq!(host("{service}.example.com", "a..b"), None);
        assert_eq!(DefaultHost::new("{other}.example.com"), None);
    }

    proptest! {
        #[test]
        fn a_glob_is_the_expression_that_it_stands_for(glob in "[ab*.-]{1,8}", name in "[ab.-]{1,8}") {
            let expression = format!("^{}$", regex::escape(&glob).replace("\\*", ".*"));
            let expected = regex::Regex::new(&expression).unwrap().is_match(&name);
            prop_assert_eq!(Names::new(&glob).unwrap().has(&name), expected, "{} {}", glob, name);
        }

        #[test]
        fn whatever_is_taken_is_harmless(text in any::<String>(), odd in "[a-z./*{}; \"'#\\\\\n$-]{0,20}") {
            for text in [text, odd, ] {
                if let Some(host) = Host::new(&text) {
                    prop_assert!(host.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)));
                }
                if let Some(path) = Path::new(&text) {
                    prop_assert!(path.as_str().starts_with('/'));
                    prop_assert!(path.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b)));
                    prop_assert!(!path.as_str().contains("//") && !path.as_str().contains("/../"));
                }
            }
        }
    }
}
