//! Every recorded exchange: what is asked is what was asked, and what came is of its type.

use std::collections::BTreeSet;
use std::time::Duration;

use rmpv::Value;

use super::*;
use crate::error::CallError;
use crate::recordings::{CONNECTION, Seen, fixtures, play, request};
use crate::types::{
    Event, EventFilter, EventKind, EventName, LogEntry, LogLevel, QueryRecord, Record,
};

/// Requests that this library does not make: another version, an unknown command, no handshake, and
/// what its types leave no room for.
const NOT_OURS: [&str; 7] = [
    "handshake-badver",
    "members-filtered-badregex",
    "monitor-badlevel",
    "no-handshake",
    "remove-key",
    "stream-badfilter",
    "unknown-command",
];

const KEY: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
const OTHER_KEY: &str = "ENSM+cfaiJJ2JZjCcPo8jA==";

/// The request of a recorded exchange as this library makes it.
fn asked(version: &str, name: &str) -> Vec<u8> {
    let long = |len| "x".repeat(len);
    let query = Query::new("q");
    match name {
        "handshake" => request(&Handshake, 0),
        "handshake-dup" => request(&Handshake, 1),
        "auth-noauth-agent-empty" => request(&Auth { key: "" }, 1),
        "auth-noauth-agent-wrong" => request(&Auth { key: "nope" }, 1),
        "auth-ok" => request(&Auth { key: "sekrit" }, 2),
        "members" => request(&Members, 1),
        "members-filtered" => filtered("a", "alive", &[("role", "w.*")]),
        "members-filtered-none" => filtered("zzz", "", &[]),
        "stats" => request(&StatsCommand, 1),
        "coord" => request(&GetCoordinate { node: b"a" }, 1),
        "coord-unknown" => request(&GetCoordinate { node: b"nope" }, 1),
        "event" => request(&UserEvent::new("deploy").payload(b"\0\xff\xfe"), 1),
        "event-toolong" => request(&UserEvent::new("deploy").payload(long(600)), 1),
        "preauth-event" => request(&UserEvent::new("x"), 1),
        "tags" => {
            let change = TagChange::new().set("role", "web").set("dc", "x");
            request(&change.delete("zz"), 1)
        }
        "tags-toolong" => request(&TagChange::new().set("big", long(600)), 1),
        "join" if version == "0.10.1" => join("127.0.0.3:7947"),
        "join" => join("127.0.0.3:7946"),
        "join-fail" => join("127.0.0.99:7946"),
        "leave" => request(&Leave, 1),
        "force-leave-unknown" => {
            let (node, prune) = (&b"nope"[..], false);
            request(&ForceLeave { node, prune }, 1)
        }
        "list-keys" | "list-keys-ok" => request(&ListKeys, 1),
        "install-key" => request(&InstallKey(KEY), 1),
        "install-key-ok" => request(&InstallKey(OTHER_KEY), 1),
        "use-key" => request(&UseKey(KEY), 1),
        "use-key-ok" => request(&UseKey(OTHER_KEY), 1),
        "remove-key-ok" => request(&RemoveKey(KEY), 1),
        "stop-unknown" => request(&Stop { stream: 99 }, 1),
        "respond" => respond(2, b"pong\xff\0", 2),
        "respond-unknown" => respond(99, b"x", 1),
        "stream-all" => stream(&EventFilter::all()),
        "stream-user-query" => {
            let deploy = EventKind::UserNamed(EventName::new("deploy").unwrap());
            stream(&EventFilter::of([
                deploy,
                EventKind::Query,
                EventKind::User,
            ]))
        }
        "monitor" => request(
            &Monitor {
                level: LogLevel::Debug,
            },
            1,
        ),
        "query-internal" => request(&Query::new("_serf_x"), 1),
        "query-toolong" => request(&query.payload(long(1100)), 1),
        "query-noresp" => {
            let query = Query::new("q1").payload(b"ping\xff").request_ack(true);
            request(&query.timeout(Duration::from_millis(1500)), 4)
        }
        "query-resp" => request(&Query::new("q2").timeout(Duration::from_millis(1500)), 5),
        other => panic!("nothing asks for {other}"),
    }
}

