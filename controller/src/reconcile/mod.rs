//! The loop: gossip, probes, approvals, HAProxy's own state and time in; changes of HAProxy and of its file out.
//!
//! One task owns everything here. Each turn of the loop waits for news, then runs one cycle: it reads what
//! HAProxy runs, decides, renders, plans and applies. Nothing is believed about HAProxy beyond what was just read.
//! Files are checked and written, and workers reloaded, in a job beside the loop.

mod advice;
mod agents;
mod alone;
mod apply;
mod book;
mod concerns;
mod cycle;
mod departed;
mod drift;
mod files;
mod heard;
mod job;
mod look;
mod offender;
mod problems;
mod publish;
mod remember;
mod rescue;
mod startup;
mod told;
mod worker_text;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alone::Alone;
use concerns::Unserved;
use departed::Departed;
use drift::Drift;
use files::Files;
use futures_util::StreamExt;
use job::Done;
use look::Look;
use offender::OffendingServer;
use planner::config::Config;
use planner::debounce::Debouncer;
use planner::guard::{Decisions, Guard};
use planner::model::{
    AddedOptions, BackendName, DownBackends, Endpoint, Model, OldWorker, RunningServers, ServerKey,
    Servers, Worker,
};
use planner::pipeline::{KnownTexts, LoadedConfig, Text, Wanted};
use planner::plan::Plan;
use planner::review::loss::Loss;
use planner::stamp::Stamp;
use planner::syntax::Scope;
use planner::syntax::listeners::Listeners;
use problems::Problems;
use rescue::Rescue;
use serf_rpc::{AgentState, Snapshot, SuspicionStream, Unreached, WatchError, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use told::Told;
use worker_text::WorkerText;

use crate::clock_anchor::ClockAnchor;
use crate::config::ConfigError;
use crate::control::{Asking, Published};
use crate::freshness::Readings;
use crate::haproxy::file::{ConfigFile, FileError};
use crate::haproxy::runtime::RuntimeApi;
use crate::haproxy::supervise::Supervisor;
use crate::history::History;
use crate::notify::Notifier;
use crate::probe::{ProbeResult, Prober};
use crate::state::{PersistedState, StateDir, StateError};
use crate::status::Counters;
use crate::templates::TemplateError;

pub(crate) use startup::{agents, guard_before, master_socket, may_adopt, runtime_api};

/// The first pause after something outside refused to work, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long `once` waits for servers that have not answered a probe yet, and for an agent and HAProxy.
const ONCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// How often a HAProxy that does not answer is tried.
const UNREACHABLE_RETRY: Duration = Duration::from_millis(200);

/// What `run` was asked for beside its config.
#[derive(Debug)]
pub struct RunOptions {
    /// Where the config came from; read again on SIGHUP.
    pub config_path: PathBuf,
    /// The environment, which goes before the file.
    pub env: Vec<(String, String)>,
    /// Whether a configuration file of somebody else's may be replaced.
    pub adopt: Adopt,
    /// Whom to tell how things stand.
    pub notifier: Notifier,
}

/// Whether a file of somebody else's may be replaced; a copy is kept then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// No.
    Never,
    /// If nothing of it is lost.
    Lossless,
    /// Yes.
    Anyway,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The template is unusable and no earlier one is known.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The configuration file is somebody else's.
    #[error(
        "{} was not written by serf-haproxy; start once with --adopt to take it over (a copy is kept)",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The configuration file is somebody else's, and something of it would be lost.
    #[error("{}", would_lose(path, loss))]
    WouldLose {
        /// The file.
        path: PathBuf,
        /// What.
        loss: Loss,
    },
    /// The built-in template would run HAProxy with more rights than the file of somebody else's.
    #[error(
        "{} limits HAProxy by `{}` inside `.if`, which cannot be taken over: set it in [haproxy], for example \
         user = \"haproxy\"",
        path.display(),
        rights.join("`, `")
    )]
    MoreRights {
        /// The file.
        path: PathBuf,
        /// Which of `user`, `group` and `chroot`.
        rights: Vec<&'static str>,
    },
    /// A key or the state directory is open to others.
    #[error("{}", .0.join("\n"))]
    Exposed(
        /// For each, what is open, and the mode wanted.
        Vec<String>,
    ),
    /// The configuration file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// Not everything could be brought up to date.
    #[error("{}", problems.join("; "))]
    NotDone {
        /// What is in the way.
        problems: Vec<String>,
    },
}

