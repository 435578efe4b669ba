//! The loop: gossip, probes, approvals, HAProxy's own state and time in; changes of HAProxy and of its file out.
//!
//! One task owns everything here. Each turn of the loop waits for news, then runs one cycle: it reads what
//! HAProxy runs, decides, renders, plans and applies. Nothing is believed about HAProxy beyond what was just read.
//! Files are checked and written, and workers reloaded, in a job beside the loop.

mod apply;
mod book;
mod cycle;
mod design;
mod job;
mod publish;
mod startup;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serf_rpc::{Snapshot, SuspicionStream, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{Config, ConfigError};
use crate::control::{Approving, Published};
use crate::epoch::Epoch;
use crate::guard::{Decisions, Guard};
use crate::haproxy::file::{ConfigFile, FileError};
use crate::haproxy::runtime::RuntimeApi;
use crate::haproxy::{AddedOptions, Stamp, Worker};
use crate::history::History;
use crate::model::{BackendName, Key, Model, Place, ServerName};
use crate::pace::Pace;
use crate::plan::{ConfigText, Plan};
use crate::probe::{Found, Prober};
use crate::render::{Rendered, Servers, TemplateError};
use crate::state::{Memory, StateDir, StateError};
use crate::status::Counters;

pub(crate) use design::Design;
use job::Done;
pub(crate) use startup::{agents, restore_removals, servers_before};

/// The first pause after something outside refused to work, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often a HAProxy that does not answer is tried.
const UNREACHABLE_RETRY: Duration = Duration::from_millis(200);

/// What `run` was asked for beside its config.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the config came from; read again on SIGHUP.
    pub config_path: PathBuf,
    /// The environment, which goes before the file.
    pub env: Vec<(String, String)>,
    /// Whether a configuration file of somebody else's may be replaced; a copy is kept.
    pub adopt: bool,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The RPC key cannot be read, or the config cannot.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The RPC key cannot be read.
    #[error("cannot read `[serf] auth_key_file` {path}")]
    AuthKey {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The template is unusable and no earlier one is known.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The configuration file is somebody else's.
    #[error(
        "{} was not written by serf-haproxy; move it away, or start once with --adopt to replace it (a copy is kept)",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The configuration file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
}

/// Runs until SIGTERM or SIGINT; HAProxy is left as it is.
///
/// # Errors
/// Only what makes a start impossible. Once it runs, it never ends for a lost agent, a lost HAProxy, a failing command
/// or a bad template.
pub async fn run(config: Config, options: RunOptions) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let (mut reconciler, mut inputs) = startup::start(config, options).await?;
    reconciler.cycle(&mut inputs.found).await;
    loop {
        let wake = tokio::time::Instant::from_std(reconciler.next_wake());
        tokio::select! {
            changed = inputs.gossip.snapshots.changed() => match changed {
                Ok(()) => reconciler.hear(&inputs.gossip.snapshots.borrow_and_update().clone()),
                Err(_) => break,
            },
            Some(name) = inputs.gossip.suspicions.next() => {
                if !reconciler.hear_suspicion(name.as_ref()) {
                    continue;
                }
            }
            Some(approving) = inputs.approvals.recv() => reconciler.approve(approving),
            Some(found) = inputs.found.recv() => {
                if !reconciler.hear_probe(&found) {
                    continue;
                }
            }
            Some(done) = reconciler.jobs.join_next() => reconciler.finish(done),
            () = tokio::time::sleep_until(wake) => {}
            _ = signals.hangup.recv() => {
                if let Some(gossip) = reconciler.reload_design() {
                    inputs.gossip = gossip;
                }
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
        reconciler.cycle(&mut inputs.found).await;
    }
    reconciler.stop().await;
    Ok(())
}

impl Reconciler {
    /// Ends what runs beside the loop. HAProxy is left as it is.
    async fn stop(mut self) {
        tracing::info!("stopping; HAProxy goes on as it is");
        self.tasks.shutdown().await;
        self.jobs.shutdown().await;
        self.watcher.stop().await;
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
    gossip: Gossip,
    found: mpsc::Receiver<Found>,
    approvals: mpsc::Receiver<Approving>,
}

/// What comes from the agents.
struct Gossip {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    suspicions: SuspicionStream,
}

impl Gossip {
    fn of(watcher: &Watcher) -> Self {
        Self {
            snapshots: watcher.snapshots(),
            suspicions: watcher.suspicions(),
        }
    }
}

/// Everything the loop owns.
struct Reconciler {
    options: RunOptions,
    /// The config and template in force.
    design: Design,
    /// The ones before, until the new ones have proven themselves.
    fallback: Option<Design>,
    watcher: Watcher,
    snapshot: Arc<Snapshot>,
    model: Model,
    guard: Guard,
    decisions: Decisions,
    prober: Prober,
    additions: Pace<Key, Place>,
    writes: Pace<(), Stamp>,
    runtime: RuntimeApi,
    file: ConfigFile,
    state: StateDir,
    saved: Memory,
    history: History,
    /// Counts up whenever a server stands otherwise than before.
    revision: u64,
    epoch: Epoch,
    /// The text as it is to be, with what it was rendered from.
    wanted: Option<Wanted>,
    /// The text on the disk, if it is ours.
    on_disk: Option<Text>,
    /// Texts that a worker may have started with.
    texts: BTreeMap<Stamp, Arc<ConfigText>>,
    worker: Option<Worker>,
    added: AddedOptions,
    accepts_add: BTreeMap<BackendName, bool>,
    /// What is left to be done.
    plan: Plan,
    jobs: JoinSet<Done>,
    /// When the Runtime API is worth another try.
    retry: Retry,
    /// When the file is.
    write_retry: Retry,
    /// Refusals in a row, and the server of the last one.
    refusals: u32,
    refused: Option<(BackendName, ServerName)>,
    last_reload: Option<Instant>,
    next_drift: Instant,
    problems: Problems,
    counters: Counters,
    published: watch::Sender<Arc<Published>>,
    tasks: JoinSet<()>,
    ready: bool,
}

/// A text and its stamp.
#[derive(Clone, Debug)]
struct Text {
    stamp: Stamp,
    text: Arc<str>,
    parsed: Arc<ConfigText>,
}

/// The text as it is to be.
#[derive(Clone, Debug)]
struct Wanted {
    servers: Servers,
    text: Text,
    /// For the way back from a line of the text to one of the template.
    rendered: Rendered,
}

/// A pause that doubles with every failure.
#[derive(Clone, Debug, Default)]
struct Retry {
    pause: Option<Duration>,
    at: Option<Instant>,
}

impl Retry {
    fn failed(&mut self, now: Instant) {
        let pause = self.pause.map_or(RETRY.0, |pause| (pause * 2).min(RETRY.1));
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

/// What is wrong now, each said once when it begins and once when it is over.
#[derive(Clone, Debug, Default)]
struct Problems(BTreeMap<&'static str, String>);

impl Problems {
    fn set(&mut self, what: &'static str, problem: String) {
        if self.0.get(what) != Some(&problem) {
            tracing::warn!(what, "{problem}");
            self.0.insert(what, problem);
        }
    }

    fn clear(&mut self, what: &'static str) {
        if self.0.remove(what).is_some() {
            tracing::info!(what, "works again");
        }
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