fn filtered(name: &str, status: &str, tags: &[(&str, &str)]) -> Vec<u8> {
    let filter = MemberFilter::new().name(name).status(status);
    let filter = tags.iter().fold(filter, |filter, (key, expression)| {
        filter.tag(*key, *expression)
    });
    request(&filter, 1)
}

fn join(addr: &str) -> Vec<u8> {
    let (existing, replay) = (&[addr][..], false);
    request(&Join { existing, replay }, 1)
}

fn respond(id: u64, payload: &[u8], seq: u64) -> Vec<u8> {
    request(&Respond { id, payload }, seq)
}

fn stream(filter: &EventFilter) -> Vec<u8> {
    request(&Stream { filter }, 1)
}

/// The values of a request, without what means the same to the agent: the order of keys, whether
/// something empty is sent, the group around an expression, the case of a level.
fn meaning(mut bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let mut value = rmpv::decode::read_value(&mut bytes).unwrap();
        normalise(&mut value);
        values.push(value);
    }
    values
}

fn normalise(value: &mut Value) {
    match value {
        Value::Map(pairs) => {
            pairs.iter_mut().for_each(|(_, value)| normalise(value));
            pairs.retain(|(_, value)| !value.is_nil());
            pairs.sort_by_key(|(key, _)| key.to_string());
            if pairs.is_empty() {
                *value = Value::Nil;
            }
        }
        Value::Array(items) if items.is_empty() => *value = Value::Nil,
        Value::String(text) => match text.as_str() {
            Some("") => *value = Value::Nil,
            Some("debug") => *value = "DEBUG".into(),
            Some(text) => {
                let inside = text
                    .strip_prefix("(?:")
                    .and_then(|text| text.strip_suffix(')'));
                if let Some(inside) = inside {
                    *value = inside.into();
                }
            }
            None => {}
        },
        _ => {}
    }
}

#[test]
fn every_recorded_request_is_one_of_ours() {
    let mut left_out = BTreeSet::new();
    for (place, recorded) in fixtures(".req.bin") {
        let (version, name) = place.split_once('/').unwrap();
        if NOT_OURS.contains(&name) {
            left_out.insert(name.to_owned());
        } else {
            assert_eq!(
                meaning(&asked(version, name)),
                meaning(&recorded),
                "{place}"
            );
        }
    }
    assert!(left_out.iter().eq(NOT_OURS), "{left_out:?}");
}

/// Those that the agent refused, with a word of its reason.
const REFUSED: [(&str, &str); 18] = [
    ("auth-noauth-agent-wrong", "Invalid authentication token"),
    ("event-toolong", "512 bytes"),
    ("handshake-badver", "Unsupported IPC version"),
    ("handshake-dup", "already performed"),
    ("install-key", "2/2 nodes"),
    ("join-fail", "Failed to join"),
    ("list-keys", "2/2 nodes"),
    ("monitor-badlevel", "Unknown log level"),
    ("no-handshake", "Handshake required"),
    ("preauth-event", "Authentication required"),
    ("query-internal", "_serf_"),
    ("query-toolong", "1024 bytes"),
    ("remove-key", "base64"),
    ("respond-unknown", "No pending queries"),
    ("stream-badfilter", "Invalid event filter"),
    ("tags-toolong", "512 bytes"),
    ("unknown-command", "Unsupported command"),
    ("use-key", "2/2 nodes"),
];

