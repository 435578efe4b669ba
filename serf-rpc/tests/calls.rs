//! Calls on one connection: their answers, and what happens when something goes wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use rmpv::Value;
use serf_rpc::{
    CallError, Client, ConnectionError, EventFilter, Member, MemberFilter, MemberStatus,
    ObjectError, ProtocolError, StreamError,
};
use support::{FakeAgent, FakeConnection, alive, encode, field, header, map, soon};

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
        CallError::Lost {
            command: "members",
            source,
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
            Err(CallError::Filter { field, message, .. }) => {
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
            CallError::Timeout {
                command: "members",
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
    assert!(matches!(later, CallError::Lost { .. }), "{later:?}");
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
    let unknown = ProtocolError::UnknownSeq { seq: 99 };
    assert!(
        matches!(error, ConnectionError::Protocol(error) if error == unknown),
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
    let ConnectionError::Protocol(ProtocolError::Object(ObjectError::TooLarge { limit })) = error
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
            CallError::Agent {
                command: "stream",
                ..
            }
        ),
        "{error:?}"
    );
    let later = client.members().await.unwrap_err();
    let CallError::Lost { source, .. } = later else {
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
            Err(CallError::Decode {
                command: "members",
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
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
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
