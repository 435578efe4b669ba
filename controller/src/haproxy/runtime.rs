//! The Runtime API of one HAProxy: what it runs is read, steps are executed; a replaced worker is always noticed.
//!
//! Every call opens a fresh connection, for one that is open stays with the old worker after a reload and answers as if
//! nothing had happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::command::{self, Command, CommandError};
use super::refusal::{self, Refusal};
use super::reply::{self, ReplyError};
use super::session::{Session, ask_once};
use super::{RunningServers, Worker};
use crate::model::{BackendName, ServerName};
use crate::plan::{Action, Step};

/// How long a new address may take to come into force; HAProxy 3.0 and later set it after the reply.
const SETTLE: Duration = Duration::from_secs(1);

/// HAProxy's stats socket, `level admin`.
#[derive(Clone, Debug)]
pub struct RuntimeApi {
    pub(super) socket: PathBuf,
    pub(super) timeout: Duration,
    pub(super) reply_limit: usize,
}

/// What a worker runs, read in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Who answered.
    pub worker: Worker,
    /// Its servers.
    pub servers: RunningServers,
}

/// What became of the steps given to [`RuntimeApi::execute`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The worker that runs now, the same that was given.
    pub worker: Worker,
    /// The touched backends as they are now, without `stat`; one that does not exist is not listed.
    pub servers: RunningServers,
    /// The steps that HAProxy did not do, in order; all others were done.
    pub refused: Vec<(Step, Refusal)>,
}

/// Why HAProxy could not be asked. Unless it says otherwise, steps that were being executed may have been done in part.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nobody listens on the socket; nothing was done.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No whole reply within the deadline.
    #[error("haproxy did not answer on {} within {} s", socket.display(), after.as_secs_f32())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// The deadline.
        after: Duration,
    },
    /// Reading or writing failed.
    #[error("connection to {} failed", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// HAProxy closed the connection before the whole reply was there.
    #[error("haproxy closed the connection to {} early", socket.display())]
    Closed {
        /// The socket.
        socket: PathBuf,
    },
    /// A reply is larger than [`RuntimeApi::reply_limit`].
    #[error("haproxy's reply is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// There are more replies than commands.
    #[error("haproxy's replies on {} do not pair with the commands", socket.display())]
    Pairing {
        /// The socket.
        socket: PathBuf,
    },
    /// A reply cannot be read.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The socket is not `level admin`; nothing was done.
    #[error("{} does not permit changes: it needs `level admin`", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// A step cannot be written as a command; nothing was done.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Another worker answers than the one the steps were made for: what was done counts for nothing.
    #[error("haproxy was reloaded or restarted: {now} instead of {before}")]
    WorkerChanged {
        /// The worker that was expected.
        before: Box<Worker>,
        /// The worker that runs now.
        now: Box<Worker>,
    },
}

impl RuntimeError {
    /// Whether another worker runs now than the one the steps were made for.
    pub fn worker_changed(&self) -> bool {
        matches!(self, Self::WorkerChanged { .. })
    }

    pub(super) fn timeout(socket: &Path, after: Duration) -> Self {
        Self::Timeout {
            socket: socket.to_owned(),
            after,
        }
    }
}

impl RuntimeApi {
    /// The Runtime API on this unix socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: Duration::from_secs(5),
            reply_limit: 64 << 20,
        }
    }

    /// How long connecting, and each exchange of commands and replies, may take; 5 s unless told.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many bytes a reply may have; 64 MiB unless told (10,000 servers are 3 MB).
    #[must_use]
    pub fn reply_limit(mut self, bytes: usize) -> Self {
        self.reply_limit = bytes;
        self
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who answers on a fresh connection (`show info`).
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn worker(&self) -> Result<Worker, RuntimeError> {
        let reply = ask_once(self, "show info\n").await?;
        let info = reply.strip_suffix("\n\n").ok_or(ReplyError::Truncated {
            command: "show info",
        })?;
        Ok(reply::info(info)?)
    }

    /// Who answers and all its servers, over one connection; with what `show stat` says of them where `with_stat`.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn read(&self, with_stat: bool) -> Result<State, RuntimeError> {
        // one line without a prompt: the text of a failed check in `show stat` comes from a server and cannot forge one
        let stat = if with_stat { ";show stat -1 4 -1" } else { "" };
        let reply = ask_once(self, &format!("show info;show servers state{stat}\n")).await?;
        let (worker, servers) = reply::state(&reply, with_stat)?;
        Ok(State { worker, servers })
    }

    /// Which of the backends take servers at runtime, by their balance algorithm; one that this worker does not know is not
    /// in the answer.
    ///
    /// Asked by an `add server` without an address, which changes nothing; HAProxy logs an alert for each.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn accepts_add(
        &self,
        backends: &[BackendName],
    ) -> Result<BTreeMap<BackendName, bool>, RuntimeError> {
        let lines: Vec<String> = backends
            .iter()
            .map(|backend| format!("add server {backend}/serf-haproxy-probe"))
            .collect();
        let mut session = Session::open(self).await?;
        let replies = session
            .ask(&lines.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
        session.close().await?;
        let answers = backends.iter().zip(&replies);
        Ok(answers
            .filter_map(|(backend, reply)| Some((backend.clone(), refusal::accepts_add(reply)?)))
            .collect())
    }

    /// Executes steps in order against the worker they were made for, reads the touched backends back, and makes sure on
    /// another fresh connection that the same worker still runs.
    ///
    /// A refused step does not stop the others, but a server whose new address does not come into force gets none of its
    /// later steps.
    ///
    /// # Errors
    /// [`RuntimeError`]; each says whether something may have been done.
    ///
    /// # Cancel safety
    /// When dropped, any part of the steps may have been done: read and plan again.
    pub async fn execute(&self, before: &Worker, steps: &[Step]) -> Result<Executed, RuntimeError> {
        let mut commands = Vec::with_capacity(steps.len());
        for step in steps {
            commands.push((step, command::commands(step)?));
        }
        let mut session = Session::open(self).await?;
        let info = session.ask(&["show info"]).await?;
        let found = reply::info(info.first().map_or("", String::as_str))?;
        same(before, &found)?;
        let mut execution = Execution {
            session,
            commands: commands.into(),
            unsettled: BTreeMap::new(),
            stuck: BTreeSet::new(),
            refused: Vec::new(),
        };
        execution.run().await?;
        let backends: BTreeSet<&BackendName> = steps.iter().map(|step| &step.backend).collect();
        let servers = execution.read_back(&backends).await?;
        execution.session.close().await?;
        let worker = self.worker().await?;
        same(&found, &worker)?;
        Ok(Executed {
            worker,
            servers,
            refused: execution.refused,
        })
    }

    pub(super) fn io(&self, source: io::Error) -> RuntimeError {
        RuntimeError::Io {
            socket: self.socket.clone(),
            source,
        }
    }
}

