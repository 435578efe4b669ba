//! One connection to the Runtime API in prompt mode: lines in, exactly one reply for each out.
//!
//! On the socket of the master the same holds with another prompt, and `@1 ` before every line.
//!
//! Only in prompt mode does every reply have an end of its own, `\n> `; without it some end in an empty line and some do
//! not, and several lines sent at once are read by HAProxy 2.6 only. One command stands on a line, for versions differ
//! in what they print between commands joined by `;` (Management Guide, section 9.3).

use std::io;
use std::time::Duration;

use bstr::ByteSlice;
use planner::runtime::refusal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::reach::Way;
use super::runtime::RuntimeError;
use super::socket::{Socket, Stream};

/// What ends a reply of a worker.
const WORKER_PROMPTS: &[&[u8]] = &[b"\n> "];
/// What ends one of a master; the second since the last reload failed.
const MASTER_PROMPTS: &[&[u8]] = &[b"\nmaster> ", b"\nmaster[ReloadFailed]> "];

/// A socket to speak on, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door<'a> {
    pub(super) socket: &'a Socket,
    /// Whether it is the worker's or its master's.
    pub(super) way: Way,
    /// How long the first byte of a reply may take, with the connection.
    pub(super) first: Duration,
    /// How long connecting, and each exchange of commands and replies, may take.
    pub(super) timeout: Duration,
    /// How many bytes a reply may have.
    pub(super) reply_limit: usize,
}

impl<'a> Door<'a> {
    /// The same where the first byte may take this long.
    pub(super) fn within(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    /// The same on the socket of the master.
    pub(super) fn of_master(self, socket: &'a Socket) -> Self {
        let way = Way::Master;
        Self {
            socket,
            way,
            ..self
        }
    }

    /// Commands in one line, after whose replies the connection ends.
    pub(super) fn line(&self, commands: &[&str]) -> String {
        match self.way {
            Way::Stats => format!("{}\n", commands.join(";")),
            // without `quit` the master keeps the connection open
            Way::Master => format!("@1 {};quit\n", commands.join(";@1 ")),
        }
    }

    fn prefix(&self) -> &'static str {
        match self.way {
            Way::Stats => "",
            Way::Master => "@1 ",
        }
    }

    fn prompts(&self) -> &'static [&'static [u8]] {
        match self.way {
            Way::Stats => WORKER_PROMPTS,
            Way::Master => MASTER_PROMPTS,
        }
    }

    fn io(&self, source: io::Error) -> RuntimeError {
        RuntimeError::Io {
            socket: self.socket.path().to_owned(),
            source,
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, RuntimeError> {
        let connected = self.limit(self.first, async {
            let connected = self.socket.connect().await;
            connected.map_err(|source| RuntimeError::Connect {
                socket: self.socket.path().to_owned(),
                source,
            })
        });
        connected.await
    }

    async fn limit<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        timeout(limit, work)
            .await
            .map_err(|_| RuntimeError::timeout(self.socket.path(), limit))?
    }
}

/// An open connection in prompt mode.
pub(super) struct Session<'a> {
    door: Door<'a>,
    stream: Box<dyn Stream>,
    replies: Replies,
}

impl<'a> Session<'a> {
    /// Connects, switches the prompt on and asks the first lines.
    pub(super) async fn open(
        door: Door<'a>,
        lines: &[&str],
    ) -> Result<(Self, Vec<String>), RuntimeError> {
        let mut session = Self {
            door,
            stream: door.connect().await?,
            replies: Replies::new(door),
        };
        let replies = session.ask(lines).await?;
        Ok((session, replies))
    }

