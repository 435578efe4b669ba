//! Following the membership: addresses of agents in, snapshots, changes and suspicions out.
//!
//! One task connects to the first agent that answers, subscribes to its events and its log, and
//! asks for the members. From then on everything that comes is only a reason to ask again: one
//! question is in the air at a time, and at most one more waits.

use std::hash::{BuildHasher, RandomState};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use bstr::{BStr, BString};
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::error::{CallError, ConnectionError, StreamError};
use crate::client::{Client, ConnectOptions, Subscription};
use crate::types::{ConnectionId, EventFilter, LogEntry, LogLevel, Member, Record, Sealed};
use crate::watch::error::WatchError;
use crate::watch::hints::Hints;
use crate::watch::membership::{AgentState, Change, Continuity, Snapshot};
use crate::watch::pulse::{Due, Pulse};
use crate::watch::unreached::{self, Unreached};
use crate::wire::codec::DecodeError;

/// Items kept for a slow reader of changes or suspicions.
const BACKLOG: usize = 1024;
/// A monitor begins with the last 512 lines of the log. What those suspect is over.
const OLD_LINES: Duration = Duration::from_millis(500);

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    agents: Vec<ConnectOptions>,
    resync: Duration,
    seed: Snapshot,
    retry: (Duration, Duration),
    suspicion_interval: Duration,
    pulse: Option<Duration>,
}

impl WatchOptions {
    /// The agents to try, in this order, whenever there is no connection.
    pub fn new(agents: Vec<ConnectOptions>) -> Self {
        Self {
            agents,
            resync: Duration::from_secs(10),
            seed: Snapshot::default(),
            retry: (Duration::from_millis(50), Duration::from_secs(2)),
            suspicion_interval: Duration::from_secs(1),
            pulse: None,
        }
    }

    /// How long to go without asking, if nothing hints at a change; 10 s unless set, varied by a
    /// tenth so that watchers do not ask in step.
    #[must_use]
    pub fn resync(mut self, period: Duration) -> Self {
        self.resync = period;
        self
    }

    /// The snapshot to begin with, for instance one [`restored`](Snapshot::restored).
    #[must_use]
    pub fn seed(mut self, snapshot: Snapshot) -> Self {
        self.seed = snapshot;
        self
    }

    /// The shortest and the longest pause between attempts to connect; 50 ms and 2 s unless set.
    /// It doubles from one to the other, and starts anew after a connection that lasted longer
    /// than the longest pause.
    #[must_use]
    pub fn retry(mut self, shortest: Duration, longest: Duration) -> Self {
        self.retry = (shortest, longest.max(shortest));
        self
    }

    /// How long a member that was suspected is not suspected again; 1 s unless set.
    #[must_use]
    pub fn suspicion_interval(mut self, interval: Duration) -> Self {
        self.suspicion_interval = interval;
        self
    }

    /// Notices an agent that stands still: where nothing was heard of it for so long, it is asked something small, and
    /// where it has not answered after as long again it is [`AgentState::Silent`]. Its connection is kept, until a call
    /// has no reply in its own time. Unless set, only such a call shows it.
    ///
    /// An agent that prunes a member which is alive is silent for 6 s.
    #[must_use]
    pub fn pulse(mut self, period: Duration) -> Self {
        self.pulse = Some(period);
        self
    }

    /// The pauses between attempts, one after the other.
    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let (shortest, longest) = self.retry;
        ExponentialBuilder::new()
            .with_min_delay(shortest)
            // Jitter adds up to as much again.
            .with_max_delay(shortest.max(longest / 2))
            .with_jitter()
            .without_max_times()
            .build()
            .map(move |pause| pause.min(longest))
    }

    /// How long to wait this time without a hint.
    fn resync_period(&self) -> Duration {
        let random = RandomState::new().hash_one(());
        let per_mille = 900 + u32::try_from(random % 201).unwrap_or_default();
        self.resync.saturating_mul(per_mille) / 1000
    }
}

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
    /// The reader was too slow, and so many items were left out here.
    Lagged(u64),
}