fn same(before: &Worker, now: &Worker) -> Result<(), RuntimeError> {
    if before.is_same(now) {
        return Ok(());
    }
    Err(RuntimeError::WorkerChanged {
        before: Box::new(before.clone()),
        now: Box::new(now.clone()),
    })
}

/// A server.
type Key<'a> = (&'a BackendName, &'a ServerName);

/// The steps on their way.
struct Execution<'a> {
    session: Session<'a>,
    /// Not sent yet.
    commands: VecDeque<(&'a Step, Vec<Command>)>,
    /// The servers that were given a new address that has not been seen in force.
    unsettled: BTreeMap<Key<'a>, (&'a Step, SocketAddr)>,
    /// The servers that were given a new address and do not have it.
    stuck: BTreeSet<Key<'a>>,
    refused: Vec<(Step, Refusal)>,
}

impl<'a> Execution<'a> {
    async fn run(&mut self) -> Result<(), RuntimeError> {
        while !self.commands.is_empty() {
            self.send().await?;
            self.settle().await?;
        }
        Ok(())
    }

    /// Sends the steps up to the first that needs an address in force, and judges the replies.
    async fn send(&mut self) -> Result<(), RuntimeError> {
        let mut batch: Vec<(&'a Step, Vec<Command>)> = Vec::new();
        while let Some(next) = self.commands.pop_front() {
            let (step, _) = &next;
            if self.unsettled.contains_key(&(&step.backend, &step.server)) {
                self.commands.push_front(next);
                break;
            }
            if let Action::Address(addr) = &step.action {
                self.unsettled
                    .insert((&step.backend, &step.server), (*step, *addr));
            }
            batch.push(next);
        }
        let lines: Vec<&str> = batch
            .iter()
            .flat_map(|(_, commands)| commands)
            .map(|command| command.text.as_str())
            .collect();
        let replies = self.session.ask(&lines).await?;
        let mut replies = replies.iter();
        for (step, commands) in &batch {
            // every reply is taken, the first refusal counts
            let judged: Vec<_> = commands
                .iter()
                .zip(replies.by_ref())
                .map(|(command, reply)| refusal::judge(command.verb, reply))
                .collect();
            if let Some(refusal) = judged.into_iter().find_map(Result::err) {
                if matches!(step.action, Action::Address(_)) {
                    self.unsettled.remove(&(&step.backend, &step.server));
                    self.stuck.insert((&step.backend, &step.server));
                }
                self.refused.push(((*step).clone(), refusal));
            }
        }
        Ok(())
    }

    /// Waits until the new addresses are in force; the steps of a server whose address is not are given up.
    async fn settle(&mut self) -> Result<(), RuntimeError> {
        let ends = Instant::now() + SETTLE;
        while !self.unsettled.is_empty() {
            let backends = self.unsettled.keys().map(|(backend, _)| *backend).collect();
            let running = self.read_back(&backends).await?;
            self.unsettled.retain(|(backend, server), (_, addr)| {
                let server = running
                    .get(backend.as_str())
                    .and_then(|servers| servers.get(server.as_str()));
                server.is_none_or(|server| {
                    server.addr != Some(SocketAddr::new(addr.ip(), addr.port()))
                })
            });
            if Instant::now() >= ends {
                break;
            }
            if !self.unsettled.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        }
        for (key, (step, _)) in std::mem::take(&mut self.unsettled) {
            self.refused.push((step.clone(), Refusal::AddressUnsettled));
            self.stuck.insert(key);
        }
        let (stuck, refused) = (&self.stuck, &mut self.refused);
        self.commands.retain(|(step, _)| {
            let goes_on = !stuck.contains(&(&step.backend, &step.server));
            if !goes_on {
                refused.push(((*step).clone(), Refusal::AddressUnsettled));
            }
            goes_on
        });
        Ok(())
    }

    async fn read_back(
        &mut self,
        backends: &BTreeSet<&BackendName>,
    ) -> Result<RunningServers, RuntimeError> {
        let lines: Vec<String> = backends
            .iter()
            .map(|backend| format!("show servers state {backend}"))
            .collect();
        let replies = self
            .session
            .ask(&lines.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
        let mut servers = RunningServers::new();
        for reply in replies
            .iter()
            .filter(|reply| !reply.starts_with("Can't find backend"))
        {
            servers.extend(reply::servers(reply)?);
        }
        Ok(servers)
    }
}

#[cfg(test)]
mod tests;
