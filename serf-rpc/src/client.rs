//! The handle to a connection: one method a command in, typed replies out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::command::{
    Auth, Command, ForceLeave, GetCoordinate, Handshake, InstallKey, Join, KeyReply, Leave,
    ListKeys, Members, Monitor, RemoveKey, Reply, StatsCommand, Stop, Stream, TagChange, UseKey,
    UserEvent,
};
use crate::connection::{Answer, Caller, Connection, Listener, Lost, Request};
use crate::coordinate::Coordinate;
use crate::dial;
use crate::error::{CallError, ConnectError, ConnectionError, Reach};
use crate::event::{ConnectionId, QueryId};
use crate::filter::MemberFilter;
use crate::member::Member;
use crate::options::ConnectOptions;
use crate::protocol::Refusal;
use crate::query::{Query, QueryStream, Respond};
use crate::stats::Stats;
use crate::subscription::{
    Capacity, EventFilter, EventStream, LogLevel, LogStream, Record, Subscription, channel,
};

/// How many connections this process has had.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

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
    id: ConnectionId,
    addr: String,
    /// Bounded by `places`.
    requests: mpsc::UnboundedSender<Request>,
    places: Arc<Semaphore>,
    lost: Lost,
    streams: Arc<Semaphore>,
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
        let resolve = async {
            let places = tokio::net::lookup_host(&options.addr).await?;
            Ok(places.collect())
        };
        Self::connect_by(options, resolve).await
    }

    /// Connects to the first of the addresses that answers.
    async fn connect_by(
        options: &ConnectOptions,
        resolve: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> Result<Self, ConnectError> {
        let (addr, after) = (|| options.addr.clone(), options.connect_timeout);
        let mut worst: Option<ConnectError> = None;
        let race = async {
            let key = options.key.now(&options.addr).await?;
            let places = resolve.await.map_err(|source| ConnectError::Resolve {
                addr: addr(),
                source,
            })?;
            let attempt = |place| Self::shake_hands(options, place, key.as_ref());
            let failed = |place, error: ConnectError| {
                tracing::debug!(addr = options.addr, %place, %error, "no agent there");
                if worst
                    .as_ref()
                    .is_none_or(|worst| worst.reach() < error.reach())
                {
                    worst = Some(error);
                }
            };
            Ok(dial::race(dial::in_turn(places), attempt, failed).await)
        };
        let outcome = timeout(after, race).await;
        match (outcome, worst) {
            (Ok(Ok(Some(client))), _) => Ok(client),
            (Ok(Err(error)), _) => Err(error),
            (Ok(Ok(None)), Some(error)) => Err(error),
            (Ok(Ok(None)), None) => Err(ConnectError::Resolve {
                addr: addr(),
                source: io::Error::new(io::ErrorKind::NotFound, "the host has no address"),
            }),
            // What an agent has said is worth more than that another address is silent.
            (Err(_), Some(error)) if error.reach() == Reach::Agent => Err(error),
            (Err(_), _) => Err(ConnectError::Timeout {
                addr: addr(),
                after,
            }),
        }
    }

    async fn shake_hands(
        options: &ConnectOptions,
        place: SocketAddr,
        key: Option<&SecretString>,
    ) -> Result<Self, ConnectError> {
        let addr = &options.addr;
        let client = Self::open(options, place).await?;
        // Only the time for all of it counts.
        let patient = client.with_call_timeout(Duration::MAX);
        let refused = |source: CallError| handshake_error(addr, key.is_some(), source);
        patient.call(&Handshake).await.map_err(refused)?;
        // Without a key the empty one shows whether the agent wants one: it is the only way to
        // ask that leaves the connection usable.
        let key = key.map_or("", |key| key.expose_secret());
        patient.call(&Auth { key }).await.map_err(refused)?;
        Ok(client)
    }

    async fn open(options: &ConnectOptions, place: SocketAddr) -> Result<Self, ConnectError> {
        let addr = options.addr.clone();
        let socket = match TcpStream::connect(place).await {
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
            id: ConnectionId::new(CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
            addr,
            requests,
            places: Arc::new(Semaphore::new(options.max_in_flight)),
            lost,
            streams: Arc::new(Semaphore::new(options.max_streams)),
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

    pub(crate) fn id(&self) -> ConnectionId {
        self.shared.id
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
    /// [`CallError::Filter`] for an expression that no agent can read. One that only this agent
    /// cannot makes it close the connection, which ends all other calls and streams with
    /// [`ConnectionError::Closed`].
    pub async fn members_filtered(&self, filter: &MemberFilter) -> Result<Vec<Member>, CallError> {
        filter.check()?;
        self.call(&filter.command()).await
    }

    /// Sends a user event to all members. The agent delivers it to its own streams too.
    ///
    /// # Errors
    /// [`CallError::Agent`] for one that is too long; and those of any call.
    pub async fn event(&self, event: &UserEvent) -> Result<(), CallError> {
        self.call(event).await
    }

    /// Asks the members, and streams what they answer. Like other streams it takes up one of
    /// [`max_streams`](ConnectOptions::max_streams), until its time is up.
    ///
    /// # Errors
    /// [`CallError::Agent`] for one that is too long or has a name of Serf's own; and those of any
    /// call.
    pub async fn query(&self, query: &Query) -> Result<QueryStream, CallError> {
        self.subscribe(query).await.map(QueryStream::new)
    }

    /// Answers a query that a stream of this connection has brought: the `id` is the one of its
    /// [`Event::Query`](crate::Event::Query). Of all that answer through one agent only the first
    /// is heard.
    ///
    /// # Errors
    /// [`CallError::OtherConnection`] if another connection has brought it, even one to the same
    /// agent; nothing was sent. [`CallError::Agent`] if the time to answer is over, if there has
    /// been an answer, or if this one is longer than 1024 bytes, encoded; and those of any call.
    pub async fn respond(&self, id: QueryId, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        let (id, payload) = (self.own(id)?, payload.as_ref());
        self.call(&Respond { id, payload }).await
    }

    /// The number of a query that came on this connection.
    fn own(&self, id: QueryId) -> Result<u64, CallError> {
        let own = id.connection == self.shared.id;
        own.then_some(id.number).ok_or(CallError::OtherConnection {
            command: Respond::NAME,
        })
    }

    /// Makes the agent join the cluster of the members at these addresses, `host` or `host:port`
    /// of their gossip, and says how many were reached: one is enough. User events from before are not replayed.
    ///
    /// An address that accepts and stays silent takes the agent's TCP timeout: 1 s, 10 s or 30 s at
    /// `profile=local`, `lan` or `wan`. See [`Self::with_call_timeout`].
    ///
    /// # Errors
    /// [`CallError::Join`] if none was reached; and those of any call.
    pub async fn join(&self, existing: &[&str]) -> Result<u64, CallError> {
        let replay = false;
        Ok(self.call(&Join { existing, replay }).await?.0)
    }

    /// The same as [`Self::join`], and the agent hears the user events that the cluster remembers.
    ///
    /// # Errors
    /// Those of [`Self::join`].
    pub async fn join_and_replay(&self, existing: &[&str]) -> Result<u64, CallError> {
        let replay = true;
        Ok(self.call(&Join { existing, replay }).await?.0)
    }

    /// Makes the agent leave the cluster gracefully and exit. That it closes the connection
    /// without an answer is success as well.
    ///
    /// It takes a second or two, or in a cluster that does not answer up to 11 s.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn leave(&self) -> Result<(), CallError> {
        let lost_before = self.lost().is_some();
        match self.call(&Leave).await {
            Err(CallError::Lost {
                source: ConnectionError::Closed | ConnectionError::Io(_),
                ..
            }) if !lost_before => Ok(()),
            left => left,
        }
    }

    /// Declares a failed member to have left, so that nobody tries to reach it any more. A name
    /// that nobody has is no error. One that is alive refutes it, unless it is the only other one:
    /// then it is not told, and stays `leaving` in the eyes of this agent.
    ///
    /// # Errors
    /// [`CallError::Agent`] if the cluster could not be told within 5 s; and those of any call.
    pub async fn force_leave(&self, node: impl AsRef<[u8]>) -> Result<(), CallError> {
        let (node, prune) = (node.as_ref(), false);
        self.call(&ForceLeave { node, prune }).await
    }

    /// The same as [`Self::force_leave`], and the member is forgotten at once instead of after a
    /// day. **For one that is alive** the agent answers nobody for 6 s, on any connection, and
    /// loses sight of it for a while.
    ///
    /// # Errors
    /// Those of [`Self::force_leave`].
    pub async fn force_leave_and_prune(&self, node: impl AsRef<[u8]>) -> Result<(), CallError> {
        let (node, prune) = (node.as_ref(), true);
        self.call(&ForceLeave { node, prune }).await
    }

    /// Changes the agent's own tags, and returns when the cluster has been told.
    ///
    /// # Errors
    /// [`CallError::Agent`] if they became too long, or if the cluster could not be told within
    /// 5 s, in which case the agent has them all the same; and those of any call.
    pub async fn tags(&self, change: &TagChange) -> Result<(), CallError> {
        self.call(change).await
    }

    /// Where a member is in the network; none if the agent does not know it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get_coordinate(
        &self,
        node: impl AsRef<[u8]>,
    ) -> Result<Option<Coordinate>, CallError> {
        let node = node.as_ref();
        self.call(&GetCoordinate { node }).await
    }

    /// Adds a key (16, 24 or 32 bytes in base64) to the keyrings of all members.
    ///
    /// # Errors
    /// [`CallError::Keys`], with what each said, unless all members did it; and those of any call.
    pub async fn install_key(&self, key: &str) -> Result<KeyReply, CallError> {
        self.call(&InstallKey(key)).await
    }

    /// Makes an installed key the one that all members encrypt with.
    ///
    /// # Errors
    /// Those of [`Self::install_key`].
    pub async fn use_key(&self, key: &str) -> Result<KeyReply, CallError> {
        self.call(&UseKey(key)).await
    }

    /// Takes a key out of the keyrings of all members. The one in use cannot be.
    ///
    /// # Errors
    /// Those of [`Self::install_key`].
    pub async fn remove_key(&self, key: &str) -> Result<KeyReply, CallError> {
        self.call(&RemoveKey(key)).await
    }

    /// The keys that members have, and how many have each.
    ///
    /// # Errors
    /// Those of [`Self::install_key`].
    pub async fn list_keys(&self) -> Result<KeyReply, CallError> {
        self.call(&ListKeys).await
    }

    /// Subscribes to events. The agent registers a stream just after it has acknowledged it and
    /// before it reads the connection's next command: once any further call of this connection is
    /// answered, no event that leaves the agent's coalescer is missed.
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

    async fn subscribe<C: Command, T: Record>(
        &self,
        command: &C,
    ) -> Result<Subscription<T>, CallError> {
        let place = self.shared.streams.clone().try_acquire_owned();
        let place = place.map_err(|_| CallError::TooManyStreams {
            command: C::NAME,
            limit: self.shared.max_streams,
        })?;
        let (sink, queue) = channel(self.shared.stream_queue);
        let listener = Listener { sink, place };
        let answer = self.ask(command, Some(listener)).await?;
        Ok(Subscription::new(self.clone(), answer.seq, queue))
    }

    /// Sends a command and waits for its answer, both within the time a call may take.
    async fn ask<C: Command>(
        &self,
        command: &C,
        listener: Option<Listener>,
    ) -> Result<Answer, CallError> {
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
                listener,
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
            Some(message) => Err(C::Reply::refusal(C::NAME, message, &answer.body)),
            None => Ok(answer),
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

#[cfg(test)]
mod tests;
