//! One member in, its fields as text and as JSON out.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serf_rpc::Member;

use crate::{
    json::{base64_of, base64_pair},
    terminal::{escape, lossy},
};

/// `addr:port` as Go writes it, IPv6 in brackets; `:port` without an address.
pub(crate) fn socket_addr(member: &Member) -> String {
    match member.addr() {
        Some(addr) => std::net::SocketAddr::new(addr.to_canonical(), member.port()).to_string(),
        None => format!(":{}", member.port()),
    }
}

/// `key=value,key=value`, in the order of the keys (Serf's is random).
pub(crate) fn tags(member: &Member) -> String {
    let mut out = String::new();
    for (key, value) in member.tags() {
        let comma = if out.is_empty() { "" } else { "," };
        write!(out, "{comma}{}={}", escape(key), escape(value)).unwrap_or_default();
    }
    out
}

/// A member in JSON.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    addr: String,
    port: u16,
    #[serde(serialize_with = "tag_map")]
    tags: &'a Member,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags_base64: BTreeMap<String, String>,
    status: &'static str,
    protocol: Protocol,
}

/// Versions of Serf's own protocol.
#[derive(Serialize)]
struct Protocol {
    max: u8,
    min: u8,
    version: u8,
}

impl<'a> Row<'a> {
    pub(crate) fn new(member: &'a Member) -> Self {
        let versions = member.delegate();
        Self {
            name: lossy(member.name()),
            name_base64: base64_of(member.name()),
            addr: socket_addr(member),
            port: member.port(),
            tags: member,
            tags_base64: member
                .tags()
                .filter_map(|(key, value)| base64_pair(key, value))
                .collect(),
            status: member.status().as_str(),
            protocol: Protocol {
                max: versions.max,
                min: versions.min,
                version: versions.current,
            },
        }
    }
}

fn tag_map<S: Serializer>(member: &Member, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (key, value) in member.tags() {
        map.serialize_entry(&lossy(key), &lossy(value))?;
    }
    map.end()
}
