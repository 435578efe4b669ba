//! Streams that outlive a connection: a link in, records and the places where some may be missing out.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::time::{Sleep, sleep};

use crate::client::{Client, EventStream, LogStream, Subscription};
use crate::error::StreamError;
use crate::types::{Event, EventFilter, LogEntry, LogLevel, Record};

use super::keeper::{self, Link, Links};
use super::resume::Resume;
use crate::error::WatchError;

/// How long to wait after an agent has refused a stream.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Events of a [`ManagedClient`](crate::ManagedClient), over the loss of its connections. It ends with its client.
#[derive(Debug)]
pub struct ManagedEvents {
    inner: Resubscribing<Event>,
    filter: EventFilter,
}

impl ManagedEvents {
    pub(super) fn new(
        links: Links,
        filter: EventFilter,
        client: Client,
        events: EventStream,
    ) -> Self {
        Self {
            inner: Resubscribing {
                links,
                state: State::Open(client, events),
                begun: true,
            },
            filter,
        }
    }

    /// The next event; none once the client has ended. One that cannot be read counts as one left out.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        let filter = &self.filter;
        let begin = |link: Link| {
            let filter = filter.clone();
            let begun: Begin<Event> = Box::pin(async move {
                let events = link.client.stream(filter).await?;
                Ok((link.client, events))
            });
            begun
        };
        self.inner.next(begin).await
    }

    /// The same as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Event> + Send + Sync {
        stream::unfold(self, async |mut events| {
            Some((events.next().await?, events))
        })
    }
}

/// The log of an agent, over the loss of connections; see [`ManagedClient::log`](crate::ManagedClient::log).
#[derive(Debug)]
pub struct ManagedLog {
    inner: Resubscribing<LogEntry>,
    level: LogLevel,
    resume: Resume,
}

impl ManagedLog {
    pub(super) fn new(links: Links, level: LogLevel) -> Self {
        Self {
            inner: Resubscribing {
                links,
                state: State::Idle(None),
                begun: false,
            },
            level,
            resume: Resume::default(),
        }
    }

    /// The next entry; none once the client has ended. [`LogEntry::Resubscribed`] stands where the log was begun anew: of
    /// more than 512 lines in between the oldest are missing there.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<LogEntry> {
        loop {
            let level = self.level;
            let begin = move |link: Link| {
                let begun: Begin<LogEntry> = Box::pin(async move {
                    let own = link.agent.connect().await?;
                    let lines: LogStream = own.monitor(level).await?;
                    Ok((link.client, lines))
                });
                begun
            };
            let entry = self.inner.next(begin).await?;
            match &entry {
                LogEntry::Resubscribed => self.resume.begin(),
                LogEntry::Line(line) if !self.resume.is_new(line) => continue,
                _ => {}
            }
            return Some(entry);
        }
    }

    /// The same as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = LogEntry> + Send + Sync {
        stream::unfold(self, async |mut log| Some((log.next().await?, log)))
    }
}

/// A subscription in the making.
type Begin<T> =
    Pin<Box<dyn Future<Output = Result<(Client, Subscription<T>), WatchError>> + Send + Sync>>;

/// A stream that is begun anew on each connection.
struct Resubscribing<T> {
    links: Links,
    state: State<T>,
    /// Whether it was ever open.
    begun: bool,
}

/// What it is at. A subscription is never given up half-way: it would keep its place.
enum State<T> {
    /// There is no stream; with what connection the last one came.
    Idle(Option<Client>),
    Beginning(Begin<T>),
    Open(Client, Subscription<T>),
    /// It was refused lately.
    Resting(Pin<Box<Sleep>>),
}

impl<T: Record> Resubscribing<T> {
    async fn next(&mut self, begin: impl Fn(Link) -> Begin<T>) -> Option<T> {
        loop {
            match &mut self.state {
                State::Open(client, stream) => {
                    tokio::select! {
                        biased;
                        item = stream.next() => match item {
                            Some(Ok(item)) => return Some(item),
                            Some(Err(StreamError::Decode(error))) => {
                                tracing::warn!(addr = client.addr(), %error, "unexpected record");
                                return Some(T::lagged(1));
                            }
                            Some(Err(StreamError::Lost(_))) | None => {}
                        },
                        () = keeper::replaced(&mut self.links, client) => {}
                    }
                    self.state = State::Idle(Some(client.clone()));
                }
                State::Idle(before) => {
                    // The stream alone may have ended.
                    let before = before.as_ref().filter(|client| client.lost().is_some());
                    let link = keeper::connected(&mut self.links, before).await?;
                    self.state = State::Beginning(begin(link));
                }
                State::Beginning(begun) => match begun.await {
                    Ok((client, stream)) => {
                        self.state = State::Open(client, stream);
                        if std::mem::replace(&mut self.begun, true) {
                            return Some(T::resubscribed());
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no stream yet");
                        self.state = State::Resting(Box::pin(sleep(AFTER_REFUSAL)));
                    }
                },
                State::Resting(rest) => {
                    rest.await;
                    self.state = State::Idle(None);
                }
            }
        }
    }
}

impl<T> fmt::Debug for Resubscribing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream: Option<&dyn fmt::Debug> = match &self.state {
            State::Open(_, stream) => Some(stream),
            State::Idle(_) | State::Beginning(_) | State::Resting(_) => None,
        };
        f.debug_tuple("Resubscribing").field(&stream).finish()
    }
}