    /// Sends lines in one go, while reading their replies; as many come back, in order.
    pub(super) async fn ask(&mut self, lines: &[&str]) -> Result<Vec<String>, RuntimeError> {
        let door = self.door;
        let first = self.replies.count == 0;
        let mut text = String::from(if first { "prompt\n" } else { "" });
        for line in lines {
            text.push_str(door.prefix());
            text.push_str(line);
            text.push('\n');
        }
        let expected = lines.len() + usize::from(first);
        let (mut read, mut write) = tokio::io::split(&mut self.stream);
        let replies = &mut self.replies;
        let said = async {
            let written = write.write_all(text.as_bytes()).await;
            written.map_err(|source| door.io(source))
        };
        let heard = async {
            if first {
                door.limit(door.first, replies.fill(&mut read, door))
                    .await?;
            }
            replies.take(&mut read, expected, door).await
        };
        let exchange = async { tokio::try_join!(said, heard) };
        let ((), mut taken) = door.limit(door.timeout, exchange).await?;
        if first {
            taken.drain(..1);
        }
        if taken
            .iter()
            .any(|reply| refusal::is_permission_denied(reply))
        {
            return Err(RuntimeError::Denied {
                socket: door.socket.path().to_owned(),
            });
        }
        Ok(taken)
    }

    /// Ends the connection and makes sure that no reply was left over.
    pub(super) async fn close(mut self) -> Result<(), RuntimeError> {
        let door = self.door;
        let rest = async {
            self.stream
                .write_all(b"quit\n")
                .await
                .map_err(|source| door.io(source))?;
            let mut rest = Vec::new();
            let mut limited = (&mut self.stream).take(64);
            limited
                .read_to_end(&mut rest)
                .await
                .map_err(|source| door.io(source))?;
            Ok(rest)
        };
        let rest = door.limit(door.timeout, rest).await?;
        let rest = rest.trim_ascii();
        // a master says its prompt once more
        let farewell = door.way == Way::Master
            && (door.prompts().iter()).any(|prompt| prompt.trim_ascii() == rest);
        if self.replies.is_empty() && (rest.is_empty() || farewell) {
            Ok(())
        } else {
            Err(RuntimeError::Pairing {
                socket: door.socket.path().to_owned(),
            })
        }
    }
}

/// Sends one line to a fresh connection without the prompt and reads until HAProxy closes it.
pub(super) async fn ask_once(door: Door<'_>, line: &str) -> Result<String, RuntimeError> {
    let mut stream = door.connect().await?;
    let exchange = async {
        stream
            .write_all(line.as_bytes())
            .await
            .map_err(|source| door.io(source))?;
        let mut reply = Vec::with_capacity(4096);
        let answers = async {
            let read = stream.read_buf(&mut reply).await;
            read.map_err(|source| door.io(source))
        };
        door.limit(door.first, answers).await?;
        let limit = u64::try_from(door.reply_limit).unwrap_or(u64::MAX);
        let begun = u64::try_from(reply.len()).unwrap_or(u64::MAX);
        stream
            .take(limit.saturating_add(1).saturating_sub(begun))
            .read_to_end(&mut reply)
            .await
            .map_err(|source| door.io(source))?;
        if reply.len() > door.reply_limit {
            return Err(RuntimeError::TooLarge {
                limit: door.reply_limit,
            });
        }
        Ok(String::from_utf8_lossy(&reply).into_owned())
    };
    door.limit(door.timeout, exchange).await
}

/// The bytes read and the replies cut from them.
struct Replies {
    bytes: Vec<u8>,
    /// How many of them belong to replies that were cut off.
    cut: usize,
    /// Where to go on looking for the prompt.
    seen: usize,
    /// Replies cut so far.
    count: usize,
    prompts: &'static [&'static [u8]],
    limit: usize,
}

