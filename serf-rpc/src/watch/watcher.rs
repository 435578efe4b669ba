//! Following the membership: addresses of agents in, snapshots, changes and suspicions out.
//!
//! One task connects to the first agent that answers, subscribes to its events and its log, and
//! asks for the members. From then on everything that comes is only a reason to ask again: one
//! question is in the air at a time, and at most one more waits.

use std::convert::Infallible;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bstr::{BStr, BString};
use futures_util::Stream;
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client::{ConnectOptions, Subscription};
use crate::error::WatchError;
use crate::error::{CallError, ConnectionError, StreamError};
use crate::link::events::Told;
use crate::link::keeper::{self, Link, Session};
use crate::link::managed::{at, wall_clock};
use crate::link::pulse::{Due, Pulse};
use crate::link::{AgentState, Latest, ManagedClient, Unreached};
use crate::types::{ConnectionId, EventFilter, LogEntry, LogLevel, Record, Sealed};
use crate::wire::codec::DecodeError;

use super::hints::{Hints, Reasons};
use super::membership::{Change, Continuity, Entry, Snapshot};
use super::options::WatchOptions;
use super::publisher::{self, Published, Publisher};
use super::select::Selection;

/// A monitor begins with the last 512 lines of the log. What those suspect is over.
const OLD_LINES: Duration = Duration::from_millis(500);

/// Something that a watcher has seen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WatchEvent {
    /// An agent answers.
    Connected {
        /// `host:port`.
        addr: String,
    },
    /// An agent cannot be reached, or is lost. The watcher keeps trying.
    Unreachable {
        /// `host:port`.
        addr: String,
        /// Why.
        error: Arc<WatchError>,
    },
    /// The membership changed.
    Changed {
        /// The first revision of the snapshot that has it.
        revision: u64,
        /// How.
        change: Change,
    },
    /// The watcher has ended. This is the last event.
    Stopped {
        /// Why.
        error: Arc<WatchError>,
    },
    /// The reader was too slow, and so many items were left out here.
    Lagged(u64),
}

/// Follows the membership as an agent sees it, for as long as it lives.
///
/// Snapshots are a few milliseconds behind what the agent knows. A lost agent
/// shows in [`Snapshot::agent`] and [`Snapshot::stale_since`], while the members stay. It gives up only if all agents
/// refuse in a way that must fail again, as with a wrong key; see [`WatchOptions::keep_trying`].
///
/// **Keep one for the life of a process**, and share it. It subscribes to the agent's events, and an
/// agent may crash when a stream ends while it delivers an event; see [`Subscription`]. Dropping
/// and stopping it both end the connection and with it the stream, and so does the end of its runtime. Whoever still
/// reads then gets a last snapshot, whose agent is [`AgentState::Stopped`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use serf_rpc::{ConnectOptions, Watcher};
///
/// let watcher = Watcher::spawn(ConnectOptions::new("127.0.0.1:7373"));
/// let snapshot = watcher.ready().await?;
/// let usable = |entry: &&serf_rpc::Entry| entry.usable(Duration::from_secs(10));
/// tracing::info!(members = snapshot.entries().iter().filter(usable).count());
/// # Ok(())
/// # }
/// ```
#[must_use = "it stops when it is dropped"]
pub struct Watcher {
    published: Published,
    stop: oneshot::Sender<()>,
    /// None outside a runtime, and where a test feeds it.
    task: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts watching. Without an agent to try, and outside a Tokio runtime, it has ended at once: see
    /// [`ready`](Self::ready).
    pub fn spawn(options: impl Into<WatchOptions>) -> Self {
        let options = options.into();
        let (links, link) = watch::channel(None);
        let (publisher, published) = publisher::channel(options.seed.clone(), link);
        let (stop, stopped) = oneshot::channel();
        let task = Task { options, publisher };
        let task = match runtime::Handle::try_current() {
            Ok(runtime) => Some(runtime.spawn(task.run(links, stopped))),
            Err(_) => {
                task.publisher.end(Arc::new(task.options.link.no_runtime()));
                None
            }
        };
        Self {
            published,
            stop,
            task,
        }
    }

    /// A watcher that is fed by a test.
    #[cfg(feature = "test-util")]
    pub(crate) fn fed() -> (Self, Publisher) {
        let (_, links) = watch::channel(None);
        let (publisher, published) = publisher::channel(Snapshot::default(), links);
        let (stop, _) = oneshot::channel();
        let task = None;
        let watcher = Self {
            published,
            stop,
            task,
        };
        (watcher, publisher)
    }

