//! A member without an agent.

use std::net::IpAddr;

use bstr::BString;

use super::packed::Parts;
use super::{Member, MemberStatus, ProtocolVersions};

/// Builds a [`Member`] without an agent: for tests, fakes and stored snapshots.
#[derive(Clone, Debug)]
pub struct MemberBuilder {
    pub(super) name: BString,
    pub(super) addr: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) status: BString,
    pub(super) protocol: ProtocolVersions,
    pub(super) delegate: ProtocolVersions,
    pub(super) tags: Vec<(BString, BString)>,
}

impl MemberBuilder {
    /// The address and port it gossips on.
    #[must_use]
    pub fn addr(mut self, addr: IpAddr, port: u16) -> Self {
        self.addr = Some(addr.to_canonical());
        self.port = port;
        self
    }

    /// The port alone.
    #[cfg(feature = "serde")]
    pub(super) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// What Serf says of it.
    #[must_use]
    pub fn status(self, status: MemberStatus) -> Self {
        self.status_word(status.as_str())
    }

    /// What Serf says of it in its own word, even one that this library does not know.
    #[must_use]
    pub fn status_word(mut self, word: impl AsRef<[u8]>) -> Self {
        self.status = word.as_ref().into();
        self
    }

    /// Versions of the gossip protocol it speaks.
    #[must_use]
    pub fn protocol(mut self, versions: ProtocolVersions) -> Self {
        self.protocol = versions;
        self
    }

    /// Versions of Serf's own protocol it speaks.
    #[must_use]
    pub fn delegate(mut self, versions: ProtocolVersions) -> Self {
        self.delegate = versions;
        self
    }

    /// Adds a tag, or replaces the one of that key.
    #[must_use]
    pub fn tag(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.tags.push((key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// The member.
    pub fn build(self) -> Member {
        let parts = Parts {
            name: &self.name,
            addr: self.addr,
            port: self.port,
            status: &self.status,
            protocol: self.protocol,
            delegate: self.delegate,
        };
        let mut tags = self
            .tags
            .iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .collect();
        parts.pack(&mut tags, &mut Vec::new())
    }
}
