//! The commands that change things, and queries, over a connection.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use rmpv::Value;
use serf_rpc::{
    BString, CallError, CallErrorKind, Client, ConnectionError, Event, EventFilter, Expected,
    Query, QueryEnd, QueryReply, UserEvent,
};
use support::{FakeAgent, FakeConnection, alive, encode, field, header, map, soon};

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(60);

async fn connected() -> (Client, FakeConnection) {
    let agent = FakeAgent::start().await;
    agent.connect(agent.options()).await
}

fn record(seq: u64, kind: &str, from: &str, payload: &str) -> Vec<u8> {
    let payload = match payload {
        "" => Value::Nil,
        payload => Value::Binary(payload.into()),
    };
    let body = map([
        ("From", from.into()),
        ("Payload", payload),
        ("Type", kind.into()),
    ]);
    [header(seq, ""), encode(&body)].concat()
}

fn ack(from: &str) -> QueryReply {
    QueryReply::Ack { from: from.into() }
}

fn response(from: &str, payload: &str) -> QueryReply {
    QueryReply::Response {
        from: from.into(),
        payload: payload.into(),
    }
}

#[tokio::test]
async fn a_query_gives_its_answers_without_those_of_nobody_and_ends() {
    let (client, mut connection) = connected().await;
    let query = Query::new("uptime").request_ack(true);
    let script = async {
        let seq = connection.expect("query").await.seq;
        let records = [
            header(seq, ""),
            record(seq, "ack", "a", ""),
            record(seq, "response", "a", "3 days"),
            record(seq, "ack", "", ""),
            record(seq, "response", "", ""),
            record(seq, "response", "b", "an hour"),
            record(seq, "done", "", ""),
        ];
        connection.send(&records.concat()).await;
    };
    let (stream, ()) = tokio::join!(client.query(&query), script);
    let mut stream = stream.unwrap();
    for expected in [ack("a"), response("a", "3 days"), response("b", "an hour")] {
        let reply = soon("an answer", stream.next()).await.unwrap().unwrap();
        assert_eq!(reply, expected);
    }
    assert!(soon("the end", stream.next()).await.is_none());
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn gathering_ends_when_all_expected_are_there_and_the_rest_is_swallowed() {
    let (client, mut connection) = connected().await;
    for (expected, acks) in [(Expected::Responses(1), 1), (Expected::Acks(2), 2)] {
        let script = async {
            let seq = connection.expect("query").await.seq;
            let records = [
                header(seq, ""),
                record(seq, "ack", "a", ""),
                record(seq, "response", "a", "1"),
                record(seq, "ack", "b", ""),
            ];
            connection.send(&records.concat()).await;
            seq
        };
        let query = Query::new("q");
        let (stream, seq) = tokio::join!(client.query(&query), script);
        let mut stream = stream.unwrap();
        let replies = soon("them", stream.gather(expected, LONG)).await;
        assert!(matches!(replies.end, QueryEnd::Complete), "{replies:?}");
        assert_eq!(replies.responses, [("a".into(), "1".into())]);
        assert_eq!((replies.acks.len(), replies.left_out), (acks, 0));
        drop(stream);

        let late = [
            record(seq, "response", "b", "2"),
            record(seq, "done", "", ""),
        ];
        connection.send(&late.concat()).await;
        let known = [alive("a")];
        let (members, ()) = tokio::join!(client.members(), connection.answer_members(&known));
        assert_eq!(members.unwrap().len(), 1);
    }
}

/// Members answer whom nobody waits for, as one that is `leaving`: those that are waited for have names.
#[tokio::test]
async fn gathering_waits_for_those_it_expects_whoever_else_answers() {
    let (client, mut connection) = connected().await;
    let expected: [fn(BTreeSet<BString>) -> Expected; 2] =
        [Expected::AcksOf, Expected::ResponsesOf];
    for expected in expected {
        let script = async {
            let seq = connection.expect("query").await.seq;
            let records = ["leaver", "a", "b"].map(|from| {
                let ack = record(seq, "ack", from, "");
                [ack, record(seq, "response", from, "1")].concat()
            });
            let late = record(seq, "ack", "late", "");
            let records = [header(seq, ""), records.concat(), late];
            connection.send(&records.concat()).await;
        };
        let query = Query::new("q");
        let (stream, ()) = tokio::join!(client.query(&query), script);
        let both = expected(["a", "b"].map(BString::from).into());
        let replies = soon("both", stream.unwrap().gather(both, LONG)).await;
        assert!(matches!(replies.end, QueryEnd::Complete), "{replies:?}");
        assert_eq!(replies.acks, ["leaver", "a", "b"]);
    }
    let member = alive("a");
    let one = BTreeSet::from(["a".into()]);
    assert_eq!(Expected::acks_of([&member]), Expected::AcksOf(one.clone()));
    assert_eq!(
        Expected::responses_of([&member]),
        Expected::ResponsesOf(one)
    );
}

#[tokio::test]
async fn gathering_ends_in_its_own_time_and_what_comes_later_is_still_there() {
    let (client, mut connection) = connected().await;
    let script = async {
        let seq = connection.expect("query").await.seq;
        let first = record(seq, "response", "a", "1");
        connection.send(&[header(seq, ""), first].concat()).await;
        seq
    };
    let query = Query::new("q");
    let (stream, seq) = tokio::join!(client.query(&query), script);
    let mut stream = stream.unwrap();
    let within = Duration::from_millis(30);
    let replies = soon(
        "the deadline",
        stream.gather(Expected::Responses(2), within),
    )
    .await;
    assert!(matches!(replies.end, QueryEnd::Deadline), "{replies:?}");
    assert_eq!(replies.responses.len(), 1);
    let rest = [
        record(seq, "response", "b", "2"),
        record(seq, "done", "", ""),
    ];
    connection.send(&rest.concat()).await;
    let replies = soon("the end", stream.gather(Expected::Responses(2), LONG)).await;
    assert!(matches!(replies.end, QueryEnd::Done), "{replies:?}");
    assert_eq!(replies.responses, [("b".into(), "2".into())]);
}

#[tokio::test]
async fn the_end_of_a_query_is_not_lost_in_a_full_queue() {
    let agent = FakeAgent::start().await;
    let options = agent.options().stream_queue(1, 1 << 20);
    let (client, mut connection) = agent.connect(options).await;
    let script = async {
        let seq = connection.expect("query").await.seq;
        connection.accept_request(seq).await;
        for from in ["a", "b", "c"] {
            connection.send(&record(seq, "ack", from, "")).await;
        }
        connection.send(&record(seq, "done", "", "")).await;
    };
    let query = Query::new("q");
    let (stream, ()) = tokio::join!(client.query(&query), script);
    // Its answer comes after all of them.
    let (members, ()) = tokio::join!(client.members(), connection.answer_members(&[]));
    members.unwrap();
    let replies = soon("the end", stream.unwrap().gather(Expected::Acks(9), LONG)).await;
    assert!(matches!(replies.end, QueryEnd::Done), "{replies:?}");
    assert_eq!((replies.acks.len(), replies.left_out), (1, 2));
}

#[tokio::test]
async fn queries_that_are_over_make_room_for_others() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options().max_streams(2)).await;
    let query = Query::new("q");
    let mut running = Vec::new();
    for _ in 0..2 {
        let script = async {
            let seq = connection.expect("query").await.seq;
            connection.accept_request(seq).await;
            seq
        };
        let (stream, seq) = tokio::join!(client.query(&query), script);
        running.push((stream.unwrap(), seq));
    }
    let impatient = client.with_call_timeout(Duration::from_millis(20));
    let refused = impatient.query(&query).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CallError {
                command: "query",
                kind: CallErrorKind::TooManyStreams { limit: 2, .. },
                ..
            }
        ),
        "{refused:?}"
    );
    // One that is dropped still counts until its time is up.
    let (stream, seq) = running.pop().unwrap();
    drop(stream);
    assert!(client.query(&query).await.is_err());
    connection.send(&record(seq, "done", "", "")).await;
    let (mut stream, seq) = running.pop().unwrap();
    connection.send(&record(seq, "done", "", "")).await;
    assert!(soon("the end", stream.next()).await.is_none());
    let script = async {
        let refused = connection.expect("query").await;
        connection.refuse(refused.seq, "query exceeds limit").await;
        let seq = connection.expect("query").await.seq;
        connection.accept_request(seq).await;
    };
    let queries = async {
        assert!(client.query(&query).await.is_err());
        client.query(&query).await.unwrap();
    };
    tokio::join!(queries, script);
}

