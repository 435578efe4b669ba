//! One member of the cluster as the agent lists it: bytes of a reply in, accessors out.

use std::net::IpAddr;

use bstr::{BStr, BString};

/// A member as the agent's `members` lists it. Names and tags are any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    name: BString,
    addr: Option<IpAddr>,
    port: u16,
    status: MemberStatus,
    tags: Vec<(BString, BString)>,
}

/// What Serf says of a member (`serf/serf.go`, `MemberStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberStatus {
    /// `none`: the agent has heard of it and knows nothing else.
    None,
    /// `alive`.
    Alive,
    /// `leaving`: it has announced a graceful leave.
    Leaving,
    /// `left`: it has left gracefully.
    Left,
    /// `failed`: it was declared dead.
    Failed,
    /// A status this library does not know.
    Unknown,
}

impl Member {
    /// Starts a member of that name: alive, without address or tags.
    pub fn builder(name: impl AsRef<[u8]>) -> MemberBuilder {
        MemberBuilder(Self {
            name: BString::from(name.as_ref()),
            addr: None,
            port: 0,
            status: MemberStatus::Alive,
            tags: Vec::new(),
        })
    }

    /// The node's name, any bytes.
    pub fn name(&self) -> &BStr {
        self.name.as_ref()
    }

    /// The address it gossips on.
    pub fn addr(&self) -> Option<IpAddr> {
        self.addr
    }

    /// The port it gossips on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What Serf says of it.
    pub fn status(&self) -> MemberStatus {
        self.status
    }

    /// The value of a tag.
    pub fn tag(&self, key: impl AsRef<[u8]>) -> Option<&BStr> {
        let key = key.as_ref();
        self.tags.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_ref())
    }

    /// All tags, in the order of their keys.
    pub fn tags(&self) -> impl Iterator<Item = (&BStr, &BStr)> {
        self.tags.iter().map(|(k, v)| (k.as_ref(), v.as_ref()))
    }
}

/// Builds a [`Member`] without an agent: for tests, fakes and stored snapshots.
#[derive(Clone, Debug)]
pub struct MemberBuilder(Member);

impl MemberBuilder {
    /// The address and port it gossips on.
    #[must_use]
    pub fn addr(mut self, addr: IpAddr, port: u16) -> Self {
        self.0.addr = Some(addr);
        self.0.port = port;
        self
    }

    /// What Serf says of it.
    #[must_use]
    pub fn status(mut self, status: MemberStatus) -> Self {
        self.0.status = status;
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.tags.push((key.as_ref().into(), value.as_ref().into()));
        self.0.tags.sort();
        self
    }

    /// The member.
    pub fn build(self) -> Member {
        self.0
    }
}
