//! One connection: a socket in, its requests carried out and its faults suffered.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::command::Conversation;
use super::message::Message;
use super::setting::{Fault, Trap};
use super::state::Shared;

/// Answers and records that wait for a slow client. The real agent has 512 for each stream.
const QUEUE: usize = 1024;

/// How a connection ends.
#[derive(Debug)]
enum End {
    Close,
    Reset,
    /// Not yet, but nothing is read or written any more.
    Hang,
}

/// A connection that the agent has accepted, and counts among its own.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    shared: Arc<Shared>,
    peer: u64,
    outbound: mpsc::Sender<Message>,
    queue: mpsc::Receiver<Message>,
    faults: mpsc::UnboundedReceiver<Fault>,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, shared: Arc<Shared>) -> Self {
        // Without it the client only waits a little longer.
        let _ = socket.set_nodelay(true);
        let (outbound, queue) = mpsc::channel(QUEUE);
        let (sender, faults) = mpsc::unbounded_channel();
        let peer = shared.lock().enter(outbound.clone(), sender);
        Self {
            socket,
            shared,
            peer,
            outbound,
            queue,
            faults,
        }
    }

    /// Serves it to its end.
    pub(super) async fn serve(self) {
        let Self {
            mut socket,
            shared,
            peer,
            outbound,
            queue,
            mut faults,
        } = self;
        let (reader, writer) = socket.split();
        let talk = async {
            let conversation = Conversation::new(reader, outbound, &shared, peer);
            conversation.run().await;
            // With it the queue ends, once it is empty.
            shared.lock().leave(peer);
        };
        let writer = Writer {
            socket: writer,
            faults: &mut faults,
            shared: &shared,
            mute: false,
        };
        let mut end = {
            let mut write = pin!(writer.run(queue));
            tokio::select! {
                end = &mut write => end,
                () = talk => write.await,
            }
        };
        while let End::Hang = end {
            end = tokio::select! {
                fault = faults.recv() => match fault {
                    Some(Fault::Reset) => End::Reset,
                    Some(Fault::Close) | None => End::Close,
                    Some(_) => End::Hang,
                },
                () = closed_by_client(&socket) => End::Close,
            };
        }
        if let End::Reset = end {
            // What is dropped with it set is reset.
            let _ = socket.set_zero_linger();
        }
        shared.lock().leave(peer);
    }
}

/// Returns once the client has closed its end, without reading what it said before.
async fn closed_by_client(socket: &TcpStream) {
    const LOOK: Duration = Duration::from_millis(10);
    while let Ok(ready) = socket.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        sleep(LOOK).await;
    }
}

struct Writer<'a> {
    socket: WriteHalf<'a>,
    faults: &'a mut mpsc::UnboundedReceiver<Fault>,
    shared: &'a Shared,
    /// Nothing is sent any more.
    mute: bool,
}

impl Writer<'_> {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) -> End {
        loop {
            let done = tokio::select! {
                biased;
                Some(fault) = self.faults.recv() => self.suffer(fault).await,
                message = queue.recv() => match message {
                    Some(message) => self.send(message).await,
                    None => Err(End::Close),
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let Message { header, body, trap } = message;
        let Some(Trap { after, fault, .. }) = trap else {
            self.write(&header).await?;
            return self.write(&body).await;
        };
        let whole = Bytes::from([header, body].concat());
        let (before, behind) = whole.split_at(after.min(whole.len()));
        self.write(before).await?;
        self.suffer(fault).await?;
        self.write(behind).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let chunk = self.shared.lock().behaviour.chunk;
        for piece in bytes.chunks(chunk.map_or(usize::MAX, usize::from)) {
            let mut rest = piece;
            while !rest.is_empty() && !self.mute {
                tokio::select! {
                    biased;
                    Some(fault) = self.faults.recv() => self.suffer(fault).await?,
                    written = self.socket.write(rest) => match written {
                        Ok(len) => rest = &rest[len..],
                        Err(_) => return Err(End::Close),
                    },
                }
            }
            if chunk.is_some() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn suffer(&mut self, fault: Fault) -> Result<(), End> {
        match fault {
            Fault::Close => return Err(End::Close),
            Fault::Reset => return Err(End::Reset),
            Fault::Hang => return Err(End::Hang),
            Fault::HalfClose => {
                self.mute = true;
                self.socket.shutdown().await.map_err(|_| End::Close)?;
            }
            Fault::Mute => self.mute = true,
            Fault::Garbage(_) if self.mute => {}
            Fault::Garbage(bytes) => {
                self.socket
                    .write_all(&bytes)
                    .await
                    .map_err(|_| End::Close)?;
            }
        }
        Ok(())
    }
}
