//! Every command on a connection: what it asks, what becomes of its answer, and that it can be given
//! up at any moment.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, poll_immediate};
use rmpv::Value;
use serf_rpc::{
    CallError, CallErrorKind, Client, ConnectionError, Event, EventFilter, LogLevel, MemberFilter,
    Query, QueryId, TagChange, UserEvent,
};
use support::{FakeAgent, FakeConnection, alive, encode, field, header, map, soon};

type Call = BoxFuture<'static, Result<(), CallError>>;

macro_rules! call {
    ($client:ident.$method:ident($($argument:expr),*)) => {{
        let client = $client.clone();
        async move { client.$method($($argument),*).await.map(drop) }.boxed()
    }};
}

/// Commands after those that every connection begins with, and `stop`, which a stream sends.
const COMMANDS: usize = 17;

/// A call of each.
fn calls(client: &Client, query: QueryId) -> [(&'static str, Call); COMMANDS] {
    [
        ("event", call!(client.event(&UserEvent::new("deploy")))),
        ("force-leave", call!(client.force_leave("b"))),
        ("join", call!(client.join(&["127.0.0.2"]))),
        ("members", call!(client.members())),
        (
            "members-filtered",
            call!(client.members_filtered(&MemberFilter::new())),
        ),
        ("tags", call!(client.tags(&TagChange::new().set("a", "b")))),
        ("stream", call!(client.stream(EventFilter::all()))),
        ("monitor", call!(client.monitor(LogLevel::Debug))),
        ("leave", call!(client.leave())),
        ("query", call!(client.query(&Query::new("uptime")))),
        ("respond", call!(client.respond(query, "3 days"))),
        ("install-key", call!(client.install_key("key"))),
        ("use-key", call!(client.use_key("key"))),
        ("remove-key", call!(client.remove_key("key"))),
        ("list-keys", call!(client.list_keys())),
        ("stats", call!(client.stats())),
        ("get-coordinate", call!(client.get_coordinate("b"))),
    ]
}

/// What an agent answers each with: a header, an empty body where there is one, a record or two.
fn answer(command: &str, seq: u64) -> Vec<u8> {
    let body = match command {
        "join" | "members" | "members-filtered" | "stats" | "get-coordinate" => {
            encode(&Value::Map(Vec::new()))
        }
        command if command.ends_with("-key") || command == "list-keys" => {
            encode(&Value::Map(Vec::new()))
        }
        "stream" => support::user_event(seq, "deploy"),
        "monitor" => support::log_record(seq, "a line"),
        "query" => {
            let done = map([("Type", "done".into()), ("From", "".into())]);
            [header(seq, ""), encode(&done)].concat()
        }
        _ => Vec::new(),
    };
    [header(seq, ""), body].concat()
}

/// A client that has been told of a query, and the agent's end.
async fn asked() -> (Client, FakeConnection, QueryId) {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options().max_streams(10_000)).await;
    let script = async {
        let seq = connection.expect("stream").await.seq;
        let event = map([("Event", "query".into()), ("ID", 7.into())]);
        let record = [header(seq, ""), header(seq, ""), encode(&event)];
        connection.send(&record.concat()).await;
    };
    let (events, ()) = tokio::join!(client.stream(EventFilter::all()), script);
    let mut events = events.unwrap();
    match soon("the query", events.next()).await {
        Some(Ok(Event::Query { id, .. })) => (client, connection, id),
        other => panic!("{other:?}"),
    }
}

async fn still_works(client: &Client, connection: &mut FakeConnection) {
    let known = [alive("a")];
    let (members, ()) = tokio::join!(client.members(), connection.answer_members(&known));
    assert_eq!(members.unwrap(), known);
}

