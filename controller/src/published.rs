//! Between the loop and those who ask: what a cycle leaves for people, and what only the loop can answer.
//!
//! Whoever serves people knows this module and not the loop, and the loop knows nobody who serves them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use planner::config::Config;
use planner::guard::Guard;
use planner::model::BackendName;
use planner::pending::PendingPlan;
use planner::pipeline::LoadedConfig;
use planner::services::Book;
use serde::{Deserialize, Serialize};
use serf_rpc::{Latest, Snapshot};
use tokio::sync::oneshot;

use crate::freshness::{Readings, date_members};
use crate::history::Entry;
use crate::status::Status;

/// What only the loop can answer.
#[derive(Debug)]
pub enum Asking {
    /// Let servers go.
    Approve(Approving),
    /// Say what it goes by.
    InForce(oneshot::Sender<InForce>),
}

/// An approval on its way to the loop.
#[derive(Debug)]
pub struct Approving {
    /// What may go.
    pub approve: Approve,
    /// Who went, as `BACKEND/SERVER`, or why nobody did.
    pub answer: oneshot::Sender<Result<Vec<String>, String>>,
}

/// What a cycle leaves for clients.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Counts up whenever it says something else than before, but for the time.
    pub number: u64,
    /// How everything stood after it.
    pub status: Status,
    /// When what it says was read last, which may be later; none before the first cycle.
    pub readings: Option<Readings>,
    /// The members as they were read last; none before the first cycle.
    pub members: Option<Latest<Snapshot>>,
    /// What is left to be done.
    pub plan: PendingPlan,
    /// What was done, the oldest first.
    pub history: Arc<[Arc<Entry>]>,
}

impl Published {
    /// How everything stands now: what the last cycle left, with its age.
    pub fn status_at(&self, now: Instant) -> Status {
        Status {
            backends: self.status.backends.clone(),
            services: self.status.services.clone(),
            quarantined: self.status.quarantined.clone(),
            ..self.summary_at(now)
        }
    }

    /// The same without the backends, the services and whoever is quarantined, which may be many.
    pub fn summary_at(&self, now: Instant) -> Status {
        let before = &self.status;
        let mut status = Status {
            time: before.time,
            revision: before.revision,
            problems: before.problems.clone(),
            config: before.config.clone(),
            agent: before.agent.clone(),
            haproxy: before.haproxy.clone(),
            file: before.file.clone(),
            counters: before.counters.clone(),
            ..Status::default()
        };
        if let Some(readings) = &self.readings {
            readings.date(&mut status, now);
        }
        if let Some(members) = &self.members {
            date_members(&members.latest(), &mut status, SystemTime::now());
        }
        status
    }

    /// Whether it says what that one says, whenever it was so.
    pub(crate) fn says_the_same(&self, before: &Self) -> bool {
        let (now, then) = (&self.status, &before.status);
        Arc::ptr_eq(&self.history, &before.history)
            && self.plan == before.plan
            && now.is_at_another_time(then)
    }
}

/// Which held servers may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// `BACKEND` or `BACKEND/SERVER`; all that are held if there is none.
    pub targets: Vec<String>,
    /// Only if nothing has changed since this revision of the status.
    pub revision: Option<u64>,
}

/// What a running controller goes by.
#[derive(Debug)]
pub struct InForce {
    /// Where its config comes from, and the environment that goes before that.
    pub(crate) config_path: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    /// What it was started with.
    pub(crate) started_with: Arc<Config>,
    /// What is in force.
    pub(crate) loaded: LoadedConfig,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) guard: Guard,
    pub(crate) services: Book,
    pub(crate) accepts_add: BTreeMap<BackendName, bool>,
}

impl InForce {
    /// Its config file as others find it, too.
    pub(crate) fn config_path(&self) -> PathBuf {
        let path = &self.config_path;
        path.canonicalize().unwrap_or_else(|_| path.clone())
    }
}
