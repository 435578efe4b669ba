//! The map of routes: the wanted entries in, the map of the running worker and its file made equal to them out.
//!
//! Only what is no line of the configuration is here: a host or a path that a known backend gets or loses changes no text and
//! needs no reload. What does need one waits for it: the new worker reads the file, which is written first.
//!
//! The map's few fields are its own; it reads nothing of the other owners' but the worker that answers and whether the text
//! that it was started with is the wanted one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::config::Config;
use planner::model::Worker;
use planner::plan::ReloadReason;
use planner::render::FIRST_LINE;
use planner::route::map::{self, Entries};

use super::Reconciler;
use super::advice;
use super::journal::Journal;
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::file::{ConfigFile, FileError, Replaced};
use crate::haproxy::maps::Mapped;
use crate::haproxy::runtime::RuntimeApi;

/// When what did not work is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The map of routes.
#[derive(Debug, Default)]
pub(super) struct Maps {
    /// The config that the wanted entries are of.
    config: Option<Arc<Config>>,
    path: PathBuf,
    wanted: Entries,
    /// The text that the file has, as far as is known.
    on_disk: Option<String>,
    /// The worker whose map is as it is wanted.
    filled: Option<Worker>,
    /// When both are looked at again: another hand may have changed them, or something did not work.
    look_at: Option<Instant>,
}

/// The worker that the map is to be changed in.
struct Running<'a> {
    runtime: &'a RuntimeApi,
    worker: &'a Worker,
}

impl Maps {
    /// When there is something to do that nothing else would call for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether file and worker are as they are wanted, as far as the worker can be by now.
    fn is_current(&self) -> bool {
        self.config.is_none() || (self.on_disk.is_some() && self.filled.is_some())
    }

    /// Takes the config in force; of one that is known nothing follows.
    fn set_config(&mut self, config: &Arc<Config>) {
        if !config.has_routes() {
            *self = Self::default();
            return;
        }
        let is_known = self
            .config
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, config));
        if is_known {
            return;
        }
        let path = config.haproxy.routes_map();
        let wanted = map::entries(&config.routing);
        if path != self.path || wanted != self.wanted {
            (self.on_disk, self.filled) = (None, None);
        }
        (self.path, self.wanted) = (path, wanted);
        self.config = Some(Arc::clone(config));
    }

    /// Brings the worker's map and the file up to date. What is in force first is what requests see first; where the worker
    /// has to be another, the file that it will read.
    async fn follow(
        &mut self,
        running: Option<Running<'_>>,
        interval: Duration,
        journal: &mut Journal,
    ) {
        let Some(_) = &self.config else { return };
        let now = clock::now();
        if self.look_at.is_none_or(|at| now >= at) {
            (self.on_disk, self.filled) = (None, None);
            self.look_at = Some(now + interval);
        }
        match running {
            Some(running)
                if self
                    .filled
                    .as_ref()
                    .is_none_or(|filled| !filled.is_same(running.worker)) =>
            {
                self.fill(running, journal).await;
            }
            Some(_) => {}
            None => self.filled = None,
        }
        if self.on_disk.is_none() {
            self.write(journal).await;
        }
    }

    async fn fill(&mut self, running: Running<'_>, journal: &mut Journal) {
        let started = clock::now();
        let Running { runtime, worker } = running;
        let filled = runtime.fill_map(worker, &self.path, &self.wanted).await;
        match filled {
            Ok(Some(Mapped { changes, refused })) => {
                if !changes.is_empty() {
                    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                    tracing::info!(changes = changes.len(), "changed the map of routes");
                    journal.record_map(changes, started, refused.clone());
                }
                match refused {
                    None => {
                        self.filled = Some(worker.clone());
                        journal.problems.clear("map");
                    }
                    Some(refused) => {
                        let problem = format!("HAProxy does not take the routes: {refused}");
                        journal.problems.set("map", problem, advice::MAP);
                    }
                }
            }
            // It was started with a text that had no routes; the reload that puts this right is on its way.
            Ok(None) => {}
            // The cycle finds the other worker by itself.
            Err(error) if error.worker_changed() => self.try_again(),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot change the map of routes; trying again");
                self.try_again();
            }
        }
    }

    async fn write(&mut self, journal: &mut Journal) {
        match written(&self.path, map::text(&self.wanted)).await {
            Ok(replaced) => {
                if let Some(Replaced::Edited(copy)) = &replaced {
                    let copy = copy.display();
                    tracing::warn!(path = %self.path.display(), "somebody else had changed the map of routes; a copy is {copy}");
                }
                self.on_disk = Some(String::new());
                journal.problems.clear("routes");
            }
            Err(error) => {
                let problem = format!("the map of routes is not written: {}", chain(&error));
                journal
                    .problems
                    .set("routes", problem, advice::of_file(&error));
                self.try_again();
            }
        }
    }

    fn try_again(&mut self) {
        let again = clock::now() + AGAIN;
        self.look_at = Some(self.look_at.map_or(again, |at| at.min(again)));
    }
}

/// Puts a text into the file where it says something else, and says what it replaced then.
async fn written(path: &Path, text: String) -> Result<Option<Replaced>, FileError> {
    let file = ConfigFile::new(path, FIRST_LINE);
    if file.read().await?.as_deref() == Some(text.as_str()) {
        return Ok(None);
    }
    let staged = file.stage(text).await?;
    staged.commit(|_| true).await.map(Some)
}

/// Puts the map of a config where HAProxy reads it, if there is none: before HAProxy starts, or a text that names it is
/// judged.
///
/// # Errors
/// [`FileError`].
pub(crate) async fn put_map(config: &Config) -> Result<(), FileError> {
    let path = config.haproxy.routes_map();
    if !config.has_routes() || path.exists() {
        return Ok(());
    }
    let text = map::text(&map::entries(&config.routing));
    written(&path, text).await.map(drop)
}

impl Reconciler {
    /// Brings the map of routes up to date, in the worker and on the disk. While the worker runs another text than the
    /// wanted one its map is left alone: its lines and the entries belong together.
    pub(super) async fn follow_routes(&mut self) {
        let config = Arc::clone(&self.desired.loaded().config);
        self.maps.set_config(&config);
        let reload = &self.applier.plan().reload;
        let is_another_text = reload.iter().any(|reason| {
            matches!(
                reason,
                ReloadReason::SkeletonChanged { .. }
                    | ReloadReason::OpaqueChanged { .. }
                    | ReloadReason::UnknownWorker { server: None }
            )
        });
        let worker = self.applier.worker().filter(|_| !is_another_text);
        let runtime = self.applier.runtime();
        let running = worker.map(|worker| Running { runtime, worker });
        self.maps
            .follow(running, config.drift.interval, &mut self.journal)
            .await;
    }

    /// Whether routes are as they are wanted.
    pub(super) fn routes_are_current(&self) -> bool {
        self.maps.is_current()
    }
}
