//! One connection to the Runtime API in prompt mode: lines in, exactly one reply for each out.
//!
//! Only in prompt mode does every reply have an end of its own, `\n> `; without it some end in an empty line and some do
//! not, and several lines sent at once are read by HAProxy 2.6 only. One command stands on a line, for versions differ
//! in what they print between commands joined by `;` (Management Guide, section 9.3).

use std::path::Path;

use bstr::ByteSlice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::ReadHalf;
use tokio::time::timeout;

use super::refusal;
use super::runtime::{RuntimeApi, RuntimeError};

/// What ends a reply.
const PROMPT: &[u8] = b"\n> ";

/// An open connection in prompt mode.
pub(super) struct Session<'a> {
    api: &'a RuntimeApi,
    stream: UnixStream,
    replies: Replies,
}

impl<'a> Session<'a> {
    /// Connects and switches the prompt on; its first reply is read with those of the first [`Self::ask`].
    pub(super) async fn open(api: &'a RuntimeApi) -> Result<Self, RuntimeError> {
        let stream = connect(api).await?;
        Ok(Self {
            api,
            stream,
            replies: Replies::new(api.reply_limit),
        })
    }

    /// Sends lines in one go, while reading their replies; as many come back, in order.
    pub(super) async fn ask(&mut self, lines: &[&str]) -> Result<Vec<String>, RuntimeError> {
        let first = self.replies.count == 0;
        let mut text = String::from(if first { "prompt\n" } else { "" });
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let expected = lines.len() + usize::from(first);
        let (mut read, mut write) = self.stream.split();
        let replies = &mut self.replies;
        let exchange = async {
            tokio::try_join!(
                async {
                    write
                        .write_all(text.as_bytes())
                        .await
                        .map_err(|source| self.api.io(source))
                },
                replies.take(&mut read, expected, self.api),
            )
        };
        let ((), mut taken) = within(self.api, exchange).await?;
        if first {
            taken.drain(..1);
        }
        if taken
            .iter()
            .any(|reply| refusal::is_permission_denied(reply))
        {
            return Err(RuntimeError::Denied {
                socket: self.api.socket.clone(),
            });
        }
        Ok(taken)
    }

    /// Ends the connection and makes sure that no reply was left over.
    pub(super) async fn close(mut self) -> Result<(), RuntimeError> {
        let rest = async {
            self.stream
                .write_all(b"quit\n")
                .await
                .map_err(|source| self.api.io(source))?;
            let mut rest = Vec::new();
            let mut limited = (&mut self.stream).take(64);
            limited
                .read_to_end(&mut rest)
                .await
                .map_err(|source| self.api.io(source))?;
            Ok(rest)
        };
        let rest = within(self.api, rest).await?;
        if self.replies.is_empty() && rest.iter().all(|b| b.is_ascii_whitespace()) {
            Ok(())
        } else {
            Err(RuntimeError::Pairing {
                socket: self.api.socket.clone(),
            })
        }
    }
}

/// Sends one line to a fresh connection without the prompt and reads until HAProxy closes it.
pub(super) async fn ask_once(api: &RuntimeApi, line: &str) -> Result<String, RuntimeError> {
    let mut stream = connect(api).await?;
    let exchange = async {
        stream
            .write_all(line.as_bytes())
            .await
            .map_err(|source| api.io(source))?;
        let mut reply = Vec::new();
        let limit = u64::try_from(api.reply_limit).unwrap_or(u64::MAX);
        stream
            .take(limit.saturating_add(1))
            .read_to_end(&mut reply)
            .await
            .map_err(|source| api.io(source))?;
        if reply.len() > api.reply_limit {
            return Err(RuntimeError::TooLarge {
                limit: api.reply_limit,
            });
        }
        Ok(String::from_utf8_lossy(&reply).into_owned())
    };
    within(api, exchange).await
}

async fn connect(api: &RuntimeApi) -> Result<UnixStream, RuntimeError> {
    let connected = timeout(api.timeout, UnixStream::connect(&api.socket)).await;
    let connected = connected.map_err(|_| RuntimeError::timeout(&api.socket, api.timeout))?;
    connected.map_err(|source| RuntimeError::Connect {
        socket: api.socket.clone(),
        source,
    })
}

async fn within<T>(
    api: &RuntimeApi,
    work: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    let socket: &Path = &api.socket;
    timeout(api.timeout, work)
        .await
        .map_err(|_| RuntimeError::timeout(socket, api.timeout))?
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
    limit: usize,
}

impl Replies {
    fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(4096),
            cut: 0,
            seen: 0,
            count: 0,
            limit,
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == self.cut
    }

    async fn take(
        &mut self,
        read: &mut ReadHalf<'_>,
        expected: usize,
        api: &RuntimeApi,
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
            if read
                .read_buf(&mut self.bytes)
                .await
                .map_err(|source| api.io(source))?
                == 0
            {
                return Err(RuntimeError::Closed {
                    socket: api.socket.clone(),
                });
            }
        }
        Ok(taken)
    }

    /// The next whole reply, without the line ends around it.
    fn next(&mut self) -> Option<String> {
        let Some(found) = self.bytes.get(self.seen..)?.find(PROMPT) else {
            self.bytes.drain(..self.cut);
            self.cut = 0;
            self.seen = self.bytes.len().saturating_sub(PROMPT.len() - 1);
            return None;
        };
        let end = self.seen + found;
        let reply = self.bytes.get(self.cut..end)?.to_str_lossy();
        let reply = reply.trim().to_owned();
        self.cut = end + PROMPT.len();
        self.seen = self.cut;
        self.count += 1;
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECORDED: &str = "\n> New server registered.\n\n> \n> \n> Only servers in maintenance mode can be deleted.\n> \n> ";

    fn cut(chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<String>, usize) {
        let mut replies = Replies::new(1000);
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

    proptest! {
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
