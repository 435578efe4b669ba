//! The installer: the text that is to be and why HAProxy has to be reloaded in; a checked file on the disk, a worker that
//! has read it, and what went wrong out.
//!
//! The work itself is done by jobs beside the loop; here is decided when one starts, and what its end means.

mod end;
mod job;
mod outputs;
mod rescue;
mod search;
#[cfg(test)]
mod tests;
mod worker_text;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use end::{Ended, Installed};
use job::{Done, Job, ReloadJob};
use outputs::Outputs;
use planner::config::ReloadMethod;
use planner::debounce::Debouncer;
use planner::model::{OldWorker, Servers, Worker};
use planner::pipeline::{Desired, KnownTexts, LoadedConfig, Text, Wanted};
use planner::plan::ReloadReason;
use planner::review::taken_over;
use planner::stamp::Stamp;
use planner::syntax::{ConfigText, Scope};
use rescue::Rescue;
use search::Search;
use tokio::task::JoinSet;
use worker_text::WorkerText;

use super::advice;
use super::applier::Applier;
use super::journal::{Journal, OUTPUTS, TEXTS};
use super::retry::Retry;
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::file::{ConfigFile, FileError};
use crate::haproxy::process;
use crate::haproxy::reload::{self, ReloadWay};
use crate::haproxy::runtime::RuntimeApi;
use crate::haproxy::socket::Socket;
use crate::state::StateDir;

/// How long the loop waits for HAProxy's master to count its workers, and then for those to count their sessions.
const MASTER_WAIT: Duration = Duration::from_millis(50);

/// What brings the text to the disk and into force.
pub(super) struct Installer {
    file: ConfigFile,
    /// The text on the disk, if it is ours.
    on_disk: Option<Text>,
    /// The file was replaced by one of somebody else's: nothing is written or reloaded until it is gone.
    is_foreign: bool,
    /// The servers of the last file that was valid.
    valid: Servers,
    /// Texts that a worker may have started with.
    texts: KnownTexts,
    /// Whether the text that the worker started with is known.
    worker_text: WorkerText,
    writes: Debouncer<(), Stamp>,
    jobs: JoinSet<Done>,
    /// The text on its way to the disk.
    under_way: Option<Stamp>,
    /// When the file is worth another try.
    retry: Retry,
    /// The last way to a worker that does not answer.
    rescue: Rescue,
    /// A reload of ours is under way, or its worker has not been seen yet.
    reloading: bool,
    last_reload: Option<Instant>,
    /// HAProxy's master, where it is known.
    master: Option<Socket>,
    /// The workers that earlier reloads have left behind; unknown without a master's socket.
    old_workers: Option<Vec<OldWorker>>,
    outputs: Outputs,
}

/// What the installer goes by.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) desired: &'a Desired,
    /// Why HAProxy has to be reloaded.
    pub(super) reasons: &'a [ReloadReason],
    /// The worker that answers.
    pub(super) worker: Option<&'a Worker>,
    /// The one that was seen last.
    pub(super) last_worker: Option<&'a Worker>,
    pub(super) runtime: &'a RuntimeApi,
}

impl<'a> Target<'a> {
    /// What is desired, and what of it the applier says to need a reload.
    pub(super) fn of(desired: &'a Desired, applier: &'a Applier) -> Self {
        Self {
            desired,
            reasons: &applier.plan().reload,
            worker: applier.worker(),
            last_worker: applier.last_worker(),
            runtime: applier.runtime(),
        }
    }
}

impl Installer {
    /// Begins with the text on the disk, where it is ours.
    pub(super) fn new(
        file: ConfigFile,
        on_disk: Option<Text>,
        loaded: &LoadedConfig,
        master: Option<Socket>,
        state: &StateDir,
    ) -> Self {
        let mut texts = KnownTexts::default();
        if let Some(text) = on_disk.as_ref().filter(|text| text.is_ours()) {
            texts.insert(&text.stamp, Arc::clone(&text.text));
        }
        Self {
            file,
            on_disk,
            is_foreign: false,
            valid: Servers::new(),
            texts,
            worker_text: WorkerText::default(),
            writes: Debouncer::patient(loaded.quiet()),
            jobs: JoinSet::new(),
            under_way: None,
            retry: Retry::default(),
            rescue: Rescue::default(),
            reloading: false,
            last_reload: None,
            master,
            old_workers: None,
            outputs: Outputs::new(loaded, state),
        }
    }

    /// Takes another config.
    pub(super) fn set_loaded(
        &mut self,
        loaded: &LoadedConfig,
        master: Option<Socket>,
        state: &StateDir,
    ) {
        self.writes.set_quiet(loaded.quiet());
        self.master = master;
        self.retry.succeeded();
        self.outputs.set_loaded(loaded, state);
    }

