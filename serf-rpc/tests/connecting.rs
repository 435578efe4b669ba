//! What can go wrong before there is a connection, and how each shows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use serf_rpc::{CallError, CallErrorKind, Client, ConnectError, ConnectOptions, ConnectionError};
use support::{FakeAgent, field};

/// Connects to an agent that answers handshake and authentication so.
async fn connect(
    options: ConnectOptions,
    agent: &FakeAgent,
    answers: &[&str],
) -> Result<Client, ConnectError> {
    let script = async {
        let mut connection = agent.accept().await;
        for (answer, command) in answers.iter().zip(["handshake", "auth"]) {
            let request = connection.expect(command).await;
            connection.refuse(request.seq, answer).await;
        }
        connection
    };
    let (client, _connection) = tokio::join!(options.connect(), script);
    client
}

#[tokio::test]
async fn nobody_listens() {
    let agent = FakeAgent::start().await;
    let addr = agent.addr();
    drop(agent);
    let error = Client::connect(addr.clone()).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Refused { addr: at, .. } if *at == addr),
        "{error:?}"
    );
    assert_eq!(error.to_string(), format!("no agent listens on {addr}"));
}

#[tokio::test]
async fn an_address_that_is_none() {
    let error = Client::connect("127.10.1.1").await.unwrap_err();
    assert!(matches!(error, ConnectError::Resolve { .. }), "{error:?}");
}

#[tokio::test]
async fn a_silent_agent_times_out() {
    let agent = FakeAgent::start().await;
    let options = agent.options().connect_timeout(Duration::from_millis(50));
    // The shortest of calls does not shorten it.
    for call_timeout in [Duration::from_secs(10), Duration::ZERO] {
        let options = options.clone().call_timeout(call_timeout);
        let error = options.connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_from_a_missing_one() {
    let agent = FakeAgent::start().await;
    let refusal = ["", "Invalid authentication token"];
    let error = connect(agent.options().auth_key("wrong"), &agent, &refusal)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::BadKey { .. }), "{error:?}");
    let error = connect(agent.options(), &agent, &refusal)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::MissingKey { .. }),
        "{error:?}"
    );
    let error = connect(agent.options().auth_key(""), &agent, &refusal)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::MissingKey { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let agent = FakeAgent::start().await;
    let options = agent.options().auth_key("s3cret");
    assert!(!format!("{options:?}").contains("s3cret"));
    let script = async {
        let mut connection = agent.accept().await;
        let handshake = connection.expect("handshake").await;
        assert_eq!(field(&handshake.body, "Version").as_u64(), Some(1));
        connection.accept_request(handshake.seq).await;
        let auth = connection.expect("auth").await;
        assert_eq!(field(&auth.body, "AuthKey").as_str(), Some("s3cret"));
        connection.accept_request(auth.seq).await;
        connection
    };
    let (client, _connection) = tokio::join!(options.connect(), script);
    client.unwrap();
}

/// The key that a client with these options sends.
async fn key_sent(options: &ConnectOptions, agent: &FakeAgent) -> String {
    let script = async {
        let mut connection = agent.accept().await;
        let handshake = connection.expect("handshake").await;
        connection.accept_request(handshake.seq).await;
        let auth = connection.expect("auth").await;
        connection.accept_request(auth.seq).await;
        field(&auth.body, "AuthKey").as_str().unwrap().to_owned()
    };
    let (client, key) = tokio::join!(options.connect(), script);
    client.unwrap();
    key
}

#[tokio::test]
async fn a_key_in_a_file_is_read_at_each_attempt() {
    let path = std::env::temp_dir().join(format!("serf-rpc-key-{}", std::process::id()));
    let agent = FakeAgent::start().await;
    let options = agent.options().auth_key_file(&path);
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();

    let error = options.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Key { .. }), "{error:?}");
    let said = format!("cannot read the key for agent {}", agent.addr());
    assert!(error.to_string().starts_with(&said), "{error}");
    write(b"s3cret\n");
    assert_eq!(key_sent(&options, &agent).await, "s3cret");
    write(b" rotated \r\n");
    assert_eq!(key_sent(&options, &agent).await, "rotated");
    write(b"\n");
    assert_eq!(key_sent(&options, &agent).await, "");
    for wrong in [&b"\xff\xfe"[..], &[b'k'; 100_000]] {
        write(wrong);
        let error = options.connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Key { .. }), "{error:?}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn another_version_of_the_protocol() {
    let agent = FakeAgent::start().await;
    let error = connect(agent.options(), &agent, &["Unsupported IPC version"])
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::BadVersion { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn any_other_refusal_keeps_the_agents_words() {
    let agent = FakeAgent::start().await;
    let error = connect(agent.options(), &agent, &["not today"])
        .await
        .unwrap_err();
    let ConnectError::Handshake {
        reason:
            CallError {
                command,
                kind: CallErrorKind::Refused { message, .. },
                ..
            },
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((command, &message[..]), ("handshake", &b"not today"[..]));
}

#[tokio::test]
async fn something_else_listens() {
    let agent = FakeAgent::start().await;
    let options = agent.options();
    let script = async {
        let mut connection = agent.accept().await;
        connection.expect("handshake").await;
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        connection
    };
    let (client, _connection) = tokio::join!(options.connect(), script);
    let error = client.unwrap_err();
    let ConnectError::Handshake {
        reason:
            CallError {
                kind: CallErrorKind::Lost { reason: source, .. },
                ..
            },
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert!(matches!(source, ConnectionError::Protocol(_)), "{source:?}");
}

#[tokio::test]
async fn an_agent_that_hangs_up() {
    let agent = FakeAgent::start().await;
    let options = agent.options();
    let script = async {
        agent.accept().await.expect("handshake").await;
    };
    let (client, ()) = tokio::join!(options.connect(), script);
    let error = client.unwrap_err();
    let ConnectError::Handshake {
        reason:
            CallError {
                kind: CallErrorKind::Lost { reason: source, .. },
                ..
            },
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert!(matches!(source, ConnectionError::Closed), "{source:?}");
}
