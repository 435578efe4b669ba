//! Who belongs where: a Snapshot and the backends' rules in, a [`Model`] with a reason for every member left out.
//!
//! Names, tags and addresses come from any node of the cluster and are taken as hostile: what is not on the
//! whitelist puts that member, and no other, into quarantine.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bstr::{BStr, ByteSlice};
use serf_rpc::{Entry, Member, MemberStatus, Presence, Snapshot};

use crate::config::{BackendConfig, TagNames, TagPattern};
use crate::model::Details;
use crate::model::here::Here;
use crate::model::{
    Attributes, Candidate, Endpoint, Model, Naming, Quarantine, RequestedState, SerfStatus,
    ServerKey, ServerName, Weight,
};
use crate::services::Announcement;

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
    about: "`drain`: no new requests, but for clients that a cookie of a template leads there, not that of `sticky`; \
            `maint`: none at all, once the running ones are done; `ready`: back again",
};

/// Tags of services, `host.shop` where they are said of one of several.
pub const SERVICE_TAGS: [Tag; 5] = [SERVICES, HOST, PATH, BACKUP, PROTO];

pub(crate) const SERVICES: Tag = Tag {
    name: "svc",
    want: "services with their ports, `shop:3000,api:4000`, and `@ADDRESS` where one is elsewhere",
    absent: "no service",
    about: "what `[services]` makes backends of; without a port it is that of the tag `port`, or of the service's settings",
};
pub(crate) const HOST: Tag = Tag {
    name: "host",
    want: "the name of a host that `hosts` has",
    absent: "`default_host`",
    about: "whose requests the service gets",
};
pub(crate) const PATH: Tag = Tag {
    name: "path",
    want: "a path of whole segments, `/api`, that is among `paths` or below one",
    absent: "`/`",
    about: "below which path it gets them",
};
pub(crate) const BACKUP: Tag = Tag {
    name: "backup",
    want: "1 or 0",
    absent: "0",
    about: "`1`: gets requests only where no other server of the service takes any",
};
pub(crate) const PROTO: Tag = Tag {
    name: "proto",
    want: "http, h2 or tcp",
    absent: "what the service's settings say",
    about: "what the service speaks; `tcp` has no host and path",
};

impl Tag {
    pub(crate) fn wrong(self, name: &str, value: &BStr) -> Quarantine {
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
    /// What becomes of members whose names can be no server's.
    pub names: Naming,
    /// Whether a template reads the tags of servers.
    pub tags_are_read: bool,
    /// Servers that the template has itself: their names are taken.
    pub fixed: BTreeSet<ServerKey>,
}

impl Defaults {
    /// Every member, with the name of its servers where it can have one.
    pub(crate) fn named<'a>(
        &self,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = (Option<ServerName>, &'a Entry)> {
        let entries = snapshot.entries().iter();
        entries.map(|entry| (self.names.server(entry.member.name()), entry))
    }
}

/// What a member says of one of its servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) member: &'a Member,
    /// The service that it is in, where the member has announced it.
    pub(crate) service: Option<&'a Announcement>,
}

impl<'a> Said<'a> {
    /// The tag of this name, with the name that it has: of a service `weight.api:4000` goes before `weight.api`, and that
    /// before `weight`.
    pub(crate) fn tag<'t>(&self, name: &'t str) -> Option<(Cow<'t, str>, &'a BStr)> {
        if let Some(Announcement { service, port, .. }) = self.service {
            let of_one = port.map(|port| format!("{name}.{service}:{port}"));
            let of_all = Some(format!("{name}.{service}"));
            for name in [of_one, of_all].into_iter().flatten() {
                if let Some(value) = self.member.tag(&name) {
                    return Some((Cow::Owned(name), value));
                }
            }
        }
        Some((Cow::Borrowed(name), self.member.tag(name)?))
    }
}

