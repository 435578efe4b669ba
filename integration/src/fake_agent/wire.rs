//! What an agent writes: values in, the bytes that a real one sends for them out, key order and
//! integer forms included. Written apart from the library, so that neither hides a slip of the other.

use std::net::IpAddr;

use bytes::Bytes;
use rmp::encode as msgpack;
use serf_rpc::{Member, MemberEventKind};

/// Why a vector is always written to.
const ROOM: &str = "a vector has room";

/// The header of a reply or a record; an empty error is success.
pub(super) fn header(seq: u64, error: &str) -> Bytes {
    let mut out = Writer::default();
    out.map(2).str("Error").str(error).str("Seq").uint(seq);
    out.bytes()
}

/// One member, as it stands in a list.
pub(super) fn member(member: &Member) -> Bytes {
    let mut out = Writer::default();
    let (protocol, delegate) = (member.protocol(), member.delegate());
    out.map(11).str("Addr");
    match member.addr() {
        None => out.nil(),
        Some(IpAddr::V4(addr)) => out.bin(&addr.octets()),
        Some(IpAddr::V6(addr)) => out.bin(&addr.octets()),
    };
    out.str("DelegateCur").uint(delegate.current.into());
    out.str("DelegateMax").uint(delegate.max.into());
    out.str("DelegateMin").uint(delegate.min.into());
    out.str("Name").str(member.name());
    out.str("Port").uint(member.port().into());
    out.str("ProtocolCur").uint(protocol.current.into());
    out.str("ProtocolMax").uint(protocol.max.into());
    out.str("ProtocolMin").uint(protocol.min.into());
    out.str("Status").str(member.status().as_str());
    out.str("Tags").map(member.tags().count());
    for (key, value) in member.tags() {
        out.str(key).str(value);
    }
    out.bytes()
}

/// The body of an answer to `members`, of members as [`member`] writes them.
pub(super) fn members<'a>(members: impl ExactSizeIterator<Item = &'a Bytes>) -> Bytes {
    let mut out = Writer::default();
    out.map(1).str("Members").list(members);
    out.bytes()
}

/// Names and values, all of them texts.
pub(super) type Figures<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The body of an answer to `stats`: groups of figures.
pub(super) fn stats(groups: &[(&str, Figures<'_>)]) -> Bytes {
    let mut out = Writer::default();
    out.map(groups.len());
    for (group, figures) in groups {
        out.str(group).map(figures.len());
        for (key, value) in figures {
            out.str(key).str(value);
        }
    }
    out.bytes()
}

/// The body of a record of a monitor.
pub(super) fn line(line: &[u8]) -> Bytes {
    let mut out = Writer::default();
    out.map(1).str("Log").str(line);
    out.bytes()
}

/// The body of a record of what happened to members, as [`member`] writes them.
pub(super) fn member_event<'a>(
    kind: MemberEventKind,
    members: impl ExactSizeIterator<Item = &'a Bytes>,
) -> Bytes {
    let mut out = Writer::default();
    out.map(2).str("Event").str(kind.as_str());
    out.str("Members").list(members);
    out.bytes()
}

/// The body of a record of a user event.
pub(super) fn user_event(ltime: u64, name: &[u8], payload: &[u8], coalesce: bool) -> Bytes {
    let mut out = Writer::default();
    out.map(5).str("Coalesce").bool(coalesce);
    out.str("Event").str("user").str("LTime").uint(ltime);
    out.str("Name").str(name).str("Payload");
    if payload.is_empty() {
        out.nil();
    } else {
        out.bin(payload);
    }
    out.bytes()
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn map(&mut self, pairs: usize) -> &mut Self {
        msgpack::write_map_len(&mut self.0, length(pairs)).expect(ROOM);
        self
    }

    fn list<'a>(&mut self, values: impl ExactSizeIterator<Item = &'a Bytes>) -> &mut Self {
        msgpack::write_array_len(&mut self.0, length(values.len())).expect(ROOM);
        for value in values {
            self.0.extend_from_slice(value);
        }
        self
    }

    /// A string, of any bytes as Serf's are.
    fn str(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        msgpack::write_str_len(&mut self.0, length(text.len())).expect(ROOM);
        self.0.extend_from_slice(text);
        self
    }

    fn bin(&mut self, bytes: &[u8]) -> &mut Self {
        msgpack::write_bin(&mut self.0, bytes).expect(ROOM);
        self
    }

    fn uint(&mut self, number: u64) -> &mut Self {
        msgpack::write_uint(&mut self.0, number).expect(ROOM);
        self
    }

    fn bool(&mut self, truth: bool) -> &mut Self {
        msgpack::write_bool(&mut self.0, truth).expect(ROOM);
        self
    }

    fn nil(&mut self) -> &mut Self {
        msgpack::write_nil(&mut self.0).expect(ROOM);
        self
    }

    fn bytes(self) -> Bytes {
        self.0.into()
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("nothing here has four thousand million parts")
}

#[cfg(test)]
mod tests {
    use serf_rpc::{MemberStatus, ProtocolVersions};

    use super::*;

    #[test]
    fn records_are_those_that_a_real_agent_was_seen_to_send() {
        let versions = |min, max, current| ProtocolVersions { min, max, current };
        let web = Member::builder("b")
            .addr([127, 9, 9, 2].into(), 7946)
            .protocol(versions(1, 5, 2))
            .delegate(versions(2, 5, 5))
            .status(MemberStatus::Left)
            .tag("role", "x")
            .build();
        let seen: &[u8] = b"\x82\xa5Event\xacmember-leave\xa7Members\x91\x8b\xa4Addr\xc4\x04\x7f\t\t\x02\
            \xabDelegateCur\x05\xabDelegateMax\x05\xabDelegateMin\x02\xa4Name\xa1b\xa4Port\xcd\x1f\n\
            \xabProtocolCur\x02\xabProtocolMax\x05\xabProtocolMin\x01\xa6Status\xa4left\
            \xa4Tags\x81\xa4role\xa1x";
        assert_eq!(
            member_event(MemberEventKind::Leave, [member(&web)].iter()),
            seen
        );
        let seen: &[u8] =
            b"\x81\xa3Log\xd9>2026/11/24 02:09:35 [INFO] serf: EventMemberLeave: b 127.9.9.2";
        assert_eq!(
            line(b"2026/11/24 02:09:35 [INFO] serf: EventMemberLeave: b 127.9.9.2"),
            seen
        );
        let seen: &[u8] =
            b"\x85\xa8Coalesce\xc2\xa5Event\xa4user\xa5LTime\x01\xa4Name\xa3dep\xa7Payload\xc4\x03pay";
        assert_eq!(user_event(1, b"dep", b"pay", false), seen);
        assert!(user_event(1, b"dep", b"", false).ends_with(b"Payload\xc0"));
    }
}
