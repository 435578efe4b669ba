//! Routes of which two could win one request by the same rank. Pure.

use std::collections::BTreeMap;

use super::header::HeaderPattern;
use super::{HostPattern, PathPattern, Route};

/// Two routes that could win the same request by the same rank, by their places in what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguity {
    /// The one.
    pub first: usize,
    /// The other, later.
    pub second: usize,
    /// A host that both are for.
    pub host: HostPattern,
}

/// A host for which both could win the same request by the same rank.
///
/// One label stands for a wildcard, so two patterns of the same kind that match one host are equal; and so are two paths of
/// the same kind and length that match one path.
pub fn clash<'a>(one: &'a Route, other: &Route) -> Option<&'a HostPattern> {
    let is_shared = one.path == other.path
        && one.conditions() == other.conditions()
        && shares(&one.methods, &other.methods)
        && shares(&one.frontends, &other.frontends)
        && one.headers.iter().all(|(name, pattern)| {
            let theirs = other.headers.get(name);
            theirs.is_none_or(|theirs| may_be_one(pattern, theirs))
        });
    let mut hosts = one.hosts.iter().filter(|_| is_shared);
    hosts.find(|host| other.hosts.contains(host))
}

/// Every pair that clashes.
pub(super) fn all(routes: &[Route]) -> Vec<Ambiguity> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<(&PathPattern, &HostPattern), Vec<usize>> = BTreeMap::new();
    for (second, route) in routes.iter().enumerate() {
        for host in &route.hosts {
            let before = seen.entry((&route.path, host)).or_default();
            for first in before.iter().copied() {
                let clashes = routes.get(first).and_then(|first| clash(first, route));
                if clashes == Some(host) {
                    let host = host.clone();
                    found.push(Ambiguity {
                        first,
                        second,
                        host,
                    });
                }
            }
            before.push(second);
        }
    }
    found
}

/// Whether two sets have something in common; an empty one has everything.
fn shares<T: Ord>(
    one: &std::collections::BTreeSet<T>,
    other: &std::collections::BTreeSet<T>,
) -> bool {
    one.is_empty() || other.is_empty() || !one.is_disjoint(other)
}

fn may_be_one(one: &HeaderPattern, other: &HeaderPattern) -> bool {
    match (one, other) {
        (HeaderPattern::Value(one), HeaderPattern::Value(other)) => one == other,
        _ => true,
    }
}
