use std::net::IpAddr;

use super::*;
use crate::member::{MemberStatus, ProtocolVersions};
use crate::subscription::{EventKind, EventName, LogLine, Record};
use crate::testing::{Seen, VERSIONS, fixture, play};

fn request<C: Command>(command: &C, seq: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    protocol::write_request_header(&mut bytes, C::NAME, seq);
    command.write_body(&mut bytes);
    bytes
}

fn reply<C: Command>(version: &str, name: &str, seq: u64) -> Vec<Seen> {
    let bytes = fixture(version, &format!("{name}.resp.bin"));
    play([&bytes[..]], seq, C::Reply::SHAPE).unwrap()
}

fn members(seen: &[Seen]) -> Vec<Member> {
    let [
        Seen::Answer {
            error: None, body, ..
        },
    ] = seen
    else {
        panic!("{seen:?}")
    };
    Reply::decode(body).unwrap()
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
fn requests_are_those_that_were_recorded() {
    for version in VERSIONS {
        let recorded = |name: &str| fixture(version, &format!("{name}.req.bin"));
        assert_eq!(request(&Handshake, 0), recorded("handshake"));
        assert_eq!(
            request(&Auth { key: "" }, 1),
            recorded("auth-noauth-agent-empty")
        );
        assert_eq!(request(&Members, 1), recorded("members"));
        assert_eq!(request(&Stop { stream: 99 }, 1), recorded("stop-unknown"));
        let deploy = EventKind::UserNamed(EventName::new("deploy").unwrap());
        let filter = EventFilter::of([deploy, EventKind::Query, EventKind::User]);
        assert_eq!(
            request(&Stream { filter: &filter }, 1),
            recorded("stream-user-query")
        );
    }
    let all = EventFilter::all();
    assert_eq!(
        request(&Stream { filter: &all }, 1),
        fixture("0.9.4", "stream-all.req.bin")
    );
    let debug = request(
        &Monitor {
            level: LogLevel::Debug,
        },
        1,
    );
    assert!(debug.eq_ignore_ascii_case(&fixture("0.9.4", "monitor.req.bin")));
}

#[test]
fn expressions_are_sent_grouped_and_empty_ones_are_left_out() {
    let tags = BTreeMap::from([("role".to_owned(), "a|b".to_owned())]);
    let body = |name, status| {
        let mut body = Vec::new();
        MembersFiltered {
            name,
            status,
            tags: &tags,
        }
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
fn recorded_refusals_come_with_their_words() {
    let error = |seen: Vec<Seen>| match &seen[..] {
        [
            Seen::Answer {
                error: Some(error), ..
            },
        ] => error.to_string(),
        seen => panic!("{seen:?}"),
    };
    for version in VERSIONS {
        assert_eq!(
            error(reply::<Handshake>(version, "handshake-badver", 0)),
            "Unsupported IPC version"
        );
        assert_eq!(
            error(reply::<Handshake>(version, "handshake-dup", 1)),
            "Handshake already performed"
        );
        assert_eq!(
            error(reply::<Members>(version, "no-handshake", 0)),
            "Handshake required"
        );
        assert_eq!(
            error(reply::<Members>(version, "unknown-command", 1)),
            "Unsupported command"
        );
        let wrong = error(reply::<Auth<'_>>(version, "auth-noauth-agent-wrong", 1));
        assert_eq!(wrong, "Invalid authentication token");
        assert!(
            error(reply::<Stream<'_>>(version, "stream-badfilter", 1)).starts_with("Invalid event")
        );
        assert!(
            error(reply::<Monitor>(version, "monitor-badlevel", 1))
                .starts_with("Unknown log level")
        );
    }
}

#[test]
fn recorded_log_lines_decode() {
    for version in VERSIONS {
        let seen = reply::<Monitor>(version, "monitor", 1);
        let lines: Vec<LogLine> = seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Record { body, .. } => Some(Record::decode(body).unwrap()),
                Seen::Answer { .. } => None,
            })
            .collect();
        assert!(lines.len() > 50, "{}", lines.len());
        let hints = lines
            .iter()
            .filter_map(|line| crate::log_line::hint(&line.0))
            .count();
        assert!(
            (2..lines.len() / 2).contains(&hints),
            "{hints} of {}",
            lines.len()
        );
    }
}
