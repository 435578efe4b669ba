//! How specific a route is, as a number that does not depend on other routes. Pure.

use std::fmt;

use super::{HostPattern, PathPattern, Route};

/// How specific a route is for one of its hosts: of all that match a request the greatest wins.
///
/// From the greatest digit to the least: the host is named, a wildcard, or any; the length of the path in bytes; whether the
/// path is exact; how many conditions there are beside. Below 2²⁰, so that HAProxy compares it as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(u32);

impl Rank {
    /// The rank of a route for requests to hosts of this pattern.
    pub fn of(host: &HostPattern, route: &Route) -> Self {
        let class = match host {
            HostPattern::Any => 0,
            HostPattern::Wildcard(_) => 1,
            HostPattern::Exact(_) => 2,
        };
        let number = |number: usize, most: u32| u32::try_from(number).unwrap_or(most).min(most);
        let length = number(route.path.as_str().len(), 1023);
        let exact = u32::from(matches!(route.path, PathPattern::Exact(_)));
        let conditions = number(route.conditions(), 63);
        Self(((class * 1024 + length) * 2 + exact) * 64 + conditions)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
