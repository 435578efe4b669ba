//! Certificates of the front ends, as their directories change: what is good goes to the disk for HAProxy's next start, and
//! into the HAProxy that runs, without a reload.
//!
//! HAProxy never reads the directory that people change: it has checked copies beside its configuration, so that it can start
//! whatever lies in the directory. One task owns those, and the loop hears from it.

mod found;
mod in_force;
mod judge;
pub(crate) mod pem;
mod placeholder;
mod shelf;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::config::Config;
use planner::model::Worker;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::in_force::NotDone;
use self::judge::Judge;
use self::shelf::Shelf;
use self::store::Store;
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::runtime::RuntimeApi;
use crate::status;

/// Between two looks at a directory. What changes is read at the second look after it, and in force within a second.
const LOOK: Duration = Duration::from_millis(250);
/// What HAProxy did not take is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// Questions that wait for the task.
const ASKS: usize = 4;

/// How the certificates stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Each of them, by front end and name.
    pub(crate) certificates: Vec<status::Certificate>,
    /// What is wrong, by what it is about.
    pub(crate) problems: BTreeMap<String, String>,
    /// Whether HAProxy has all of them, as far as it answers.
    pub(crate) in_force: bool,
}

enum Ask {
    /// Another config is to be in force: its certificates have to be on the disk before HAProxy is asked about its text.
    Config(Arc<Config>, oneshot::Sender<()>),
    /// This worker runs.
    Worker(RuntimeApi, Worker),
}

/// Who keeps the certificates, for the loop.
#[derive(Debug)]
pub(crate) struct Keeper {
    asks: mpsc::Sender<Ask>,
    report: watch::Receiver<Arc<Report>>,
    /// The worker that it was last told of.
    told: Option<Worker>,
}

impl Keeper {
    /// Puts what is good on the disk, and goes on looking in a task.
    pub(crate) async fn start(config: &Arc<Config>, tasks: &mut JoinSet<()>) -> Self {
        let (asks, asked) = mpsc::channel(ASKS);
        let (sender, report) = watch::channel(Arc::default());
        let mut task = Task {
            shelves: Vec::new(),
            judge: Judge::of(config),
            asked,
            report: sender,
            runtime: None,
            worker: None,
            not_done: BTreeMap::new(),
            due: None,
        };
        task.take_config(config).await;
        tasks.spawn(task.run());
        Self {
            asks,
            report,
            told: None,
        }
    }

    /// Returns once the certificates of a config are on the disk.
    pub(crate) async fn set_config(&mut self, config: &Arc<Config>) {
        // it may be spoken to by another way
        self.told = None;
        let (done, is_done) = oneshot::channel();
        if self
            .asks
            .send(Ask::Config(Arc::clone(config), done))
            .await
            .is_ok()
        {
            let _ = is_done.await;
        }
    }

    /// Takes the config of before in the place of one that was given up.
    pub(crate) fn take_back(&self, config: &Arc<Config>) {
        let (done, _) = oneshot::channel();
        // where its queue is full, the certificates of the other config are looked after as well, which does no harm
        let _ = self.asks.try_send(Ask::Config(Arc::clone(config), done));
    }

    /// Takes which worker runs.
    pub(crate) fn set_worker(&mut self, runtime: &RuntimeApi, worker: &Worker) {
        if self.told.as_ref().is_some_and(|told| told.is_same(worker)) {
            return;
        }
        let ask = Ask::Worker(runtime.clone(), worker.clone());
        if self.asks.try_send(ask).is_ok() {
            self.told = Some(worker.clone());
        }
    }

    /// How they stand now.
    pub(crate) fn report(&self) -> Arc<Report> {
        self.report.borrow().clone()
    }

    /// Waits until they stand otherwise.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) {
        if self.report.changed().await.is_err() {
            // the task has ended, as at the very end
            std::future::pending::<()>().await;
        }
    }
}

/// Puts the certificates of a config on the disk, and says what is wrong with the others, for who starts HAProxy without us.
pub(crate) async fn prepare(config: &Config) -> BTreeMap<String, String> {
    let judge = Judge::of(config);
    let mut problems = BTreeMap::new();
    for mut shelf in shelves(config) {
        shelf.look(&judge, true).await;
        problems.extend(troubles(&shelf));
    }
    problems
}

fn shelves(config: &Config) -> impl Iterator<Item = Shelf> {
    let shelf = |frontend: &planner::config::Frontend| {
        let store = Store(config.certificate_place(&frontend.name));
        Shelf::of(frontend, store)
    };
    config.frontends.iter().filter_map(shelf)
}

fn troubles(shelf: &Shelf) -> impl Iterator<Item = (String, String)> {
    let all = shelf.trouble.iter();
    let all = all.map(|trouble| (format!("certificates {}", shelf.frontend), trouble.clone()));
    let bad = shelf.bad.iter().map(|(name, why)| {
        let stays = if shelf.good.contains_key(name) {
            "; the one before stays in force"
        } else {
            ""
        };
        let what = format!("certificate {}/{name}", shelf.frontend);
        let directory = shelf.directory.display();
        (
            what,
            format!("{directory}/{name} cannot be used: {why}{stays}"),
        )
    });
    all.chain(bad)
}

