//! A client that comes back: agents in, calls that outlive a connection out.

use std::fmt;
use std::future::IntoFuture as _;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::Stream;
use futures_util::future::{Fuse, FusedFuture as _, FutureExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Client, ConnectOptions, QueryStream};
use crate::command::{Command, MemberFilter, Query, TagChange, UserEvent};
use crate::error::{CallError, CallErrorKind, Outcome, Retry};
use crate::types::{Coordinate, EventFilter, KeyReply, LogLevel, Member, QueryId, Stats};

use super::events::{Teller, Told};
use super::keeper::{self, Link, Links, Session};
use super::pulse::{Due, Pulse};
use super::stream::{ManagedEvents, ManagedLog};
use super::{AgentState, Latest, LinkOptions};
use crate::error::WatchError;

/// A client that keeps a connection with one of several agents, and comes back when it is lost. A clone shares it.
///
/// A call waits for a connection as long as it may take ([`with_call_timeout`](Self::with_call_timeout), 10 s unless
/// set). What only asks, or may be done twice, is repeated on the next connection when one is lost or its agent stands
/// still: [`members`](Self::members), [`members_filtered`](Self::members_filtered), [`stats`](Self::stats),
/// [`get_coordinate`](Self::get_coordinate), [`list_keys`](Self::list_keys), [`tags`](Self::tags) and
/// [`join`](Self::join). What may not is sent again only if it was never sent: [`event`](Self::event) and
/// [`query`](Self::query); see [`CallError::outcome`]. [`respond`](Self::respond) answers on the connection that brought
/// the query or not at all. Everything else is done on [`connection`](Self::connection).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use serf_rpc::{ConnectOptions, LinkOptions, ManagedClient, UserEvent};
///
/// let agents = ["10.0.0.1:7373", "10.0.0.2:7373"].map(ConnectOptions::new);
/// let client = ManagedClient::spawn(LinkOptions::new(agents));
/// let members = client.members().await?;
/// client.event(&UserEvent::new("deploy").payload("4.2")).await?;
/// # drop(members);
/// # Ok(())
/// # }
/// ```
///
/// It ends when its last clone is dropped; one of a [`Watcher`](crate::Watcher::client) shares the watcher's connection
/// and ends with it.
///
/// # Cancel safety
/// Dropping the future of a call leaves the client usable, as with a [`Client`].
#[derive(Clone)]
pub struct ManagedClient {
    links: Links,
    states: Latest<AgentState>,
    events: Teller<ClientEvent>,
    ended: Ended,
    call_timeout: Duration,
    /// None where somebody else keeps the connection.
    _task: Option<Arc<Task>>,
}

/// Why there will be no connection any more, once that is so.
pub(crate) type Ended = Arc<OnceLock<Arc<WatchError>>>;

/// Something that a client has seen of its connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// An agent answers.
    Connected {
        /// `host:port`.
        addr: String,
    },
    /// An agent cannot be reached, or is lost.
    Unreachable {
        /// `host:port`.
        addr: String,
        /// Why.
        error: Arc<WatchError>,
    },
    /// The client has ended. This is the last event.
    Stopped {
        /// Why.
        error: Arc<WatchError>,
    },
    /// The reader was too slow, and so many events were left out here.
    Lagged(u64),
}

/// What a client sees of its connection; see [`ManagedClient::events`].
#[derive(Debug)]
pub struct ClientEvents(Told<ClientEvent>);

impl ClientEvents {
    /// The next event; none after the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.0.next().await
    }
}

impl Stream for ClientEvents {
    type Item = ClientEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        self.0.poll_next(cx)
    }
}

