//! The one task that owns the socket: requests in, responses and stream records out to whoever waits.
//!
//! It reads whenever there is something to read, however slow the readers of streams are: an agent
//! whose client does not read drops events without a word. When it ends, for whatever reason, it
//! leaves the reason behind and drops what calls and streams wait for, which ends them all.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bstr::BString;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::client::ConnectOptions;
use crate::client::queue::Sink;
use crate::error::ConnectionError;
use crate::wire::framing::{Limits, Scanner};
use crate::wire::protocol::{self, ProtocolError, Refusal, ResponseShape};
use crate::wire::session::{Incoming, Session};

/// Bytes to make room for before each read.
const READ_CHUNK: usize = 64 << 10;
/// An empty buffer of more than this is given back.
const KEEP_CAPACITY: usize = 256 << 10;

/// A request on its way to the agent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) shape: ResponseShape,
    /// Where the records go, if the command begins a stream.
    pub(crate) sink: Option<StreamSink>,
    /// The stream that the command stops, if it is that one.
    pub(crate) stops: Option<u64>,
    pub(crate) call: PendingCall,
}

/// Where the records of a stream go, and its permit, which is given back when the stream ends.
#[derive(Debug)]
pub(crate) struct StreamSink {
    pub(crate) records: Sink,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Where the response to a call goes, and its permit, which is given back when the response comes.
#[derive(Debug)]
pub(crate) struct PendingCall {
    pub(crate) response: oneshot::Sender<RawResponse>,
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// A response that is not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawResponse {
    pub(crate) seq: u64,
    /// None on success.
    pub(crate) error: Option<BString>,
    /// Empty where none follows.
    pub(crate) body: Bytes,
}

/// Why the connection ended, once it has.
pub(crate) type CloseReason = Arc<OnceLock<ConnectionError>>;

/// When something last came.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    opened: Instant,
    /// In microseconds from then on.
    after: Arc<AtomicU64>,
}

impl Heard {
    /// Nothing yet, on a connection that is opened now.
    pub(crate) fn now() -> Self {
        Self {
            opened: Instant::now(),
            after: Arc::default(),
        }
    }

    fn note(&self) {
        let after = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.after.store(after, Ordering::Relaxed);
    }

    /// That moment.
    pub(crate) fn at(&self) -> Instant {
        self.opened + Duration::from_micros(self.after.load(Ordering::Relaxed))
    }
}

/// The socket and everything that goes through it.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    addr: String,
    socket: S,
    requests: mpsc::UnboundedReceiver<Request>,
    decoder: Decoder,
    outbound: BytesMut,
    heard: Heard,
    close_reason: CloseReason,
}

/// Bytes that have arrived in, the responses and records in them out to whom they are for.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) inbound: BytesMut,
    scanner: Scanner,
    session: Session<PendingCall, StreamSink>,
}

/// What the task has to see to next.
enum Due {
    Request(Option<Request>),
    Written(io::Result<usize>),
    Flushed(io::Result<()>),
    Read(io::Result<usize>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(
        socket: S,
        requests: mpsc::UnboundedReceiver<Request>,
        options: &ConnectOptions,
        heard: &Heard,
        close_reason: CloseReason,
    ) -> Self {
        Self {
            addr: options.addr.clone(),
            socket,
            requests,
            decoder: Decoder::new(options.limits),
            outbound: BytesMut::new(),
            heard: heard.clone(),
            close_reason,
        }
    }

    /// Serves requests until the connection fails or nobody holds a handle to it any more.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::debug!(addr = self.addr, %error, "connection to the agent lost");
            // Only its end sets it too, later.
            let _ = self.close_reason.set(error);
        }
    }

    async fn serve(&mut self) -> Result<(), ConnectionError> {
        let mut is_flushed = true;
        loop {
            self.decoder.inbound.reserve(READ_CHUNK);
            match poll_fn(|cx| self.poll_due(cx, is_flushed)).await {
                Due::Request(Some(request)) => self.decoder.begin(request, &mut self.outbound),
                Due::Request(None) => return Ok(()),
                Due::Written(written) => {
                    self.outbound.advance(written.map_err(failed)?);
                    is_flushed = false;
                }
                Due::Flushed(flushed) => {
                    flushed.map_err(failed)?;
                    is_flushed = true;
                }
                Due::Read(read) => match read.map_err(failed)? {
                    0 => return Err(ConnectionError::Closed),
                    _ => {
                        self.heard.note();
                        if self.decoder.receive()? {
                            // Let those who read them take them before there are more.
                            yield_now().await;
                        }
                    }
                },
            }
        }
    }

    /// Requests come first, so that those made at once travel in one packet. They cannot keep the rest from its turn:
    /// only so many may be in flight, and what they need written ends.
    fn poll_due(&mut self, cx: &mut Context<'_>, is_flushed: bool) -> Poll<Due> {
        if let Poll::Ready(request) = self.requests.poll_recv(cx) {
            return Poll::Ready(Due::Request(request));
        }
        let mut socket = Pin::new(&mut self.socket);
        if !self.outbound.is_empty() {
            if let Poll::Ready(written) = socket.as_mut().poll_write(cx, &self.outbound) {
                // A transport that takes nothing will take nothing more.
                let written = written.and_then(|bytes| match bytes {
                    0 => Err(io::ErrorKind::WriteZero.into()),
                    bytes => Ok(bytes),
                });
                return Poll::Ready(Due::Written(written));
            }
        } else if !is_flushed && let Poll::Ready(flushed) = socket.as_mut().poll_flush(cx) {
            return Poll::Ready(Due::Flushed(flushed));
        }
        let read = pin!(socket.read_buf(&mut self.decoder.inbound));
        read.poll(cx).map(Due::Read)
    }
}

