//! Calls on one connection: their answers, and what happens when something goes wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use rmpv::Value;
use serf_rpc::{
    CallError, CallErrorKind, Client, ConnectionError, EventFilter, Member, MemberFilter,
    MemberStatus, ObjectError, Outcome, ProtocolError, Query, Retry, StreamError,
};
use support::{FakeAgent, FakeConnection, alive, encode, field, header, map, runtime, soon};

fn names(members: &[Member]) -> Vec<String> {
    members
        .iter()
        .map(|member| member.name().to_string())
        .collect()
}

/// A client whose connection the agent has ended so, and the error of the call that was open.
async fn lost(end: impl AsyncFnOnce(&mut FakeConnection)) -> (Client, ConnectionError) {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let script = async {
        connection.expect("members").await;
        end(&mut connection).await;
        drop(connection);
    };
    let (answer, ()) = tokio::join!(client.members(), script);
    match answer.unwrap_err() {
        CallError {
            command: "members",
            kind: CallErrorKind::Lost { reason: source, .. },
            ..
        } => (client, source),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn members_come_with_all_their_attributes() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let members = [
        Member::builder("web1")
            .addr([10, 0, 0, 7].into(), 7946)
            .tag("role", "web")
            .tag("dc", "x")
            .build(),
        Member::builder(b"bad\xffname")
            .status(MemberStatus::Failed)
            .tag(b"k\xff", b"v\xfe\0")
            .build(),
    ];
    let (answer, ()) = tokio::join!(client.members(), connection.answer_members(&members));
    assert_eq!(answer.unwrap(), members);
}

#[tokio::test]
async fn a_filter_is_sent_as_the_agent_reads_it() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let filter = MemberFilter::new()
        .name("a|b")
        .status("alive")
        .tag("role", "web.*");
    let script = async {
        let request = connection.expect("members-filtered").await;
        assert_eq!(field(&request.body, "Name").as_str(), Some("(?:a|b)"));
        assert_eq!(field(&request.body, "Status").as_str(), Some("(?:alive)"));
        assert_eq!(
            *field(&request.body, "Tags"),
            map([("role", "(?:web.*)".into())])
        );
        connection.send_members(request.seq, &[alive("a")]).await;
    };
    let (answer, ()) = tokio::join!(client.members_filtered(&filter), script);
    assert_eq!(names(&answer.unwrap()), ["a"]);
}

#[tokio::test]
async fn a_malformed_expression_is_refused_before_it_can_cost_the_connection() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let filters = [
        (MemberFilter::new().name("("), "name"),
        (MemberFilter::new().name("a)|(b"), "name"),
        (MemberFilter::new().status("*"), "status"),
        (MemberFilter::new().tag("role", "[z-a]"), "tag role"),
    ];
    for (filter, expected) in filters {
        match client.members_filtered(&filter).await {
            Err(CallError {
                kind: CallErrorKind::Filter { field, message, .. },
                ..
            }) => {
                assert_eq!(field, expected);
                assert!(!message.is_empty() && !message.contains('\n'), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    let (answer, ()) = tokio::join!(client.members(), connection.answer_members(&[]));
    assert_eq!(answer.unwrap(), []);
}

#[tokio::test]
async fn calls_of_many_clones_each_get_their_own_answer() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let calls = (0..100).map(|number| {
        let client = client.clone();
        async move {
            let filter = MemberFilter::new().name(number.to_string());
            (number, client.members_filtered(&filter).await.unwrap())
        }
    });
    let script = async {
        for _ in 0..100 {
            let request = connection.expect("members-filtered").await;
            let name = field(&request.body, "Name").as_str().unwrap();
            let name = name.trim_start_matches("(?:").trim_end_matches(')');
            connection.send_members(request.seq, &[alive(name)]).await;
        }
    };
    let (answers, ()) = tokio::join!(join_all(calls), script);
    for (number, members) in answers {
        assert_eq!(names(&members), [number.to_string()]);
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_the_connection_usable() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let abandoned = {
        let mut call = Box::pin(client.members());
        assert!(poll_immediate(&mut call).await.is_none());
        connection.expect("members").await
    };
    let script = async {
        let request = connection.expect("members").await;
        connection
            .send_members(abandoned.seq, &[alive("old")])
            .await;
        connection.send_members(request.seq, &[alive("new")]).await;
    };
    let (answer, ()) = tokio::join!(client.members(), script);
    assert_eq!(names(&answer.unwrap()), ["new"]);
}

#[tokio::test]
async fn a_late_answer_is_swallowed_after_its_call_timed_out() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let after = Duration::from_millis(30);
    let error = client.with_call_timeout(after).members().await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError {
                command: "members",
                kind: CallErrorKind::Timeout { .. },
                ..
            }
        ),
        "{error:?}"
    );
    let late = connection.expect("members").await;
    let script = async {
        let request = connection.expect("members").await;
        connection.send_members(late.seq, &[alive("late")]).await;
        connection.send_members(request.seq, &[alive("new")]).await;
    };
    let (answer, ()) = tokio::join!(client.members(), script);
    assert_eq!(names(&answer.unwrap()), ["new"]);
}