    /// Reads all texts anew: something else counts as theirs, or they inherit from something else.
    pub(super) fn set_scope(&mut self, scope: &Scope) {
        self.texts.reread();
        if let Some(text) = &mut self.on_disk {
            text.parsed = Arc::new(scope.read(&text.text));
        }
    }

    /// The text on the disk, if it is ours.
    pub(super) fn on_disk(&self) -> Option<&Text> {
        self.on_disk.as_ref()
    }

    /// The file.
    pub(super) fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// Whether this text is the one on the disk, and no other is on its way there: the servers of before may be wanted
    /// again while a text without them is written.
    pub(super) fn has(&self, wanted: Option<&Wanted>) -> bool {
        let Some(wanted) = wanted.map(|wanted| &wanted.text.stamp) else {
            return false;
        };
        let on_disk = self.on_disk.as_ref().map(|text| &text.stamp);
        let comes = self.under_way.as_ref().unwrap_or(wanted);
        on_disk == Some(wanted) && comes == wanted
    }

    /// The workers that earlier reloads have left behind; none where they cannot be counted.
    pub(super) fn old_workers(&self) -> Option<&[OldWorker]> {
        self.old_workers.as_deref()
    }

    /// Whether no job runs for the file of HAProxy.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether nothing is under way or gathers, of HAProxy's file and of the others.
    pub(super) fn is_settled(&self) -> bool {
        self.jobs.is_empty() && self.writes.deadline().is_none() && self.outputs.are_idle()
    }

    /// When time alone makes something due. `reload` says that a reload is wanted, which may have to wait.
    pub(super) fn deadlines(
        &self,
        min_interval: Duration,
        reload: bool,
    ) -> impl Iterator<Item = Instant> {
        let allowed = self.reload_allowed_at(min_interval);
        let own = [self.retry.at(), allowed.filter(|_| reload)];
        own.into_iter().flatten().chain(self.outputs.retry_at())
    }

    /// When what gathers is written.
    pub(super) fn write_at(&self) -> Option<Instant> {
        self.writes.deadline()
    }

    fn reload_allowed_at(&self, min_interval: Duration) -> Option<Instant> {
        self.last_reload.map(|at| at + min_interval)
    }