/// Follows the membership as an agent sees it, for as long as it lives.
///
/// Snapshots are a few milliseconds behind what the agent knows. It never gives up: a lost agent
/// shows in [`Snapshot::agent`] and [`Snapshot::stale_since`], while the members stay.
///
/// **Keep one for the life of a process**, and share it. It subscribes to the agent's events, and an
/// agent may crash when a stream ends while it delivers an event; see [`Subscription`]. Dropping
/// and stopping it both end the connection and with it the stream.
#[derive(Debug)]
pub struct Watcher {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: broadcast::Sender<WatchEvent>,
    suspicions: broadcast::Sender<BString>,
    unreached: watch::Receiver<Arc<[Unreached]>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts watching. Dropping the watcher ends it too.
    pub fn spawn(options: WatchOptions) -> Self {
        let (publisher, snapshots) = watch::channel(Arc::new(options.seed.clone()));
        let events = broadcast::Sender::new(BACKLOG);
        let suspicions = broadcast::Sender::new(BACKLOG);
        let (failures, unreached) = watch::channel(Arc::default());
        let (stop, stopped) = oneshot::channel();
        let task = Task {
            options,
            publisher,
            events: events.clone(),
            suspicions: suspicions.clone(),
            unreached: unreached::Publisher(failures),
        };
        Self {
            snapshots,
            events,
            suspicions,
            unreached,
            stop,
            task: tokio::spawn(task.run(stopped)),
        }
    }

    /// The latest snapshot, at any time. A change is announced when the entries change or the
    /// state of the agent does; the time of the last reading alone is no change.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// The agents that do not answer, with the reason, in the order in which they first failed. One that has never been
    /// tried is not among them. A change is announced when somebody answers, or fails otherwise than before.
    pub fn unreached(&self) -> watch::Receiver<Arc<[Unreached]>> {
        self.unreached.clone()
    }

    /// What happens from now on. Each change comes after the snapshot that has it, so: first take
    /// the stream, then the snapshot, then skip changes up to its revision.
    pub fn changes(&self) -> Changes {
        let items = items(self.events.subscribe());
        Changes(
            items
                .map(|item| item.unwrap_or_else(WatchEvent::Lagged))
                .boxed(),
        )
    }

    /// Names of members that the agent, from now on, finds hard to reach, long before it declares
    /// them failed: a reason to look for oneself, and none to believe it. Each is one of the
    /// snapshot, and comes once in [`WatchOptions::suspicion_interval`]. A reader that is more than
    /// a thousand of them behind misses the oldest; those that go on come again.
    pub fn suspicions(&self) -> SuspicionStream {
        let items = items(self.suspicions.subscribe());
        SuspicionStream(
            items
                .filter_map(|item| std::future::ready(item.ok()))
                .boxed(),
        )
    }

    /// Ends the watcher and its connection.
    pub async fn stop(self) {
        drop(self.stop);
        // It ends by itself; if it panicked there is nothing left to end.
        let _ = self.task.await;
    }
}

