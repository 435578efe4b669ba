//! The Runtime API of one HAProxy: what it runs is read, steps are executed; a replaced worker is always noticed.
//!
//! Every call opens a fresh connection, for one that is open stays with the old worker after a reload and answers as if
//! nothing had happened.
//!
//! Where HAProxy's master has a socket that we know, it is the other way to the worker, for as long as the stats socket does
//! not answer: see [`RuntimeApi::master`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use planner::model::{Action, BackendName, RunningServers, ServerName, Step, Worker};
use planner::runtime::command::{self, Command, CommandError};
use planner::runtime::refusal::{self, Refusal};
use planner::runtime::reply::{self, ReplyError};
use tokio::time::{Instant, sleep};

use super::reach::{Reach, Way, Why};
use super::session::{Door, Session, ask_once};
use super::socket::Socket;
use crate::error_chain::chain;

pub use super::reach::Detour;
pub use planner::model::State;

/// How long a new address may take to come into force; HAProxy 3.0 and later set it after the reply.
const SETTLE: Duration = Duration::from_secs(1);

/// How long the first byte of a reply may take on the stats socket while there is the other way, and else: a worker under
/// load answers within tens of milliseconds, and whoever waits for one that is silent decides nothing meanwhile.
const FIRST_BYTE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));

/// HAProxy's stats socket, `level admin`, and where there is one its master's. Clones share what they learn about both.
#[derive(Clone, Debug)]
pub struct RuntimeApi {
    socket: Socket,
    master: Option<Socket>,
    timeout: Duration,
    reply_limit: usize,
    reach: Arc<Mutex<Reach>>,
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
    /// The worker can be spoken to on neither of its sockets; nothing was done.
    #[error(
        "{}, nor is there a way by its master: {}",
        chain(stats),
        chain(master)
    )]
    NoWay {
        /// What the stats socket ended with.
        stats: Box<RuntimeError>,
        /// What the master's socket ended with.
        master: Box<RuntimeError>,
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

    /// Why the socket is no way to the worker; none where the worker has answered.
    fn no_way(&self) -> Option<Why> {
        match self {
            Self::Timeout { .. } => Some(Why::Silent),
            Self::Connect { source, .. } => {
                let error = format!("{self}: {source}");
                Some(if source.kind() == io::ErrorKind::PermissionDenied {
                    Why::Closed(error)
                } else {
                    Why::Failed(error)
                })
            }
            Self::Io { .. } | Self::Closed { .. } => Some(Why::Failed(self.to_string())),
            _ => None,
        }
    }
}

impl RuntimeApi {
    /// The Runtime API on this socket.
    pub fn new(socket: impl Into<Socket>) -> Self {
        Self {
            socket: socket.into(),
            master: None,
            timeout: Duration::from_secs(5),
            reply_limit: 64 << 20,
            reach: Arc::default(),
        }
    }

    /// The socket of HAProxy's master, as another way to the worker (`@1`, Management Guide, section 9.4 "Master CLI").
    ///
    /// It is taken whenever the stats socket cannot be connected to, or takes the connection and says nothing for half a
    /// second. A worker that stands still, or whose connections are all taken, answers on neither.
    #[must_use]
    pub fn master(mut self, socket: Option<impl Into<Socket>>) -> Self {
        self.master = socket.map(Into::into);
        self
    }

