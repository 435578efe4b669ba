//! One connection: lines in, replies out, with the prompts and line ends of HAProxy's.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::sleep;

use crate::FakeHaproxy;
use crate::fault::Fault;
use crate::haproxy::{Haproxy, Socket};

/// What stands at the end of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// An empty line; a worker closes after one line of commands.
    OneShot,
    /// A prompt.
    Prompt,
}

/// How a line goes on.
type Next = ControlFlow<(), ()>;

/// The far end of a connection.
pub(crate) struct Connection {
    fake: FakeHaproxy,
    socket: Socket,
    /// The worker that took the connection, who keeps it whatever is reloaded.
    pid: u32,
    mode: Mode,
    out: String,
    /// How many bytes may still be written, where a fault says so.
    left: Option<usize>,
}

impl Connection {
    pub(crate) fn new(fake: FakeHaproxy, socket: Socket, pid: u32) -> Self {
        Self {
            fake,
            socket,
            pid,
            mode: Mode::OneShot,
            out: String::new(),
            left: None,
        }
    }

    /// Answers until one side has enough.
    pub(crate) async fn serve(mut self, mut stream: DuplexStream) {
        // a client that is gone is no matter
        let _ = self.answer(&mut stream).await;
        if self.socket == Socket::Stats {
            self.fake.with(|haproxy| {
                if let Some(worker) = haproxy.worker(self.pid) {
                    worker.connections = worker.connections.saturating_sub(1);
                }
            });
        }
    }

    async fn answer(&mut self, stream: &mut DuplexStream) -> io::Result<()> {
        let mut heard = Vec::new();
        loop {
            if stream.read_buf(&mut heard).await? == 0 {
                return Ok(());
            }
            let mut any = false;
            while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = heard.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).into_owned();
                any = true;
                let next = self
                    .line(line.trim_end_matches(['\n', '\r']), stream)
                    .await?;
                if next.is_break() {
                    return Ok(());
                }
            }
            if any && self.mode == Mode::OneShot && self.socket == Socket::Stats {
                return Ok(());
            }
        }
    }

    async fn line(&mut self, line: &str, stream: &mut DuplexStream) -> io::Result<Next> {
        let fault = self
            .fake
            .with(|haproxy| haproxy.fault(self.socket).cloned());
        match &fault {
            Some(Fault::Silent) => {
                while stream.read(&mut [0; 64]).await? > 0 {}
                return Ok(ControlFlow::Break(()));
            }
            Some(Fault::Slow(time)) => sleep(*time).await,
            Some(Fault::Cut(bytes)) if self.left.is_none() => self.left = Some(*bytes),
            _ => {}
        }
        let next = match self.socket {
            Socket::Stats => self.by_worker(line),
            Socket::Master => self.by_master(line).await,
        };
        if let Some(Fault::Adds(more)) = &fault {
            self.out.push_str(more);
        }
        let mut out = std::mem::take(&mut self.out);
        if let Some(left) = &mut self.left {
            out.truncate(*left);
            *left -= out.len();
        }
        stream.write_all(out.as_bytes()).await?;
        let closes = self.left == Some(0) || self.is_over();
        Ok(if closes { ControlFlow::Break(()) } else { next })
    }

    /// Without a prompt, a worker of 3.x reads one line only.
    fn is_over(&self) -> bool {
        let version = self.fake.with(|haproxy| haproxy.version());
        self.socket == Socket::Stats && self.mode == Mode::OneShot && version.is_3()
    }

    fn by_worker(&mut self, line: &str) -> Next {
        let mut parts = split(line).into_iter().peekable();
        while let Some(part) = parts.next() {
            match part.trim() {
                "quit" => return ControlFlow::Break(()),
                "prompt" => self.mode = Mode::Prompt,
                command => {
                    let reply = self.fake.with(|haproxy| {
                        let level = haproxy.worker(self.pid)?.config.level.clone();
                        let level = level.unwrap_or_else(|| "admin".to_owned());
                        haproxy.command(self.pid, command, &level)
                    });
                    let Some(reply) = reply else {
                        return ControlFlow::Break(());
                    };
                    self.out.push_str(&reply);
                }
            }
            self.out.push('\n');
            if self.mode == Mode::Prompt && parts.peek().is_none() {
                self.out.push_str("> ");
            }
        }
        ControlFlow::Continue(())
    }

    async fn by_master(&mut self, line: &str) -> Next {
        for part in split(line) {
            let (first, rest) = part.trim().split_once(' ').unwrap_or((part.trim(), ""));
            match (first.strip_prefix('@'), first) {
                (None, "quit") => {
                    self.prompt();
                    return ControlFlow::Break(());
                }
                (None, "prompt") => self.mode = Mode::Prompt,
                (None, "reload") => return self.reload().await,
                (None, "show") if rest == "proc" => {
                    let proc = self.fake.with(|haproxy| haproxy.show_proc());
                    self.out.push_str(&proc);
                    self.out.push('\n');
                }
                (Some(target), _) => self.forward(target, rest)?,
                (None, _) => self.out.push_str("Unknown command\n\n"),
            }
            self.prompt();
        }
        ControlFlow::Continue(())
    }

    fn prompt(&mut self) {
        if self.mode == Mode::Prompt {
            let prompt = self.fake.with(|haproxy| haproxy.master_prompt());
            self.out.push_str(prompt);
        }
    }

    /// `@1` is the worker that serves, `@!PID` any that lives.
    fn forward(&mut self, target: &str, command: &str) -> Next {
        let reply = self.fake.with(|haproxy| {
            let pid = match target.strip_prefix('!') {
                Some(pid) => pid.parse().ok()?,
                None if target == "1" => haproxy.serving()?.pid,
                None => return None,
            };
            haproxy.command(pid, command, "admin")
        });
        match reply {
            Some(reply) => {
                self.out.push_str(&reply);
                self.out.push('\n');
                ControlFlow::Continue(())
            }
            None => {
                let text = format!("Can't find the target PID matching the prefix '@{target}'\n");
                self.out.push_str(&text);
                ControlFlow::Break(())
            }
        }
    }

    /// 3.x answers when it is done; 2.6 closes at once.
    async fn reload(&mut self) -> Next {
        self.fake.with(Haproxy::reload);
        if self.fake.with(|haproxy| haproxy.version()).is_3() {
            while let Some(rest) = self.fake.loading_for() {
                sleep(rest.max(Duration::from_millis(1))).await;
            }
            self.out = self.fake.with(|haproxy| haproxy.reload_reply());
            self.out.push('\n');
        }
        ControlFlow::Break(())
    }
}

/// The commands of a line: `;` ends one unless a `\` stands before it.
fn split(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (';', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(chars.next()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}