#[tokio::test]
async fn each_command_is_asked_by_its_name_and_content_with_an_answer() {
    let (client, mut connection, query) = asked().await;
    for (command, call) in calls(&client, query) {
        let script = async {
            let seq = connection.expect(command).await.seq;
            connection.send(&answer(command, seq)).await;
        };
        let (answer, ()) = tokio::join!(call, script);
        answer.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    still_works(&client, &mut connection).await;
}

#[tokio::test]
async fn each_command_can_be_given_up_at_any_moment() {
    let (client, mut connection, query) = asked().await;
    for number in 0..COMMANDS {
        let call = || {
            let mut calls = Vec::from(calls(&client, query));
            calls.swap_remove(number)
        };
        let length = answer(call().0, 100).len();
        for arrived in 0..=length {
            let (command, mut call) = call();
            assert!(poll_immediate(&mut call).await.is_none(), "{command}");
            let seq = connection.expect(command).await.seq;
            let answer = answer(command, seq);
            let (first, rest) = answer.split_at(arrived.min(answer.len()));
            connection.send(first).await;
            let _ = poll_immediate(&mut call).await;
            drop(call);
            connection.send(rest).await;
            still_works(&client, &mut connection).await;
        }
    }
}

#[tokio::test]
async fn each_refusal_keeps_the_agents_words_and_the_connection() {
    let (client, mut connection, query) = asked().await;
    for (command, call) in calls(&client, query) {
        let script = async {
            let seq = connection.expect(command).await.seq;
            // A body follows an error wherever one follows success, and a record never does.
            let body = match command {
                "stream" | "monitor" | "query" => Vec::new(),
                command => answer(command, seq).split_off(header(seq, "").len()),
            };
            let refusal = header(seq, "not on a Sunday");
            connection.send(&[refusal, body].concat()).await;
        };
        let (answer, ()) = tokio::join!(call, script);
        let error = answer.unwrap_err();
        assert_eq!(error.to_string(), format!("{command}: not on a Sunday"));
        let typed = match error {
            CallError {
                kind: CallErrorKind::Join { joined, .. },
                ..
            } => command == "join" && joined == 0,
            CallError {
                kind: CallErrorKind::Keys { reply, .. },
                ..
            } => command.contains("key") && reply.messages.is_empty(),
            CallError {
                kind: CallErrorKind::Refused { .. },
                ..
            } => command != "join" && !command.contains("key"),
            _ => false,
        };
        assert!(typed, "{command}");
        still_works(&client, &mut connection).await;
    }
}

#[tokio::test]
async fn a_demand_for_a_key_ends_the_connection_whatever_was_asked() {
    for number in 0..COMMANDS {
        let (client, mut connection, query) = asked().await;
        let (command, call) = Vec::from(calls(&client, query)).swap_remove(number);
        let script = async {
            let seq = connection.expect(command).await.seq;
            // The agent takes a body for the next header, and refuses that as well.
            let twice = header(seq, "Authentication required").repeat(2);
            connection.send(&twice).await;
            connection.expect_end().await;
        };
        let (answer, ()) = tokio::join!(call, script);
        let error = answer.unwrap_err().to_string();
        assert_eq!(error, format!("{command}: Authentication required"));
        let lost = client.lost();
        assert!(
            matches!(lost, Some(ConnectionError::AuthenticationRequired)),
            "{command}: {lost:?}"
        );
    }
}

#[tokio::test]
async fn a_slow_answer_to_one_command_delays_no_stream() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let accept = async {
        let seq = connection.expect("stream").await.seq;
        connection.accept_request(seq).await;
        seq
    };
    let (events, stream) = tokio::join!(client.stream(EventFilter::all()), accept);
    let mut events = events.unwrap();
    let mut join = client.join(["127.0.0.2"]).into_future();
    assert!(poll_immediate(&mut join).await.is_none());
    let slow = connection.expect("join").await;
    connection
        .send(&support::user_event(stream, "deploy"))
        .await;
    let event = soon("an event", events.next()).await;
    assert!(matches!(event, Some(Ok(Event::User { .. }))), "{event:?}");
    connection
        .send_body(slow.seq, &map([("Num", 1.into())]))
        .await;
    assert_eq!(soon("the join", join).await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_asked_is_what_is_sent() {
    let (client, mut connection, query) = asked().await;
    let script = async {
        let event = connection.expect("event").await;
        assert_eq!(*field(&event.body, "Coalesce"), true.into());
        connection.accept_request(event.seq).await;
        let pruned = connection.expect("force-leave").await;
        assert_eq!(*field(&pruned.body, "Prune"), true.into());
        connection.accept_request(pruned.seq).await;
        let join = connection.expect("join").await;
        assert_eq!(*field(&join.body, "Replay"), true.into());
        connection
            .send_body(join.seq, &map([("Num", 2.into())]))
            .await;
        let tags = connection.expect("tags").await;
        let deleted = Value::Array(vec!["b".into(), "c".into()]);
        assert_eq!(*field(&tags.body, "DeleteTags"), deleted);
        assert_eq!(*field(&tags.body, "Tags"), map([("a", "1".into())]));
        connection.accept_request(tags.seq).await;
        let respond = connection.expect("respond").await;
        assert_eq!(*field(&respond.body, "ID"), 7.into());
        connection.accept_request(respond.seq).await;
        let place = connection.expect("get-coordinate").await;
        let vec = Value::Array(vec![0.003.into(), 0.0.into()]);
        let place_body = map([("Coord", map([("Vec", vec)])), ("Ok", true.into())]);
        connection.send_body(place.seq, &place_body).await;
    };
    let calls = async {
        let event = UserEvent::new("deploy").coalesce(true);
        client.event(&event).await.unwrap();
        client.force_leave("b").prune().await.unwrap();
        let joined = client.join(["a", "b"]).replay().await.unwrap();
        assert_eq!(joined, 2);
        let change = TagChange::new().set("a", "1").delete("b").delete("c");
        client.tags(&change).await.unwrap();
        client.respond(query, b"\xff").await.unwrap();
        let place = client.get_coordinate("b").await.unwrap().unwrap();
        let home = serf_rpc::Coordinate {
            vec: vec![0.0, 0.004],
            ..Default::default()
        };
        assert_eq!(place.rtt(&home), Some(Duration::from_millis(5)));
    };
    tokio::join!(script, calls);
}
