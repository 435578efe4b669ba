//! Streams of the agent: the queue of a stream's records in, decoded items with their gaps and their end out.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use crate::command::Stop;
use crate::types::{Event, LogEntry, Record};

use super::handle::Handle;
use super::queue::{Queue, Taken};
use crate::error::{CallError, ConnectionError, StreamError};

/// Events as they leave the agent's coalescer, from the moment of subscribing on.
pub type EventStream = Subscription<Event>;

/// The agent's log: the last 512 lines first, then each as it is written.
pub type LogStream = Subscription<LogEntry>;

/// A stream of an agent. It keeps its connection open.
///
/// Items are records, and a `Lagged` one where some were left out because the reader was too slow. An error is a record
/// that does not decode, or at last the loss of the connection.
///
/// **Dropping it sends nothing.** The records that still come are swallowed, and it keeps its place among the
/// [streams of its connection](crate::ConnectOptions::max_streams). That is on purpose: an agent may crash when a stream
/// ends while it delivers an event (`send on closed channel` in `agent/ipc_event_stream.go`), by
/// [`stop`](Self::stop) as well as by a disconnect. Keep one stream for the life of a process.
pub struct Subscription<T> {
    handle: Handle,
    seq: u64,
    queue: Queue,
    ended: bool,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Subscription<T> {
    pub(crate) fn new(handle: Handle, seq: u64, queue: Queue) -> Self {
        Self {
            handle,
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
            handle, seq, queue, ..
        } = self;
        drop(queue);
        handle.call(&Stop { stream: seq }).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.queue.poll_take(cx).map(|taken| match taken {
            Taken::Record(body) => {
                Some(T::decode(&body, self.handle.id()).map_err(StreamError::Decode))
            }
            Taken::Lagged(missed) => Some(Ok(T::lagged(missed))),
            Taken::Finished => {
                self.ended = true;
                None
            }
            Taken::Closed => {
                self.ended = true;
                let why = self
                    .handle
                    .close_reason()
                    .unwrap_or(ConnectionError::Closed);
                Some(Err(StreamError::Lost(why)))
            }
        })
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("addr", &self.handle.addr())
            .field("seq", &self.seq)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl<T: Record> Stream for Subscription<T> {
    type Item = Result<T, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}
