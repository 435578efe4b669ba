//! How a member lies in its one allocation: parts in, bytes out, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Member, MemberStatus, ProtocolVersions};
use crate::wire::codec::DecodeError;

/// Status, protocol numbers and port.
pub(super) const FIXED: usize = 9;

/// The variable part of a packed member; written by [`Parts::pack`] only, so it is never short.
pub(super) struct Packed<'a>(pub(super) &'a [u8]);

impl<'a> Packed<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(len).unwrap_or_default();
        self.0 = rest;
        taken
    }

    /// A length as [`pack_string`] writes it.
    fn len(&mut self) -> usize {
        match self.take(1) {
            [LONG] => self
                .take(size_of::<usize>())
                .try_into()
                .map_or(0, usize::from_ne_bytes),
            [len] => usize::from(*len),
            _ => 0,
        }
    }

    pub(super) fn string(&mut self) -> &'a [u8] {
        let len = self.len();
        self.take(len)
    }

    pub(super) fn address(&mut self) -> Option<IpAddr> {
        ip(self.string()).ok().flatten()
    }
}

/// The address that an agent sends as 4 or 16 bytes, or as nothing.
pub(super) fn ip(bytes: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    if bytes.is_empty() {
        Ok(None)
    } else if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(Some(Ipv4Addr::from(v4).into()))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(Some(IpAddr::from(Ipv6Addr::from(v6)).to_canonical()))
    } else {
        Err(DecodeError::Address { len: bytes.len() })
    }
}

/// A member in parts, on its way into its packed form.
#[derive(Default)]
pub(super) struct Parts<'a> {
    pub(super) name: &'a [u8],
    pub(super) addr: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) status: &'a [u8],
    pub(super) protocol: ProtocolVersions,
    pub(super) delegate: ProtocolVersions,
}

impl Parts<'_> {
    /// Packs it with tags, which it sorts; of equal keys the last counts.
    pub(super) fn pack(&self, tags: &mut Vec<(&[u8], &[u8])>, scratch: &mut Vec<u8>) -> Member {
        tags.reverse();
        tags.sort_by_key(|(key, _)| *key);
        tags.dedup_by_key(|(key, _)| *key);
        scratch.clear();
        let (p, d) = (self.protocol, self.delegate);
        let status = MemberStatus::parse(self.status);
        scratch.extend([
            status.code(),
            p.min,
            p.max,
            p.current,
            d.min,
            d.max,
            d.current,
        ]);
        scratch.extend(self.port.to_be_bytes());
        if status == MemberStatus::Unknown {
            pack_string(scratch, self.status);
        }
        match self.addr {
            None => pack_string(scratch, &[]),
            Some(IpAddr::V4(addr)) => pack_string(scratch, &addr.octets()),
            Some(IpAddr::V6(addr)) => pack_string(scratch, &addr.octets()),
        }
        pack_string(scratch, self.name);
        for (key, value) in tags {
            pack_string(scratch, key);
            pack_string(scratch, value);
        }
        Member(Arc::from(&**scratch))
    }
}

/// Stands before a length that does not fit one byte.
const LONG: u8 = u8::MAX;

fn pack_string(out: &mut Vec<u8>, string: &[u8]) {
    match u8::try_from(string.len()) {
        Ok(len) if len < LONG => out.push(len),
        _ => {
            out.push(LONG);
            out.extend(string.len().to_ne_bytes());
        }
    }
    out.extend_from_slice(string);
}