impl RunError {
    /// Whether somebody has to change config, template or the file first: another try ends the same way.
    pub fn is_of_the_config(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Template(_)
                | Self::Foreign { .. }
                | Self::WouldLose { .. }
                | Self::MoreRights { .. }
                | Self::Exposed(_)
        )
    }
}

fn would_lose(path: &Path, loss: &Loss) -> String {
    format!(
        "{} was not written by serf-haproxy, and this of it would be gone:\n{loss}\
         Nothing was written. What is to stay belongs into a template of your own ([haproxy] template; begin it with \
         `serf-haproxy render --print-template`). With --yes beside --adopt it goes; a copy of the file is kept.",
        path.display()
    )
}

/// Runs until SIGTERM or SIGINT; HAProxy is left as it is, unless it is a child, which finishes softly.
///
/// # Errors
/// Only what makes a start impossible. Once it runs, it never ends for a lost agent, a lost HAProxy, a failing command
/// or a bad template.
pub async fn run(config: Config, options: RunOptions) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let (mut reconciler, mut inputs) = startup::start(config, options).await?;
    reconciler.supervise();
    loop {
        reconciler.cycle(&mut inputs.found).await;
        reconciler.tell_supervisor();
        tokio::select! {
            heard = reconciler.hear_news(&mut inputs) => if let Wakeup::End = heard {
                break;
            },
            _ = signals.hangup.recv() => {
                reconciler.options.notifier.reloading(Instant::now());
                if let Some(gossip) = reconciler.reload_config().await {
                    inputs.gossip = gossip;
                }
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    reconciler.options.notifier.stopping();
    reconciler.stop().await;
    Ok(())
}

/// Brings HAProxy and the files up to date once, and ends; HAProxy is left as it is then.
///
/// Servers that have not answered a probe soon are left waiting.
///
/// # Errors
/// What makes a start impossible, another controller on the same state directory among it; and
/// [`RunError::NotDone`] when the agent or HAProxy does not answer in time, or something does not work.
pub async fn once(config: Config, options: RunOptions) -> Result<(), RunError> {
    let drains = config.backends.iter().map(|backend| backend.drain.timeout);
    let patience = ONCE.1 + drains.max().unwrap_or_default();
    let (mut reconciler, mut inputs) = startup::start(config, options).await?;
    let started = Instant::now();
    let outcome = loop {
        reconciler.cycle(&mut inputs.found).await;
        if reconciler.is_done(started.elapsed() >= ONCE.0) {
            break Ok(());
        }
        let limit = if reconciler.is_connected() && reconciler.worker.is_some() {
            patience
        } else {
            ONCE.1
        };
        if started.elapsed() >= limit {
            break Err(reconciler.not_done());
        }
        let heard = tokio::time::timeout(ONCE.0 / 4, reconciler.listen(&mut inputs));
        if let Ok(Wakeup::End) = heard.await {
            break Err(reconciler.not_done());
        }
    };
    reconciler.stop().await;
    outcome
}

/// What came of listening.
enum Wakeup {
    /// Something that a cycle has to look at.
    News,
    /// Nothing: it is time to look at HAProxy.
    Clock,
    /// Nothing may follow from it.
    NothingNew,
    /// Nothing will come any more.
    End,
}

impl Reconciler {
    /// Waits for something that a cycle has to look at.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    async fn hear_news(&mut self, inputs: &mut Inputs) -> Wakeup {
        loop {
            let heard = self.listen(inputs).await;
            let owes = self.options.notifier.deadline();
            let nothing = match heard {
                Wakeup::NothingNew => true,
                Wakeup::Clock => !self.look().await,
                heard => return heard,
            };
            if !nothing || owes.is_some_and(|at| Instant::now() >= at) {
                return Wakeup::News;
            }
        }
    }

    /// Waits for something to happen, and takes it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    async fn listen(&mut self, inputs: &mut Inputs) -> Wakeup {
        let wake = self.next_wake();
        // A HAProxy that does not answer is tried more often than it is looked at.
        let look = self.look.next.min(wake);
        let looks = look < wake;
        let wake = tokio::time::Instant::from_std(look);
        let gossip = &mut inputs.gossip;
        // News first: while HAProxy is silent a cycle takes longer than the pauses, and the clock is always due.
        let matters = tokio::select! {
            biased;
            changed = gossip.snapshots.changed() => {
                if changed.is_err() {
                    return Wakeup::End;
                }
                let snapshot = gossip.snapshots.borrow_and_update().clone();
                self.hear(&snapshot);
                true
            }
            Ok(()) = gossip.unreached.changed() => true,
            Some(name) = gossip.suspicions.next() => self.hear_suspicion(name.as_ref()),
            Some(asking) = inputs.askings.recv() => self.answer(asking),
            Some(found) = inputs.found.recv() => self.hear_probe(&found),
            Some(done) = self.jobs.join_next() => {
                self.finish(done);
                true
            }
            Some(joined) = self.joins.join_next() => {
                self.joined(joined);
                true
            }
            done = self.files.next_done() => {
                self.finish_file(done);
                true
            }
            () = tokio::time::sleep_until(wake) => {
                if looks {
                    return Wakeup::Clock;
                }
                true
            }
        };
        if matters {
            Wakeup::News
        } else {
            Wakeup::NothingNew
        }
    }

    /// Whether everything is in place; where servers that wait for a probe do not count any more, without them.
    fn is_done(&self, waited: bool) -> bool {
        let mut standings = self.decisions.servers.values();
        let waiting = standings.any(|decision| decision.status.state == "waiting");
        let gathering = self.additions.deadline().is_some() || self.writes.deadline().is_some();
        let quiet = self.decisions.poll.is_none() && !gathering && self.jobs.is_empty();
        let in_place = self.is_connected() && self.is_current() && self.files.are_idle();
        in_place && quiet && (waited || !waiting)
    }

    fn is_connected(&self) -> bool {
        matches!(self.snapshot.agent(), AgentState::Connected { .. })
    }

    fn not_done(&self) -> RunError {
        let mut problems = self.problems.sentences();
        if problems.is_empty() && !self.is_connected() {
            problems.push("no agent answers; see `[serf] addr`".to_owned());
        }
        if problems.is_empty() {
            problems.push("not everything came into force in time".to_owned());
        }
        RunError::NotDone { problems }
    }

    /// Ends what runs beside the loop. HAProxy is left as it is, unless it is a child.
    async fn stop(mut self) {
        if self.supervisor.is_none() {
            tracing::info!("stopping; HAProxy goes on as it is");
        }
        self.tasks.shutdown().await;
        self.jobs.shutdown().await;
        self.joins.shutdown().await;
        self.watcher.stop().await;
        if let Some(supervisor) = self.supervisor {
            supervisor
                .stop(self.loaded.config.haproxy.hard_stop_after)
                .await;
        }
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// What the loop waits for.
struct Inputs {
    gossip: MembershipFeed,
    found: mpsc::Receiver<ProbeResult>,
    askings: mpsc::Receiver<Asking>,
}

/// What comes from the agents.
struct MembershipFeed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    suspicions: SuspicionStream,
    unreached: watch::Receiver<Arc<[Unreached]>>,
}

impl MembershipFeed {
    fn of(watcher: &Watcher) -> Self {
        Self {
            snapshots: watcher.snapshots(),
            suspicions: watcher.suspicions(),
            unreached: watcher.unreached(),
        }
    }
}

/// Everything the loop owns.
struct Reconciler {
    options: RunOptions,
    /// The config and template in force.
    loaded: LoadedConfig,
    /// The config of the start, whose fixed keys hold.
    started_with: Arc<Config>,
    /// The design's, beside what HAProxy has read of other files.
    scope: Scope,
    /// The ones before, until the new ones have proven themselves.
    fallback: Option<LoadedConfig>,
    watcher: Watcher,
    snapshot: Arc<Snapshot>,
    /// Whether the agent knows anybody else.
    alone: Alone,
    /// The join that it was told, one at most.
    joins: JoinSet<Result<u64, WatchError>>,
    /// Of this host, as last read.
    addresses: BTreeSet<IpAddr>,
    /// Of the text on the disk.
    listeners: Listeners,
    /// What the other files of the configuration have HAProxy listen on.
    elsewhere: Vec<planner::model::here::Listener>,
    model: Model,
    guard: Guard,
    decisions: Decisions,
    prober: Prober,
    additions: Debouncer<ServerKey, Endpoint>,
    writes: Debouncer<(), Stamp>,
    runtime: RuntimeApi,
    file: ConfigFile,
    state: StateDir,
    saved: PersistedState,
    history: History,
    /// Counts up whenever a server stands otherwise than before.
    revision: u64,
    anchor: ClockAnchor,
    /// The text as it is to be, with what it was rendered from.
    wanted: Option<Wanted>,
    /// The text on the disk, if it is ours.
    on_disk: Option<Text>,
    /// The file was replaced by one of somebody else's: nothing is written or reloaded until it is gone.
    is_foreign: bool,
    /// The servers of the last file that was valid.
    valid: Servers,
    /// Servers that a file is invalid with.
    offenders: BTreeMap<ServerKey, OffendingServer>,
    /// Texts that a worker may have started with.
    texts: KnownTexts,
    worker: Option<Worker>,
    /// The servers as they were last read: what HAProxy has been told.
    running: RunningServers,
    /// The backends that serve nobody, and what went wrong with checks, when these were last read.
    down: DownBackends,
    checks: BTreeMap<ServerKey, String>,
    unserved: Unserved,
    look: Look,
    /// When each thing was last read.
    readings: Readings,
    /// Servers that have gone lately.
    departed: Departed,
    told: Told,
    /// Servers that HAProxy does not delete yet, for connections to them are still open.
    undeleted: BTreeMap<ServerKey, Retry>,
    /// The last way to a worker that does not answer.
    rescue: Rescue,
    /// The one that was there last, whether it still answers or not.
    last_worker: Option<Worker>,
    /// Whether the text that it started with is known.
    worker_text: WorkerText,
    added: AddedOptions,
    accepts_add: BTreeMap<BackendName, bool>,
    agents: agents::Agents,
    /// What is left to be done.
    plan: Plan,
    /// Steps of the last plan wait for another round.
    unfinished: bool,
    jobs: JoinSet<Done>,
    files: Files,
    /// When the Runtime API is worth another try.
    retry: Retry,
    /// When the file is.
    write_retry: Retry,
    /// When the state directory is.
    state_retry: Retry,
    /// Refusals in a row, and the server of the last one.
    refusals: u32,
    refused: Option<ServerKey>,
    drift: Drift,
    /// Those that earlier reloads have left behind; unknown without a master socket.
    old_workers: Option<Vec<OldWorker>>,
    /// HAProxy as a child, where it is one.
    supervisor: Option<Supervisor>,
    /// A reload of ours is under way, or its worker has not been seen yet.
    reloading: bool,
    last_reload: Option<Instant>,
    next_drift: Instant,
    problems: Problems,
    counters: Counters,
    published: watch::Sender<Arc<Published>>,
    tasks: JoinSet<()>,
}

/// A pause that doubles with every failure.
#[derive(Clone, Debug, Default)]
struct Retry {
    pause: Option<Duration>,
    at: Option<Instant>,
}

impl Retry {
    fn failed(&mut self, now: Instant) {
        self.failed_for(RETRY.1, now);
    }

    /// It failed, and is tried again after no more than so long.
    fn failed_for(&mut self, longest: Duration, now: Instant) {
        let pause = self.pause.map_or(RETRY.0, |pause| (pause * 2).min(longest));
        self.pause = Some(pause);
        self.at = Some(now + pause);
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it may be tried now.
    fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now >= at)
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