/// Picks the members of every backend.
pub fn select(snapshot: &Snapshot, backends: &[BackendConfig], defaults: &Defaults) -> Model {
    let mut unnameable = BTreeMap::new();
    let mut nameable: Vec<(ServerName, &Entry)> = Vec::with_capacity(snapshot.entries().len());
    for (name, entry) in defaults.named(snapshot) {
        let member = &entry.member;
        match name {
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
        let picked = picked.map(|(name, entry)| {
            let said = Said {
                member: &entry.member,
                service: None,
            };
            let key = ServerKey::new(&backend.name, name);
            let candidate = Candidate {
                attributes: attributes(&key, said, backend, defaults),
                gossip: gossip(entry),
            };
            (name.clone(), candidate)
        });
        (backend.name.clone(), picked.collect())
    };
    let mut model = Model {
        backends: backends.iter().map(pick).collect(),
        unnameable,
        ..Model::default()
    };
    if defaults.tags_are_read {
        for (backend, servers) in &model.backends {
            let picked = nameable
                .iter()
                .filter(|(name, _)| servers.contains_key(name));
            let details = picked.map(|(name, entry)| {
                let tags = template_tags(&entry.member);
                (
                    ServerKey::new(backend, name),
                    Details {
                        tags,
                        ..Details::default()
                    },
                )
            });
            model.details.extend(details);
        }
    }
    for (name, entry) in nameable {
        if name.as_str().as_bytes() != &**entry.member.name() {
            model
                .renamed
                .insert(name.clone(), shown(entry.member.name()));
        }
        model.known.insert(name, gossip(entry));
    }
    model
}

/// The tags of a member that a template may see: with names and values of letters, digits and `_ . -`, the values also with
/// `: / @ + = ,`, that begin with a letter or digit; of at most 64 and 128 bytes. None of them ends a word or a line of
/// HAProxy's configuration, opens a quotation or an expansion, or is an option of a word before it; the others are left out
/// (Configuration Manual, section 2.2 "Quoting and escaping").
pub(crate) fn template_tags(member: &Member) -> BTreeMap<String, String> {
    let whole = |bytes: &BStr, also: &[u8], most: usize| {
        let text = bytes.to_str().ok()?;
        let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let is_safe = |b: u8| b.is_ascii_alphanumeric() || also.contains(&b);
        let fits = begins && text.len() <= most && text.bytes().all(is_safe);
        fits.then(|| text.to_owned())
    };
    let tags = member.tags().filter_map(|(name, value)| {
        let name = whole(name, b"_.-", 64)?;
        Some((name, whole(value, b"_.-:/@+=,", 128)?))
    });
    tags.collect()
}

fn picks(backend: &BackendConfig, member: &Member) -> bool {
    if backend.is_service {
        return false;
    }
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
pub(crate) fn gossip(entry: &Entry) -> SerfStatus {
    match (entry.presence, entry.member.status()) {
        (_, MemberStatus::Left) => SerfStatus::Left,
        (_, MemberStatus::Leaving) => SerfStatus::Leaving,
        (_, MemberStatus::Failed) => SerfStatus::Failed,
        (Presence::Listed, MemberStatus::Alive) => SerfStatus::Alive,
        _ => SerfStatus::Absent,
    }
}

/// What a member says of a server, checked by the rules of its backend.
pub(crate) fn attributes(
    key: &ServerKey,
    said: Said<'_>,
    backend: &BackendConfig,
    defaults: &Defaults,
) -> Result<Attributes, Quarantine> {
    if defaults.fixed.contains(key) {
        return Err(Quarantine::Fixed);
    }
    let named = said.service.and_then(|service| service.addr);
    let ip = named.or_else(|| said.member.addr());
    let ip = ip.ok_or(Quarantine::NoAddress)?.to_canonical();
    let allowed = match &backend.networks {
        Some(networks) => networks.iter().any(|network| network.contains(&ip)),
        None => is_ordinary(ip) || (ip.is_loopback() && defaults.loopback),
    };
    if !allowed {
        return Err(Quarantine::Network(ip));
    }
    let tags = &defaults.tags;
    let port = port(said, backend, tags)?;
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
        weight: weight(said, backend, &tags.weight)?,
    };
    Ok(Attributes {
        endpoint,
        requested: requested(said, &tags.state)?,
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

fn port(said: Said<'_>, backend: &BackendConfig, tags: &TagNames) -> Result<u16, Quarantine> {
    if let Some(port) = said.service.and_then(|service| service.port) {
        return Ok(port);
    }
    let tag = backend.port_tag.as_ref().unwrap_or(&tags.port);
    match said.tag(tag) {
        Some((tag, value)) => number(value)
            .filter(|&port| port != 0)
            .ok_or_else(|| PORT.wrong(&tag, value)),
        None => backend.port.ok_or(Quarantine::NoPort),
    }
}

fn weight(said: Said<'_>, backend: &BackendConfig, tag: &str) -> Result<Weight, Quarantine> {
    let Some((tag, value)) = said.tag(tag) else {
        return Ok(Weight::DEFAULT.min(backend.max_weight));
    };
    let weight = number(value).and_then(Weight::new);
    let weight = weight.ok_or_else(|| WEIGHT.wrong(&tag, value))?;
    Ok(weight.min(backend.max_weight))
}

fn requested(said: Said<'_>, tag: &str) -> Result<RequestedState, Quarantine> {
    let Some((tag, value)) = said.tag(tag) else {
        return Ok(RequestedState::Ready);
    };
    match value.as_bytes() {
        b"ready" => Ok(RequestedState::Ready),
        b"drain" => Ok(RequestedState::Drain),
        b"maint" => Ok(RequestedState::Maint),
        _ => Err(STATE.wrong(&tag, value)),
    }
}

/// Whether the server of a service is to serve only when the others do not.
pub(crate) fn is_backup(said: Said<'_>, tag: &str) -> Result<bool, Quarantine> {
    let Some((tag, value)) = said.tag(tag) else {
        return Ok(false);
    };
    match value.as_bytes() {
        b"1" => Ok(true),
        b"0" => Ok(false),
        _ => Err(BACKUP.wrong(&tag, value)),
    }
}

/// Digits only: what `u16::from_str` takes beyond them (`+1`) is no number here.
pub(crate) fn number(value: &BStr) -> Option<u16> {
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
