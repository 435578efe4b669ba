//! The client: one method a command in, typed responses out, over one connection that a task of its own serves.

mod auth_key;
mod connect;
pub(crate) mod connection;
mod dial;
mod handle;
mod join;
mod options;
mod query;
pub(crate) mod queue;
mod subscription;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::command::{
    Command, GetCoordinate, InstallKey, Leave, ListKeys, MemberFilter, Members, Monitor, Query,
    RemoveKey, Respond, StatsCommand, Stream, TagChange, UseKey, UserEvent,
};
use crate::types::{Coordinate, EventFilter, KeyReply, LogLevel, Member, QueryId, Record, Stats};

use crate::error::{CallError, CallErrorKind, ConnectionError};
use handle::Handle;
pub use join::{ForceLeave, Join};
pub use options::{AddrError, ConnectOptions};
pub use query::{Expected, QueryEnd, QueryReplies, QueryStream};
pub use subscription::{EventStream, LogStream, Subscription};

/// A connection to an agent. A clone shares it, and the last one dropped closes it, unless a
/// stream is still read.
///
/// The agent carries out the commands of one connection one after another: a slow one delays
/// those after it, though no stream, and no other connection.
///
/// # Cancel safety
/// Dropping the future of a call leaves the connection usable: what was not sent yet never is, and
/// the answer to what was sent is swallowed.
#[derive(Clone)]
pub struct Client {
    handle: Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.handle).finish()
    }
}

impl Client {
    /// The same connection with another limit to how long each call may take.
    #[must_use]
    pub fn with_call_timeout(&self, call_timeout: Duration) -> Self {
        Self {
            handle: self.handle.with_call_timeout(call_timeout),
        }
    }

    /// Where the agent is, as it was given.
    pub fn addr(&self) -> &str {
        self.handle.addr()
    }

    /// Why the connection is gone, if it is.
    pub fn lost(&self) -> Option<ConnectionError> {
        self.handle.close_reason()
    }