/// How many typed records a recorded reply has; an error if the agent refused.
fn typed(name: &str, bytes: &[u8]) -> Result<usize, CallError> {
    match name {
        "handshake" | "handshake-badver" => reply::<Handshake>(bytes, 0),
        "handshake-dup" => reply::<Handshake>(bytes, 1),
        "auth-ok" => reply::<Auth<'_>>(bytes, 2),
        name if name.starts_with("auth-") => reply::<Auth<'_>>(bytes, 1),
        "no-handshake" => reply::<Members>(bytes, 0),
        "members" | "members-ipv6" | "unknown-command" => reply::<Members>(bytes, 1),
        name if name.starts_with("members-filtered") => reply::<MemberFilter>(bytes, 1),
        "stats" => reply::<StatsCommand>(bytes, 1),
        "coord" | "coord-unknown" => reply::<GetCoordinate<'_>>(bytes, 1),
        // An agent refuses it twice; the second time there is no such request any more.
        "preauth-event" => reply::<UserEvent>(&bytes[..bytes.len() / 2], 1),
        "event" | "event-toolong" => reply::<UserEvent>(bytes, 1),
        "tags" | "tags-toolong" => reply::<TagChange>(bytes, 1),
        "join" | "join-fail" => reply::<Join<'_>>(bytes, 1),
        "leave" => reply::<Leave>(bytes, 1),
        "force-leave-unknown" => reply::<ForceLeave<'_>>(bytes, 1),
        "list-keys" | "list-keys-ok" => reply::<ListKeys>(bytes, 1),
        "install-key" | "install-key-ok" => reply::<InstallKey<'_>>(bytes, 1),
        "use-key" | "use-key-ok" => reply::<UseKey<'_>>(bytes, 1),
        "remove-key" | "remove-key-ok" => reply::<RemoveKey<'_>>(bytes, 1),
        "stop-unknown" => reply::<Stop>(bytes, 1),
        "respond" => reply::<Respond<'_>>(bytes, 2),
        "respond-unknown" => reply::<Respond<'_>>(bytes, 1),
        name if name.starts_with("stream-") => records::<Stream<'_>, Event>(bytes, 1),
        "monitor" | "monitor-badlevel" => records::<Monitor, LogEntry>(bytes, 1),
        "query-noresp" => records::<Query, QueryRecord>(bytes, 4),
        "query-resp" => records::<Query, QueryRecord>(bytes, 5),
        "query-internal" | "query-toolong" => records::<Query, QueryRecord>(bytes, 1),
        other => panic!("nobody reads {other}"),
    }
}

fn reply<C: Command>(bytes: &[u8], seq: u64) -> Result<usize, CallError> {
    let seen = play([bytes], seq, C::Response::SHAPE).unwrap();
    assert_eq!(seen.len(), 1);
    answer::<C>(&seen).map(|_| 0)
}

fn records<C: Command, T: Record>(bytes: &[u8], seq: u64) -> Result<usize, CallError> {
    let seen = play([bytes], seq, C::Response::SHAPE).unwrap();
    answer::<C>(&seen)?;
    let decoded = seen[1..].iter().filter_map(|seen| match seen {
        Seen::Record { body, .. } => Some(T::decode(body, CONNECTION).unwrap()),
        _ => None,
    });
    Ok(decoded.count())
}

/// The first of what was seen, typed.
pub(super) fn answer<C: Command>(seen: &[Seen]) -> Result<C::Response, CallError> {
    let Some(Seen::Response { error, body, .. }) = seen.first() else {
        panic!("{seen:?}")
    };
    match error {
        None => Ok(C::Response::decode(body).unwrap()),
        Some(error) => Err(CallError::refused(
            C::NAME,
            error.clone(),
            C::Response::error_body(body),
        )),
    }
}

#[test]
fn every_recorded_reply_is_of_its_type() {
    let mut refused = BTreeSet::new();
    for (place, bytes) in fixtures(".resp.bin") {
        let (_, name) = place.split_once('/').unwrap();
        if bytes.is_empty() {
            assert_eq!(
                name, "members-filtered-badregex",
                "the agent closes without a word"
            );
            continue;
        }
        match typed(name, &bytes) {
            Ok(records) => {
                let streams = ["monitor", "query-noresp", "query-resp", "stream-user-query"];
                assert_eq!(records > 0, streams.contains(&name), "{place}: {records}");
            }
            Err(error) => {
                let (name, words) = REFUSED
                    .iter()
                    .find(|(refused, _)| *refused == name)
                    .unwrap();
                assert!(error.to_string().contains(words), "{place}: {error}");
                refused.insert(*name);
            }
        }
    }
    assert!(
        refused.iter().eq(REFUSED.iter().map(|(name, _)| name)),
        "{refused:?}"
    );
}