/// Ends what keeps the connection when the last client is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ManagedClient {
    /// Starts to connect. Outside a Tokio runtime it has ended at once.
    pub fn spawn(options: impl Into<LinkOptions>) -> Self {
        let options = options.into();
        let (publisher, links) = watch::channel(None);
        let (states, state) = watch::channel(Arc::new(AgentState::NeverReached));
        let (events, ended) = (Teller::new(), Ended::default());
        let mut keeping = Keeping {
            options,
            states,
            events: events.clone(),
            ended: ended.clone(),
            heard_at: None,
        };
        let task = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => Some(Arc::new(Task(
                runtime.spawn(async move { keeping.run(publisher).await }),
            ))),
            Err(_) => {
                keeping.end(Arc::new(keeping.options.no_runtime()));
                None
            }
        };
        Self {
            links,
            states: Latest::new(state),
            events,
            ended,
            call_timeout: Duration::from_secs(10),
            _task: task,
        }
    }

    /// A client on connections that somebody else keeps.
    pub(crate) fn shared(
        links: Links,
        states: Latest<AgentState>,
        events: Teller<ClientEvent>,
        ended: Ended,
    ) -> Self {
        Self {
            links,
            states,
            events,
            ended,
            call_timeout: Duration::from_secs(10),
            _task: None,
        }
    }

    /// The same client with another limit to how long each call may take, the wait for a connection included.
    #[must_use]
    pub fn with_call_timeout(&self, call_timeout: Duration) -> Self {
        Self {
            call_timeout,
            ..self.clone()
        }
    }

    /// Whether an agent answers now.
    pub fn state(&self) -> Arc<AgentState> {
        self.states.latest()
    }

    /// The state, now and as it changes.
    pub fn states(&self) -> Latest<AgentState> {
        self.states.clone()
    }

    /// What happens to the connection from now on.
    pub fn events(&self) -> ClientEvents {
        ClientEvents(
            self.events
                .listen(|missed| Some(ClientEvent::Lagged(missed))),
        )
    }

    /// A connection that works, once there is one, for what is not to be repeated: [`Client::leave`],
    /// [`Client::force_leave`], changes of keys.
    ///
    /// # Errors
    /// [`CallErrorKind::NotConnected`] if there is none in the time that a call may take, or will be none.
    pub async fn connection(&self) -> Result<Client, CallError> {
        let link = self.link("connect", self.deadline(), None).await?;
        Ok(link.client.with_call_timeout(self.call_timeout))
    }

    /// [`Client::members`], repeated if need be.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn members(&self) -> Result<Vec<Member>, CallError> {
        let call = |client: Client| async move { client.members().await };
        self.repeat("members", call).await
    }

    /// [`Client::members_filtered`], repeated if need be.
    ///
    /// # Errors
    /// Those of [`Client::members_filtered`].
    pub async fn members_filtered(&self, filter: &MemberFilter) -> Result<Vec<Member>, CallError> {
        let call = |client: Client| async move { client.members_filtered(filter).await };
        self.repeat(MemberFilter::NAME, call).await
    }

    /// [`Client::stats`], repeated if need be.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stats(&self) -> Result<Stats, CallError> {
        let call = |client: Client| async move { client.stats().await };
        self.repeat("stats", call).await
    }

    /// [`Client::get_coordinate`], repeated if need be.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get_coordinate(
        &self,
        node: impl AsRef<[u8]>,
    ) -> Result<Option<Coordinate>, CallError> {
        let node = node.as_ref();
        let call = |client: Client| async move { client.get_coordinate(node).await };
        self.repeat("get-coordinate", call).await
    }

    /// [`Client::list_keys`], repeated if need be.
    ///
    /// # Errors
    /// Those of [`Client::list_keys`].
    pub async fn list_keys(&self) -> Result<KeyReply, CallError> {
        let call = |client: Client| async move { client.list_keys().await };
        self.repeat("list-keys", call).await
    }

    /// [`Client::tags`], repeated if need be: each agent that was asked may have the tags then.
    ///
    /// # Errors
    /// Those of [`Client::tags`].
    pub async fn tags(&self, change: &TagChange) -> Result<(), CallError> {
        let call = |client: Client| async move { client.tags(change).await };
        self.repeat(TagChange::NAME, call).await
    }

    /// [`Client::join`], repeated if need be. It has a connection of its own, so an address that accepts and stays silent
    /// delays nothing else.
    ///
    /// # Errors
    /// Those of [`Client::join`].
    pub async fn join<A: AsRef<str>>(
        &self,
        existing: impl IntoIterator<Item = A>,
    ) -> Result<u64, CallError> {
        let addrs = existing.into_iter().map(|addr| addr.as_ref().to_owned());
        let addrs = &addrs.collect::<Vec<String>>();
        let call = |link: Link, left: Duration| async move {
            let own = link.agent.connect().await.map_err(|error| {
                CallError::new("join", CallErrorKind::not_connected(error.into()))
            })?;
            let own = own.with_call_timeout(left);
            own.join(addrs).into_future().await
        };
        self.repeat_by("join", call).await
    }

    /// [`Client::event`]. It is sent again only if it was never sent.
    ///
    /// # Errors
    /// Those of [`Client::event`]; the members may have the event if [`CallError::outcome`] is [`Outcome::Unknown`].
    pub async fn event(&self, event: &UserEvent) -> Result<(), CallError> {
        let call = |client: Client| async move { client.event(event).await };
        self.once(UserEvent::NAME, call).await
    }

    /// [`Client::query`]. It is sent again only if it was never sent; its answers end with the connection.
    ///
    /// # Errors
    /// Those of [`Client::query`].
    pub async fn query(&self, query: &Query) -> Result<QueryStream, CallError> {
        let call = |client: Client| async move { client.query(query).await };
        self.once(Query::NAME, call).await
    }

    /// [`Client::respond`], for a query of [`stream`](Self::stream).
    ///
    /// # Errors
    /// Those of [`Client::respond`]: [`CallErrorKind::OtherConnection`] if the connection that brought it is lost.
    pub async fn respond(&self, id: QueryId, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        let payload = payload.as_ref();
        let call = |client: Client| async move { client.respond(id, payload).await };
        self.once("respond", call).await
    }

    /// Subscribes to events, on each connection anew: [`Event::Resubscribed`](crate::Event::Resubscribed) stands where
    /// some may be missing.
    ///
    /// # Errors
    /// Those of [`Client::stream`], of the first connection.
    pub async fn stream(&self, filter: EventFilter) -> Result<ManagedEvents, CallError> {
        let wanted = &filter;
        let call = |client: Client| async move {
            let events = client.stream(wanted.clone()).await?;
            Ok((client, events))
        };
        let (client, events) = self.once("stream", call).await?;
        Ok(ManagedEvents::new(
            self.links.clone(),
            filter,
            client,
            events,
        ))
    }

    /// Follows the agent's log, on a connection of its own and over restarts: what an agent repeats of its last lines
    /// when it is followed anew is left out. The log of another agent goes on where that of the one before ended.
    pub fn log(&self, level: LogLevel) -> ManagedLog {
        ManagedLog::new(self.links.clone(), level)
    }

    /// Calls until it is answered, on whatever connection there is.
    async fn repeat<T, F>(
        &self,
        command: &'static str,
        call: impl Fn(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let call = |link: Link, left| call(link.client.with_call_timeout(left));
        self.repeat_by(command, call).await
    }

    async fn repeat_by<T, F>(
        &self,
        command: &'static str,
        call: impl Fn(Link, Duration) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let deadline = self.deadline();
        let mut before = None;
        loop {
            let link = self.link(command, deadline, before.as_ref()).await?;
            let mut links = self.links.clone();
            let answer = tokio::select! {
                biased;
                answer = call(link.clone(), left(deadline)) => Some(answer),
                // Its agent was given up: another one is asked.
                () = keeper::replaced(&mut links, &link.client) => None,
            };
            match answer {
                Some(Err(error)) if error.retry() == Retry::NewConnection => {}
                Some(answer) => return answer,
                None => {}
            }
            before = Some(link.client);
        }
    }

    /// Calls on the connection there is, and again only if that was never sent.
    async fn once<T, F>(
        &self,
        command: &'static str,
        call: impl Fn(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let deadline = self.deadline();
        let mut before = None;
        loop {
            let link = self.link(command, deadline, before.as_ref()).await?;
            let client = link.client.with_call_timeout(left(deadline));
            match call(client).await {
                Err(error)
                    if error.retry() == Retry::NewConnection
                        && error.outcome() == Outcome::NotSent => {}
                answer => return answer,
            }
            before = Some(link.client);
        }
    }

    /// A connection other than that before.
    async fn link(
        &self,
        command: &'static str,
        deadline: Option<Instant>,
        before: Option<&Client>,
    ) -> Result<Link, CallError> {
        let mut links = self.links.clone();
        let connected = keeper::connected(&mut links, before);
        let found = match deadline {
            Some(deadline) => timeout_at(deadline, connected).await,
            None => Ok(connected.await),
        };
        let kind = match found {
            Ok(Some(link)) => return Ok(link),
            Ok(None) => {
                let stopped = || Arc::new(WatchError::Stopped);
                let reason = self.ended.get().cloned().unwrap_or_else(stopped);
                CallErrorKind::NotConnected { reason }
            }
            Err(_) => CallErrorKind::Timeout {
                after: self.call_timeout,
                sent: false,
            },
        };
        Err(CallError::new(command, kind))
    }

    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.call_timeout)
    }
}