    /// Returns when the connection is gone, and says why.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn closed(&self) -> ConnectionError {
        self.handle.closed().await
    }

    /// Whether both are the same connection.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.handle.id() == other.handle.id()
    }

    /// When something last came.
    pub(crate) fn heard_at(&self) -> Instant {
        self.handle.heard_at()
    }

    /// All members the agent knows, itself included, in no particular order. Those that left or
    /// failed stay for a day (`reconnect_timeout`, `tombstone_timeout`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn members(&self) -> Result<Vec<Member>, CallError> {
        self.handle.call(&Members).await
    }

    /// What the agent says of itself: its name, versions, counters and tags.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stats(&self) -> Result<Stats, CallError> {
        self.handle.call(&StatsCommand).await
    }

    /// The members that match all of the filter, in no particular order.
    ///
    /// # Errors
    /// [`CallErrorKind::Filter`] for an expression that no agent can read. One that only this agent
    /// cannot makes it close the connection, which ends all other calls and streams with
    /// [`ConnectionError::Closed`].
    pub async fn members_filtered(&self, filter: &MemberFilter) -> Result<Vec<Member>, CallError> {
        filter
            .check()
            .map_err(|malformed| CallError::new(MemberFilter::NAME, malformed))?;
        self.handle.call(filter).await
    }

    /// Sends a user event to all members. The agent delivers it to its own streams too.
    ///
    /// # Errors
    /// [`CallErrorKind::Refused`] for one that is too long; and those of any call.
    pub async fn event(&self, event: &UserEvent) -> Result<(), CallError> {
        self.handle.call(event).await
    }

    /// Asks the members, and streams what they answer. Like other streams it takes up one of
    /// [`max_streams`](ConnectOptions::max_streams), until its time is up; where none is free it waits for one as long as
    /// a call may take.
    ///
    /// # Errors
    /// [`CallErrorKind::Refused`] for one that is too long or has a name of Serf's own; and those of any
    /// call.
    pub async fn query(&self, query: &Query) -> Result<QueryStream, CallError> {
        query
            .check()
            .map_err(|kind| CallError::new(Query::NAME, kind))?;
        self.subscribe(query).await.map(QueryStream::new)
    }

    /// Answers a query that a stream of this connection has brought: the `id` is the one of its
    /// [`Event::Query`](crate::Event::Query). Of all that answer through one agent only the first
    /// is heard.
    ///
    /// # Errors
    /// [`CallErrorKind::OtherConnection`] if another connection has brought it, even one to the same
    /// agent; nothing was sent. [`CallErrorKind::Refused`] if the time to answer is over, if there has
    /// been an answer, or if this one is longer than 1024 bytes, encoded; and those of any call.
    pub async fn respond(&self, id: QueryId, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        let (id, payload) = (self.own(id)?, payload.as_ref());
        self.handle.call(&Respond { id, payload }).await
    }

    /// The number of a query that came on this connection.
    fn own(&self, id: QueryId) -> Result<u64, CallError> {
        let own = id.connection == self.handle.id();
        own.then_some(id.number).ok_or(CallError::new(
            Respond::NAME,
            CallErrorKind::OtherConnection,
        ))
    }

    /// Makes the agent join the cluster of the members at these addresses, `host` or `host:port`
    /// of their gossip, and says how many were reached: one is enough. User events from before are not replayed, unless
    /// [`replay`](Join::replay) is asked for.
    ///
    /// ```no_run
    /// # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let reached = client.join(["10.0.0.1", "10.0.0.2:7946"]).await?;
    /// let reached = client.join(["10.0.0.1"]).replay().await?;
    /// # drop(reached);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// An address that accepts and stays silent takes the agent's TCP timeout: 1 s, 10 s or 30 s at
    /// `profile=local`, `lan` or `wan`. See [`Self::with_call_timeout`].
    ///
    /// # Errors
    /// [`CallErrorKind::Join`] if none was reached; and those of any call.
    ///
    /// # Cancel safety
    /// The agent goes on with a join that was sent, and with nothing else of this connection until it is over: the next
    /// call waits as long as such an address takes. Join over a connection of its own where that matters.
    pub fn join<A: AsRef<str>>(&self, existing: impl IntoIterator<Item = A>) -> Join<'_> {
        let existing = existing.into_iter().map(|addr| addr.as_ref().to_owned());
        Join {
            client: self,
            existing: existing.collect(),
            replay: false,
        }
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
        match self.handle.call(&Leave).await {
            Err(CallError {
                kind:
                    CallErrorKind::Lost {
                        reason: ConnectionError::Closed | ConnectionError::Io(_),
                        ..
                    },
                ..
            }) if !lost_before => Ok(()),
            left => left,
        }
    }

    /// Declares a failed member to have left, so that nobody tries to reach it any more. A name
    /// that nobody has is no error. One that is alive refutes it, unless it is the only other one:
    /// then it is not told, and stays `leaving` in the eyes of this agent. With [`prune`](ForceLeave::prune) the member
    /// is forgotten at once.
    ///
    /// ```no_run
    /// # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// client.force_leave("web-3").await?;
    /// client.force_leave("web-3").prune().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Refusal::NotBroadcast`](crate::Refusal::NotBroadcast) if the cluster could not be told within 5 s; and those of
    /// any call.
    pub fn force_leave(&self, node: impl AsRef<[u8]>) -> ForceLeave<'_> {
        ForceLeave {
            client: self,
            node: node.as_ref().into(),
            prune: false,
        }
    }

    /// Changes the agent's own tags, and returns when the cluster has been told.
    ///
    /// # Errors
    /// [`CallErrorKind::Refused`] if they became too long, or if the cluster could not be told within
    /// 5 s, in which case the agent has them all the same; and those of any call.
    pub async fn tags(&self, change: &TagChange) -> Result<(), CallError> {
        self.handle.call(change).await
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
        self.handle.call(&GetCoordinate { node }).await
    }

    /// Adds a key (16, 24 or 32 bytes in base64) to the keyrings of all members.
    ///
    /// # Errors
    /// [`CallErrorKind::Keys`], with what each said, unless all members did it; and those of any call.
    pub async fn install_key(&self, key: &str) -> Result<KeyReply, CallError> {
        self.handle.call(&InstallKey(key)).await
    }

    /// Makes an installed key the one that all members encrypt with.
    ///
    /// # Errors
    /// Those of [`Self::install_key`].
    pub async fn use_key(&self, key: &str) -> Result<KeyReply, CallError> {
        self.handle.call(&UseKey(key)).await
    }

    /// Takes a key out of the keyrings of all members. The one in use cannot be.
    ///
    /// # Errors
    /// Those of [`Self::install_key`].
    pub async fn remove_key(&self, key: &str) -> Result<KeyReply, CallError> {
        self.handle.call(&RemoveKey(key)).await
    }

    /// The keys that members have, and how many have each.
    ///
    /// # Errors
    /// Those of [`Self::install_key`].
    pub async fn list_keys(&self) -> Result<KeyReply, CallError> {
        self.handle.call(&ListKeys).await
    }

    /// Subscribes to events. The agent registers a stream just after it has acknowledged it and
    /// before it reads the connection's next command: once any further call of this connection is
    /// answered, no event that leaves the agent's coalescer is missed.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream(&self, filter: EventFilter) -> Result<EventStream, CallError> {
        self.stream_as(&filter).await
    }

    /// The same as [`Self::stream`], with each record decoded into `T`.
    pub(crate) async fn stream_as<T: Record>(
        &self,
        filter: &EventFilter,
    ) -> Result<Subscription<T>, CallError> {
        self.subscribe(&Stream { filter }).await
    }

    /// Follows the agent's log. An agent allows it once a connection.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn monitor(&self, level: LogLevel) -> Result<LogStream, CallError> {
        self.subscribe(&Monitor { level }).await
    }

    /// Begins a stream whose records are decoded into `T`.
    async fn subscribe<C: Command, T: Record>(
        &self,
        command: &C,
    ) -> Result<Subscription<T>, CallError> {
        let (seq, queue) = self.handle.subscribe(command).await?;
        Ok(Subscription::new(self.handle.clone(), seq, queue))
    }
}
