//! Streams of the agent: what to subscribe to in, items with their gaps and their end out.

mod queue;

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bstr::{BStr, BString};
use futures_util::Stream;

use crate::client::Client;
use crate::codec::{DecodeError, Reader};
use crate::error::{CallError, ConnectionError, StreamError};
use crate::event::{ConnectionId, Event, MemberEventKind};
pub(crate) use queue::{Capacity, Queue, Sink, Taken, channel};

/// Which events a stream carries (`agent/event_handler.go`, `ParseEventFilter`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter(BString);

/// Events of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Something that happens to members.
    Member(MemberEventKind),
    /// User events of any name.
    User,
    /// User events of one name.
    UserNamed(EventName),
    /// Queries of any name.
    Query,
    /// Queries of one name.
    QueryNamed(EventName),
}

/// The name of a user event or query, as a filter can carry it: not empty, and without a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventName(BString);

impl EventName {
    /// The name; none if it is empty or has a comma in it, which would end it in a filter.
    pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
        let name = name.as_ref();
        (!name.is_empty() && !name.contains(&b',')).then(|| Self(name.into()))
    }
}

impl EventFilter {
    /// All events.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// All that happens to members.
    pub fn members() -> Self {
        use MemberEventKind::{Failed, Join, Leave, Reap, Update};
        Self::of([Join, Leave, Failed, Update, Reap].map(EventKind::Member))
    }

    /// Events of these kinds; of all kinds if there is none.
    pub fn of(kinds: impl IntoIterator<Item = EventKind>) -> Self {
        let words: Vec<BString> = kinds
            .into_iter()
            .map(|kind| match kind {
                EventKind::Member(kind) => kind.as_str().into(),
                EventKind::User => "user".into(),
                EventKind::UserNamed(name) => [b"user:", &name.0[..]].concat().into(),
                EventKind::Query => "query".into(),
                EventKind::QueryNamed(name) => [b"query:", &name.0[..]].concat().into(),
            })
            .collect();
        if words.is_empty() {
            Self::all()
        } else {
            Self(bstr::join(",", words).into())
        }
    }

    /// The filter as the agent reads it.
    pub fn as_bytes(&self) -> &BStr {
        self.0.as_ref()
    }
}

/// From which level up a [`LogStream`] carries lines, whatever the agent's own level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What the agent receives and sends, and all below.
    Debug,
    /// What happens to members, and all below.
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Err,
}

impl LogLevel {
    /// Serf's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Err => "ERR",
        }
    }
}

/// What the records of a stream are decoded into.
pub trait Record: sealed::Sealed + Sized {
    #[doc(hidden)]
    fn decode(body: &[u8], connection: ConnectionId) -> Result<Self, DecodeError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Event {}
    impl Sealed for super::LogLine {}
    impl Sealed for crate::query::QueryRecord {}
}

/// A line of the agent's log: `2006/01/02 15:04:05 [LEVEL] component: text`, in the agent's local
/// time, any bytes, sometimes with line breaks inside. Names in it come from all over the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine(pub BString);

impl Record for Event {
    fn decode(body: &[u8], connection: ConnectionId) -> Result<Self, DecodeError> {
        Self::decode(body, connection)
    }
}

impl Record for LogLine {
    fn decode(body: &[u8], _: ConnectionId) -> Result<Self, DecodeError> {
        let mut line = None;
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Log" => line = Some(value.bytes()?),
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        line.map(|line| Self(line.into()))
            .ok_or(DecodeError::Missing { field: "Log" })
    }
}

/// Events as they leave the agent's coalescer, from the moment of subscribing on.
pub type EventStream = Subscription<Event>;

/// The agent's log: the last 512 lines first, then each as it is written.
pub type LogStream = Subscription<LogLine>;

/// A stream of an agent. It keeps its connection open.
///
/// Items are records, or a [`StreamError`]: a gap, a record that does not decode, and at last the
/// loss of the connection.
///
/// **Dropping it sends nothing.** Its sequence number is retired and the records that still come
/// are swallowed, until the connection ends. That is on purpose: an agent may crash when a stream
/// ends while it delivers an event (`send on closed channel` in `agent/ipc_event_stream.go`), by
/// [`stop`](Self::stop) as well as by a disconnect. Keep one stream for the life of a process.
#[derive(Debug)]
pub struct Subscription<T> {
    client: Client,
    seq: u64,
    queue: Queue,
    ended: bool,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Subscription<T> {
    pub(crate) fn new(client: Client, seq: u64, queue: Queue) -> Self {
        Self {
            client,
            seq,
            queue,
            ended: false,
            record: PhantomData,
        }
    }

    /// The next item; none after the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, StreamError>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Asks the agent to end the stream; what still comes is swallowed. Mind the risk that ending
    /// a stream is to the agent, as said at [`Subscription`].
    ///
    /// # Errors
    /// Those of any call. The agent itself never refuses.
    pub async fn stop(self) -> Result<(), CallError> {
        let Self {
            client, seq, queue, ..
        } = self;
        drop(queue);
        client.stop(seq).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.queue.poll_take(cx).map(|taken| match taken {
            Taken::Record(body) => {
                Some(T::decode(&body, self.client.id()).map_err(StreamError::Decode))
            }
            Taken::Lagged(count) => Some(Err(StreamError::Lagged(count))),
            Taken::Finished => {
                self.ended = true;
                None
            }
            Taken::Closed => {
                self.ended = true;
                let why = self.client.lost().unwrap_or(ConnectionError::Closed);
                Some(Err(StreamError::Lost(why)))
            }
        })
    }
}

impl<T: Record> Stream for Subscription<T> {
    type Item = Result<T, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_spelt_as_the_agent_reads_them() {
        assert_eq!(EventFilter::all().as_bytes(), "*");
        assert_eq!(EventFilter::of([]).as_bytes(), "*");
        assert_eq!(
            EventFilter::members().as_bytes(),
            "member-join,member-leave,member-failed,member-update,member-reap"
        );
        let deploy = EventName::new("deploy:web").unwrap();
        let filter = EventFilter::of([
            EventKind::UserNamed(deploy.clone()),
            EventKind::QueryNamed(deploy),
        ]);
        assert_eq!(filter.as_bytes(), "user:deploy:web,query:deploy:web");
    }

    #[test]
    fn a_name_that_would_end_the_filter_is_refused() {
        assert_eq!(EventName::new(""), None);
        assert_eq!(EventName::new("a,*"), None);
    }
}
