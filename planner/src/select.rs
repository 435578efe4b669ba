//! Who belongs where: a Snapshot and the backends' rules in, a [`Model`] with a reason for every member left out.
//!
//! Names, tags and addresses come from any node of the cluster and are taken as hostile: what is not on the
//! whitelist puts that member, and no other, into quarantine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bstr::{BStr, ByteSlice};
use serf_rpc::{Entry, Member, MemberStatus, Presence, Snapshot};

use crate::config::{BackendConfig, TagNames, TagPattern};
use crate::model::here::Here;
use crate::model::{
    Attributes, Candidate, Endpoint, Model, Quarantine, RequestedState, SerfStatus, ServerKey,
    ServerName, Weight,
};

/// A tag that says something of a server; the others only pick members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name, unless `[tags]` says else.
    pub name: &'static str,
    /// What it may be.
    pub want: &'static str,
    /// What holds without it.
    pub absent: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// All of them: what reads another is not to be had from a member here.
pub const TAGS: [Tag; 3] = [PORT, WEIGHT, STATE];

const PORT: Tag = Tag {
    name: "port",
    want: "a port from 1 to 65535",
    absent: "`port` of the backend",
    about: "where the server listens, at the member's address; `ports` of the backend says which may be named",
};
const WEIGHT: Tag = Tag {
    name: "weight",
    want: "a number from 0 to 256",
    absent: "1",
    about: "its share of the traffic beside the others, 0 for none; more than `max_weight` of the backend counts as that",
};
const STATE: Tag = Tag {
    name: "state",
    want: "ready, drain or maint",
    absent: "ready",
    about: "`drain`: no new requests, but for clients that stick to it; `maint`: none at all, once the running ones are done; \
            `ready`: back again",
};

impl Tag {
    fn wrong(self, name: &str, value: &BStr) -> Quarantine {
        Quarantine::Tag {
            tag: name.to_owned(),
            value: shown(value),
            want: self.want,
        }
    }
}

/// What holds for every backend that says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// This balancer itself, which is no server of its own.
    pub here: Here,
    /// Whether a member may be on a loopback address: only where the agent itself gossips on one.
    pub loopback: bool,
    /// What the tags are called.
    pub tags: TagNames,
    /// Servers that the template has itself: their names are taken.
    pub fixed: BTreeSet<ServerKey>,
}

/// Picks the members of every backend.
pub fn select(snapshot: &Snapshot, backends: &[BackendConfig], defaults: &Defaults) -> Model {
    let mut unnameable = BTreeMap::new();
    let mut nameable: Vec<(ServerName, &Entry)> = Vec::with_capacity(snapshot.entries().len());
    for entry in snapshot.entries() {
        let member = &entry.member;
        match ServerName::new(member.name()) {
            Some(name) => nameable.push((name, entry)),
            None if backends.iter().any(|backend| picks(backend, member)) => {
                unnameable.insert(shown(member.name()), Quarantine::Name);
            }
            None => {}
        }
    }
    let pick = |backend: &BackendConfig| {
        let picked = nameable
            .iter()
            .filter(|(_, entry)| picks(backend, &entry.member));
        let picked = picked
            .map(|(name, entry)| (name.clone(), candidate(name, entry, backend, defaults)))
            .collect();
        (backend.name.clone(), picked)
    };
    let known = nameable.iter();
    Model {
        backends: backends.iter().map(pick).collect(),
        known: known
            .map(|(name, entry)| (name.clone(), gossip(entry)))
            .collect(),
        unnameable,
    }
}

fn candidate(
    name: &ServerName,
    entry: &Entry,
    backend: &BackendConfig,
    defaults: &Defaults,
) -> Candidate {
    let key = ServerKey::new(&backend.name, name);
    let attributes = if defaults.fixed.contains(&key) {
        Err(Quarantine::Fixed)
    } else {
        attributes(&entry.member, backend, defaults)
    };
    Candidate {
        attributes,
        gossip: gossip(entry),
    }
}

fn picks(backend: &BackendConfig, member: &Member) -> bool {
    let fits = |(key, pattern): (&String, &TagPattern)| {
        let value = member.tag(key);
        value.is_some_and(|value| pattern.fits(value))
    };
    let tags_match = backend.tags.iter().all(fits);
    let node_matches = backend
        .node
        .as_ref()
        .is_none_or(|node| member.name().to_str().is_ok_and(|name| node.is_match(name)));
    tags_match && node_matches
}

