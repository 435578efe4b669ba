//! The names and values that may reach HAProxy: hostile bytes in, whitelisted types out.
//!
//! A value of one of these types is safe to print into a configuration file and into a line of the Runtime API
//! (HAProxy's Configuration Manual, section 2.2 "Quoting and escaping"; Management Guide, section 9.3).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

mod mapped;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// A clone shares it.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Ord for $name {
            /// In the order of their bytes; of two that are shared nothing has to be read.
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) {
                    return Ordering::Equal;
                }
                self.0.cmp(&other.0)
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a HAProxy backend.
    BackendName
}
name! {
    /// The name of a server: the member's name, as it is or mapped, and `:PORT` or `:ADDRESS:PORT` behind it where the member
    /// has named that for a service.
    ServerName
}

/// 1 to 64 bytes of `[A-Za-z0-9_.-]` that start with a letter or digit.
fn plain(name: &[u8]) -> Option<&str> {
    let (first, rest) = name.split_first()?;
    let is_safe = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let fits = name.len() <= 64 && first.is_ascii_alphanumeric() && rest.iter().all(is_safe);
    str::from_utf8(name).ok().filter(|_| fits)
}

impl BackendName {
    /// Takes 1 to 64 bytes of `[A-Za-z0-9_.-]` that start with a letter or digit, refuses all else.
    pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
        plain(name.as_ref()).map(|name| Self(name.into()))
    }

    /// A name for a backend that was given none: its config is refused.
    pub(crate) fn unnamed() -> Self {
        Self("unnamed".into())
    }
}

impl ServerName {
    /// Takes `MEMBER`, `MEMBER:PORT` or `MEMBER:ADDRESS:PORT`, as HAProxy and the state directory have them: a member's name of
    /// 1 to 64 bytes of `[A-Za-z0-9_.-]` that starts with a letter or digit, or one that was mapped; an IP address in its
    /// usual form; a port without leading zeros.
    pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
        let text = str::from_utf8(name.as_ref()).ok()?;
        let (member, place) = match text.split_once(':') {
            Some((member, place)) => (member, Some(place)),
            None => (text, None),
        };
        let is_port = |port: &str| {
            port.parse::<u16>()
                .is_ok_and(|it| it > 0 && it.to_string() == port)
        };
        let is_addr = |addr: &str| {
            addr.parse::<IpAddr>()
                .is_ok_and(|it| it.to_string() == addr)
        };
        let is_place = |place: &str| match place.rsplit_once(':') {
            Some((addr, port)) => is_addr(addr) && is_port(port),
            None => is_port(place),
        };
        let is_member = plain(member.as_bytes()).is_some() || mapped::is_mapped(member);
        (is_member && place.is_none_or(is_place)).then(|| Self(text.into()))
    }

    /// The server of a member with this name, as it is.
    fn of_plain(member: &[u8]) -> Option<Self> {
        plain(member).map(|name| Self(name.into()))
    }

    /// The server of the same member at a port that it has named, and at an address where that is not its own: a host has
    /// several containers with one port.
    #[must_use]
    pub fn at(&self, addr: Option<IpAddr>, port: u16) -> Self {
        let member = self.member();
        let name = match addr {
            Some(addr) => format!("{member}:{addr}:{port}"),
            None => format!("{member}:{port}"),
        };
        Self(name.into())
    }

    /// Whether somebody who writes this means the other: `MEMBER` is all servers of that member.
    pub fn means(&self, other: &Self) -> bool {
        self == other || self.as_str() == other.member()
    }

    /// The part that stands for the member: what gossip is asked for.
    pub fn member(&self) -> &str {
        self.0
            .split_once(':')
            .map_or(&*self.0, |(member, _)| member)
    }

    /// The name that the member has in Serf; none where it was too long to be kept whole.
    pub fn original(&self) -> Option<Vec<u8>> {
        let member = self.member();
        if member.starts_with('_') {
            return mapped::unmap(member);
        }
        Some(member.as_bytes().to_vec())
    }
}

/// What becomes of members whose names can be no server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// They are quarantined.
    #[default]
    Quarantine,
    /// They get names that no other member has, nor can have.
    Map,
}

impl Naming {
    /// What the servers of this member are called; none where it is quarantined for its name.
    pub fn server(self, member: impl AsRef<[u8]>) -> Option<ServerName> {
        let member = member.as_ref();
        let mapped = || ServerName(mapped::map(member).into());
        ServerName::of_plain(member).or_else(|| (self == Self::Map).then(mapped))
    }
}

/// An absolute weight, 0 to 256 (HAProxy's Configuration Manual, `weight`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Weight(u16);

impl Weight {
    /// HAProxy's default.
    pub const DEFAULT: Self = Self(1);
    /// No new requests, as far as others have any weight.
    pub const ZERO: Self = Self(0);
    /// Ten times the default.
    pub(crate) const TEN: Self = Self(10);

    /// Takes 0 to 256.
    pub fn new(weight: u16) -> Option<Self> {
        (weight <= 256).then_some(Self(weight))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// A server of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ServerKey {
    /// The backend.
    pub backend: BackendName,
    /// The server in it.
    pub server: ServerName,
}

impl ServerKey {
    /// The server of that name in that backend.
    pub fn new(backend: &BackendName, server: &ServerName) -> Self {
        Self {
            backend: backend.clone(),
            server: server.clone(),
        }
    }

    /// Takes names as HAProxy has them; none where either cannot be a member's.
    pub fn read(backend: &str, server: &str) -> Option<Self> {
        Some(Self {
            backend: BackendName::new(backend)?,
            server: ServerName::new(server)?,
        })
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.server)
    }
}