    /// The snapshot now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.snapshots.latest()
    }

    /// The first snapshot of an agent that answers, once there is one.
    ///
    /// # Errors
    /// Why there will be none: the watcher has ended.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn ready(&self) -> Result<Arc<Snapshot>, WatchError> {
        let is_ready = |snapshot: &Snapshot| match snapshot.agent() {
            AgentState::Connected { .. } | AgentState::Stopped { .. } => true,
            AgentState::NeverReached | AgentState::Silent { .. } | AgentState::Lost { .. } => false,
        };
        let found = self.snapshots().wait_for(is_ready).await;
        let ready =
            |snapshot: &Arc<Snapshot>| matches!(snapshot.agent(), AgentState::Connected { .. });
        found.filter(ready).ok_or_else(|| {
            let why = self.published.ended.get();
            why.map_or(WatchError::Stopped, |why| (**why).clone())
        })
    }

    /// The snapshot now, and each that is announced: when the entries change or the
    /// state of the agent does. The time of the last reading alone is no change.
    pub fn snapshots(&self) -> Latest<Snapshot> {
        self.published.snapshots.clone()
    }

    /// The agents that do not answer, with the reason, in the order in which they first failed. One that has never been
    /// tried is not among them. A change is announced when somebody answers, or fails otherwise than before.
    pub fn unreached(&self) -> Latest<[Unreached]> {
        self.published.unreached.clone()
    }

    /// What happens from now on. Each change comes after the snapshot that has it, so: first take
    /// the stream, then the snapshot, then skip changes up to its revision.
    pub fn changes(&self) -> Changes {
        let events = &self.published.events;
        Changes(events.listen(|missed| Some(WatchEvent::Lagged(missed))))
    }

    /// Names of members that the agent, from now on, finds hard to reach, long before it declares
    /// them failed: a reason to look for oneself, and none to believe it. Each is one of the
    /// snapshot, and comes once in [`WatchOptions::suspicion_interval`]. A reader that is more than
    /// a thousand of them behind misses the oldest; those that go on come again.
    pub fn suspicions(&self) -> SuspicionStream {
        SuspicionStream(self.published.suspicions.listen(|_| None))
    }

    /// The members that `choose` gives a value for, as a set that changes: with an address to balance load over, for
    /// instance. First those that are there, then each difference. While members are absent the choice is made anew every
    /// second, so that it may depend on [`Entry::usable`](crate::Entry::usable).
    ///
    /// ```no_run
    /// # async fn example(watcher: serf_rpc::Watcher) -> Option<()> {
    /// use std::time::Duration;
    /// use serf_rpc::SetChange;
    ///
    /// let mut web = watcher.select(|entry| {
    ///     let is_web = entry.member.tag("role").is_some_and(|role| role == "web");
    ///     (is_web && entry.usable(Duration::from_secs(10))).then(|| entry.member.addr())?
    /// });
    /// while let Some(change) = web.next().await {
    ///     match change {
    ///         SetChange::Insert(name, addr) => tracing::info!(%name, %addr, "in"),
    ///         SetChange::Remove(name) => tracing::info!(%name, "out"),
    ///     }
    /// }
    /// # Some(())
    /// # }
    /// ```
    pub fn select<V: Clone + PartialEq>(
        &self,
        choose: impl Fn(&Entry) -> Option<V> + Send + Sync + 'static,
    ) -> Selection<V> {
        Selection::new(self.snapshots(), Box::new(choose))
    }

    /// A client on the watcher's connection, which comes back as the watcher does and ends with it.
    pub fn client(&self) -> ManagedClient {
        self.published.client.clone()
    }

    /// Ends the watcher and its connection.
    pub async fn stop(self) {
        drop(self.stop);
        if let Some(task) = self.task {
            // It ends by itself; if it panicked there is nothing left to end.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("Watcher")
            .field("agent", snapshot.agent())
            .field("revision", &snapshot.revision())
            .field("members", &snapshot.entries().len())
            .finish_non_exhaustive()
    }
}

/// What a watcher sees; see [`Watcher::changes`].
#[derive(Debug)]
pub struct Changes(Told<WatchEvent>);

impl Changes {
    /// The next event; none after the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.0.next().await
    }
}

/// Whom an agent suspects; see [`Watcher::suspicions`].
#[derive(Debug)]
pub struct SuspicionStream(Told<BString>);

impl SuspicionStream {
    /// The name of the next member; none after the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<BString> {
        self.0.next().await
    }
}

impl Stream for Changes {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.0.poll_next(cx)
    }
}

impl Stream for SuspicionStream {
    type Item = BString;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BString>> {
        self.0.poll_next(cx)
    }
}

/// The one task behind a watcher.
struct Task {
    options: WatchOptions,
    publisher: Publisher,
}

impl Task {
    async fn run(mut self, links: watch::Sender<Option<Link>>, stopped: oneshot::Receiver<()>) {
        let options = self.options.link.clone();
        tokio::select! {
            _ = stopped => {}
            why = keeper::keep(&options, &links, &mut self) => self.publisher.end(why),
        }
    }

