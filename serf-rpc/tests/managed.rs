//! The client that comes back: agents that go and come, and what is repeated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use serf_rpc::{
    AgentState, CallErrorKind, ClientEvent, ConnectOptions, Event, EventFilter, LinkOptions,
    LogEntry, LogLevel, LogLine, ManagedClient, MemberFilter, Outcome, Query, Retry, TagChange,
    UserEvent, Watcher,
};
use support::{FakeAgent, FakeConnection, alive, soon, user_event};

fn options(agents: &[&FakeAgent]) -> LinkOptions {
    LinkOptions::new(agents.iter().map(|agent| agent.options()))
        .retry(Duration::from_millis(1), Duration::from_millis(5))
}

#[tokio::test]
async fn a_question_is_repeated_on_the_next_connection() {
    let (first, second) = (FakeAgent::start().await, FakeAgent::start().await);
    let client = ManagedClient::spawn(options(&[&first, &second]));
    let mut events = client.events();
    let script = async {
        let mut connection = first.accept_ready().await;
        connection.expect("members").await;
        drop(connection);
        let mut connection = second.accept_ready().await;
        connection.answer_members(&[alive("a")]).await;
        connection
    };
    let (members, _connection) = tokio::join!(client.members(), script);
    assert_eq!(members.unwrap().len(), 1);
    assert_eq!(
        *client.state(),
        AgentState::Connected {
            addr: second.addr()
        }
    );
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match soon("an event", events.next()).await.unwrap() {
            ClientEvent::Connected { addr } => seen.push((true, addr)),
            ClientEvent::Unreachable { addr, .. } => seen.push((false, addr)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        seen,
        [
            (true, first.addr()),
            (false, first.addr()),
            (true, second.addr())
        ]
    );
}

#[tokio::test]
async fn an_event_that_may_have_been_sent_is_not_repeated_and_says_so() {
    let agent = FakeAgent::start().await;
    let client = ManagedClient::spawn(options(&[&agent]));
    let script = async {
        let mut connection = agent.accept_ready().await;
        connection.expect("event").await;
        drop(connection);
        agent.accept_ready().await
    };
    let event = UserEvent::new("deploy");
    let (sent, mut connection) = tokio::join!(client.event(&event), script);
    let error = sent.unwrap_err();
    assert_eq!(
        (error.retry(), error.outcome()),
        (Retry::NewConnection, Outcome::Unknown)
    );
    // On the next connection it is one that was never sent before.
    let accept = async {
        let request = connection.expect("event").await;
        connection.accept_request(request.seq).await;
    };
    let (sent, ()) = tokio::join!(client.event(&event), accept);
    sent.unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_delays_a_question_no_longer_than_two_pulses() {
    let (first, second) = (FakeAgent::start().await, FakeAgent::start().await);
    let pulse = Duration::from_millis(50);
    let client = ManagedClient::spawn(options(&[&first, &second]).pulse(pulse));
    let script = async {
        let hanging = first.accept_ready().await;
        let mut connection = second.accept_ready().await;
        connection.answer_members(&[alive("a")]).await;
        (hanging, connection)
    };
    let (members, _connections) = tokio::join!(client.members(), script);
    assert_eq!(members.unwrap().len(), 1);
}

#[tokio::test]
async fn without_an_agent_a_call_ends_in_time_and_with_none_at_all_at_once() {
    let gone = FakeAgent::start().await;
    let options = options(&[&gone]);
    drop(gone);
    let client = ManagedClient::spawn(options).with_call_timeout(Duration::from_millis(50));
    let error = client.members().await.unwrap_err();
    assert!(
        error.is_timeout() && error.outcome() == Outcome::NotSent,
        "{error}"
    );
    let client = ManagedClient::spawn(LinkOptions::new([]));
    let error = soon("an error", client.members()).await.unwrap_err();
    assert!(
        matches!(error.kind, CallErrorKind::NotConnected { .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "members: no agent answers: no agent is given"
    );
    assert_eq!(error.retry(), Retry::Never);
}

/// Answers the next request, which must be of that command.
async fn begin(connection: &mut FakeConnection, command: &str) -> u64 {
    let request = connection.expect(command).await;
    connection.accept_request(request.seq).await;
    request.seq
}

#[tokio::test]
async fn events_go_on_over_a_restart_and_show_where_some_may_be_missing() {
    let agent = FakeAgent::start().await;
    let client = ManagedClient::spawn(options(&[&agent]));
    let accept = async {
        let mut connection = agent.accept_ready().await;
        let seq = begin(&mut connection, "stream").await;
        connection.send(&user_event(seq, "one")).await;
        connection
    };
    let (events, connection) = tokio::join!(client.stream(EventFilter::all()), accept);
    let mut events = events.unwrap();
    let name = |event: Option<Event>| match event {
        Some(Event::User { name, .. }) => name.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(soon("an event", events.next()).await), "one");
    drop(connection);
    let again = async {
        let mut connection = agent.accept_ready().await;
        let seq = begin(&mut connection, "stream").await;
        connection.send(&user_event(seq, "two")).await;
        connection
    };
    let read = async { (events.next().await, events.next().await) };
    let ((gap, next), _connection) = soon("the rest", async { tokio::join!(read, again) }).await;
    assert_eq!(gap, Some(Event::Resubscribed));
    assert_eq!(name(next), "two");
    drop(client);
    let rest = events.into_stream().count();
    assert_eq!(soon("the end", rest).await, 0);
}

#[tokio::test]
async fn a_log_that_is_followed_anew_repeats_nothing() {
    let agent = FakeAgent::start().await;
    let client = ManagedClient::spawn(options(&[&agent]));
    let mut log = pin!(client.log(LogLevel::Info).into_stream());
    let line = |number: u32| format!("2026/11/23 16:07:{number:02} [INFO] serf: line {number}");
    let mut seen = Vec::new();
    for lines in [0..3_u32, 0..5] {
        let script = async {
            let link = agent.accept_ready().await;
            let mut own = agent.accept_ready().await;
            let seq = begin(&mut own, "monitor").await;
            for number in lines.clone() {
                own.send_log(seq, &line(number)).await;
            }
            (link, own)
        };
        let wanted = usize::try_from(lines.end).unwrap();
        let read = async {
            while seen.len() < wanted {
                match soon("an entry", log.next()).await.unwrap() {
                    LogEntry::Line(line) => seen.push(line),
                    entry => assert_eq!(entry, LogEntry::Resubscribed),
                }
            }
        };
        tokio::join!(read, script);
    }
    let expected: Vec<_> = (0..5).map(|number| LogLine::new(line(number))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_client_of_a_watcher_shares_its_connection() {
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(agent.options());
    let client = watcher.client();
    let script = async {
        let mut connection = agent.accept_ready().await;
        for command in ["stream", "monitor"] {
            begin(&mut connection, command).await;
        }
        connection.answer_stats("a").await;
        connection.answer_members(&[alive("a")]).await;
        connection
    };
    let (ready, mut connection) = tokio::join!(watcher.ready(), script);
    ready.unwrap();
    let event = UserEvent::new("deploy");
    let (sent, _) = tokio::join!(client.event(&event), begin(&mut connection, "event"));
    sent.unwrap();
    assert!(matches!(*client.state(), AgentState::Connected { .. }));
    watcher.stop().await;
    assert!(matches!(*client.state(), AgentState::Stopped { .. }));
    let error = soon("an error", client.members()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "members: no agent answers: it was stopped"
    );
}

#[tokio::test]
async fn an_address_that_is_none_ends_the_client() {
    let client = ManagedClient::spawn(ConnectOptions::new("nowhere"));
    let error = soon("an error", client.members()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    assert!(matches!(*client.state(), AgentState::Stopped { .. }));
}

/// What holds no reference that its caller has to name may be spawned; that it compiles is the test.
#[tokio::test]
async fn calls_of_a_managed_client_may_be_spawned() {
    let client = ManagedClient::spawn(LinkOptions::new([]));
    let calls = tokio::spawn(async move {
        let ended = [
            client.members().await.is_err(),
            client.members_filtered(&MemberFilter::new()).await.is_err(),
            client.stats().await.is_err(),
            client.get_coordinate("a").await.is_err(),
            client.list_keys().await.is_err(),
            client.tags(&TagChange::new()).await.is_err(),
            client.join(["127.0.0.1:7946"]).await.is_err(),
            client.event(&UserEvent::new("e")).await.is_err(),
            client.query(&Query::new("q")).await.is_err(),
            client.stream(EventFilter::all()).await.is_err(),
            client.log(LogLevel::Info).next().await.is_none(),
        ];
        ended.into_iter().all(|ended| ended)
    });
    assert!(calls.await.unwrap());
}