/// What runs beside the loop.
struct Task {
    shelves: Vec<Shelf>,
    judge: Judge,
    asked: mpsc::Receiver<Ask>,
    report: watch::Sender<Arc<Report>>,
    runtime: Option<RuntimeApi>,
    /// The worker that has to be told, or was.
    worker: Option<Worker>,
    /// By front end, what HAProxy did not take.
    not_done: BTreeMap<String, NotDone>,
    /// When HAProxy is to be told; none where it was.
    due: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let asked = if self.shelves.is_empty() {
                Ok(self.asked.recv().await)
            } else {
                timeout(LOOK, self.asked.recv()).await
            };
            match asked {
                Ok(None) => return,
                Ok(Some(Ask::Config(config, done))) => {
                    self.take_config(&config).await;
                    // whoever asked may have gone away
                    let _ = done.send(());
                }
                Ok(Some(Ask::Worker(runtime, worker))) => {
                    self.runtime = Some(runtime);
                    self.worker = Some(worker);
                    self.due = Some(clock::now());
                }
                Err(_) => self.look(false).await,
            }
            if self.due.is_some_and(|due| clock::now() >= due) {
                self.tell_haproxy().await;
            }
            self.say();
        }
    }

    async fn take_config(&mut self, config: &Config) {
        self.judge = Judge::of(config);
        let mut before = std::mem::take(&mut self.shelves);
        for shelf in shelves(config) {
            let same = |known: &Shelf| {
                known.store.0 == shelf.store.0 && known.directory == shelf.directory
            };
            let known = before.iter().position(same);
            self.shelves
                .push(known.map_or(shelf, |index| before.swap_remove(index)));
        }
        self.look(true).await;
        self.say();
    }

    async fn look(&mut self, first: bool) {
        for shelf in &mut self.shelves {
            if shelf.look(&self.judge, first).await {
                self.due = Some(clock::now());
            }
        }
    }

    /// Lets HAProxy have what it has otherwise.
    async fn tell_haproxy(&mut self) {
        let Some(runtime) = &self.runtime else {
            return;
        };
        self.due = None;
        self.not_done.clear();
        for shelf in &mut self.shelves {
            let not_done = match in_force::bring(runtime, shelf).await {
                Ok(not_done) => not_done,
                Err(error) => {
                    self.due = Some(clock::now() + AGAIN);
                    let said = format!("HAProxy could not be told: {}", chain(&error));
                    let changed = shelf.changed.iter();
                    changed.map(|path| (path.clone(), said.clone())).collect()
                }
            };
            shelf.changed.retain(|path| not_done.contains_key(path));
            if !not_done.is_empty() {
                self.due = Some(clock::now() + AGAIN);
                self.not_done.insert(shelf.frontend.clone(), not_done);
            }
        }
    }

    /// Says how they stand, if otherwise than before.
    fn say(&self) {
        let mut report = Report {
            in_force: self.due.is_none(),
            ..Report::default()
        };
        for shelf in &self.shelves {
            report.problems.extend(troubles(shelf));
            let not_done = self.not_done.get(&shelf.frontend);
            for (path, said) in not_done.into_iter().flatten() {
                let what = format!("certificate {path}");
                let problem = format!("{path} is not in force before the next reload: {said}");
                report.problems.insert(what, problem);
            }
            report.certificates.extend(self.told(shelf));
        }
        let report = Arc::new(report);
        self.report.send_if_modified(|before| {
            let differs = *before != report;
            *before = report;
            differs
        });
    }

    fn told(&self, shelf: &Shelf) -> Vec<status::Certificate> {
        let waits = |path: &String| {
            shelf.changed.contains(path)
                || self
                    .not_done
                    .get(&shelf.frontend)
                    .is_some_and(|not_done| not_done.contains_key(path))
        };
        let good = shelf.good.iter().map(|(name, certificate)| {
            let path = shelf.store.path(name).display().to_string();
            let state = match (waits(&path), shelf.bad.contains_key(name)) {
                (true, _) => "pending",
                (false, true) => "kept",
                (false, false) => "in force",
            };
            status::Certificate {
                frontend: shelf.frontend.clone(),
                name: name.clone(),
                hosts: certificate.names.clone(),
                expires: Some(certificate.expires),
                state: state.to_owned(),
            }
        });
        let bad = shelf
            .bad
            .keys()
            .filter(|name| !shelf.good.contains_key(*name));
        let refused = bad.map(|name| status::Certificate {
            frontend: shelf.frontend.clone(),
            name: name.clone(),
            hosts: Vec::new(),
            expires: None,
            state: "refused".to_owned(),
        });
        good.chain(refused).collect()
    }
}