    /// Follows one agent until it is lost.
    async fn follow(&mut self, link: &Link) -> Result<Infallible, WatchError> {
        let client = &link.client;
        let addr = client.addr();
        // Subscribed before the first question, so that no change falls between the two.
        let filter = EventFilter::members();
        let mut events = unless_refused(addr, client.stream_as::<EventArrived>(&filter).await)?;
        let mut lines = unless_refused(addr, client.monitor(LogLevel::Debug).await)?;
        let monitor_began = Instant::now();
        let local = unless_refused(addr, client.stats().await)?
            .and_then(|stats| stats.agent_name().map(BStr::to_owned));
        let mut kind = Continuity::Fresh;
        let mut question = pin!(Fuse::terminated());
        let mut small_talk = pin!(Fuse::terminated());
        let mut pulse = Pulse::new(self.options.link.pulse, Instant::now());
        let mut hints = Hints::new(self.options.suspicion_interval, Instant::now());
        let mut reasons = Reasons::default();
        let mut resync = pin!(sleep(self.options.resync_period()));
        loop {
            let now = Instant::now();
            let ask_at = hints.ask_at(now).filter(|_| question.is_terminated());
            if ask_at.is_some_and(|at| at <= now) {
                question.set(client.members().fuse());
                reasons = hints.asked(now);
            }
            tokio::select! {
                answer = &mut question => {
                    let answer = answer?;
                    pulse.heard(Instant::now());
                    self.publisher.listed(addr, local.clone(), answer, kind, reasons);
                    kind = Continuity::Continuous;
                    resync.as_mut().reset(Instant::now() + self.options.resync_period());
                }
                line = next(&mut lines) => {
                    let line = line?;
                    self.heard(&mut pulse, addr);
                    self.read(&line, &mut hints, monitor_began);
                }
                event = next(&mut events) => {
                    let _ = event?;
                    self.heard(&mut pulse, addr);
                    hints.membership(Instant::now());
                }
                answer = &mut small_talk => {
                    unless_refused(addr, answer)?;
                    self.heard(&mut pulse, addr);
                }
                () = at(pulse.deadline()) => match pulse.due(Instant::now()) {
                    // The question that is in the air will do.
                    Due::Ask if !question.is_terminated() || !small_talk.is_terminated() => {}
                    Due::Ask => small_talk.set(client.stats().fuse()),
                    Due::Silent(since) => {
                        self.publisher.fell_silent(addr, wall_clock(since));
                        if self.options.link.agents.len() > 1 {
                            return Err(WatchError::Silent { after: since.elapsed() });
                        }
                    }
                },
                () = at(ask_at), if ask_at.is_some_and(|at| at > now) => {}
                () = &mut resync, if !resync.is_elapsed() => hints.resync(),
            }
        }
    }

    /// Takes that the agent has said something.
    fn heard(&self, pulse: &mut Pulse, addr: &str) {
        if pulse.heard(Instant::now()) {
            self.publisher.answers_again(addr);
        }
    }

    /// Takes what the log has to say. Whom its first lines name was suspected some time ago.
    fn read(
        &self,
        line: &Result<LogEntry, StreamError>,
        hints: &mut Hints,
        monitor_began: Instant,
    ) {
        let Ok(LogEntry::Line(line)) = line else {
            return hints.resync();
        };
        let now = Instant::now();
        let Some(name) = hints.line(line.as_bytes(), now) else {
            return;
        };
        let is_new = monitor_began.elapsed() > OLD_LINES;
        if is_new && self.publisher.knows(name) && hints.suspect(name, now) {
            self.publisher.suspect(name);
        }
    }
}

impl Session for Task {
    async fn attend(&mut self, link: &Link) -> WatchError {
        let Err(error) = self.follow(link).await;
        self.publisher.heard(wall_clock(link.client.heard_at()));
        error
    }

    fn lost(&mut self, agent: &ConnectOptions, error: Arc<WatchError>) -> bool {
        self.publisher.lost(agent.addr(), error)
    }
}

/// That an event came. What it says is not decoded: it is only a reason to ask for the members.
struct EventArrived;

impl Sealed for EventArrived {}

impl Record for EventArrived {
    fn decode(_: &[u8], _: ConnectionId) -> Result<Self, DecodeError> {
        Ok(Self)
    }

    fn lagged(_: u64) -> Self {
        Self
    }

    fn resubscribed() -> Self {
        Self
    }
}

/// Without one of its streams or its agent's name a watcher still works, only later; without its connection it cannot.
fn unless_refused<T>(addr: &str, answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Err(error) if error.refusal().is_some() => {
            tracing::warn!(addr, %error, "watching without this");
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// The next item of a stream, if there is one at all; an error once the connection is gone.
async fn next<T: Record>(
    stream: &mut Option<Subscription<T>>,
) -> Result<Result<T, StreamError>, ConnectionError> {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    match stream.next().await {
        None => Err(ConnectionError::Closed),
        Some(Err(StreamError::Lost(error))) => Err(error),
        Some(item) => Ok(item),
    }
}
