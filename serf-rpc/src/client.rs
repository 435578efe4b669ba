//! The handle to a connection: one method a command in, typed replies out.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::command::{
    Auth, Command, Handshake, Members, MembersFiltered, Monitor, Records, Reply, StatsCommand,
    Stop, Stream,
};
use crate::connection::{Caller, Connection, Lost, Request};
use crate::error::{CallError, ConnectError, ConnectionError};
use crate::member::Member;
use crate::options::ConnectOptions;
use crate::protocol::Refusal;
use crate::session::Answer;
use crate::stats::Stats;
use crate::subscription::{
    Capacity, EventFilter, EventStream, LogLevel, LogStream, Queue, Record, Sink, Subscription,
    channel,
};

/// A connection to an agent. A clone shares it, and the last one dropped closes it, unless a
/// stream is still read.
///
/// The agent carries out the commands of one connection one after another: a slow one delays
/// those after it, though no stream, and no other connection.
///
/// # Cancel safety
/// Dropping the future of a call leaves the connection usable: what was not sent yet never is, and
/// the answer to what was sent is swallowed.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    call_timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    addr: String,
    /// Bounded by `places`.
    requests: mpsc::UnboundedSender<Request>,
    places: Arc<Semaphore>,
    lost: Lost,
    streams: AtomicUsize,
    max_streams: usize,
    stream_queue: Capacity,
}

impl Client {
    /// Connects to an agent at `host:port` that wants no key.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(addr: impl Into<String>) -> Result<Self, ConnectError> {
        ConnectOptions::new(addr).connect().await
    }

    pub(crate) async fn establish(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let after = options.connect_timeout;
        let timed_out = || ConnectError::Timeout {
            addr: options.addr.clone(),
            after,
        };
        timeout(after, Self::shake_hands(options))
            .await
            .map_err(|_| timed_out())?
    }

    async fn shake_hands(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let addr = &options.addr;
        let client = Self::open(options).await?;
        // Only the time for all of it counts.
        let patient = client.with_call_timeout(Duration::MAX);
        let refused = |source: CallError| handshake_error(addr, options.auth_key.is_some(), source);
        patient.call(&Handshake).await.map_err(refused)?;
        // Without a key the empty one shows whether the agent wants one: it is the only way to
        // ask that leaves the connection usable.
        let key = options
            .auth_key
            .as_ref()
            .map_or("", |key| key.expose_secret());
        patient.call(&Auth { key }).await.map_err(refused)?;
        Ok(client)
    }

    async fn open(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let addr = options.addr.clone();
        let places = match tokio::net::lookup_host(&options.addr).await {
            Ok(places) => places.collect::<Vec<_>>(),
            Err(source) => return Err(ConnectError::Resolve { addr, source }),
        };
        let socket = match TcpStream::connect(&*places).await {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::Refused { addr });
            }
            Err(source) => return Err(ConnectError::Io { addr, source }),
        };
        if let Err(source) = socket.set_nodelay(true) {
            return Err(ConnectError::Io { addr, source });
        }
        let (requests, queue) = mpsc::unbounded_channel();
        let lost = Lost::default();
        tokio::spawn(Connection::new(socket, queue, options, lost.clone()).run());
        let shared = Shared {
            addr,
            requests,
            places: Arc::new(Semaphore::new(options.max_in_flight)),
            lost,
            streams: AtomicUsize::new(0),
            max_streams: options.max_streams,
            stream_queue: options.stream_queue,
        };
        Ok(Self {
            shared: Arc::new(shared),
            call_timeout: options.call_timeout,
        })
    }

    /// The same connection with another limit to how long each call may take.
    #[must_use]
    pub fn with_call_timeout(&self, call_timeout: Duration) -> Self {
        Self {
            shared: self.shared.clone(),
            call_timeout,
        }
    }

    /// Where the agent is, as it was given.
    pub fn addr(&self) -> &str {
        &self.shared.addr
    }

    /// Why the connection is gone, if it is.
    pub fn lost(&self) -> Option<ConnectionError> {
        self.shared.lost.get().cloned()
    }

    /// All members the agent knows, itself included, in no particular order. Those that left or
    /// failed stay for a day (`reconnect_timeout`, `tombstone_timeout`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn members(&self) -> Result<Vec<Member>, CallError> {
        self.call(&Members).await
    }

    /// What the agent says of itself: its name, versions, counters and tags.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stats(&self) -> Result<Stats, CallError> {
        self.call(&StatsCommand).await
    }

    /// The members that match all of the filter, in no particular order.
    ///
    /// # Errors
    /// [`CallError::Filter`] for an expression that is malformed here. One that only the agent
    /// finds malformed makes it close the connection, which ends all other calls and streams with
    /// [`ConnectionError::Closed`].
    pub async fn members_filtered(&self, filter: &MemberFilter) -> Result<Vec<Member>, CallError> {
        filter.check()?;
        let MemberFilter { name, status, tags } = filter;
        self.call(&MembersFiltered {
            name: name.as_deref(),
            status: status.as_deref(),
            tags,
        })
        .await
    }

    /// Subscribes to events. Once this returns none that leaves the agent's coalescer is missed.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream(&self, filter: EventFilter) -> Result<EventStream, CallError> {
        self.subscribe(&Stream { filter: &filter }).await
    }

    /// Follows the agent's log. An agent allows it once a connection.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn monitor(&self, level: LogLevel) -> Result<LogStream, CallError> {
        self.subscribe(&Monitor { level }).await
    }

    pub(crate) async fn stop(&self, stream: u64) -> Result<(), CallError> {
        self.call(&Stop { stream }).await
    }

    async fn call<C: Command>(&self, command: &C) -> Result<C::Reply, CallError> {
        let answer = self.ask(command, None).await?;
        C::Reply::decode(&answer.body).map_err(|source| CallError::Decode {
            command: C::NAME,
            source,
        })
    }

    async fn subscribe<C, T>(&self, command: &C) -> Result<Subscription<T>, CallError>
    where
        C: Command<Reply = Records>,
        T: Record,
    {
        let place = StreamPlace::take(&self.shared, C::NAME)?;
        let (sink, queue): (Sink, Queue) = channel(self.shared.stream_queue);
        let answer = self.ask(command, Some(sink)).await;
        if !matches!(answer, Err(CallError::Agent { .. })) {
            // It may have begun, or begin yet.
            place.keep();
        }
        Ok(Subscription::new(self.clone(), answer?.seq, queue))
    }

    /// Sends a command and waits for its answer, both within the time a call may take.
    async fn ask<C: Command>(&self, command: &C, sink: Option<Sink>) -> Result<Answer, CallError> {
        let exchange = async {
            let place = self.shared.places.clone().acquire_owned().await.ok()?;
            let (sender, answer) = oneshot::channel();
            let caller = Caller {
                answer: sender,
                _place: place,
            };
            let mut body = Vec::new();
            command.write_body(&mut body);
            let request = Request {
                command: C::NAME,
                body,
                reply: C::Reply::SHAPE,
                sink,
                caller,
            };
            self.shared.requests.send(request).ok()?;
            answer.await.ok()
        };
        let answer = timeout(self.call_timeout, exchange)
            .await
            .map_err(|_| CallError::Timeout {
                command: C::NAME,
                after: self.call_timeout,
            })?
            .ok_or_else(|| CallError::Lost {
                command: C::NAME,
                source: self.lost().unwrap_or(ConnectionError::Closed),
            })?;
        match answer.error {
            Some(message) => Err(CallError::Agent {
                command: C::NAME,
                message,
            }),
            None => Ok(answer),
        }
    }
}