    /// The end of a job; waits for ever while there is none.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn next_done(&mut self) -> Ended {
        tokio::select! {
            Some(done) = self.jobs.join_next() => Ended::File(done.map(Box::new)),
            done = self.outputs.next_done() => Ended::Output(done),
        }
    }

    /// Ends what is under way.
    pub(super) async fn shutdown(&mut self) {
        self.jobs.shutdown().await;
    }

    /// Starts a job where the disk or the worker is behind, nothing else runs, and the time has come.
    pub(super) fn step(&mut self, target: &Target<'_>, journal: &mut Journal) {
        let Some(wanted) = target.desired.wanted() else {
            return;
        };
        let now = clock::now();
        let stamp = &wanted.text.stamp;
        let settled = self.writes.update(&[((), stamp.clone())].into(), now);
        let settled = settled.contains_key(&()) && self.writes.deadline().is_none();
        let loaded = target.desired.loaded();
        if settled {
            self.outputs.step(&loaded.config, &wanted.servers, journal);
        }
        if !self.jobs.is_empty() || !self.retry.is_due(now) || !settled || self.is_foreign {
            return;
        }
        let reload = self.reload_job(target, now);
        say_hidden_stamp(loaded, journal);
        if self.has(Some(wanted)) && reload.is_none() {
            if target.reasons.is_empty() {
                journal.problems.clear("file");
            }
            return;
        }
        if gives_rights(target, &wanted.text, journal) {
            return;
        }
        let in_use = self.stamps_in_use(target.worker);
        let saved = journal.state().save_text(stamp, &wanted.text.text, &in_use);
        journal.saved(TEXTS, saved);
        self.know(&wanted.text, target);
        self.reloading |= reload.is_some();
        if reload.is_some() && target.worker.is_none() {
            self.rescue.tried(stamp, now);
        }
        let before = self.on_disk.as_ref().filter(|text| text.is_ours());
        let job = Job {
            text: wanted.text.clone(),
            before: before.map(|text| Arc::clone(&text.text)),
            reload,
            search: Search {
                config: Arc::clone(&loaded.config),
                renderer: Arc::clone(&loaded.renderer),
                valid: self.valid.clone(),
                wanted: wanted.servers.clone(),
            },
        };
        self.under_way = Some(stamp.clone());
        self.jobs.spawn(job::run(job, self.file.clone()));
    }

    fn reload_job(&self, target: &Target<'_>, now: Instant) -> Option<ReloadJob> {
        let loaded = target.desired.loaded();
        let config = &loaded.config;
        let allowed = self.reload_allowed_at(config.reload.min_interval);
        let in_vain = loaded.hides_stamp().is_some();
        if target.reasons.is_empty() || allowed.is_some_and(|at| now < at) || in_vain {
            return None;
        }
        let way = match (&config.haproxy.reload, &self.master) {
            (ReloadMethod::Command(command), _) => ReloadWay::Command(command.clone()),
            (_, Some(master)) => ReloadWay::MasterSocket(master.clone()),
            (_, None) => return None,
        };
        let known = target
            .last_worker
            .filter(|before| self.worker_text.is_known(before));
        let running = known
            .and_then(|before| before.stamp.as_ref())
            .and_then(|stamp| self.texts.text(stamp))
            .map(|text| after_others(target.desired.scope(), text));
        Some(ReloadJob {
            reasons: target.reasons.to_vec(),
            way,
            runtime: target.runtime.clone(),
            running,
            before: target.last_worker.cloned(),
            timeout: config.reload.timeout,
        })
    }

    fn stamps_in_use<'a>(&'a self, worker: Option<&'a Worker>) -> Vec<&'a Stamp> {
        let worker = worker.and_then(|worker| worker.stamp.as_ref());
        let on_disk = self.on_disk.as_ref().map(|text| &text.stamp);
        worker.into_iter().chain(on_disk).collect()
    }

    /// Takes a text that a worker may start with from now on, whether it could be saved or not; forgets those that none can
    /// run any more.
    fn know(&mut self, text: &Text, target: &Target<'_>) {
        self.texts.insert(&text.stamp, Arc::clone(&text.text));
        let seen = target.last_worker.and_then(|worker| worker.stamp.as_ref());
        let in_use = self.stamps_in_use(target.worker).into_iter();
        let keep = in_use.chain(seen).chain([&text.stamp]);
        let keep: Vec<Stamp> = keep.cloned().collect();
        self.texts.keep(&keep.iter().collect::<Vec<_>>());
    }

    /// Takes that the next text is another one: it is tried at once.
    pub(super) fn try_again(&mut self) {
        self.retry.succeeded();
    }

    /// Takes that the worker answers.
    pub(super) fn answered(&mut self, now: Instant) {
        self.rescue.answered(now);
    }

    /// Takes that no worker answers.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.rescue.failed(now);
    }

    /// Whether a reload is the last way to a worker that has not answered for a while, and there is somebody to do it: the
    /// master answers, or the worker that the command is to replace still runs.
    pub(super) async fn may_rescue(
        &self,
        wanted: Option<&Wanted>,
        last_worker: Option<&Worker>,
        state: &StateDir,
    ) -> bool {
        let Some(wanted) = wanted.map(|wanted| &wanted.text.stamp) else {
            return false;
        };
        if !self.jobs.is_empty() || !self.rescue.is_due(wanted, clock::now()) {
            return false;
        }
        match self.master() {
            Some(master) => reload::show_proc(&master.timeout(MASTER_WAIT))
                .await
                .is_ok(),
            None => {
                let last = last_worker.map(|worker| worker.pid);
                let last = last.or_else(|| state.remembered_pid());
                last.is_some_and(process::is_haproxy)
            }
        }
    }

    fn master(&self) -> Option<RuntimeApi> {
        self.master.clone().map(RuntimeApi::new)
    }

    /// Counts the workers that earlier reloads have left behind, and their sessions.
    pub(super) async fn count_old_workers(&mut self, journal: &mut Journal) {
        let Some(master) = self.master() else { return };
        self.old_workers = reload::old_workers(&master, MASTER_WAIT).await.ok();
        if self.old_workers.is_some() {
            journal.readings.old_workers = Some(clock::now());
        }
    }

    /// Looks whether somebody else has changed the file, or put another in its place.
    pub(super) async fn look_at_file(&mut self, journal: &mut Journal) {
        if !self.jobs.is_empty() {
            return;
        }
        if (self.is_foreign || self.on_disk.is_some()) && !self.file.may_replace().await {
            self.is_foreign = true;
            self.on_disk = None;
            self.worker_text.found_edit(clock::now());
            self.say_foreign(journal);
            return;
        }
        self.is_foreign = false;
        let Some(on_disk) = &self.on_disk else { return };
        let read = self.file.read().await;
        if read.is_ok() {
            journal.readings.file = Some(clock::now());
            journal.problems.clear("reading the file");
        }
        match read {
            Ok(Some(text)) if *text == *on_disk.text => {}
            Ok(text) => {
                tracing::warn!(path = %self.file.path().display(), "somebody else changed the file; writing it again");
                if text.is_some_and(|text| Stamp::genuine(&text).is_none()) {
                    self.worker_text.found_edit(clock::now());
                }
                self.on_disk = None;
            }
            Err(error) => {
                let advice = advice::of_file(&error);
                journal
                    .problems
                    .set("reading the file", chain(&error), advice);
            }
        }
    }

    fn say_foreign(&self, journal: &mut Journal) {
        let error = FileError::Foreign {
            path: self.file.path().to_owned(),
        };
        let advice = advice::of_file(&error);
        journal.problems.set("file", chain(&error), advice);
    }

    /// Takes that the worker goes on that was there before.
    pub(super) fn worker_goes_on(&mut self, now: Instant) {
        self.worker_text.goes_on(now);
    }

    /// Takes a worker that is seen for the first time; says whether a reload of ours has brought it. An earlier controller
    /// has `remembered` it if it runs the text that its stamp names.
    pub(super) async fn worker_appeared(
        &mut self,
        worker: &Worker,
        remembered: bool,
        journal: &mut Journal,
    ) -> bool {
        let genuine = remembered || !self.is_edited().await;
        self.worker_text.appeared(worker, genuine, clock::now());
        if !self.knows(worker) {
            journal.problems.set(
                "text",
                format!(
                    "HAProxy was started or reloaded while {} held another hand's text: what it runs is not known",
                    self.file.path().display()
                ),
                advice::UNKNOWN_TEXT,
            );
        }
        std::mem::take(&mut self.reloading)
    }

    /// Whether the text that this worker was started with is the one that its stamp names.
    pub(super) fn knows(&self, worker: &Worker) -> bool {
        self.worker_text.is_known(worker)
    }

    /// Whether there is a text in the file that another hand has written or changed.
    async fn is_edited(&self) -> bool {
        let Ok(Some(text)) = self.file.read().await else {
            return false;
        };
        let ours = self.on_disk.as_ref().filter(|on_disk| on_disk.is_ours());
        ours.is_none_or(|ours| *text != *ours.text) && Stamp::genuine(&text).is_none()
    }

    /// The text that this worker was started with, if it is known.
    pub(super) fn text_of(
        &mut self,
        worker: &Worker,
        scope: &Scope,
        state: &StateDir,
    ) -> Option<Arc<ConfigText>> {
        let stamp = worker.stamp.as_ref();
        let stamp = stamp.filter(|_| self.knows(worker))?;
        if self.texts.text(stamp).is_none() {
            self.texts.insert(stamp, state.load_text(stamp)?.into());
        }
        self.texts.parsed(stamp, scope)
    }

    /// Saves what could not be saved: it has not changed since, but a later start needs it.
    pub(super) fn save_again(&self, worker: Option<&Worker>, journal: &mut Journal) {
        if journal.is_unsaved(TEXTS) {
            let stamps = self.stamps_in_use(worker);
            let outcome = stamps.iter().try_for_each(|stamp| {
                let text = self.texts.text(stamp);
                text.map_or(Ok(()), |text| {
                    journal.state().save_text(stamp, text, &stamps)
                })
            });
            journal.saved(TEXTS, outcome);
        }
        if journal.is_unsaved(OUTPUTS) {
            let mut outputs = self.outputs.ours();
            let outcome =
                outputs.try_for_each(|(path, stamp)| journal.state().save_output(path, stamp));
            journal.saved(OUTPUTS, outcome);
        }
    }
}

