use std::net::IpAddr;

use super::cluster::Joined;
use super::*;
use crate::error::{CallError, CallErrorKind};
use crate::recordings::{CONNECTION, Seen, VERSIONS, fixture, play};
use crate::types::{
    LogEntry, Member, MemberStatus, ProtocolVersions, QueryRecord, QueryReply, Record,
};

fn reply<C: Command>(version: &str, name: &str, seq: u64) -> Vec<Seen> {
    let bytes = fixture(version, &format!("{name}.resp.bin"));
    play([&bytes[..]], seq, C::Response::SHAPE).unwrap()
}

fn members(seen: &[Seen]) -> Vec<Member> {
    let [
        Seen::Response {
            error: None, body, ..
        },
    ] = seen
    else {
        panic!("{seen:?}")
    };
    Response::decode(body).unwrap()
}

fn member(name: &str, addr: impl Into<IpAddr>) -> crate::MemberBuilder {
    Member::builder(name)
        .addr(addr.into(), 7946)
        .protocol(ProtocolVersions {
            min: 1,
            max: 5,
            current: 2,
        })
        .delegate(ProtocolVersions {
            min: 2,
            max: 5,
            current: 5,
        })
}

#[test]
fn a_query_says_all_that_it_was_told() {
    let query = Query::new(b"n\xff")
        .payload("p")
        .node("a")
        .node("b")
        .tag("role", "web.*")
        .request_ack(true)
        .relay_factor(200)
        .timeout(std::time::Duration::from_secs(u64::MAX));
    let mut body = Vec::new();
    query.write_body(&mut body);
    let expected = b"\x87\xabFilterNodes\x92\xa1a\xa1b\xaaFilterTags\x81\xa4role\xab^(?:web.*)$\
        \xaaRequestAck\xc3\xabRelayFactor\xcc\xc8\xa7Timeout\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\
        \xa4Name\xa2n\xff\xa7Payload\xa1p";
    assert_eq!(
        body.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

/// The error or the typed reply to a recorded exchange.
fn answer<C: Command>(version: &str, name: &str) -> Result<C::Response, CallError> {
    recorded::answer::<C>(&reply::<C>(version, name, 1))
}

#[test]
fn recorded_joins_say_how_many_were_reached_even_when_refused() {
    for version in VERSIONS {
        let joined = answer::<Join<'_>>(version, "join").unwrap();
        assert_eq!(joined, Joined(1));
        let Err(CallError {
            kind: CallErrorKind::Join {
                message, joined: 0, ..
            },
            ..
        }) = answer::<Join<'_>>(version, "join-fail")
        else {
            panic!("{version}")
        };
        assert!(message.to_string().contains("Failed to join"), "{message}");
    }
}

#[test]
fn recorded_key_replies_keep_what_each_member_said() {
    for version in VERSIONS {
        for refused in [
            answer::<InstallKey<'_>>(version, "install-key").unwrap_err(),
            answer::<ListKeys>(version, "list-keys").unwrap_err(),
            answer::<UseKey<'_>>(version, "use-key").unwrap_err(),
        ] {
            let CallError {
                kind: CallErrorKind::Keys { message, reply, .. },
                ..
            } = refused
            else {
                panic!("{refused:?}")
            };
            assert_eq!(message, "2/2 nodes reported failure");
            assert_eq!((reply.nodes, reply.errors), (2, 2));
            assert_eq!(reply.messages.len(), 2);
        }
    }
}

#[test]
fn recorded_changes_of_keys_decode() {
    let installed = answer::<InstallKey<'_>>("0.9.4", "install-key-ok").unwrap();
    assert_eq!(
        (installed.nodes, installed.errors, installed.responses),
        (2, 0, 2)
    );
    assert!(answer::<UseKey<'_>>("0.9.4", "use-key-ok").is_ok());
    assert!(answer::<RemoveKey<'_>>("0.9.4", "remove-key-ok").is_ok());
    let listed = answer::<ListKeys>("0.9.4", "list-keys-ok").unwrap();
    assert_eq!(listed.keys.values().copied().collect::<Vec<_>>(), [2, 2]);
    assert!(!format!("{listed:?}").contains("=="), "keys are secret");
}

#[test]
fn recorded_coordinates_decode() {
    for version in VERSIONS {
        let known = answer::<GetCoordinate<'_>>(version, "coord")
            .unwrap()
            .unwrap();
        assert_eq!(known.vec.len(), 8);
        assert!(known.rtt(&known).is_some());
        assert_eq!(
            answer::<GetCoordinate<'_>>(version, "coord-unknown").unwrap(),
            None
        );
    }
}

#[test]
fn recorded_answers_to_queries_decode() {
    let records = |version, name| -> Vec<QueryReply> {
        let [
            Seen::Response { error: None, .. },
            records @ ..,
            Seen::End { .. },
        ] = &reply::<Query>(version, name, if name == "query-resp" { 5 } else { 4 })[..]
        else {
            panic!("{version}/{name}")
        };
        records
            .iter()
            .map(|seen| match seen {
                Seen::Record { body, .. } => {
                    QueryRecord::decode(body, CONNECTION).unwrap().0.unwrap()
                }
                _ => panic!("{seen:?}"),
            })
            .collect()
    };
    let pong = QueryReply::Response {
        from: "a".into(),
        payload: b"pong\xff\0".into(),
    };
    assert_eq!(records("0.9.4", "query-resp"), [pong]);
    let ack = |from: &str| QueryReply::Ack { from: from.into() };
    assert_eq!(records("0.9.4", "query-noresp"), [ack("a"), ack("b")]);
}

#[test]
fn expressions_are_sent_grouped_and_empty_ones_are_left_out() {
    let body = |name: Option<&str>, status: Option<&str>| {
        let mut body = Vec::new();
        MemberFilter::new()
            .name(name.unwrap_or_default())
            .status(status.unwrap_or_default())
            .tag("role", "a|b")
            .write_body(&mut body);
        body
    };
    assert_eq!(body(None, None), b"\x81\xa4Tags\x81\xa4role\xa7(?:a|b)");
    assert_eq!(
        body(Some("x|y"), Some("alive")),
        b"\x83\xa4Tags\x81\xa4role\xa7(?:a|b)\xa6Status\xa9(?:alive)\xa4Name\xa7(?:x|y)"
    );
}

#[test]
fn recorded_members_decode() {
    for (version, last, port) in [("0.9.4", 2, 7946), ("0.10.1", 12, 7947)] {
        let a = member("a", [127, 0, 0, last])
            .tag("dc", "x")
            .tag("role", "web")
            .build();
        let b = member("b", [127, 0, 0, 3])
            .addr([127, 0, 0, 3].into(), port)
            .build();
        assert_eq!(
            members(&reply::<Members>(version, "members-filtered", 1)),
            std::slice::from_ref(&a)
        );
        assert_eq!(
            members(&reply::<Members>(version, "members-filtered-none", 1)),
            []
        );
        let mut both = members(&reply::<Members>(version, "members", 1));
        both.sort_by(|x, y| x.name().cmp(y.name()));
        assert_eq!(both, [a, b]);
    }
}

#[test]
fn a_recorded_ipv6_address_decodes() {
    let members = members(&reply::<Members>("0.9.4", "members-ipv6", 1));
    let addrs: Vec<_> = members.iter().map(Member::addr).collect();
    assert_eq!(addrs, [Some("::1".parse().unwrap())]);
    assert_eq!(members[0].status(), MemberStatus::Alive);
}

#[test]
fn recorded_log_lines_decode() {
    for version in VERSIONS {
        let seen = reply::<Monitor>(version, "monitor", 1);
        let lines: Vec<_> = seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Record { body, .. } => {
                    LogEntry::decode(body, CONNECTION).unwrap().into_line()
                }
                _ => None,
            })
            .collect();
        assert!(lines.len() > 50, "{}", lines.len());
        let hints = lines
            .iter()
            .filter_map(|line| crate::watch::log_line::hint(line.as_bytes()))
            .count();
        assert!(
            (2..lines.len() / 2).contains(&hints),
            "{hints} of {}",
            lines.len()
        );
    }
}
