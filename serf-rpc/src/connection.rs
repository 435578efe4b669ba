//! The one task that owns the socket: requests in, answers and records out to whoever waits.
//!
//! It reads whenever there is something to read, however slow the readers of streams are: an agent
//! whose client does not read drops events without a word. When it ends, for whatever reason, it
//! leaves the reason behind and drops what calls and streams wait for, which ends them all.

use std::io;
use std::sync::{Arc, OnceLock};

use bstr::BString;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::yield_now;

use crate::error::{ConnectionError, ProtocolError};
use crate::object::{Limits, Scanner};
use crate::options::ConnectOptions;
use crate::protocol::{self, Refusal, ReplyShape};
use crate::session::{Incoming, Session};
use crate::subscription::Sink;

/// Bytes to make room for before each read.
const READ_CHUNK: usize = 64 << 10;
/// An empty buffer of more than this is given back.
const KEEP_CAPACITY: usize = 256 << 10;

/// A request on its way to the agent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) reply: ReplyShape,
    /// Where the records go, if the command begins a stream.
    pub(crate) listener: Option<Listener>,
    pub(crate) caller: Caller,
}

/// Who listens to a stream, and takes up one of the places for streams until it has ended.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) sink: Sink,
    pub(crate) place: OwnedSemaphorePermit,
}

/// Who waits for an answer, and takes up one of the places for calls in flight until it comes.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) answer: oneshot::Sender<Answer>,
    pub(crate) _place: OwnedSemaphorePermit,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) seq: u64,
    /// None on success.
    pub(crate) error: Option<BString>,
    /// Empty where none follows.
    pub(crate) body: Bytes,
}

/// Why the connection ended, once it has.
pub(crate) type Lost = Arc<OnceLock<ConnectionError>>;

/// The socket and everything that goes through it.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    requests: mpsc::UnboundedReceiver<Request>,
    dialogue: Dialogue,
    outbound: BytesMut,
    lost: Lost,
}

/// The receiving side: the bytes that have arrived and what they mean.
#[derive(Debug)]
pub(crate) struct Dialogue {
    pub(crate) inbound: BytesMut,
    scanner: Scanner,
    session: Session<Caller, Listener>,
}

impl Connection {
    pub(crate) fn new(
        socket: TcpStream,
        requests: mpsc::UnboundedReceiver<Request>,
        options: &ConnectOptions,
        lost: Lost,
    ) -> Self {
        Self {
            socket,
            requests,
            dialogue: Dialogue::new(options.limits),
            outbound: BytesMut::new(),
            lost,
        }
    }

    /// Serves requests until the connection fails or nobody holds a handle to it any more.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::debug!(error = %error, "connection to the agent lost");
            // Nobody else sets it.
            let _ = self.lost.set(error);
        }
    }

    async fn serve(&mut self) -> Result<(), ConnectionError> {
        let (mut reader, mut writer) = self.socket.split();
        loop {
            let may_write = !self.outbound.is_empty();
            self.dialogue.inbound.reserve(READ_CHUNK);
            tokio::select! {
                read = reader.read_buf(&mut self.dialogue.inbound) => match read.map_err(failed)? {
                    0 => return Err(ConnectionError::Closed),
                    _ => if self.dialogue.receive()? {
                        // Let those who read them take them before there are more.
                        yield_now().await;
                    },
                },
                written = writer.write_buf(&mut self.outbound), if may_write => {
                    written.map_err(failed)?;
                }
                request = self.requests.recv() => match request {
                    Some(request) => self.dialogue.send(request, &mut self.outbound),
                    None => return Ok(()),
                },
            }
        }
    }
}

impl Dialogue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            inbound: BytesMut::new(),
            scanner: Scanner::new(limits),
            session: Session::new(),
        }
    }

    pub(crate) fn send(&mut self, request: Request, outbound: &mut BytesMut) {
        let Request {
            command,
            body,
            reply,
            listener,
            caller,
        } = request;
        if caller.answer.is_closed() {
            return;
        }
        let seq = match listener {
            Some(listener) => self.session.begin_stream(reply, caller, listener),
            None => self.session.begin(reply, caller),
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
                Some(Incoming::Answer {
                    caller,
                    seq,
                    error,
                    body,
                }) => {
                    let has_body = !body.is_empty();
                    let value = self.inbound.split_to(end);
                    answer(
                        caller,
                        seq,
                        error,
                        if has_body { value } else { BytesMut::new() },
                    )?;
                    continue;
                }
                // What nobody reads any more is swallowed by the queue.
                Some(Incoming::Record {
                    sink: listener,
                    body,
                }) => {
                    listener.sink.push(body);
                    streamed = true;
                }
                Some(Incoming::End { sink: listener }) => {
                    // Whoever learns of the end may take the place at once.
                    drop(listener.place);
                    listener.sink.finish();
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

fn answer(
    caller: Caller,
    seq: u64,
    error: Option<BString>,
    body: BytesMut,
) -> Result<(), ConnectionError> {
    let refusal = error.as_ref().map(|error| Refusal::of(error.as_ref()));
    let body = body.freeze();
    // A caller that has given up is no error.
    let _ = caller.answer.send(Answer { seq, error, body });
    if refusal == Some(Refusal::AuthenticationRequired) {
        return Err(ConnectionError::AuthenticationRequired);
    }
    Ok(())
}

fn failed(error: io::Error) -> ConnectionError {
    ConnectionError::Io(Arc::new(error))
}

fn malformed(error: crate::object::ObjectError) -> ConnectionError {
    ConnectionError::Protocol(ProtocolError::Object(error))
}

#[cfg(test)]
mod tests;