#[tokio::test]
async fn no_more_calls_than_allowed_are_sent_at_once() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options().max_in_flight(1)).await;
    let script = async {
        let first = connection.expect("members").await;
        // The second is not even sent: only the answer to the first lets it go.
        let early = tokio::time::timeout(Duration::from_millis(30), connection.request()).await;
        assert!(early.is_err(), "{early:?}");
        connection.send_members(first.seq, &[]).await;
        connection.answer_members(&[]).await;
    };
    let (one, two, ()) = tokio::join!(client.members(), client.members(), script);
    one.and(two).unwrap();
}

#[tokio::test]
async fn a_lost_connection_fails_what_is_open_and_what_comes_later() {
    let (client, error) = lost(async |_| {}).await;
    assert!(
        matches!(error, ConnectionError::Closed | ConnectionError::Io(_)),
        "{error:?}"
    );
    let later = client.members().await.unwrap_err();
    assert!(
        matches!(
            later,
            CallError {
                kind: CallErrorKind::Lost { .. },
                ..
            }
        ),
        "{later:?}"
    );
    assert!(client.lost().is_some());
}

#[tokio::test]
async fn bytes_that_are_no_msgpack_end_the_connection() {
    let (_, error) = lost(async |connection| connection.send(&[0xc1]).await).await;
    let reserved = ProtocolError::Object(ObjectError::Reserved);
    assert!(
        matches!(error, ConnectionError::Protocol(error) if error == reserved),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_answer_to_nothing_that_was_asked_ends_the_connection() {
    let (_, error) = lost(async |connection| connection.send(&header(99, "")).await).await;
    assert!(
        matches!(
            error,
            ConnectionError::Protocol(ProtocolError::UnknownSeq { seq: 99, .. })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_announced_giant_ends_the_connection_before_it_comes() {
    let giant = [
        &header(2, "")[..],
        &[0x81, 0xa7],
        b"Members",
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    let (_, error) = lost(async |connection| connection.send(&giant).await).await;
    let ConnectionError::Protocol(ProtocolError::Object(ObjectError::TooLarge { limit, .. })) =
        error
    else {
        panic!("{error:?}");
    };
    assert_eq!(limit, 64 << 20);
}

#[tokio::test]
async fn authentication_demanded_later_ends_the_connection() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let script = async {
        let request = connection.expect("stream").await;
        // An agent reads the body of the request as another header and refuses twice.
        let twice = header(request.seq, "Authentication required").repeat(2);
        connection.send(&twice).await;
        connection.expect_end().await;
    };
    let (answer, ()) = tokio::join!(client.stream(EventFilter::all()), script);
    let error = answer.unwrap_err();
    assert!(
        matches!(
            error,
            CallError {
                command: "stream",
                kind: CallErrorKind::Refused { .. },
                ..
            }
        ),
        "{error:?}"
    );
    let later = client.members().await.unwrap_err();
    let CallError {
        kind: CallErrorKind::Lost { reason: source, .. },
        ..
    } = later
    else {
        panic!("{later:?}")
    };
    assert!(
        matches!(source, ConnectionError::AuthenticationRequired),
        "{source:?}"
    );
}

#[tokio::test]
async fn a_body_of_the_wrong_shape_fails_its_call_alone() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let script = async {
        let request = connection.expect("members").await;
        connection
            .send_body(request.seq, &map([("Members", 7.into())]))
            .await;
        connection.answer_members(&[alive("a")]).await;
    };
    let calls = async { (client.members().await, client.members().await) };
    let ((wrong, right), ()) = tokio::join!(calls, script);
    assert!(
        matches!(
            wrong,
            Err(CallError {
                command: "members",
                kind: CallErrorKind::Decode { .. },
                ..
            })
        ),
        "{wrong:?}"
    );
    assert_eq!(names(&right.unwrap()), ["a"]);
}

#[tokio::test]
async fn a_nil_list_and_unknown_fields_are_tolerated() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let script = async {
        let request = connection.expect("members").await;
        let body = map([
            ("New", Value::Array(vec![1.into(), Value::Nil])),
            ("Members", Value::Nil),
        ]);
        connection.send_body(request.seq, &body).await;
    };
    let (answer, ()) = tokio::join!(client.members(), script);
    assert_eq!(answer.unwrap(), []);
}

#[tokio::test]
async fn an_answer_in_single_bytes_is_the_same_answer() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let script = async {
        let request = connection.expect("members").await;
        let bytes = [
            header(request.seq, ""),
            encode(&support::members_body(&[alive("a")])),
        ]
        .concat();
        for byte in bytes {
            connection.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(client.members(), script);
    assert_eq!(names(&answer.unwrap()), ["a"]);
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let clone = client.clone();
    drop(client);
    let (answer, ()) = tokio::join!(clone.members(), connection.answer_members(&[]));
    answer.unwrap();
    drop(clone);
    soon("the end", connection.expect_end()).await;
}

#[test]
fn a_client_outlives_its_runtime_and_says_that_it_is_lost() {
    let first = runtime();
    let (client, mut stream, _connection) = first.block_on(async {
        let agent = FakeAgent::start().await;
        let (client, mut connection) = agent.connect(agent.options()).await;
        let script = async {
            let request = connection.expect("stream").await;
            connection.accept_request(request.seq).await;
        };
        let (stream, ()) = tokio::join!(client.stream(EventFilter::all()), script);
        (client, stream.unwrap(), connection)
    });
    assert!(client.lost().is_none());
    drop(first);
    assert!(matches!(client.lost(), Some(ConnectionError::RuntimeEnded)));
    runtime().block_on(async {
        let error = client.members().await.unwrap_err();
        assert!(error.to_string().contains("connection lost"), "{error}");
        let end = soon("the end", stream.next()).await;
        assert!(
            matches!(
                end,
                Some(Err(StreamError::Lost(ConnectionError::RuntimeEnded)))
            ),
            "{end:?}"
        );
    });
}

#[tokio::test]
async fn a_call_works_on_any_executor_once_there_is_a_connection() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let elsewhere = std::thread::spawn(move || {
        let _ = tell.send(block_on(client.members()));
    });
    connection.answer_members(&[alive("a")]).await;
    let answer = soon("the answer", told).await.unwrap();
    assert_eq!(names(&answer.unwrap()), ["a"]);
    elsewhere.join().unwrap();
}

/// A minimal executor that is not Tokio's.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_connection_needs_a_runtime_and_says_so() {
    let error = block_on(Client::connect("127.0.0.1:7373")).unwrap_err();
    assert!(error.is_permanent());
    assert!(
        error.to_string().contains("outside a Tokio runtime"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn any_transport_will_do() {
    let (ours, theirs) = tokio::io::duplex(64);
    let options = serf_rpc::ConnectOptions::new("in memory");
    let mut agent = support::Connection::over(theirs);
    let (client, ()) = tokio::join!(options.connect_over(ours), agent.welcome());
    let client = client.unwrap();
    assert_eq!(client.addr(), "in memory");
    let members: Vec<_> = (0..100).map(|number| alive(&number.to_string())).collect();
    let (answer, ()) = tokio::join!(client.members(), agent.answer_members(&members));
    assert_eq!(answer.unwrap(), members);
    drop(agent);
    assert!(matches!(
        client.members().await.unwrap_err().retry(),
        Retry::NewConnection
    ));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_says_nothing_is_given_up_in_time() {
    let (ours, _theirs) = tokio::io::duplex(64);
    let options = serf_rpc::ConnectOptions::new("in memory");
    let error = options.connect_over(ours).await.unwrap_err();
    assert!(
        matches!(error, serf_rpc::ConnectError::Timeout { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_expression_that_no_agent_can_read_is_never_sent_with_a_query() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let query = Query::new("uptime").tag("role", "web-[0-9");
    let error = client.query(&query).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "query: malformed expression for tag role: missing closing ]"
    );
    assert_eq!(
        (error.retry(), error.outcome()),
        (Retry::Never, Outcome::NotSent)
    );
    let query = Query::new("uptime")
        .tag("role", "web|db")
        .tag_is("dc", "eu.1");
    let script = async {
        let request = connection.expect("query").await;
        let expected = map([
            ("dc", r"^(?:eu\.1)$".into()),
            ("role", "^(?:web|db)$".into()),
        ]);
        assert_eq!(*field(&request.body, "FilterTags"), expected);
        connection.accept_request(request.seq).await;
    };
    let (answers, ()) = tokio::join!(client.query(&query), script);
    answers.unwrap();
}

#[tokio::test]
async fn handles_are_shown_in_a_line_and_may_be_shared_between_threads() {
    fn shared<T: std::fmt::Debug + Send + Sync>(handle: &T) -> String {
        format!("{handle:?}")
    }
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let script = async {
        let request = connection.expect("stream").await;
        connection.accept_request(request.seq).await;
        let request = connection.expect("query").await;
        connection.accept_request(request.seq).await;
    };
    let begun = async {
        let events = client.stream(EventFilter::all()).await.unwrap();
        (events, client.query(&Query::new("q")).await.unwrap())
    };
    let ((events, answers), ()) = tokio::join!(begun, script);
    for shown in [shared(&client), shared(&events), shared(&answers)] {
        assert!(
            shown.len() < 120 && shown.contains(&agent.addr()),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_join_replays_events_only_where_it_is_asked_to() {
    let agent = FakeAgent::start().await;
    let (client, mut connection) = agent.connect(agent.options()).await;
    let script = async {
        for replay in [false, true] {
            let request = connection.expect("join").await;
            assert_eq!(field(&request.body, "Replay").as_bool(), Some(replay));
            connection
                .send_body(request.seq, &map([("Num", 2.into())]))
                .await;
        }
        for prune in [false, true] {
            let request = connection.expect("force-leave").await;
            assert_eq!(field(&request.body, "Prune").as_bool(), Some(prune));
            connection.accept_request(request.seq).await;
        }
    };
    let calls = async {
        assert_eq!(client.join(["a", "b:7946"]).await.unwrap(), 2);
        assert_eq!(client.join(["a", "b:7946"]).replay().await.unwrap(), 2);
        client.force_leave("c").await.unwrap();
        client.force_leave("c").prune().await.unwrap();
    };
    tokio::join!(calls, script);
}