/// One of the streams that a connection may have; given back when dropped before it is used.
struct StreamPlace<'a>(Option<&'a AtomicUsize>);

impl<'a> StreamPlace<'a> {
    fn take(shared: &'a Shared, command: &'static str) -> Result<Self, CallError> {
        let limit = shared.max_streams;
        if shared.streams.fetch_add(1, Ordering::Relaxed) < limit {
            return Ok(Self(Some(&shared.streams)));
        }
        shared.streams.fetch_sub(1, Ordering::Relaxed);
        Err(CallError::TooManyStreams { command, limit })
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for StreamPlace<'_> {
    fn drop(&mut self) {
        if let Some(streams) = self.0 {
            streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn handshake_error(addr: &str, with_key: bool, source: CallError) -> ConnectError {
    let addr = addr.to_owned();
    let refusal = match &source {
        CallError::Agent { message, .. } => Refusal::of(message.as_ref()),
        _ => Refusal::Other,
    };
    match refusal {
        Refusal::Version => ConnectError::BadVersion { addr },
        Refusal::InvalidToken if with_key => ConnectError::BadKey { addr },
        Refusal::InvalidToken | Refusal::AuthenticationRequired => {
            ConnectError::MissingKey { addr }
        }
        Refusal::Other => ConnectError::Handshake { addr, source },
    }
}

/// Which members to list: regular expressions, each of which must match the whole of its field.
///
/// The agent reads Go's RE2. What is the same there and in Rust's `regex` is accepted: write `\{`
/// for a literal brace, and do without `\Q…\E`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    name: Option<String>,
    status: Option<String>,
    tags: BTreeMap<String, String>,
}

impl MemberFilter {
    /// A filter that every member passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Members whose name matches; an empty expression stands for any.
    #[must_use]
    pub fn name(mut self, expression: impl Into<String>) -> Self {
        self.name = Some(expression.into()).filter(|expression| !expression.is_empty());
        self
    }

    /// Members whose status (`alive`, `leaving`, `left`, `failed`) matches; an empty expression
    /// stands for any.
    #[must_use]
    pub fn status(mut self, expression: impl Into<String>) -> Self {
        self.status = Some(expression.into()).filter(|expression| !expression.is_empty());
        self
    }

    /// Members whose tag of that key matches; one that lacks it is taken to have an empty one.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, expression: impl Into<String>) -> Self {
        self.tags.insert(key.into(), expression.into());
        self
    }

    /// Refuses what would make the agent close the connection without a word.
    fn check(&self) -> Result<(), CallError> {
        let tags = self
            .tags
            .iter()
            .map(|(key, expression)| (format!("tag {key}"), expression));
        let name = self
            .name
            .iter()
            .map(|expression| ("name".to_owned(), expression));
        let status = self
            .status
            .iter()
            .map(|expression| ("status".to_owned(), expression));
        for (field, expression) in name.chain(status).chain(tags) {
            if let Err(error) = regex_syntax::parse(expression) {
                let message = match error {
                    regex_syntax::Error::Parse(error) => error.kind().to_string(),
                    regex_syntax::Error::Translate(error) => error.kind().to_string(),
                    other => other.to_string(),
                };
                return Err(CallError::Filter {
                    command: MembersFiltered::NAME,
                    field,
                    message,
                });
            }
        }
        Ok(())
    }
}
