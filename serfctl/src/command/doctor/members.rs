//! The list of members in, what is wrong with it out.

use std::collections::{BTreeMap, BTreeSet};

use serf_rpc::{Member, MemberStatus};

use super::{Finding, name, names};
use crate::{member::socket_addr, terminal::escape};

/// The bytes that all tags of a node may have together (`memberlist.MetaMaxSize`).
const TAGS_MAX: usize = 512;
/// From so many on it is time to say something.
const TAGS_NEAR: usize = 450;

/// Those that failed, and of the living those whose address, version or tags are a fault.
pub(super) fn of(members: &[Member]) -> Vec<Finding> {
    let with = |status| {
        members
            .iter()
            .filter(move |member| member.status() == status)
    };
    let alive: Vec<&Member> = with(MemberStatus::Alive).collect();
    let failed: Vec<&[u8]> = with(MemberStatus::Failed).map(name).collect();
    let mut findings = Vec::new();
    if !failed.is_empty() {
        findings.push(Finding::new(
            format!("{} failed: {}", failed.len(), names(failed)),
            "see whether their hosts are up; serfctl force-leave NAME for those that are gone for good",
        ));
    }
    findings.extend(loopback(&alive));
    findings.extend(same_address(&alive));
    findings.extend(versions(&alive));
    findings.extend(tags(&alive));
    findings
}

/// Members that say of themselves an address which means everybody's own host, where others do not.
fn loopback(alive: &[&Member]) -> Option<Finding> {
    let on_loopback = |member: &Member| {
        member
            .addr()
            .is_some_and(|addr| addr.to_canonical().is_loopback())
    };
    let there: Vec<&[u8]> = alive
        .iter()
        .filter(|member| on_loopback(member))
        .map(|member| name(member))
        .collect();
    (!there.is_empty() && there.len() < alive.len()).then(|| {
        Finding::new(
            format!("on a loopback address, and no other host reaches that: {}", names(there)),
            "give its agent `-bind` or `-advertise` with an address of its host's network, and restart it",
        )
    })
}

fn same_address(alive: &[&Member]) -> Vec<Finding> {
    let mut at: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in alive {
        let name = escape(member.name()).into_owned();
        at.entry(socket_addr(member)).or_default().push(name);
    }
    let shared = at.iter().filter(|(_, names)| names.len() > 1);
    let finding = |(addr, names): (&String, &Vec<String>)| {
        Finding::new(
            format!("{addr} is the address of {}", names.join(" and ")),
            "a node was renamed, or two advertise one address: -node and -advertise must be unique",
        )
    };
    shared.map(finding).collect()
}

fn versions(alive: &[&Member]) -> Option<Finding> {
    let versions: BTreeSet<u8> = alive.iter().map(|m| m.delegate().current).collect();
    (versions.len() > 1).then(|| {
        let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
        Finding::new(
            format!("members speak protocols {}", versions.join(" and ")),
            "finish the upgrade: serfctl members --detailed shows who is behind",
        )
    })
}

fn tags(alive: &[&Member]) -> Vec<Finding> {
    let near = alive.iter().filter_map(|member| {
        // A map of short strings: a byte before each, and one or three before all, after a byte of the kind.
        let bytes: usize = member
            .tags()
            .map(|(key, value)| key.len() + value.len() + 4)
            .sum();
        (bytes >= TAGS_NEAR).then(|| {
            Finding::new(
                format!(
                    "the tags of {} have about {bytes} of {TAGS_MAX} bytes",
                    escape(member.name())
                ),
                "shorten them: an agent whose tags are too long does not start",
            )
        })
    });
    near.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, addr: [u8; 4]) -> Member {
        Member::builder(name).addr(addr.into(), 7946).build()
    }

    #[test]
    fn a_loopback_address_is_a_fault_where_others_have_none() {
        let members = [
            at("a", [10, 0, 0, 1]),
            at("b", [127, 0, 1, 1]),
            at("c", [10, 0, 0, 3]),
        ];
        let findings = of(&members);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].0.ends_with("reaches that: b"), "{findings:?}");
        let lab = [at("a", [127, 0, 0, 1]), at("b", [127, 0, 0, 2])];
        assert_eq!(of(&lab), []);
    }

    #[test]
    fn one_address_for_two_is_a_fault() {
        let twice = [at("a", [10, 0, 0, 1]), at("b", [10, 0, 0, 1])];
        let findings = of(&twice);
        assert!(findings[0].0.ends_with("of a and b"), "{findings:?}");
    }
}