impl Replies {
    fn new(door: Door<'_>) -> Self {
        let mut bytes = Vec::with_capacity(4096);
        if door.way == Way::Master {
            // its first prompt alone has no line end before it
            bytes.push(b'\n');
        }
        Self {
            bytes,
            cut: 0,
            seen: 0,
            count: 0,
            prompts: door.prompts(),
            limit: door.reply_limit,
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == self.cut
    }

    async fn take(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
        expected: usize,
        door: Door<'_>,
    ) -> Result<Vec<String>, RuntimeError> {
        let mut taken = Vec::with_capacity(expected);
        while taken.len() < expected {
            if let Some(reply) = self.next() {
                taken.push(reply);
                continue;
            }
            if self.bytes.len() > self.limit {
                return Err(RuntimeError::TooLarge { limit: self.limit });
            }
            self.fill(read, door).await?;
        }
        Ok(taken)
    }

    /// Waits for bytes.
    async fn fill(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
        door: Door<'_>,
    ) -> Result<(), RuntimeError> {
        let read = read.read_buf(&mut self.bytes).await;
        match read.map_err(|source| door.io(source))? {
            0 => Err(RuntimeError::Closed {
                socket: door.socket.path().to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The next whole reply, without the line ends around it.
    fn next(&mut self) -> Option<String> {
        let rest = self.bytes.get(self.seen..)?;
        let found = |prompt: &&[u8]| Some((rest.find(prompt)?, prompt.len()));
        let Some((found, len)) = self.prompts.iter().filter_map(found).min() else {
            let longest = self.prompts.iter().map(|prompt| prompt.len()).max();
            self.bytes.drain(..self.cut);
            self.cut = 0;
            self.seen = (self.bytes.len() + 1).saturating_sub(longest.unwrap_or(1));
            return None;
        };
        let end = self.seen + found;
        let reply = self.bytes.get(self.cut..end)?.to_str_lossy();
        let reply = reply.trim().to_owned();
        self.cut = end + len;
        self.seen = self.cut;
        self.count += 1;
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn door(socket: &Socket, way: Way) -> Door<'_> {
        Door {
            socket,
            way,
            first: Duration::ZERO,
            timeout: Duration::ZERO,
            reply_limit: 1000,
        }
    }

    const RECORDED: &str = "\n> New server registered.\n\n> \n> \n> Only servers in maintenance mode can be deleted.\n> \n> ";

    /// The same replies from a master, of 2.6, 3.0 and 3.2 alike.
    fn by_master(prompt: &str) -> String {
        let text = RECORDED.replace("\n> ", &format!("\n{prompt}"));
        text.trim_start().to_owned()
    }

    fn cut(chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<String>, usize) {
        cut_by(Way::Stats, chunks)
    }

    fn cut_by(way: Way, chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<String>, usize) {
        let mut replies = Replies::new(door(&"/s".into(), way));
        let mut taken = Vec::new();
        for chunk in chunks {
            replies.bytes.extend(chunk);
            while let Some(reply) = replies.next() {
                taken.push(reply);
            }
        }
        (taken, replies.bytes.len() - replies.cut)
    }

    #[test]
    fn replies_with_and_without_an_empty_line_are_told_apart() {
        let (taken, left) = cut([RECORDED.into()]);
        let texts = [
            "",
            "New server registered.",
            "",
            "",
            "Only servers in maintenance mode can be deleted.",
            "",
        ];
        assert_eq!(
            (taken.as_slice(), left),
            (texts.map(str::to_owned).as_slice(), 0)
        );
    }

    #[test]
    fn a_line_for_the_worker_says_so_to_its_master() {
        let commands = ["show info", "show servers state"];
        assert_eq!(
            door(&"/s".into(), Way::Stats).line(&commands),
            "show info;show servers state\n"
        );
        assert_eq!(
            door(&"/s".into(), Way::Master).line(&commands),
            "@1 show info;@1 show servers state;quit\n"
        );
    }

    proptest! {
        #[test]
        fn replies_by_the_master_are_those_of_the_worker(size in 1usize..40) {
            for prompt in ["master> ", "master[ReloadFailed]> "] {
                let text = by_master(prompt);
                let chunks = text.as_bytes().chunks(size).map(<[u8]>::to_vec);
                prop_assert_eq!(cut_by(Way::Master, chunks), cut([RECORDED.into()]), "{}", prompt);
            }
        }

        #[test]
        fn replies_do_not_depend_on_how_the_bytes_arrive(sizes in prop::collection::vec(1usize..9, 1..80)) {
            let mut rest = RECORDED.as_bytes();
            let mut chunks = Vec::new();
            for size in sizes.into_iter().cycle() {
                let (chunk, after) = rest.split_at(size.min(rest.len()));
                chunks.push(chunk.to_vec());
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(cut(chunks), cut([RECORDED.into()]));
        }
    }
}
