//! The loop: what Serf says, probes, approvals and HAProxy's own state in; changes of HAProxy and of its file out.
//!
//! One task owns everything here. Each turn of the loop waits for news, then runs one cycle: it reads what HAProxy runs,
//! decides, renders, plans and applies. Four owners do the work, and only data stands between them: [`Desired`] decides
//! what HAProxy is to run, the `Applier` brings it there through the Runtime API, the `Installer` brings the file to
//! the disk and reloads, and the `Journal` writes down what happened and what needs a person.

mod advice;
mod applier;
mod approvals;
mod cycle;
mod feed;
mod installer;
mod journal;
mod maps;
mod news;
mod publish;
mod reload_config;
mod retry;
mod run_error;
mod startup;
#[cfg(test)]
mod testing;
mod web;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use applier::Applier;
use feed::MembershipFeed;
use installer::Installer;
use journal::Journal;
use maps::Maps;
use news::Wakeup;
use planner::config::Config;
use planner::pipeline::{Desired, LoadedConfig};
use serf_rpc::AgentState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use web::Web;

use crate::clock;
use crate::haproxy::supervise::Supervisor;
use crate::notify::Notifier;
use crate::probe::{ProbeResult, Prober};
use crate::published::Asking;

pub(crate) use maps::put_map;
pub use run_error::RunError;
pub(crate) use startup::may_adopt;

/// How long `once` waits for servers that have not answered a probe yet, and for an agent and HAProxy.
const ONCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

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

/// Runs until SIGTERM or SIGINT; HAProxy is left as it is, unless it is a child, which finishes softly.
///
/// # Errors
/// Only what makes a start impossible. Once it runs, it never ends for a lost agent, a lost HAProxy, a failing command
/// or a bad template.
pub async fn run(config: Config, options: RunOptions) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let mut reconciler = startup::start(config, options).await?;
    reconciler.supervise();
    loop {
        reconciler.look_after_web();
        reconciler.cycle().await;
        reconciler.notify_supervisor();
        tokio::select! {
            wakeup = reconciler.next_news() => if let Wakeup::End = wakeup {
                break;
            },
            _ = signals.hangup.recv() => {
                reconciler.options.notifier.reloading(clock::now());
                reconciler.reload_config().await;
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
    let mut reconciler = startup::start(config, options).await?;
    let started = clock::now();
    let outcome = loop {
        reconciler.cycle().await;
        let waited = clock::since(started);
        if reconciler.is_done(waited >= ONCE.0) {
            break Ok(());
        }
        let limit = if reconciler.is_connected() && reconciler.applier.worker().is_some() {
            patience
        } else {
            ONCE.1
        };
        if waited >= limit {
            break Err(reconciler.not_done());
        }
        let news = tokio::time::timeout(ONCE.0 / 4, reconciler.listen());
        if let Ok(Wakeup::End) = news.await {
            break Err(reconciler.not_done());
        }
    };
    reconciler.stop().await;
    outcome
}

/// Everything the loop owns.
struct Reconciler {
    options: RunOptions,
    /// The config of the start, whose fixed keys hold.
    started_with: Arc<Config>,
    /// The config and templates of before, until the new ones have proven themselves.
    fallback: Option<LoadedConfig>,
    /// When the first hint came at a change of the members that no apply has followed yet.
    hinted: Option<Instant>,
    web: Web,
    feed: MembershipFeed,
    prober: Prober,
    probed: mpsc::Receiver<ProbeResult>,
    desired: Desired,
    applier: Applier,
    installer: Installer,
    /// The map of routes.
    maps: Maps,
    journal: Journal,
    /// HAProxy as a child, where it is one.
    supervisor: Option<Supervisor>,
    askings: mpsc::Receiver<Asking>,
    tasks: JoinSet<()>,
    next_drift: Instant,
}

impl Reconciler {
    /// Whether everything is in place; where servers that wait for a probe do not count any more, without them.
    fn is_done(&self, waited: bool) -> bool {
        let decisions = self.desired.decisions();
        let waiting = decisions
            .all()
            .any(|(_, decision)| decision.status.state == "waiting");
        let quiet = decisions.poll.is_none() && !self.desired.gathers();
        let in_place = self.is_connected()
            && self.is_current()
            && self.routes_are_current()
            && self.installer.is_settled();
        in_place && quiet && (waited || !waiting)
    }

    fn is_connected(&self) -> bool {
        matches!(
            self.desired.snapshot().agent(),
            AgentState::Connected { .. }
        )
    }

    fn not_done(&self) -> RunError {
        let mut problems = self.journal.problems.sentences();
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
        self.installer.shutdown().await;
        self.feed.stop().await;
        if let Some(supervisor) = self.supervisor {
            let config = &self.desired.loaded().config;
            supervisor.stop(config.haproxy.hard_stop_after).await;
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
