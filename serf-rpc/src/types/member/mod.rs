//! One member of the cluster as the agent lists it: bytes of a reply in, accessors out.

mod builder;
mod decode;
mod packed;
#[cfg(feature = "serde")]
mod saved;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};

pub use builder::MemberBuilder;
pub(crate) use decode::MemberDecoder;
use packed::{FIXED, Packed};
pub use status::MemberStatus;

/// A member as the agent's `members` lists it. Names and tags are any bytes.
///
/// It owns one allocation, and a clone shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Member(
    /// `status, 6 protocol numbers, port (2), [unknown status,] address, name, (key, value)…`,
    /// the keys ascending, every string after its length.
    Arc<[u8]>,
);

/// Versions of one of the two protocols that a member speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProtocolVersions {
    /// The lowest it understands.
    pub min: u8,
    /// The highest it understands.
    pub max: u8,
    /// The one it speaks now.
    pub current: u8,
}

impl Member {
    /// Starts a member of that name: alive, without address or tags.
    pub fn builder(name: impl AsRef<[u8]>) -> MemberBuilder {
        MemberBuilder {
            name: BString::from(name.as_ref()),
            addr: None,
            port: 0,
            status: MemberStatus::Alive.as_str().into(),
            protocol: ProtocolVersions::default(),
            delegate: ProtocolVersions::default(),
            tags: Vec::new(),
        }
    }

    /// The node's name, any bytes.
    pub fn name(&self) -> &BStr {
        let mut packed = self.unpack();
        packed.address();
        packed.string().as_bstr()
    }

    /// The address it gossips on. An IPv4 address is never given as an IPv6 one.
    pub fn addr(&self) -> Option<IpAddr> {
        self.unpack().address()
    }

    /// The port it gossips on.
    pub fn port(&self) -> u16 {
        match &*self.0 {
            [_, _, _, _, _, _, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    /// What Serf says of it.
    pub fn status(&self) -> MemberStatus {
        self.0
            .first()
            .map_or(MemberStatus::Unknown, |&code| MemberStatus::from_code(code))
    }

    /// What Serf says of it in its own word, even one that this library does not know.
    pub fn status_word(&self) -> &BStr {
        match self.status() {
            MemberStatus::Unknown => self.variable().string().as_bstr(),
            known => known.as_str().into(),
        }
    }

    /// Versions of the gossip protocol (memberlist) it speaks.
    pub fn protocol(&self) -> ProtocolVersions {
        match &*self.0 {
            [_, min, max, current, ..] => ProtocolVersions {
                min: *min,
                max: *max,
                current: *current,
            },
            _ => ProtocolVersions::default(),
        }
    }

    /// Versions of Serf's own protocol it speaks, those that `serf members` prints.
    pub fn delegate(&self) -> ProtocolVersions {
        match &*self.0 {
            [_, _, _, _, min, max, current, ..] => ProtocolVersions {
                min: *min,
                max: *max,
                current: *current,
            },
            _ => ProtocolVersions::default(),
        }
    }

    /// The value of a tag.
    pub fn tag(&self, key: impl AsRef<[u8]>) -> Option<&BStr> {
        let key = key.as_ref();
        self.tags().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// All tags, in the order of their keys.
    pub fn tags(&self) -> impl Iterator<Item = (&BStr, &BStr)> {
        let mut packed = self.unpack();
        packed.address();
        packed.string();
        std::iter::from_fn(move || {
            (!packed.0.is_empty()).then(|| (packed.string().as_bstr(), packed.string().as_bstr()))
        })
    }

    /// The address and what follows it.
    fn unpack(&self) -> Packed<'_> {
        let mut packed = self.variable();
        if self.status() == MemberStatus::Unknown {
            packed.string();
        }
        packed
    }

    /// Everything behind the fixed fields.
    fn variable(&self) -> Packed<'_> {
        Packed(self.0.get(FIXED..).unwrap_or_default())
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Tags<'a>(&'a Member);
        impl fmt::Debug for Tags<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_map().entries(self.0.tags()).finish()
            }
        }
        f.debug_struct("Member")
            .field("name", &self.name())
            .field("addr", &self.addr())
            .field("port", &self.port())
            .field("status", &self.status_word())
            .field("protocol", &self.protocol())
            .field("delegate", &self.delegate())
            .field("tags", &Tags(self))
            .finish()
    }
}
