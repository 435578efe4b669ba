use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::wire::codec::{DecodeError, Reader};

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