/// Whoever drops the task, a runtime that is shut down for instance, leaves a reason behind too.
impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        // The first reason counts.
        let _ = self.close_reason.set(ConnectionError::RuntimeEnded);
    }
}

impl Decoder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            inbound: BytesMut::new(),
            scanner: Scanner::new(limits),
            session: Session::new(),
        }
    }

    /// Appends a request to `outbound` and expects its response.
    pub(crate) fn begin(&mut self, request: Request, outbound: &mut BytesMut) {
        let Request {
            command,
            body,
            shape,
            sink,
            stops,
            call,
        } = request;
        if call.response.is_closed() {
            return;
        }
        let seq = match (sink, stops) {
            (Some(sink), _) => self.session.begin_stream(shape, call, sink),
            (None, Some(stream)) => self.session.begin_stop(shape, call, stream),
            (None, None) => self.session.begin(shape, call),
        };
        tracing::trace!(command, seq, "request");
        let mut header = Vec::new();
        protocol::write_request_header(&mut header, command, seq);
        outbound.extend_from_slice(&header);
        outbound.extend_from_slice(&body);
    }

    /// Hands out everything that has arrived whole; says whether records of streams were among it.
    pub(crate) fn receive(&mut self) -> Result<bool, ConnectionError> {
        let mut streamed = false;
        while let Some(end) = self.scanner.next_end(&self.inbound).map_err(malformed)? {
            let value = self.inbound.get(..end).unwrap_or_default();
            let incoming = self.session.accept(value);
            match incoming.map_err(ConnectionError::Protocol)? {
                Some(Incoming::Response {
                    call,
                    seq,
                    error,
                    body,
                }) => {
                    let has_body = !body.is_empty();
                    let value = self.inbound.split_to(end);
                    respond(
                        call,
                        seq,
                        error,
                        if has_body { value } else { BytesMut::new() },
                    )?;
                    continue;
                }
                // What nobody reads any more is swallowed by the queue.
                Some(Incoming::Record { sink, body }) => {
                    sink.records.push(body);
                    streamed = true;
                }
                Some(Incoming::End { sink }) => {
                    // Whoever learns of the end may begin another stream at once.
                    drop(sink.permit);
                    sink.records.finish();
                }
                None => {}
            }
            self.inbound.advance(end);
        }
        if self.inbound.is_empty() && self.inbound.capacity() > KEEP_CAPACITY {
            self.inbound = BytesMut::new();
        }
        Ok(streamed)
    }
}

fn respond(
    call: PendingCall,
    seq: u64,
    error: Option<BString>,
    body: BytesMut,
) -> Result<(), ConnectionError> {
    let refusal = error.as_ref().map(|error| Refusal::of(error.as_ref()));
    let body = body.freeze();
    // That nobody waits for it any more is no error.
    let _ = call.response.send(RawResponse { seq, error, body });
    if refusal == Some(Refusal::AuthenticationRequired) {
        return Err(ConnectionError::AuthenticationRequired);
    }
    Ok(())
}

fn failed(error: io::Error) -> ConnectionError {
    ConnectionError::Io(Arc::new(error))
}

fn malformed(error: crate::wire::framing::ObjectError) -> ConnectionError {
    ConnectionError::Protocol(ProtocolError::Object(error))
}

#[cfg(test)]
mod tests;
