use proptest::prelude::*;

use super::*;
use crate::recordings::{CONNECTION, Seen, VERSIONS, fixture, play};
use crate::types::MemberStatus;
use crate::wire::protocol::ResponseShape;

fn events(bytes: &[&[u8]]) -> Vec<Event> {
    let seen = play(bytes.iter().copied(), 1, ResponseShape::Records).unwrap();
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Record { body, .. } => Some(Event::decode(body, CONNECTION).unwrap()),
            _ => None,
        })
        .collect()
}

#[test]
fn recorded_member_events_decode() {
    let ack = fixture("0.9.4", "stream-ack.resp.bin");
    for (name, kind, status) in [
        ("join", MemberEventKind::Join, MemberStatus::Alive),
        ("leave", MemberEventKind::Leave, MemberStatus::Left),
        ("failed", MemberEventKind::Failed, MemberStatus::Failed),
        ("update", MemberEventKind::Update, MemberStatus::Alive),
        ("reap", MemberEventKind::Reap, MemberStatus::Failed),
    ] {
        let bytes = fixture("0.9.4", &format!("ev-member-{name}.bin"));
        let decoded = events(&[&ack, &bytes]);
        let [
            Event::Member {
                kind: decoded,
                members,
            },
        ] = &decoded[..]
        else {
            panic!("{decoded:?}")
        };
        assert_eq!(*decoded, kind);
        assert_eq!(members.len(), 1, "{name}");
        assert!(
            matches!(members[0].status(), s if s == status || (name == "reap" && s == MemberStatus::Left))
        );
    }
}

#[test]
fn recorded_user_events_and_queries_decode() {
    for version in VERSIONS {
        let decoded = events(&[&fixture(version, "stream-user-query.resp.bin")]);
        let user = |ltime, name: &str, payload: &[u8], coalesce| Event::User {
            ltime,
            name: name.into(),
            payload: payload.into(),
            coalesce,
        };
        let query = Event::Query {
            id: QueryId {
                connection: CONNECTION,
                number: 1,
            },
            ltime: 4,
            name: "q1".into(),
            payload: b"ping\xff".as_slice().into(),
        };
        assert_eq!(
            decoded,
            [
                user(2, "deploy", b"\x00\xff\xfe", false),
                user(4, "nilpay", b"", false),
                query,
                user(3, "deploy2", b"", true),
            ]
        );
    }
}

#[test]
fn an_unknown_kind_is_told_and_a_missing_one_is_an_error() {
    let unknown = Event::decode(b"\x82\xa5Event\xa3new\xa4What\x91\x01", CONNECTION).unwrap();
    assert_eq!(unknown, Event::Unknown { kind: "new".into() });
    assert_eq!(
        Event::decode(b"\x80", CONNECTION),
        Err(DecodeError::Missing { field: "Event" })
    );
}

proptest! {
    #[test]
    fn any_bytes_decode_or_do_not(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::decode(&body, CONNECTION);
    }
}

#[test]
fn filters_are_spelt_as_the_agent_reads_them() {
    assert_eq!(EventFilter::all().as_bytes(), "*");
    assert_eq!(EventFilter::of([]).as_bytes(), "*");
    assert_eq!(
        EventFilter::members().as_bytes(),
        "member-join,member-leave,member-failed,member-update,member-reap"
    );
    let deploy = EventName::new("deploy:web").unwrap();
    let filter = EventFilter::of([
        EventKind::UserNamed(deploy.clone()),
        EventKind::QueryNamed(deploy),
    ]);
    assert_eq!(filter.as_bytes(), "user:deploy:web,query:deploy:web");
}

#[test]
fn a_name_that_would_end_the_filter_is_refused() {
    assert_eq!(EventName::new(""), None);
    assert_eq!(EventName::new("a,*"), None);
}
