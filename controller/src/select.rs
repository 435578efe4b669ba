//! Who belongs where: a Snapshot and the backends' rules in, a [`Model`] with a reason for every member left out.
//!
//! Names, tags and addresses come from any node of the cluster and are taken as hostile: what is not on the
//! whitelist puts that member, and no other, into quarantine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use bstr::{BStr, ByteSlice};
use serf_rpc::{Entry, Member, MemberStatus, Presence, Snapshot};

use crate::config::Backend;
use crate::here::Here;
use crate::model::{
    Attributes, Candidate, Gossip, Key, Model, Place, Quarantine, ServerName, Weight, Wish,
};

/// What holds for every backend that says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// This balancer itself, which is no server of its own.
    pub here: Here,
    /// Whether a member may be on a loopback address: only where the agent itself gossips on one.
    pub loopback: bool,
    /// Servers that the template has itself: their names are taken.
    pub fixed: BTreeSet<Key>,
}

/// Picks the members of every backend.
pub fn select(snapshot: &Snapshot, backends: &[Backend], defaults: &Defaults) -> Model {
    let mut model = Model::default();
    for backend in backends {
        model.backends.insert(backend.name.clone(), BTreeMap::new());
    }
    for entry in snapshot.entries() {
        let member = &entry.member;
        let name = ServerName::new(member.name());
        for backend in backends.iter().filter(|backend| picks(backend, member)) {
            match &name {
                Some(name) => {
                    let key = Key {
                        backend: backend.name.clone(),
                        server: name.clone(),
                    };
                    let attributes = if defaults.fixed.contains(&key) {
                        Err(Quarantine::Fixed)
                    } else {
                        attributes(member, backend, defaults)
                    };
                    let candidate = Candidate {
                        attributes,
                        gossip: gossip(entry),
                    };
                    model
                        .backends
                        .entry(backend.name.clone())
                        .or_default()
                        .insert(name.clone(), candidate);
                }
                None => {
                    model
                        .unnameable
                        .insert(shown(member.name()), Quarantine::Name);
                }
            }
        }
        model.known.extend(name.map(|name| (name, gossip(entry))));
    }
    model
}

fn picks(backend: &Backend, member: &Member) -> bool {
    let tags_match = backend.tags.iter().all(|(key, values)| {
        member
            .tag(key)
            .is_some_and(|value| values.iter().any(|wanted| value == wanted.as_bytes()))
    });
    let node_matches = backend
        .node
        .as_ref()
        .is_none_or(|node| member.name().to_str().is_ok_and(|name| node.is_match(name)));
    tags_match && node_matches
}

/// What gossip says, or said last: that a member is not listed any more takes back no bad word of it.
fn gossip(entry: &Entry) -> Gossip {
    match (entry.presence, entry.member.status()) {
        (_, MemberStatus::Left) => Gossip::Left,
        (_, MemberStatus::Leaving) => Gossip::Leaving,
        (_, MemberStatus::Failed) => Gossip::Failed,
        (Presence::Listed, MemberStatus::Alive) => Gossip::Alive,
        _ => Gossip::Absent,
    }
}

fn attributes(
    member: &Member,
    backend: &Backend,
    defaults: &Defaults,
) -> Result<Attributes, Quarantine> {
    let ip = member.addr().ok_or(Quarantine::NoAddress)?.to_canonical();
    let allowed = match &backend.networks {
        Some(networks) => networks.iter().any(|network| network.contains(&ip)),
        None => is_ordinary(ip) || (ip.is_loopback() && defaults.loopback),
    };
    if !allowed {
        return Err(Quarantine::Network(ip));
    }
    let port = port(member, backend)?;
    let ports = backend.ports.as_ref();
    if ports.is_some_and(|ports| !ports.iter().any(|range| range.contains(&port))) {
        return Err(Quarantine::Port(port));
    }
    let addr = SocketAddr::new(ip, port);
    if let Some(listener) = defaults.here.listener(addr) {
        let what = listener.what.clone();
        return Err(Quarantine::Here { addr, what });
    }
    let place = Place {
        addr,
        weight: weight(member, backend)?,
    };
    Ok(Attributes {
        place,
        wish: wish(member)?,
    })
}

/// Unicast, and neither loopback, link-local nor unspecified.
fn is_ordinary(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
                && ip.octets().first() != Some(&0)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || ip.is_unspecified())
        }
    }
}

fn port(member: &Member, backend: &Backend) -> Result<u16, Quarantine> {
    match member.tag("port") {
        Some(value) => number(value)
            .filter(|&port| port != 0)
            .ok_or_else(|| bad_tag("port", value, "a port from 1 to 65535")),
        None => backend.port.ok_or(Quarantine::NoPort),
    }
}

fn weight(member: &Member, backend: &Backend) -> Result<Weight, Quarantine> {
    let Some(value) = member.tag("weight") else {
        return Ok(Weight::DEFAULT.min(backend.max_weight));
    };
    let weight = number(value).and_then(Weight::new);
    let weight = weight.ok_or_else(|| bad_tag("weight", value, "a number from 0 to 256"))?;
    Ok(weight.min(backend.max_weight))
}

fn wish(member: &Member) -> Result<Wish, Quarantine> {
    let Some(value) = member.tag("state") else {
        return Ok(Wish::Ready);
    };
    match value.as_bytes() {
        b"ready" => Ok(Wish::Ready),
        b"drain" => Ok(Wish::Drain),
        b"maint" => Ok(Wish::Maint),
        _ => Err(bad_tag("state", value, "ready, drain or maint")),
    }
}

/// Digits only: what `u16::from_str` takes beyond them (`+1`) is no number here.
fn number(value: &BStr) -> Option<u16> {
    let digits = value.to_str().ok()?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

fn bad_tag(tag: &'static str, value: &BStr, want: &'static str) -> Quarantine {
    Quarantine::Tag {
        tag,
        value: shown(value),
        want,
    }
}

/// Escaped to printable ASCII and at most 80 bytes of the original.
pub(crate) fn shown(hostile: &BStr) -> String {
    hostile
        .bytes()
        .take(80)
        .flat_map(std::ascii::escape_default)
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests;
