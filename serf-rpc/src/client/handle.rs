//! One command at a time through the connection's task: a command in, its decoded response out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use crate::command::{Command, Response};
use crate::types::ConnectionId;

use super::connection::{
    CloseReason, Connection, Heard, PendingCall, RawResponse, Request, StreamSink,
};
use super::options::ConnectOptions;
use super::queue::{Capacity, Queue, channel};
use crate::error::{CallError, CallErrorKind, ConnectionError};

/// How many connections this process has had.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// What clients and streams hold of a connection. A clone shares it; the last one dropped ends it.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    call_timeout: Duration,
}

struct Shared {
    id: ConnectionId,
    heard: Heard,
    /// Where the connection is served: its clock is there too.
    runtime: runtime::Handle,
    addr: String,
    /// Bounded by `in_flight`.
    requests: mpsc::UnboundedSender<Request>,
    in_flight: Arc<Semaphore>,
    close_reason: CloseReason,
    streams: Arc<Semaphore>,
    max_streams: usize,
    stream_queue: Capacity,
}

impl Handle {
    /// Starts the task that serves the socket.
    pub(crate) fn open(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        options: &ConnectOptions,
    ) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let close_reason = CloseReason::default();
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!("connection", addr = options.addr, number);
        let heard = Heard::now();
        let connection = Connection::new(io, queue, options, &heard, close_reason.clone());
        tokio::spawn(connection.run().instrument(span));
        let shared = Shared {
            id: ConnectionId::new(number),
            heard,
            runtime: runtime::Handle::current(),
            addr: options.addr.clone(),
            requests,
            in_flight: Arc::new(Semaphore::new(options.max_in_flight)),
            close_reason,
            streams: Arc::new(Semaphore::new(options.max_streams)),
            max_streams: options.max_streams,
            stream_queue: options.stream_queue,
        };
        Self {
            shared: Arc::new(shared),
            call_timeout: options.call_timeout,
        }
    }

    /// The same connection with another limit to how long each call may take.
    pub(crate) fn with_call_timeout(&self, call_timeout: Duration) -> Self {
        Self {
            shared: self.shared.clone(),
            call_timeout,
        }
    }

    /// `host:port`, as it was given.
    pub(crate) fn addr(&self) -> &str {
        &self.shared.addr
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.shared.id
    }

    /// Why the connection is gone; none while it is open.
    pub(crate) fn close_reason(&self) -> Option<ConnectionError> {
        self.shared.close_reason.get().cloned()
    }

    /// When something last came; when the connection was opened if nothing has.
    pub(crate) fn heard_at(&self) -> Instant {
        self.shared.heard.at()
    }

    /// Returns when the connection is gone, and says why.
    pub(crate) async fn closed(&self) -> ConnectionError {
        self.shared.requests.closed().await;
        self.close_reason().unwrap_or(ConnectionError::Closed)
    }

    /// Sends a command and decodes its response.
    pub(crate) async fn call<C: Command>(&self, command: &C) -> Result<C::Response, CallError> {
        let response = self.ask(command, None, self.deadline()).await?;
        C::Response::decode(&response.body)
            .map_err(|reason| CallError::new(C::NAME, CallErrorKind::Decode { reason }))
    }

    /// Begins a stream: its sequence number, and the queue that its records come in. Waits for a place as long as a
    /// call may take.
    pub(crate) async fn subscribe<C: Command>(
        &self,
        command: &C,
    ) -> Result<(u64, Queue), CallError> {
        let deadline = self.deadline();
        let places = self.shared.streams.clone();
        let permit = self.until(deadline, places.acquire_owned()).await;
        let limit = self.shared.max_streams;
        let permit = permit
            .and_then(Result::ok)
            .ok_or(CallErrorKind::TooManyStreams { limit })
            .map_err(|kind| CallError::new(C::NAME, kind))?;
        let (records, queue) = channel(self.shared.stream_queue);
        let sink = StreamSink { records, permit };
        let response = self.ask(command, Some(sink), deadline).await?;
        Ok((response.seq, queue))
    }

    /// Sends a command and waits for its response, both until the deadline.
    async fn ask<C: Command>(
        &self,
        command: &C,
        sink: Option<StreamSink>,
        deadline: Option<Instant>,
    ) -> Result<RawResponse, CallError> {
        let failed = |kind| CallError::new(C::NAME, kind);
        let mut sent = false;
        let exchange = async {
            let permit = self.shared.in_flight.clone().acquire_owned().await.ok()?;
            let (sender, response) = oneshot::channel();
            let call = PendingCall {
                response: sender,
                _permit: permit,
            };
            let mut body = Vec::new();
            command.write_body(&mut body);
            let request = Request {
                command: C::NAME,
                body,
                shape: C::Response::SHAPE,
                sink,
                stops: command.stops(),
                call,
            };
            self.shared.requests.send(request).ok()?;
            sent = true;
            response.await.ok()
        };
        let span = tracing::debug_span!("call", command = C::NAME, addr = self.shared.addr);
        let response = match self.until(deadline, exchange.instrument(span)).await {
            Some(Some(response)) => response,
            Some(None) => {
                let reason = self.close_reason().unwrap_or(ConnectionError::Closed);
                return Err(failed(CallErrorKind::Lost { reason, sent }));
            }
            None => {
                let after = self.call_timeout;
                return Err(failed(CallErrorKind::Timeout { after, sent }));
            }
        };
        match response.error {
            Some(message) => {
                let body = C::Response::error_body(&response.body);
                Err(CallError::refused(C::NAME, message, body))
            }
            None => Ok(response),
        }
    }

    /// When the time of a call that begins now is up; never where it is endless.
    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.call_timeout)
    }

    /// What comes of a future; none where the deadline is before that. Whoever waits may be on any executor.
    async fn until<F: Future>(&self, deadline: Option<Instant>, future: F) -> Option<F::Output> {
        let Some(deadline) = deadline.filter(|_| self.close_reason().is_none()) else {
            return Some(future.await);
        };
        let future = {
            let elsewhere = runtime::Handle::try_current().is_err();
            let _context = elsewhere.then(|| self.shared.runtime.enter());
            timeout_at(deadline, future)
        };
        future.await.ok()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("addr", &self.shared.addr)
            .field("lost", &self.shared.close_reason.get())
            .finish_non_exhaustive()
    }
}
