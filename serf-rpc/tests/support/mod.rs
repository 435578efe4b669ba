//! A scripted agent: it says only what a test makes it say, byte for byte.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::Cursor;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rmpv::Value;
use serf_rpc::{Client, ConnectOptions, Member};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A runtime of its own, which ends when it is dropped.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Waits for what must happen, and fails the test if it does not.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

pub(crate) struct FakeAgent {
    listener: TcpListener,
}

impl FakeAgent {
    /// An agent on an address that no other test uses.
    pub(crate) async fn start() -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let (process, number) = (
            std::process::id() % 250 + 1,
            STARTED.fetch_add(1, Ordering::Relaxed),
        );
        Self::start_at(&format!("127.10.{process}.{number}:0")).await
    }

    pub(crate) async fn start_at(addr: &str) -> Self {
        Self {
            listener: TcpListener::bind(addr).await.unwrap(),
        }
    }

    pub(crate) fn addr(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::new(self.addr())
    }

    /// The next connection, before any of its requests is read.
    pub(crate) async fn accept(&self) -> FakeConnection {
        let (socket, _) = soon("a connection", self.listener.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Connection::over(socket)
    }

    /// The next connection, after its handshake.
    pub(crate) async fn accept_ready(&self) -> FakeConnection {
        let mut connection = self.accept().await;
        connection.welcome().await;
        connection
    }

    /// A client and the agent's end of its connection.
    pub(crate) async fn connect(&self, options: ConnectOptions) -> (Client, FakeConnection) {
        let (client, connection) = tokio::join!(options.connect(), self.accept_ready());
        (client.unwrap(), connection)
    }
}

/// The agent's end of a connection over TCP.
pub(crate) type FakeConnection = Connection<TcpStream>;

/// The agent's end of a connection.
pub(crate) struct Connection<S> {
    socket: S,
    unread: Vec<u8>,
}

/// A request as the agent reads it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: String,
    pub(crate) seq: u64,
    pub(crate) body: Value,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// An agent at the other end of this.
    pub(crate) fn over(socket: S) -> Self {
        Self {
            socket,
            unread: Vec::new(),
        }
    }

    /// The next request; none once the client has closed the connection.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        let header = self.value().await?;
        let command = field(&header, "Command").as_str().unwrap().to_owned();
        let seq = field(&header, "Seq").as_u64().unwrap();
        let bodiless = ["members", "stats", "leave", "list-keys"].contains(&&*command);
        let body = if bodiless {
            Value::Nil
        } else {
            self.value().await?
        };
        Some(Request { command, seq, body })
    }

    /// The next request, which must be of that command.
    pub(crate) async fn expect(&mut self, command: &str) -> Request {
        let request = soon(command, self.request()).await;
        let request = request.unwrap_or_else(|| panic!("closed instead of {command}"));
        assert_eq!(request.command, command);
        request
    }

    /// Answers the two requests that every connection begins with.
    pub(crate) async fn welcome(&mut self) {
        for command in ["handshake", "auth"] {
            let request = self.expect(command).await;
            self.accept_request(request.seq).await;
        }
    }

    /// The client must close the connection without a further request.
    pub(crate) async fn expect_end(&mut self) {
        let request = soon("the end of the connection", self.request()).await;
        assert!(request.is_none(), "{request:?}");
    }

    pub(crate) async fn accept_request(&mut self, seq: u64) {
        self.send(&header(seq, "")).await;
    }

    pub(crate) async fn refuse(&mut self, seq: u64, error: &str) {
        self.send(&header(seq, error)).await;
    }

    pub(crate) async fn send_body(&mut self, seq: u64, body: &Value) {
        self.send(&[header(seq, ""), encode(body)].concat()).await;
    }

    pub(crate) async fn send_members(&mut self, seq: u64, members: &[Member]) {
        self.send_body(seq, &members_body(members)).await;
    }

    /// Waits for the question for the members and answers it.
    pub(crate) async fn answer_members(&mut self, members: &[Member]) {
        let request = self.expect("members").await;
        self.send_members(request.seq, members).await;
    }

    /// Waits for the question for the figures and answers that the agent has this name.
    pub(crate) async fn answer_stats(&mut self, name: &str) {
        let request = self.expect("stats").await;
        let figures = Value::Map(vec![("name".into(), name.into())]);
        let groups = Value::Map(vec![("agent".into(), figures)]);
        self.send_body(request.seq, &groups).await;
    }

    pub(crate) async fn send_log(&mut self, seq: u64, line: &str) {
        self.send(&log_record(seq, line)).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon("room to write", self.socket.write_all(bytes))
            .await
            .unwrap();
    }

    async fn value(&mut self) -> Option<Value> {
        loop {
            let mut cursor = Cursor::new(&self.unread);
            if let Ok(value) = rmpv::decode::read_value(&mut cursor) {
                let len = usize::try_from(cursor.position()).unwrap();
                self.unread.drain(..len);
                return Some(value);
            }
            if self.socket.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

pub(crate) fn field<'a>(map: &'a Value, key: &str) -> &'a Value {
    let pairs = map.as_map().unwrap_or_else(|| panic!("{map} is no map"));
    pairs
        .iter()
        .find(|(k, _)| k.as_str() == Some(key))
        .map_or(&Value::Nil, |(_, value)| value)
}

pub(crate) fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(
        pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

pub(crate) fn header(seq: u64, error: &str) -> Vec<u8> {
    encode(&map([("Error", error.into()), ("Seq", seq.into())]))
}

pub(crate) fn log_record(seq: u64, line: &str) -> Vec<u8> {
    [header(seq, ""), encode(&map([("Log", line.into())]))].concat()
}

pub(crate) fn user_event(seq: u64, name: &str) -> Vec<u8> {
    let body = map([
        ("Coalesce", false.into()),
        ("Event", "user".into()),
        ("LTime", 1.into()),
        ("Name", name.into()),
        ("Payload", Value::Nil),
    ]);
    [header(seq, ""), encode(&body)].concat()
}

pub(crate) fn query_done(seq: u64) -> Vec<u8> {
    let body = map([
        ("Type", "done".into()),
        ("From", "".into()),
        ("Payload", Value::Nil),
    ]);
    [header(seq, ""), encode(&body)].concat()
}

/// Strings of Serf need not be UTF-8.
fn raw(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => Value::Binary(bytes.to_vec()),
    }
}

pub(crate) fn members_body(members: &[Member]) -> Value {
    let members = members.iter().map(|member| {
        let addr = match member.addr() {
            None => Value::Nil,
            Some(std::net::IpAddr::V4(addr)) => Value::Binary(addr.octets().to_vec()),
            Some(std::net::IpAddr::V6(addr)) => Value::Binary(addr.octets().to_vec()),
        };
        map([
            ("Name", raw(member.name())),
            ("Addr", addr),
            ("Port", member.port().into()),
            (
                "Tags",
                Value::Map(member.tags().map(|(k, v)| (raw(k), raw(v))).collect()),
            ),
            ("Status", member.status().as_str().into()),
        ])
    });
    map([("Members", Value::Array(members.collect()))])
}

pub(crate) fn alive(name: &str) -> Member {
    Member::builder(name)
        .addr([127, 10, 1, 9].into(), 7946)
        .build()
}
