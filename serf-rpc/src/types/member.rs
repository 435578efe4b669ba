//! One member of the cluster as the agent lists it: bytes of a reply in, accessors out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};

use crate::wire::codec::{DecodeError, Reader};

/// A member as the agent's `members` lists it. Names and tags are any bytes.
///
/// It owns one allocation, and a clone shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Member(
    /// `status, 6 protocol numbers, port (2), [unknown status,] address, name, (key, value)…`,
    /// the keys ascending, every string after its length.
    Arc<[u8]>,
);

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
    /// A status this library does not know; see [`Member::status_word`].
    Unknown,
}

impl MemberStatus {
    const ALL: [Self; 6] = [
        Self::None,
        Self::Alive,
        Self::Leaving,
        Self::Left,
        Self::Failed,
        Self::Unknown,
    ];

    /// Serf's word for it; `unknown` for one that this library does not know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The status of that word; [`Self::Unknown`] for any other.
    pub fn parse(word: impl AsRef<[u8]>) -> Self {
        let word = word.as_ref();
        Self::ALL
            .into_iter()
            .find(|status| status.as_str().as_bytes() == word)
            .unwrap_or(Self::Unknown)
    }

    fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Alive => 1,
            Self::Leaving => 2,
            Self::Left => 3,
            Self::Failed => 4,
            Self::Unknown => 5,
        }
    }

    fn from_code(code: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|status| status.code() == code)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

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

/// Status, protocol numbers and port.
const FIXED: usize = 9;

/// The variable part of a packed member; written by [`Parts::pack`] only, so it is never short.
struct Packed<'a>(&'a [u8]);

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

    fn string(&mut self) -> &'a [u8] {
        let len = self.len();
        self.take(len)
    }

    fn address(&mut self) -> Option<IpAddr> {
        ip(self.string()).ok().flatten()
    }
}

/// The address that an agent sends as 4 or 16 bytes, or as nothing.
fn ip(bytes: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
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
struct Parts<'a> {
    name: &'a [u8],
    addr: Option<IpAddr>,
    port: u16,
    status: &'a [u8],
    protocol: ProtocolVersions,
    delegate: ProtocolVersions,
}

impl Parts<'_> {
    /// Packs it with tags, which it sorts; of equal keys the last counts.
    fn pack(&self, tags: &mut Vec<(&[u8], &[u8])>, scratch: &mut Vec<u8>) -> Member {
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

/// Decodes one member after the other, with buffers that all of them share.
#[derive(Default)]
pub(crate) struct MemberDecoder<'a> {
    tags: Vec<(&'a [u8], &'a [u8])>,
    scratch: Vec<u8>,
}

impl<'a> MemberDecoder<'a> {
    /// The array of members that begins here.
    pub(crate) fn members(reader: &mut Reader<'a>) -> Result<Vec<Member>, DecodeError> {
        /// A member takes more than this; it bounds what a false count can allocate.
        const SMALLEST: usize = 64;
        let count = reader.array_len()?;
        let expected = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(reader.remaining() / SMALLEST);
        let mut members = Vec::with_capacity(expected);
        let mut decoder = Self::default();
        for _ in 0..count {
            members.push(decoder.member(reader)?);
        }
        Ok(members)
    }

    fn member(&mut self, reader: &mut Reader<'a>) -> Result<Member, DecodeError> {
        let Self { tags, scratch } = self;
        tags.clear();
        let mut parts = Parts::default();
        let mut name = None;
        reader.fields(|key, value| {
            match key {
                b"Name" => name = Some(value.bytes()?),
                b"Addr" => parts.addr = ip(value.bytes()?)?,
                b"Port" => parts.port = value.number("Port")?,
                b"Status" => parts.status = value.bytes()?,
                b"ProtocolMin" => parts.protocol.min = value.number("ProtocolMin")?,
                b"ProtocolMax" => parts.protocol.max = value.number("ProtocolMax")?,
                b"ProtocolCur" => parts.protocol.current = value.number("ProtocolCur")?,
                b"DelegateMin" => parts.delegate.min = value.number("DelegateMin")?,
                b"DelegateMax" => parts.delegate.max = value.number("DelegateMax")?,
                b"DelegateCur" => parts.delegate.current = value.number("DelegateCur")?,
                b"Tags" => value.fields(|key, value| {
                    tags.push((key, value.bytes()?));
                    Ok(())
                })?,
                _ => value.skip()?,
            }
            Ok(())
        })?;
        parts.name = name.ok_or(DecodeError::Missing { field: "Name" })?;
        Ok(parts.pack(tags, scratch))
    }
}