#[tokio::test]
async fn a_query_whose_connection_ends_says_so() {
    let (client, mut connection) = connected().await;
    let script = async {
        let seq = connection.expect("query").await.seq;
        connection
            .send(&[header(seq, ""), record(seq, "ack", "a", "")].concat())
            .await;
        drop(connection);
    };
    let query = Query::new("q");
    let (stream, ()) = tokio::join!(client.query(&query), script);
    let replies = soon("the loss", stream.unwrap().gather(Expected::Acks(2), LONG)).await;
    assert!(matches!(replies.end, QueryEnd::Lost(_)), "{replies:?}");
    assert_eq!(replies.acks, ["a"]);
}

#[tokio::test]
async fn a_query_is_answered_on_the_connection_that_brought_it_alone() {
    let (client, mut connection) = connected().await;
    let (other, _other_connection) = connected().await;
    let script = async {
        let seq = connection.expect("stream").await.seq;
        let event = map([
            ("Event", "query".into()),
            ("ID", 7.into()),
            ("LTime", 3.into()),
            ("Name", "uptime".into()),
            ("Payload", Value::Nil),
        ]);
        connection
            .send(&[header(seq, ""), header(seq, ""), encode(&event)].concat())
            .await;
        let answer = connection.expect("respond").await;
        assert_eq!(*field(&answer.body, "ID"), 7.into());
        connection.accept_request(answer.seq).await;
        let again = connection.expect("respond").await;
        connection
            .refuse(again.seq, "No pending queries matching ID")
            .await;
    };
    let answering = async {
        let mut events = client.stream(EventFilter::all()).await.unwrap();
        let Some(Ok(Event::Query { id, .. })) = events.next().await else {
            panic!("no query")
        };
        let elsewhere = other.respond(id, "3 days").await.unwrap_err();
        assert!(
            matches!(
                elsewhere,
                CallError {
                    command: "respond",
                    kind: CallErrorKind::OtherConnection,
                    ..
                }
            ),
            "{elsewhere:?}"
        );
        client.clone().respond(id, "3 days").await.unwrap();
        let refused = client.respond(id, "3 days").await.unwrap_err();
        assert!(matches!(
            refused,
            CallError {
                command: "respond",
                kind: CallErrorKind::Refused { .. },
                ..
            }
        ));
    };
    tokio::join!(script, answering);
}