/// The time until then.
fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    })
}

impl fmt::Debug for ManagedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedClient")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The task behind a client.
struct Keeping {
    options: LinkOptions,
    states: watch::Sender<Arc<AgentState>>,
    events: Teller<ClientEvent>,
    ended: Ended,
    /// When something was last heard of the agent before.
    heard_at: Option<SystemTime>,
}

impl Keeping {
    async fn run(&mut self, links: watch::Sender<Option<Link>>) {
        let options = self.options.clone();
        let why = keeper::keep(&options, &links, self).await;
        self.end(why);
    }

    fn end(&self, why: Arc<WatchError>) {
        // The first reason counts.
        let _ = self.ended.set(why);
    }

    fn set(&self, state: AgentState) {
        self.states.send_replace(Arc::new(state));
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.end(Arc::new(WatchError::Stopped));
        let since = self.heard_at.unwrap_or_else(SystemTime::now);
        self.set(AgentState::Stopped { since });
        if let Some(error) = self.ended.get().cloned() {
            self.events.tell(ClientEvent::Stopped { error });
        }
        self.events.end();
    }
}

impl Session for Keeping {
    /// Asks an agent that says nothing something small now and then.
    async fn attend(&mut self, link: &Link) -> WatchError {
        let Link { client, agent } = link;
        let addr = || agent.addr().to_owned();
        tracing::info!(addr = agent.addr(), "agent answers");
        self.set(AgentState::Connected { addr: addr() });
        self.events.tell(ClientEvent::Connected { addr: addr() });
        let mut pulse = Pulse::new(self.options.pulse, Instant::now());
        let mut small_talk = pin!(Fuse::terminated());
        let why = loop {
            tokio::select! {
                lost = client.closed() => break lost.into(),
                answer = &mut small_talk => if let Err(error) = answer {
                    let error: CallError = error;
                    if error.refusal().is_none() {
                        break error.into();
                    }
                },
                () = at(pulse.deadline()) => {}
            }
            if client.heard_at() > pulse.last() && pulse.heard(client.heard_at()) {
                tracing::info!(addr = agent.addr(), "agent answers again");
                self.set(AgentState::Connected { addr: addr() });
            }
            let now = Instant::now();
            if pulse.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            match pulse.due(now) {
                Due::Ask if !small_talk.is_terminated() => {}
                Due::Ask => small_talk.set(async { client.stats().await.map(drop) }.fuse()),
                Due::Silent(since) => {
                    tracing::info!(addr = agent.addr(), "agent is silent");
                    let (addr, since) = (addr(), wall_clock(since));
                    self.set(AgentState::Silent { addr, since });
                    if self.options.agents.len() > 1 {
                        break WatchError::Silent {
                            after: pulse.last().elapsed(),
                        };
                    }
                }
            }
        };
        self.heard_at = Some(wall_clock(client.heard_at()));
        why
    }

    fn lost(&mut self, agent: &ConnectOptions, error: Arc<WatchError>) -> bool {
        let before = self.states.borrow().clone();
        let was_connected = matches!(
            *before,
            AgentState::Connected { .. } | AgentState::Silent { .. }
        );
        if was_connected {
            tracing::info!(addr = agent.addr(), %error, "agent lost");
            let since = self.heard_at.unwrap_or_else(SystemTime::now);
            let addr = agent.addr().to_owned();
            self.set(AgentState::Lost { addr, since });
        } else {
            tracing::debug!(addr = agent.addr(), %error, "agent not reached");
        }
        self.events.tell(ClientEvent::Unreachable {
            addr: agent.addr().to_owned(),
            error,
        });
        was_connected
    }
}

/// A moment of the past by the calendar.
pub(crate) fn wall_clock(moment: Instant) -> SystemTime {
    SystemTime::now() - moment.elapsed()
}

/// The moment; never where there is none.
pub(crate) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
