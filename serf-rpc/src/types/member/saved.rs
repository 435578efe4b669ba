//! Members as text that loses no byte: names, tags and status as [`text`](crate::types::text) has them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Member, ProtocolVersions};
use crate::types::text::{escape, unescape};

#[derive(Serialize, Deserialize)]
struct Saved {
    name: String,
    addr: Option<IpAddr>,
    port: u16,
    status: String,
    tags: BTreeMap<String, String>,
    #[serde(default)]
    protocol: ProtocolVersions,
    #[serde(default)]
    delegate: ProtocolVersions,
}

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tags = self.tags();
        let saved = Saved {
            name: escape(self.name()),
            addr: self.addr(),
            port: self.port(),
            status: escape(self.status_word()),
            tags: tags.map(|(k, v)| (escape(k), escape(v))).collect(),
            protocol: self.protocol(),
            delegate: self.delegate(),
        };
        saved.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::deserialize(deserializer)?;
        let mut member = Self::builder(unescape(&saved.name))
            .status_word(unescape(&saved.status))
            .protocol(saved.protocol)
            .delegate(saved.delegate)
            .port(saved.port);
        if let Some(addr) = saved.addr {
            member = member.addr(addr, saved.port);
        }
        for (key, value) in &saved.tags {
            member = member.tag(unescape(key), unescape(value));
        }
        Ok(member.build())
    }
}
