//! One command at a time through the connection's task: a command in, its decoded response out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::command::{Command, Response};
use crate::types::ConnectionId;

use super::connection::{CloseReason, Connection, PendingCall, RawResponse, Request, StreamSink};
use super::error::{CallError, ConnectionError};
use super::options::ConnectOptions;
use super::queue::{Capacity, Queue, channel};

/// How many connections this process has had.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// What clients and streams hold of a connection. A clone shares it; the last one dropped ends it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    call_timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    id: ConnectionId,
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
    pub(crate) fn open(socket: TcpStream, options: &ConnectOptions) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let close_reason = CloseReason::default();
        tokio::spawn(Connection::new(socket, queue, options, close_reason.clone()).run());
        let shared = Shared {
            id: ConnectionId::new(CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
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

    /// Sends a command and decodes its response.
    pub(crate) async fn call<C: Command>(&self, command: &C) -> Result<C::Response, CallError> {
        let response = self.ask(command, None).await?;
        C::Response::decode(&response.body).map_err(|source| CallError::Decode {
            command: C::NAME,
            source,
        })
    }

    /// Begins a stream: its sequence number, and the queue that its records come in.
    pub(crate) async fn subscribe<C: Command>(
        &self,
        command: &C,
    ) -> Result<(u64, Queue), CallError> {
        let permit = self.shared.streams.clone().try_acquire_owned();
        let permit = permit.map_err(|_| CallError::TooManyStreams {
            command: C::NAME,
            limit: self.shared.max_streams,
        })?;
        let (records, queue) = channel(self.shared.stream_queue);
        let response = self
            .ask(command, Some(StreamSink { records, permit }))
            .await?;
        Ok((response.seq, queue))
    }

    /// Sends a command and waits for its response, both within the time a call may take.
    async fn ask<C: Command>(
        &self,
        command: &C,
        sink: Option<StreamSink>,
    ) -> Result<RawResponse, CallError> {
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
                call,
            };
            self.shared.requests.send(request).ok()?;
            response.await.ok()
        };
        let response = timeout(self.call_timeout, exchange)
            .await
            .map_err(|_| CallError::Timeout {
                command: C::NAME,
                after: self.call_timeout,
            })?
            .ok_or_else(|| CallError::Lost {
                command: C::NAME,
                source: self.close_reason().unwrap_or(ConnectionError::Closed),
            })?;
        match response.error {
            Some(message) => {
                let body = C::Response::error_body(&response.body);
                Err(CallError::refused(C::NAME, message, body))
            }
            None => Ok(response),
        }
    }
}