    /// How long connecting, and each exchange of commands and replies, may take; 5 s unless told. Where there is a master's
    /// socket, connecting and the first byte may take no longer than a second.
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
        self.socket.path()
    }

    /// Why the worker was last spoken to on its master's socket; none where it was on its own.
    pub fn detour(&self) -> Option<Detour> {
        Some(Detour {
            stats: self.socket().to_owned(),
            master: self.master.as_ref()?.path().to_owned(),
            why: self.reach().detour()?.clone(),
        })
    }

    /// Forgets how the sockets have fared: those of another worker may do better.
    pub fn forget(&self) {
        *self.reach() = Reach::default();
    }

    /// Who answers on a fresh connection (`show info`).
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn worker(&self) -> Result<Worker, RuntimeError> {
        let ask = async |door: Door<'_>| {
            let reply = ask_once(door, &door.line(&["show info"])).await?;
            let info = reply.strip_suffix("\n\n").ok_or(ReplyError::Truncated {
                command: "show info",
            })?;
            Ok(reply::info(info)?)
        };
        self.by_any_way(ask).await
    }

    /// What its stats socket permits, by the word of HAProxy: `user`, `operator` or `admin` (`show cli level`).
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn level(&self) -> Result<String, RuntimeError> {
        let reply = ask_once(self.door(), "show cli level\n").await?;
        Ok(reply.trim().to_owned())
    }

    /// Who answers and all its servers, over one connection; with what `show stat` says of them where `with_stat`.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn read(&self, with_stat: bool) -> Result<State, RuntimeError> {
        // 6 is backends and servers; one line without a prompt: the text of a failed check in `show stat` comes from a server and cannot forge one
        let commands = ["show info", "show servers state", "show stat -1 6 -1"];
        let (without, _) = commands.split_at(2);
        let commands = if with_stat { &commands } else { without };
        let ask = async |door: Door<'_>| {
            let reply = ask_once(door, &door.line(commands)).await?;
            Ok(reply::state(&reply, with_stat)?)
        };
        self.by_any_way(ask).await
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
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let open = async |door| Session::open(door, &lines).await;
        let (session, replies) = self.by_any_way(open).await?;
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
        let open = async |door| Session::open(door, &["show info"]).await;
        let (session, info) = self.by_any_way(open).await?;
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

    /// Its one socket, whoever listens there.
    pub(super) fn door(&self) -> Door<'_> {
        Door {
            socket: &self.socket,
            way: Way::Stats,
            first: self.timeout,
            timeout: self.timeout,
            reply_limit: self.reply_limit,
        }
    }

    fn reach(&self) -> MutexGuard<'_, Reach> {
        // what is learnt is whole after every change
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it by the way that is likely to work, and where that is none, by the other.
    pub(super) async fn by_any_way<'a, T>(
        &'a self,
        exchange: impl AsyncFn(Door<'a>) -> Result<T, RuntimeError>,
    ) -> Result<T, RuntimeError> {
        let Some(socket) = &self.master else {
            return exchange(self.door()).await;
        };
        let order = self.reach().order(Instant::now().into_std());
        let door = |way| match way {
            Way::Stats if order.len() == 1 => self.door().within(FIRST_BYTE.1),
            Way::Stats => self.door().within(FIRST_BYTE.0),
            Way::Master => self.door().of_master(socket).within(FIRST_BYTE.1),
        };
        let (mut stats, mut master) = (None, None);
        for way in order {
            let done = exchange(door(*way)).await;
            self.learn(*way, done.as_ref().err());
            match (way, done) {
                (Way::Stats, Err(error)) if error.no_way().is_some() => stats = Some(error),
                (Way::Master, Err(error)) => master = Some(error),
                (_, done) => return done,
            }
        }
        Err(match (stats, master) {
            (Some(stats), Some(master)) => RuntimeError::NoWay {
                stats: Box::new(stats),
                master: Box::new(master),
            },
            (stats, master) => stats
                .or(master)
                .unwrap_or_else(|| RuntimeError::timeout(self.socket(), self.timeout)),
        })
    }

    fn learn(&self, way: Way, error: Option<&RuntimeError>) {
        let now = Instant::now().into_std();
        let mut reach = self.reach();
        match (way, error) {
            (_, None) => reach.answered(way),
            (Way::Stats, Some(error)) => {
                if let Some(why) = error.no_way() {
                    reach.stats_failed(why, now);
                }
            }
            (Way::Master, Some(RuntimeError::Timeout { .. })) => reach.master_fell_silent(now),
            (Way::Master, Some(_)) => {}
        }
    }
}

pub(super) fn same(before: &Worker, now: &Worker) -> Result<(), RuntimeError> {
    if before.is_same(now) {
        return Ok(());
    }
    Err(RuntimeError::WorkerChanged {
        before: Box::new(before.clone()),
        now: Box::new(now.clone()),
    })
}

/// A server.
type ServerKey<'a> = (&'a BackendName, &'a ServerName);

/// The steps on their way.
struct Execution<'a> {
    session: Session<'a>,
    /// Not sent yet.
    commands: VecDeque<(&'a Step, Vec<Command>)>,
    /// The servers that were given a new address that has not been seen in force.
    unsettled: BTreeMap<ServerKey<'a>, (&'a Step, SocketAddr)>,
    /// The servers that were given a new address and do not have it.
    stuck: BTreeSet<ServerKey<'a>>,
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

#[cfg(test)]
mod planned;