#[tokio::test]
async fn an_agent_that_leaves_may_close_without_an_answer() {
    let (client, mut connection) = connected().await;
    let script = async {
        connection.expect("leave").await;
        drop(connection);
    };
    let (left, ()) = tokio::join!(client.leave(), script);
    left.unwrap();
    let gone = client.leave().await.unwrap_err();
    assert!(
        matches!(
            gone,
            CallError {
                kind: CallErrorKind::Lost {
                    reason: ConnectionError::Closed,
                    ..
                },
                ..
            }
        ),
        "it had left before: {gone:?}"
    );
}

#[tokio::test]
async fn a_refused_leave_is_no_success() {
    let (client, mut connection) = connected().await;
    let script = async {
        let seq = connection.expect("leave").await.seq;
        connection.refuse(seq, "timeout while waiting").await;
    };
    let (left, ()) = tokio::join!(client.leave(), script);
    assert!(
        matches!(
            left,
            Err(CallError {
                kind: CallErrorKind::Refused { .. },
                ..
            })
        ),
        "{left:?}"
    );
}

#[tokio::test]
async fn the_body_after_a_refusal_does_not_disturb_the_next_call() {
    let (client, mut connection) = connected().await;
    let script = async {
        let join = connection.expect("join").await;
        let refusal = [
            header(join.seq, "1 error occurred"),
            encode(&map([("Num", 1.into())])),
        ];
        connection.send(&refusal.concat()).await;
        let keys = connection.expect("list-keys").await;
        let body = map([
            ("Messages", map([("a", "no keyring".into())])),
            ("NumErr", 1.into()),
        ]);
        connection
            .send(
                &[
                    header(keys.seq, "1/1 nodes reported failure"),
                    encode(&body),
                ]
                .concat(),
            )
            .await;
        let event = connection.expect("event").await;
        connection.accept_request(event.seq).await;
    };
    let calls = async {
        let refused = client.join(["127.0.0.1", "127.0.0.99"]).await.unwrap_err();
        assert!(
            matches!(
                refused,
                CallError {
                    kind: CallErrorKind::Join { joined: 1, .. },
                    ..
                }
            ),
            "{refused:?}"
        );
        let Err(CallError {
            kind: CallErrorKind::Keys { reply, .. },
            ..
        }) = client.list_keys().await
        else {
            panic!("keys were listed")
        };
        assert_eq!(reply.messages.len(), 1);
        client.event(&UserEvent::new("deploy")).await.unwrap();
    };
    tokio::join!(script, calls);
}

#[tokio::test]
async fn a_call_that_was_given_up_does_not_disturb_the_next() {
    let (client, mut connection) = connected().await;
    let hasty = client.with_call_timeout(Duration::from_millis(20));
    let script = async {
        let join = connection.expect("join").await;
        let members = connection.expect("members").await;
        let late = [
            header(join.seq, "too late"),
            encode(&map([("Num", 0.into())])),
        ];
        connection.send(&late.concat()).await;
        connection.send_members(members.seq, &[alive("a")]).await;
    };
    let calls = async {
        let slow = hasty.join(["127.0.0.99"]).await.unwrap_err();
        assert!(matches!(
            slow,
            CallError {
                command: "join",
                kind: CallErrorKind::Timeout { .. },
                ..
            }
        ));
        assert_eq!(client.members().await.unwrap(), [alive("a")]);
    };
    tokio::join!(script, calls);
}
