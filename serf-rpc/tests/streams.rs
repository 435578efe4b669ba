//! Streams: records, gaps, retirement, and their end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use serf_rpc::{
    CallError, CallErrorKind, Client, ConnectOptions, ConnectionError, Event, EventFilter,
    EventStream, LogLevel, LogLine, Query, StreamError,
};
use support::{
    FakeAgent, FakeConnection, alive, encode, field, header, log_record, map, query_done, soon,
    user_event,
};

/// A client with a stream of all events, the agent's end, and the stream's sequence number.
async fn streaming(
    agent: &FakeAgent,
    options: ConnectOptions,
) -> (Client, EventStream, FakeConnection, u64) {
    let (client, mut connection) = agent.connect(options).await;
    let (stream, seq) = tokio::join!(
        client.stream(EventFilter::all()),
        acknowledge(&mut connection)
    );
    (client, stream.unwrap(), connection, seq)
}

async fn acknowledge(connection: &mut FakeConnection) -> u64 {
    let request = connection.expect("stream").await;
    assert_eq!(field(&request.body, "Type").as_str(), Some("*"));
    connection.accept_request(request.seq).await;
    request.seq
}

async fn next_name(stream: &mut EventStream) -> String {
    match soon("an event", stream.next()).await {
        Some(Ok(Event::User { name, .. })) => name.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn records_come_in_order_between_answers() {
    let agent = FakeAgent::start().await;
    let (client, mut stream, mut connection, seq) = streaming(&agent, agent.options()).await;
    let script = async {
        let request = connection.expect("members").await;
        let answer = [
            header(request.seq, ""),
            encode(&support::members_body(&[alive("a")])),
        ]
        .concat();
        connection
            .send(&[user_event(seq, "one"), answer, user_event(seq, "two")].concat())
            .await;
    };
    let (answer, ()) = tokio::join!(client.members(), script);
    assert_eq!(answer.unwrap().len(), 1);
    assert_eq!(next_name(&mut stream).await, "one");
    assert_eq!(next_name(&mut stream).await, "two");
}

#[tokio::test]
async fn two_streams_and_a_monitor_are_told_apart() {
    let agent = FakeAgent::start().await;
    let (client, mut first, mut connection, one) = streaming(&agent, agent.options()).await;
    let (second, two) = tokio::join!(
        client.stream(EventFilter::all()),
        acknowledge(&mut connection)
    );
    let mut second = second.unwrap();
    let script = async {
        let request = connection.expect("monitor").await;
        assert_eq!(field(&request.body, "LogLevel").as_str(), Some("DEBUG"));
        connection.accept_request(request.seq).await;
        let log = log_record(request.seq, "a line");
        connection
            .send(&[user_event(two, "2"), log, user_event(one, "1")].concat())
            .await;
    };
    let (lines, ()) = tokio::join!(client.monitor(LogLevel::Debug), script);
    let mut lines = lines.unwrap();
    assert_eq!(next_name(&mut first).await, "1");
    assert_eq!(next_name(&mut second).await, "2");
    assert_eq!(
        soon("a line", lines.next())
            .await
            .unwrap()
            .unwrap()
            .into_line(),
        Some(LogLine::new("a line"))
    );
}

#[tokio::test]
async fn a_refused_stream_is_an_error_of_its_call() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options().max_streams(1)).await;
    for _ in 0..2 {
        let script = async {
            let request = connection.expect("monitor").await;
            connection
                .refuse(request.seq, "Monitor already exists")
                .await;
        };
        let (answer, ()) = tokio::join!(client.monitor(LogLevel::Info), script);
        let error = answer.unwrap_err();
        assert_eq!(error.to_string(), "monitor: Monitor already exists");
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_how_much_it_missed_and_delays_nobody() {
    let agent = FakeAgent::start().await;
    let options = agent.options().stream_queue(2, 1 << 20);
    let (client, mut stream, mut connection, seq) = streaming(&agent, options).await;
    let events: Vec<u8> = (0..10)
        .flat_map(|number| user_event(seq, &number.to_string()))
        .collect();
    connection.send(&events).await;
    let (answer, ()) = tokio::join!(client.members(), connection.answer_members(&[]));
    answer.unwrap();
    assert_eq!(next_name(&mut stream).await, "0");
    assert_eq!(next_name(&mut stream).await, "1");
    let gap = soon("the gap", stream.next()).await.unwrap();
    assert!(matches!(gap, Ok(Event::Lagged(8))), "{gap:?}");
    connection.send(&user_event(seq, "later")).await;
    assert_eq!(next_name(&mut stream).await, "later");
}

#[tokio::test]
async fn a_dropped_stream_sends_nothing_and_its_records_are_swallowed() {
    let members = [alive("a")];
    let agent = FakeAgent::start().await;
    let (client, stream, mut connection, seq) = streaming(&agent, agent.options()).await;
    drop(stream);
    connection
        .send(&[user_event(seq, "late"), user_event(seq, "later")].concat())
        .await;
    // The next request is this one: no `stop` came before it.
    let (answer, ()) = tokio::join!(client.members(), connection.answer_members(&members));
    assert_eq!(answer.unwrap().len(), 1);
    connection.send(&user_event(seq, "last")).await;
    let (answer, ()) = tokio::join!(client.members(), connection.answer_members(&[]));
    assert_eq!(answer.unwrap(), []);
}

#[tokio::test]
async fn a_dropped_subscription_is_swallowed_whenever_it_begins() {
    let members = [alive("a")];
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let request = {
        let mut call = Box::pin(client.stream(EventFilter::all()));
        assert!(
            futures_util::future::poll_immediate(&mut call)
                .await
                .is_none()
        );
        connection.expect("stream").await
    };
    connection.accept_request(request.seq).await;
    connection
        .send(&user_event(request.seq, "for nobody"))
        .await;
    let (answer, ()) = tokio::join!(client.members(), connection.answer_members(&members));
    assert_eq!(answer.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stopped_stream_may_go_on_for_a_while() {
    let agent = FakeAgent::start().await;
    let (client, stream, mut connection, seq) = streaming(&agent, agent.options()).await;
    let script = async {
        let request = connection.expect("stop").await;
        assert_eq!(field(&request.body, "Stop").as_u64(), Some(seq));
        connection
            .send(
                &[
                    user_event(seq, "1"),
                    header(request.seq, ""),
                    user_event(seq, "2"),
                ]
                .concat(),
            )
            .await;
    };
    let (stopped, ()) = tokio::join!(stream.stop(), script);
    stopped.unwrap();
    let (answer, ()) = tokio::join!(client.members(), connection.answer_members(&[]));
    answer.unwrap();
}

#[tokio::test]
async fn streams_are_limited_and_dropped_ones_count() {
    let agent = FakeAgent::start().await;
    let options = agent.options().max_streams(1);
    let options = options.call_timeout(Duration::from_millis(50));
    let (client, stream, _connection, _) = streaming(&agent, options).await;
    drop(stream);
    let error = client.stream(EventFilter::all()).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError {
                kind: CallErrorKind::TooManyStreams { limit: 1, .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_stopped_stream_gives_its_place_back_and_what_still_comes_of_it_is_swallowed() {
    let agent = FakeAgent::start().await;
    let (client, mut stream, mut connection, mut seq) =
        streaming(&agent, agent.options().max_streams(1)).await;
    for _ in 0..3 {
        let script = async {
            let request = connection.expect("stop").await;
            let late = user_event(seq, "late");
            let stopped = header(request.seq, "");
            connection
                .send(&[&late[..], &stopped, &late].concat())
                .await;
        };
        let (stopped, ()) = tokio::join!(stream.stop(), script);
        stopped.unwrap();
        let last = seq;
        let (next, next_seq) = tokio::join!(
            client.stream(EventFilter::all()),
            acknowledge(&mut connection)
        );
        (stream, seq) = (next.unwrap(), next_seq);
        connection
            .send(&[user_event(last, "later"), user_event(seq, "mine")].concat())
            .await;
        assert_eq!(next_name(&mut stream).await, "mine");
    }
}

#[tokio::test]
async fn a_query_waits_for_the_place_of_one_whose_time_is_up() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options().max_streams(2)).await;
    let query = Query::new("uptime");
    let script = async {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let request = connection.expect("query").await;
            connection.accept_request(request.seq).await;
            asked.push(request.seq);
        }
        tokio::task::yield_now().await;
        connection.send(&query_done(asked[0])).await;
        let third = connection.expect("query").await;
        connection.accept_request(third.seq).await;
    };
    let (first, second, third, ()) = tokio::join!(
        client.query(&query),
        client.query(&query),
        client.query(&query),
        script
    );
    first.unwrap();
    second.unwrap();
    third.unwrap();
}

#[tokio::test]
async fn a_record_of_the_wrong_shape_is_an_item_and_not_the_end() {
    let agent = FakeAgent::start().await;
    let (_client, mut stream, mut connection, seq) = streaming(&agent, agent.options()).await;
    let wrong = [header(seq, ""), encode(&map([("Event", 7.into())]))].concat();
    connection
        .send(&[wrong, user_event(seq, "next")].concat())
        .await;
    let item = soon("an item", stream.next()).await.unwrap();
    assert!(matches!(item, Err(StreamError::Decode(_))), "{item:?}");
    assert_eq!(next_name(&mut stream).await, "next");
}

#[tokio::test]
async fn a_lost_connection_is_the_last_item() {
    let agent = FakeAgent::start().await;
    let (_client, stream, mut connection, seq) = streaming(&agent, agent.options()).await;
    connection.send(&user_event(seq, "last words")).await;
    drop(connection);
    let items: Vec<_> = soon("the end", stream.collect()).await;
    assert!(matches!(
        &items[..],
        [
            Ok(Event::User { .. }),
            Err(StreamError::Lost(
                ConnectionError::Closed | ConnectionError::Io(_)
            ))
        ]
    ));
}

#[tokio::test]
async fn a_stream_keeps_its_connection_open() {
    let agent = FakeAgent::start().await;
    let (client, mut stream, mut connection, seq) = streaming(&agent, agent.options()).await;
    drop(client);
    connection.send(&user_event(seq, "still here")).await;
    assert_eq!(next_name(&mut stream).await, "still here");
    drop(stream);
    connection.expect_end().await;
}