/// All that a worker has read which has read this text.
fn after_others(scope: &Scope, text: &str) -> String {
    let all: Vec<&str> = scope.other_texts().chain([text]).collect();
    all.join("\n")
}

/// Whether HAProxy would run as root with this text, where a user of its own was named before: by a file that was moved
/// away, or a key that is gone. Nobody is given rights without a word; the text waits.
fn gives_rights(target: &Target<'_>, wanted: &Text, journal: &mut Journal) -> bool {
    let worker = target.worker.map(|worker| worker.pid);
    let config = &target.desired.loaded().config;
    let gives = config.haproxy.template.is_none()
        && worker.is_some_and(process::has_less_rights_than_its_master)
        && !taken_over::names_user(&wanted.text);
    if gives {
        journal.problems.set(
            "rights",
            "HAProxy would run as root with the built-in template: its worker has a user of its own, and neither config \
             nor file names it",
            advice::RIGHTS,
        );
    } else {
        journal.problems.clear("rights");
    }
    gives
}

/// A reload whose outcome cannot be seen is not begun; without one the template is a problem.
fn say_hidden_stamp(loaded: &LoadedConfig, journal: &mut Journal) {
    match loaded.hides_stamp() {
        Some(flaw) => {
            let problem =
                format!("HAProxy is not reloaded, as nobody could tell whether it was: {flaw}");
            journal.problems.set("stamp", problem, advice::STAMP);
        }
        None => journal.problems.clear("stamp"),
    }
}