/// Builds a [`Member`] without an agent: for tests, fakes and stored snapshots.
#[derive(Clone, Debug)]
pub struct MemberBuilder {
    name: BString,
    addr: Option<IpAddr>,
    port: u16,
    status: BString,
    protocol: ProtocolVersions,
    delegate: ProtocolVersions,
    tags: Vec<(BString, BString)>,
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
    fn port(mut self, port: u16) -> Self {
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

/// Members as text that loses no byte: names, tags and status as [`text`](super::text) has them.
#[cfg(feature = "serde")]
mod saved {
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(value: &rmpv::Value) -> Result<Vec<Member>, DecodeError> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        Reader::whole(&bytes, MemberDecoder::members)
    }

    fn list(fields: &[(&str, rmpv::Value)]) -> rmpv::Value {
        let fields = fields
            .iter()
            .map(|(key, value)| (rmpv::Value::from(*key), value.clone()));
        rmpv::Value::Array(vec![rmpv::Value::Map(fields.collect())])
    }

    #[test]
    fn a_member_of_nils_is_a_member_without_anything() {
        let nil = rmpv::Value::Nil;
        let fields = [
            "Name",
            "Addr",
            "Port",
            "Tags",
            "Status",
            "ProtocolMin",
            "DelegateCur",
        ];
        let members = decode(&list(&fields.map(|field| (field, nil.clone())))).unwrap();
        assert_eq!(members[0].name(), "");
        assert_eq!(members[0].status(), MemberStatus::Unknown);
        assert_eq!(members[0].addr(), None);
        assert_eq!(members[0].tags().count(), 0);
    }

    #[test]
    fn a_member_without_a_name_is_refused() {
        assert_eq!(
            decode(&list(&[])),
            Err(DecodeError::Missing { field: "Name" })
        );
    }

    #[test]
    fn addresses_have_4_or_16_bytes_and_mapped_ones_are_unmapped() {
        let addr = |bytes: &[u8]| {
            let value = list(&[
                ("Name", "a".into()),
                ("Addr", rmpv::Value::Binary(bytes.to_vec())),
            ]);
            decode(&value).map(|members| members[0].addr())
        };
        assert_eq!(addr(&[127, 0, 0, 2]), Ok("127.0.0.2".parse().ok()));
        let v6: Ipv6Addr = "fd00::7".parse().unwrap();
        assert_eq!(addr(&v6.octets()), Ok(Some(v6.into())));
        let mapped: Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(addr(&mapped.octets()), Ok("10.1.2.3".parse().ok()));
        assert_eq!(addr(&[]), Ok(None));
        assert_eq!(addr(&[1, 2, 3]), Err(DecodeError::Address { len: 3 }));
    }

    #[test]
    fn every_status_survives_its_word_and_its_code() {
        for status in MemberStatus::ALL {
            assert_eq!(MemberStatus::parse(status.as_str()), status);
            assert_eq!(Member::builder("a").status(status).build().status(), status);
        }
        assert_eq!(MemberStatus::parse("Alive"), MemberStatus::Unknown);
    }

    #[test]
    fn a_status_of_a_later_version_keeps_its_word() {
        let value = list(&[
            ("Name", "a".into()),
            ("Status", "resting".into()),
            ("Addr", rmpv::Value::Binary(vec![127, 0, 0, 2])),
            ("Tags", rmpv::Value::Map(vec![("k".into(), "v".into())])),
        ]);
        let member = &decode(&value).unwrap()[0];
        assert_eq!(member.status(), MemberStatus::Unknown);
        assert_eq!(member.status_word(), "resting");
        assert_eq!(
            (member.name(), member.tag("k")),
            ("a".into(), Some("v".into()))
        );
        assert_eq!(member.addr(), "127.0.0.2".parse().ok());
        assert_eq!(Member::builder("a").build().status_word(), "alive");
    }

    #[test]
    fn debug_shows_the_fields() {
        let member = Member::builder(b"a\xff").tag("role", "web").build();
        let shown = format!("{member:?}");
        assert!(shown.contains(r#"tags: {"role": "web"}"#), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out(
            name in prop::collection::vec(any::<u8>(), 0..300),
            addr in prop::option::of(any::<IpAddr>()),
            port: u16,
            versions in any::<[u8; 6]>(),
            status in 0..6_usize,
            tags in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..200), 0..6),
        ) {
            let [a, b, c, d, e, f] = versions;
            let (protocol, delegate) =
                (ProtocolVersions { min: a, max: b, current: c }, ProtocolVersions { min: d, max: e, current: f });
            let mut builder = Member::builder(&name).status(MemberStatus::ALL[status]);
            builder = builder.protocol(protocol).delegate(delegate);
            if let Some(addr) = addr {
                builder = builder.addr(addr, port);
            }
            for (key, value) in tags.iter().rev() {
                builder = builder.tag(key, "overwritten").tag(key, value);
            }
            let member = builder.build();
            prop_assert_eq!(member.name(), &name);
            prop_assert_eq!(member.addr(), addr.map(|addr| addr.to_canonical()));
            prop_assert_eq!(member.port(), if addr.is_some() { port } else { 0 });
            prop_assert_eq!(member.status(), MemberStatus::ALL[status]);
            prop_assert_eq!((member.protocol(), member.delegate()), (protocol, delegate));
            let seen: Vec<_> = member.tags().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(seen, tags.clone().into_iter().collect::<Vec<_>>());
            for (key, value) in &tags {
                prop_assert_eq!(member.tag(key).map(|v| &**v), Some(&**value));
            }
        }
    }
}