/// What gossip says, or said last: that a member is not listed any more takes back no bad word of it.
fn gossip(entry: &Entry) -> SerfStatus {
    match (entry.presence, entry.member.status()) {
        (_, MemberStatus::Left) => SerfStatus::Left,
        (_, MemberStatus::Leaving) => SerfStatus::Leaving,
        (_, MemberStatus::Failed) => SerfStatus::Failed,
        (Presence::Listed, MemberStatus::Alive) => SerfStatus::Alive,
        _ => SerfStatus::Absent,
    }
}

fn attributes(
    member: &Member,
    backend: &BackendConfig,
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
    let tags = &defaults.tags;
    let port = port(member, backend, tags)?;
    if !backend.may_have(port) {
        return Err(Quarantine::Port(port));
    }
    let addr = SocketAddr::new(ip, port);
    if let Some(listener) = defaults.here.listener(addr) {
        let what = listener.what.clone();
        return Err(Quarantine::Here { addr, what });
    }
    let endpoint = Endpoint {
        addr,
        weight: weight(member, backend, &tags.weight)?,
    };
    Ok(Attributes {
        endpoint,
        requested: requested(member, &tags.state)?,
    })
}

/// Addresses that no server of anybody has: those by which the machines of large clouds get their credentials.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Unicast, and neither loopback, link-local, reserved, unspecified nor a cloud's metadata service; of an IPv6 address
/// that leads to an IPv4 one, that one too.
fn is_ordinary(ip: IpAddr) -> bool {
    if METADATA.contains(&ip) {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            // RFC 1122, 3.2.1.3: 0/8 is "this network"; 224/4 is multicast, and 240/4 reserved.
            !(ip.is_loopback() || ip.is_link_local() || first == 0 || first >= 224)
        }
        IpAddr::V6(ip) => {
            // RFC 3879: fec0::/10, once site-local.
            let is_site_local = ip.segments()[0] & 0xffc0 == 0xfec0;
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || is_site_local
                || ip.is_multicast()
                || ip.is_unspecified())
                && embedded(ip).is_none_or(|ip| is_ordinary(ip.into()))
        }
    }
}

/// The IPv4 address that a gateway would send a packet to this one on to: NAT64 (RFC 6052 and 8215), 6to4 (RFC 3056), and
/// the IPv4-compatible form (RFC 4291, 2.5.5.1).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = ip.segments();
    let (high, low) = match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, ..] | [0, 0, 0, 0, 0, 0] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

fn port(member: &Member, backend: &BackendConfig, tags: &TagNames) -> Result<u16, Quarantine> {
    let tag = backend.port_tag.as_ref().unwrap_or(&tags.port);
    match member.tag(tag) {
        Some(value) => number(value)
            .filter(|&port| port != 0)
            .ok_or_else(|| PORT.wrong(tag, value)),
        None => backend.port.ok_or(Quarantine::NoPort),
    }
}

fn weight(member: &Member, backend: &BackendConfig, tag: &str) -> Result<Weight, Quarantine> {
    let Some(value) = member.tag(tag) else {
        return Ok(Weight::DEFAULT.min(backend.max_weight));
    };
    let weight = number(value).and_then(Weight::new);
    let weight = weight.ok_or_else(|| WEIGHT.wrong(tag, value))?;
    Ok(weight.min(backend.max_weight))
}

fn requested(member: &Member, tag: &str) -> Result<RequestedState, Quarantine> {
    let Some(value) = member.tag(tag) else {
        return Ok(RequestedState::Ready);
    };
    match value.as_bytes() {
        b"ready" => Ok(RequestedState::Ready),
        b"drain" => Ok(RequestedState::Drain),
        b"maint" => Ok(RequestedState::Maint),
        _ => Err(STATE.wrong(tag, value)),
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

/// Escaped to printable ASCII and at most 80 bytes of the original.
pub fn shown(hostile: &BStr) -> String {
    hostile
        .bytes()
        .take(80)
        .flat_map(std::ascii::escape_default)
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests;