/// What a watcher sees; see [`Watcher::changes`].
pub struct Changes(BoxStream<'static, WatchEvent>);

/// Whom an agent suspects; see [`Watcher::suspicions`].
pub struct SuspicionStream(BoxStream<'static, BString>);

impl Stream for Changes {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.0.poll_next_unpin(cx)
    }
}

impl Stream for SuspicionStream {
    type Item = BString;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BString>> {
        self.0.poll_next_unpin(cx)
    }
}

/// The items of a channel, with the number of those left out as the error.
fn items<T: Clone + Send + 'static>(
    channel: broadcast::Receiver<T>,
) -> impl Stream<Item = Result<T, u64>> {
    stream::unfold(channel, |mut channel| async {
        match channel.recv().await {
            Ok(item) => Some((Ok(item), channel)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some((Err(count), channel)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    })
}

/// The one task behind a watcher.
struct Task {
    options: WatchOptions,
    publisher: watch::Sender<Arc<Snapshot>>,
    events: broadcast::Sender<WatchEvent>,
    suspicions: broadcast::Sender<BString>,
    unreached: unreached::Publisher,
}

impl Task {
    async fn run(mut self, stopped: oneshot::Receiver<()>) {
        tokio::select! {
            _ = stopped => {}
            () = self.watch() => {}
        }
    }

    /// Goes from one connection to the next for ever.
    async fn watch(&mut self) {
        let agents = self.options.agents.clone();
        let mut pauses = self.options.pauses();
        loop {
            for agent in &agents {
                let began = Instant::now();
                let Err(error) = self.follow(agent).await;
                let was_connected = self.lose(agent.addr(), error);
                if began.elapsed() > self.options.retry.1 {
                    pauses = self.options.pauses();
                }
                if was_connected {
                    break;
                }
            }
            sleep(pauses.next().unwrap_or(self.options.retry.1)).await;
        }
    }

    /// Follows one agent until it is lost.
    async fn follow(
        &mut self,
        agent: &ConnectOptions,
    ) -> Result<std::convert::Infallible, WatchError> {
        let client = agent.connect().await?;
        // Subscribed before the first question, so that no change falls between the two.
        let filter = EventFilter::members();
        let mut events = unless_refused(
            agent.addr(),
            client.stream_as::<EventArrived>(&filter).await,
        )?;
        let mut lines = unless_refused(agent.addr(), client.monitor(LogLevel::Debug).await)?;
        let monitor_began = Instant::now();
        let local = unless_refused(agent.addr(), client.stats().await)?
            .and_then(|stats| stats.agent_name().map(BStr::to_owned));
        let mut kind = Continuity::Fresh;
        let mut question = pin!(Fuse::terminated());
        let mut small_talk = pin!(Fuse::terminated());
        let mut pulse = Pulse::new(self.options.pulse, Instant::now());
        let mut hints = Hints::new(self.options.suspicion_interval, Instant::now());
        let mut resync = pin!(sleep(self.options.resync_period()));
        loop {
            let now = Instant::now();
            let ask_at = hints.ask_at(now).filter(|_| question.is_terminated());
            if ask_at.is_some_and(|at| at <= now) {
                question.set(client.members().fuse());
                hints.asked(now);
            }
            tokio::select! {
                answer = &mut question => {
                    let answer = answer?;
                    pulse.heard(Instant::now());
                    self.publish(&client, &local, answer, kind);
                    kind = Continuity::Continuous;
                    resync.as_mut().reset(Instant::now() + self.options.resync_period());
                }
                line = next(&mut lines) => {
                    let line = line?;
                    self.heard(&mut pulse, client.addr());
                    match line {
                        Ok(LogEntry::Line(line)) => {
                            let now = Instant::now();
                            let named = hints.line(line.as_bytes(), now);
                            if let Some(name) = named && monitor_began.elapsed() > OLD_LINES {
                                self.suspect(&mut hints, name, now);
                            }
                        }
                        Ok(LogEntry::Lagged(_)) | Err(_) => hints.membership(),
                    }
                }
                event = next(&mut events) => {
                    let _ = event?;
                    self.heard(&mut pulse, client.addr());
                    hints.membership();
                }
                answer = &mut small_talk => {
                    unless_refused(agent.addr(), answer)?;
                    self.heard(&mut pulse, client.addr());
                }
                () = at(pulse.deadline()) => match pulse.due(Instant::now()) {
                    // The question that is in the air will do.
                    Due::Ask if !question.is_terminated() || !small_talk.is_terminated() => {}
                    Due::Ask => small_talk.set(client.stats().fuse()),
                    Due::Silent(since) => self.fell_silent(client.addr(), since),
                },
                () = at(ask_at), if ask_at.is_some_and(|at| at > now) => {}
                () = &mut resync, if !resync.is_elapsed() => hints.membership(),
            }
        }
    }

    fn publish(
        &mut self,
        client: &Client,
        local: &Option<BString>,
        answer: Vec<Member>,
        kind: Continuity,
    ) {
        let before = self.publisher.borrow().clone();
        let agent = AgentState::Connected {
            addr: client.addr().to_owned(),
        };
        let (next, changes) = before.merge(answer, kind, SystemTime::now());
        let connected = *before.agent() != agent;
        let revision = next.revision();
        let next = next.with_agent(agent).with_local(local.clone());
        self.replace(next, connected || !changes.is_empty());
        if connected {
            self.unreached.answers(client.addr());
            tracing::info!(addr = client.addr(), revision, "agent answers");
            self.tell(WatchEvent::Connected {
                addr: client.addr().to_owned(),
            });
        }
        for change in changes {
            tracing::debug!(member = ?change.member().name(), revision, ?change, "membership changed");
            self.tell(WatchEvent::Changed { revision, change });
        }
    }

    /// Notes that there is no connection to an agent, and says whether there was one.
    fn lose(&mut self, addr: &str, error: WatchError) -> bool {
        let before = self.publisher.borrow().clone();
        let was_connected = matches!(
            before.agent(),
            AgentState::Connected { .. } | AgentState::Silent { .. }
        );
        if was_connected {
            tracing::info!(addr, %error, "agent lost");
            let lost = AgentState::Lost {
                addr: addr.to_owned(),
                since: SystemTime::now(),
            };
            self.replace(before.with_agent(lost), true);
        } else {
            tracing::debug!(addr, %error, "agent not reached");
        }
        let error = Arc::new(error);
        self.unreached.failed(addr, Arc::clone(&error));
        self.tell(WatchEvent::Unreachable {
            addr: addr.to_owned(),
            error,
        });
        was_connected
    }

    /// Takes that the agent has said something.
    fn heard(&self, pulse: &mut Pulse, addr: &str) {
        if pulse.heard(Instant::now()) {
            tracing::info!(addr, "agent answers again");
            let addr = addr.to_owned();
            let before = self.publisher.borrow().clone();
            self.replace(before.with_agent(AgentState::Connected { addr }), true);
        }
    }

    /// The agent was asked and says nothing, since then.
    fn fell_silent(&self, addr: &str, since: Instant) {
        let before = self.publisher.borrow().clone();
        // Before its first answer it counts as not reached.
        if !matches!(before.agent(), AgentState::Connected { .. }) {
            return;
        }
        tracing::info!(addr, "agent is silent");
        let silent = AgentState::Silent {
            addr: addr.to_owned(),
            since: SystemTime::now() - since.elapsed(),
        };
        self.replace(before.with_agent(silent), true);
    }

    fn replace(&self, snapshot: Snapshot, announce: bool) {
        self.publisher.send_if_modified(|current| {
            *current = Arc::new(snapshot);
            announce
        });
    }

    fn tell(&self, event: WatchEvent) {
        // That nobody listens is no error.
        let _ = self.events.send(event);
    }

    fn suspect(&self, hints: &mut Hints, name: &BStr, now: Instant) {
        if self.publisher.borrow().get(name).is_some() && hints.suspect(name, now) {
            tracing::debug!(member = ?name, "agent suspects a member");
            // That nobody listens is no error.
            let _ = self.suspicions.send(name.to_owned());
        }
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

/// The moment; never where there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_the_shortest_to_the_longest_and_stay_there() {
        let (shortest, longest) = (Duration::from_millis(50), Duration::from_secs(2));
        let options = WatchOptions::new(Vec::new()).retry(shortest, longest);
        let pauses: Vec<_> = options.pauses().take(30).collect();
        assert!(
            pauses[0] >= shortest && pauses[0] <= shortest * 2,
            "{pauses:?}"
        );
        assert!(
            pauses
                .iter()
                .all(|pause| (shortest..=longest).contains(pause))
        );
        assert!(
            pauses[10..].iter().all(|pause| *pause >= longest / 2),
            "{pauses:?}"
        );
        let starts: Vec<_> = (0..50).filter_map(|_| options.pauses().next()).collect();
        assert!(starts.iter().any(|start| *start != starts[0]), "in step");
    }

    #[test]
    fn resyncs_vary_by_a_tenth() {
        let options = WatchOptions::new(Vec::new()).resync(Duration::from_secs(10));
        let periods: Vec<_> = (0..100).map(|_| options.resync_period()).collect();
        let range = Duration::from_secs(9)..=Duration::from_secs(11);
        assert!(
            periods.iter().all(|period| range.contains(period)),
            "{periods:?}"
        );
        assert!(
            periods.iter().any(|period| *period != periods[0]),
            "in step"
        );
    }
}
