//! The membership feed: the agents of the config in; snapshots, suspicions, and what is wrong with the agents out.

mod alone;
mod unanswered;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alone::{Alone, REJOIN, Remembered, join, one_line};
use bstr::BString;
use planner::config::Config;
use serf_rpc::{
    AgentState, Latest, Snapshot, SuspicionStream, Unreached, WatchError, WatchOptions, Watcher,
};
use tokio::task::{JoinError, JoinSet};

use super::journal::Journal;
use crate::clock;
use crate::error_chain::chain;
use crate::ways::agents;

/// An agent of which nothing was heard for so long is asked something; after as long again it is silent.
const PULSE: Duration = Duration::from_secs(2);
/// What comes from the agents.
pub(super) struct MembershipFeed {
    watcher: Watcher,
    snapshots: Latest<Snapshot>,
    suspicions: SuspicionStream,
    unreached: Latest<[Unreached]>,
    /// Whether the agent knows anybody else.
    alone: Alone,
    /// The join that it was told, one at most.
    joins: JoinSet<Result<u64, WatchError>>,
}

/// Something that came from the agents.
#[derive(Debug)]
pub(super) enum News {
    /// The members, or how the agent is.
    Members(Arc<Snapshot>),
    /// The agent, or its neighbours, could not reach this member just now.
    Suspicion(BString),
    /// The agents that could not be reached, or how a join ended.
    Agents,
    /// Nothing will come any more.
    End,
}

impl MembershipFeed {
    /// Follows the membership of the configured agents, from what is known.
    pub(super) fn new(config: &Config, known: Snapshot) -> Self {
        let options = WatchOptions::new(agents(config))
            .resync(config.serf.resync)
            .pulse(PULSE)
            // A key may be mended while nobody restarts the controller.
            .keep_trying()
            .seed(known);
        let watcher = Watcher::spawn(options);
        Self {
            snapshots: watcher.snapshots(),
            suspicions: watcher.suspicions(),
            unreached: watcher.unreached(),
            watcher,
            alone: Alone::default(),
            joins: JoinSet::new(),
        }
    }

    /// Waits for something to come.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self, journal: &mut Journal) -> News {
        tokio::select! {
            biased;
            snapshot = self.snapshots.next() => match snapshot {
                Some(snapshot) => News::Members(snapshot),
                None => News::End,
            },
            Some(_) = self.unreached.next() => News::Agents,
            Some(name) = self.suspicions.next() => News::Suspicion(name),
            Some(joined) = self.joins.join_next() => {
                note_join(joined, journal);
                News::Agents
            }
        }
    }

    /// The members as they are read, for whoever wants to know how old they are.
    pub(super) fn snapshots(&self) -> Latest<Snapshot> {
        self.watcher.snapshots()
    }

    /// Says so while no agent answers, or the one that does knows only itself; has it join the others again where that is
    /// wanted.
    pub(super) fn look_after_agent(
        &mut self,
        snapshot: &Snapshot,
        config: &Config,
        journal: &mut Journal,
    ) {
        let key_file = config.serf.auth_key_file.as_ref();
        let key_file = key_file.map(|path| path.display().to_string());
        let unreached = self.unreached.latest();
        match unanswered::problem(snapshot.agent(), &unreached, key_file.as_deref()) {
            Some((problem, advice)) => journal.problems.set("agent", problem, advice),
            None => journal.problems.clear("agent"),
        }
        self.look_whether_alone(snapshot, config, journal);
    }

    fn look_whether_alone(&mut self, snapshot: &Snapshot, config: &Config, journal: &mut Journal) {
        let now = clock::now();
        let remembered = Remembered::of(snapshot);
        if !self.alone.look(&remembered, now) {
            journal.problems.clear("cluster");
            journal.problems.clear("rejoin");
            return;
        }
        let rejoin = config.serf.rejoin;
        let advice = remembered.advice(rejoin);
        journal
            .problems
            .set("cluster", remembered.problem(), advice);
        if !rejoin || !self.joins.is_empty() {
            return;
        }
        let AgentState::Connected { addr } = snapshot.agent() else {
            return;
        };
        let Some(others) = self.alone.turn(&remembered, now) else {
            return;
        };
        let mut agents = agents(config).into_iter();
        if let Some(agent) = agents.find(|agent| agent.addr() == addr) {
            self.joins.spawn(join(agent, others));
        }
    }

    /// When time alone changes something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.alone.deadline()
    }

    /// Ends what runs beside the loop.
    pub(super) async fn stop(mut self) {
        self.joins.shutdown().await;
        self.watcher.stop().await;
    }
}

/// Whether the agent is still alone, its members show.
fn note_join(joined: Result<Result<u64, WatchError>, JoinError>, journal: &mut Journal) {
    match joined {
        Ok(Ok(members)) => {
            tracing::info!(members, "the agent joined the cluster again");
            journal.problems.clear("rejoin");
        }
        Ok(Err(error)) => {
            let error = one_line(&chain(&error));
            let problem = format!("the agent cannot join its cluster again: {error}");
            journal.problems.set("rejoin", problem, REJOIN);
        }
        Err(error) => tracing::error!(%error, "a join has panicked"),
    }
}
