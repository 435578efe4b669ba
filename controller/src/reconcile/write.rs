//! The file on the disk and the reload: when a job starts, what its end means, and which design holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::config::Config;
use planner::plan::ReloadReason;
use planner::review::taken_over;
use planner::stamp::Stamp;
use tokio::task::JoinError;

use super::job::{self, Done, Job, JobError, ReloadJob};
use super::offender::Search;
use super::remember::TEXTS;
use super::{MembershipFeed, Reconciler, Text, advice, chain, startup};
use crate::config;
use crate::haproxy::file::{FileError, Replaced};
use crate::haproxy::runtime::RuntimeApi;
use crate::haproxy::{process, reload};
use crate::others::Others;
use crate::templates;

/// How long the loop waits for HAProxy's master to count its workers, and then for those to count their sessions.
const MASTER_WAIT: Duration = Duration::from_millis(50);

impl Reconciler {
    /// Starts a job where the disk or the worker is behind, nothing else runs, and the time has come.
    pub(super) fn write_and_reload(&mut self) {
        let Some(wanted) = self.wanted.as_ref().map(|wanted| wanted.text.clone()) else {
            return;
        };
        let now = Instant::now();
        let on_disk = self
            .on_disk
            .as_ref()
            .is_some_and(|text| text.stamp == wanted.stamp);
        let settled = self
            .writes
            .update(&[((), wanted.stamp.clone())].into(), now)
            .contains_key(&());
        let settled = settled && self.writes.deadline().is_none();
        if settled {
            self.write_files();
        }
        if !self.jobs.is_empty() || !self.write_retry.is_due(now) || !settled || self.is_foreign {
            return;
        }
        let reload = self.reload_job(now);
        self.say_hidden_stamp();
        if on_disk && reload.is_none() {
            if self.plan.reload.is_empty() {
                self.problems.clear("file");
            }
            return;
        }
        if self.gives_rights(&wanted) {
            return;
        }
        let saved = self
            .state
            .save_text(&wanted.stamp, &wanted.text, &self.stamps_in_use());
        self.saved_state(TEXTS, saved);
        self.know(&wanted);
        self.reloading |= reload.is_some();
        if reload.is_some() && self.worker.is_none() {
            self.rescue.tried(&wanted.stamp, now);
        }
        let config = &self.loaded.config;
        let servers = self.wanted.as_ref().map(|wanted| wanted.servers.clone());
        let job = Job {
            text: wanted,
            before: self
                .on_disk
                .as_ref()
                .filter(|text| text.is_ours())
                .map(|text| Arc::clone(&text.text)),
            reload,
            search: Search {
                config: Arc::clone(config),
                renderer: Arc::clone(&self.loaded.renderer),
                valid: self.valid.clone(),
                wanted: servers.unwrap_or_default(),
            },
        };
        let (check, timeout) = (config.haproxy.check_command.clone(), config.reload.timeout);
        self.jobs
            .spawn(job::run(job, self.file.clone(), check, timeout));
    }

    /// Whether HAProxy would run as root with this text, where a user of its own was named before: by a file that was moved
    /// away, or a key that is gone. Nobody is given rights without a word; the text waits.
    fn gives_rights(&mut self, wanted: &Text) -> bool {
        let worker = self.worker.as_ref().map(|worker| worker.pid);
        let gives = self.loaded.config.haproxy.template.is_none()
            && worker.is_some_and(process::has_less_rights_than_its_master)
            && !taken_over::names_user(&wanted.text);
        if gives {
            self.problems.set(
                "rights",
                "HAProxy would run as root with the built-in template: its worker has a user of its own, and neither config \
                 nor file names it",
                advice::RIGHTS,
            );
        } else {
            self.problems.clear("rights");
        }
        gives
    }

    /// A reload whose outcome cannot be seen is not begun; without one the template is a problem.
    fn say_hidden_stamp(&mut self) {
        match self.loaded.hides_stamp() {
            Some(flaw) => {
                let problem =
                    format!("HAProxy is not reloaded, as nobody could tell whether it was: {flaw}");
                self.problems.set("stamp", problem, advice::STAMP);
            }
            None => self.problems.clear("stamp"),
        }
    }

    fn reload_job(&self, now: Instant) -> Option<ReloadJob> {
        let allowed = self.reload_allowed_at().is_none_or(|at| now >= at);
        let in_vain = self.loaded.hides_stamp().is_some();
        if self.plan.reload.is_empty() || !allowed || in_vain {
            return None;
        }
        let config = &self.loaded.config;
        let before = self.last_worker.clone();
        let known = before
            .as_ref()
            .filter(|before| self.worker_text.is_known(before));
        let running = known
            .and_then(|before| before.stamp.as_ref())
            .and_then(|stamp| self.texts.text(stamp))
            .map(|text| self.after_others(text));
        Some(ReloadJob {
            reasons: self.plan.reload.clone(),
            way: config.haproxy.reload.clone(),
            own_master: self.state.master_socket(),
            runtime: self.runtime.clone(),
            running,
            before,
            timeout: config.reload.timeout,
        })
    }

    /// All that a worker has read which has read this text.
    fn after_others(&self, text: &str) -> String {
        let all: Vec<&str> = self.scope.other_texts().chain([text]).collect();
        all.join("\n")
    }

    /// When the next reload may come; none if there was none yet.
    pub(super) fn reload_allowed_at(&self) -> Option<Instant> {
        self.last_reload
            .map(|at| at + self.loaded.config.reload.min_interval)
    }

    pub(super) fn stamps_in_use(&self) -> Vec<&Stamp> {
        let worker = self
            .worker
            .as_ref()
            .and_then(|worker| worker.stamp.as_ref());
        worker
            .into_iter()
            .chain(self.on_disk.as_ref().map(|text| &text.stamp))
            .collect()
    }

    /// Takes a text that a worker may start with from now on, whether it could be saved or not; forgets those that none can
    /// run any more.
    fn know(&mut self, text: &Text) {
        self.texts.insert(&text.stamp, Arc::clone(&text.text));
        let seen = self.last_worker.as_ref();
        let mut stamps: Vec<Stamp> = self.stamps_in_use().into_iter().cloned().collect();
        stamps.extend(seen.and_then(|worker| worker.stamp.clone()));
        stamps.push(text.stamp.clone());
        self.texts.keep(&stamps.iter().collect::<Vec<_>>());
    }

    /// Takes the end of a job.
    pub(super) fn finish(&mut self, done: Result<Done, JoinError>) {
        let Ok(Done {
            job,
            started,
            written,
            replaced,
            result,
            offenders,
        }) = done
        else {
            self.problems.set(
                "file",
                "writing the file ended unexpectedly",
                advice::PANICKED,
            );
            self.write_retry.failed(Instant::now());
            return;
        };
        if written {
            self.counters.writes += 1;
            self.readings.file = Some(Instant::now());
            let parsed = Arc::new(self.scope.read(&job.text.text));
            self.on_disk = Some(Text {
                parsed,
                ..job.text.clone()
            });
            self.valid = job.search.wanted.clone();
        }
        if let Replaced::Edited(copy) = &replaced {
            tracing::warn!(
                path = %self.file.path().display(),
                copy = %copy.display(),
                "wrote the file over what somebody else has changed in it; a copy of that is kept"
            );
        }
        if replaced != Replaced::Known {
            self.worker_text
                .replaced_edit(self.worker.as_ref(), started, Instant::now());
        }
        self.record_job(&job, started, &replaced, result.as_ref().err());
        if job.reload.is_some() {
            self.last_reload = Some(Instant::now());
            self.reloading &= result.is_ok();
        }
        match result {
            Ok(worker) => {
                self.problems.clear("file");
                if let Some(worker) = worker {
                    self.worker_text.reloaded(worker.clone());
                    if self
                        .worker
                        .as_ref()
                        .is_some_and(|seen| seen.is_same(&worker))
                    {
                        self.remember_worker(&worker);
                    }
                }
                self.write_retry.succeeded();
                let current = self
                    .wanted
                    .as_ref()
                    .is_some_and(|wanted| wanted.text.stamp == job.text.stamp);
                if current && (job.reload.is_some() || self.plan.reload.is_empty()) {
                    self.fallback = None;
                }
                if let Some(reload) = &job.reload {
                    self.count_reload(&reload.reasons);
                }
            }
            Err(error) => {
                let what = if job.reload.is_some() {
                    "the reload failed"
                } else {
                    "the file is behind"
                };
                let origin = self.template_line(&job, &error);
                let problem = format!("{what}: {}{origin}", chain(&error));
                self.write_retry.failed(Instant::now());
                self.is_foreign = error.is_of_another_file();
                if self.is_foreign {
                    self.say_foreign();
                } else if self.fallback.is_none() && self.quarantine(offenders) {
                    self.write_retry.succeeded();
                } else if error.is_of_the_text() && self.fallback.is_some() {
                    self.revert_config(&problem);
                } else {
                    self.problems.set("file", problem, advice::of_job(&error));
                }
            }
        }
    }

    /// Where in the template the line comes from that HAProxy complains of, as words to add.
    fn template_line(&self, job: &Job, error: &JobError) -> String {
        let origin = || {
            let wanted = self
                .wanted
                .as_ref()
                .filter(|wanted| wanted.text.stamp == job.text.stamp)?;
            wanted.rendered.origin(error.line()?)
        };
        origin().map_or_else(String::new, |origin| {
            format!(", which comes from {}:{}", origin.template, origin.line)
        })
    }

    fn count_reload(&mut self, reasons: &[ReloadReason]) {
        self.counters.reloads += 1;
        self.refusals = 0;
        self.refused = None;
        self.drift.reloaded();
        for reason in reasons {
            tracing::info!(reason = reason.label(), "reloaded HAProxy: {reason}");
        }
        if let Some(reason) = reasons.first() {
            *self
                .counters
                .reloads_by_reason
                .entry(reason.label().to_owned())
                .or_default() += 1;
        }
    }

    /// The socket of HAProxy's master, where there is one that we know of.
    fn master(&self) -> Option<RuntimeApi> {
        startup::master_socket(&self.loaded.config, &self.state).map(RuntimeApi::new)
    }

    /// Asks for a reload where that is the last way to a worker that has not answered for a while, and there is
    /// somebody to do it: the master answers, or the worker that the command is to replace still runs.
    pub(super) async fn look_for_rescue(&mut self) {
        let Some(wanted) = self.wanted.as_ref().map(|wanted| &wanted.text.stamp) else {
            return;
        };
        if !self.jobs.is_empty() || !self.rescue.is_due(wanted, Instant::now()) {
            return;
        }
        let there = match self.master() {
            Some(master) => reload::show_proc(&master.timeout(MASTER_WAIT))
                .await
                .is_ok(),
            None => {
                let last = self.last_worker.as_ref().map(|worker| worker.pid);
                last.or_else(|| self.state.remembered_pid())
                    .is_some_and(process::is_haproxy)
            }
        };
        if there {
            self.plan.reload.push(ReloadReason::Unreachable);
        }
    }

    /// Counts the workers that earlier reloads have left behind, and their sessions.
    pub(super) async fn count_old_workers(&mut self) {
        let Some(master) = self.master() else { return };
        self.old_workers = reload::old_workers(&master, MASTER_WAIT).await.ok();
        if self.old_workers.is_some() {
            self.readings.old_workers = Some(Instant::now());
        }
    }

    /// Looks whether somebody else has changed the file, or put another in its place.
    pub(super) async fn look_at_file(&mut self) {
        if !self.jobs.is_empty() {
            return;
        }
        if (self.is_foreign || self.on_disk.is_some()) && !self.file.may_replace().await {
            self.is_foreign = true;
            self.on_disk = None;
            self.worker_text.found_edit(Instant::now());
            self.say_foreign();
            return;
        }
        self.is_foreign = false;
        let Some(on_disk) = &self.on_disk else { return };
        let read = self.file.read().await;
        if read.is_ok() {
            self.readings.file = Some(Instant::now());
            self.problems.clear("reading the file");
        }
        match read {
            Ok(Some(text)) if *text == *on_disk.text => {}
            Ok(text) => {
                tracing::warn!(path = %self.file.path().display(), "somebody else changed the file; writing it again");
                if text.is_some_and(|text| Stamp::genuine(&text).is_none()) {
                    self.worker_text.found_edit(Instant::now());
                }
                self.on_disk = None;
            }
            Err(error) => {
                let advice = advice::of_file(&error);
                self.problems.set("reading the file", chain(&error), advice);
            }
        }
    }

    fn say_foreign(&mut self) {
        let error = FileError::Foreign {
            path: self.file.path().to_owned(),
        };
        let advice = advice::of_file(&error);
        self.problems.set("file", chain(&error), advice);
    }

    /// Reads config and template again. What does not load leaves everything as it is.
    ///
    /// Gives the new source of gossip where the agent is another.
    pub(super) async fn reload_config(&mut self) -> Option<MembershipFeed> {
        tracing::info!(path = %self.options.config_path.display(), "reading config and template again");
        let config = match config::load(&self.options.config_path, self.options.env.clone()) {
            Ok(config) => self.loaded.beside_taken_over(config),
            Err(error) => return self.refuse_config(&error),
        };
        if let Err(error) = startup::refuse_exposed(&config, &self.options.config_path) {
            return self.refuse_config(&error);
        }
        let loaded = match templates::load(config) {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse_config(&error),
        };
        if let Some(flaw) = loaded.hides_stamp() {
            self.problems.set(
                "template",
                format!("the template before stays in force: {flaw}"),
                advice::CONFIG,
            );
            return None;
        }
        templates::warn(&loaded);
        self.problems.clear("config");
        self.problems.clear("design");
        let fallback = std::mem::replace(&mut self.loaded, loaded);
        let agent = |config: &Config| {
            let serf = &config.serf;
            (serf.addr.clone(), serf.auth_key_file.clone(), serf.resync)
        };
        let other_agent = agent(&fallback.config) != agent(&self.loaded.config);
        self.look_at_fixed_keys();
        self.fallback.get_or_insert(fallback);
        self.apply_config();
        self.files.take(&self.loaded, &self.state).await;
        if !other_agent {
            return None;
        }
        self.watcher = startup::watch(&self.loaded.config, (*self.snapshot).clone());
        Some(MembershipFeed::of(&self.watcher))
    }

    /// Goes on with what is in force, and says why until something else can be read.
    fn refuse_config(&mut self, error: &dyn std::error::Error) -> Option<MembershipFeed> {
        let problem = format!("config or template cannot be used: {}", chain(error));
        self.problems.set("config", problem, advice::CONFIG);
        None
    }

    /// Says which keys wait for the next start.
    fn look_at_fixed_keys(&mut self) {
        let keys = self.loaded.config.needs_restart(&self.started_with);
        if keys.is_empty() {
            self.problems.clear("restart");
        } else {
            let problem = format!("changed, and not in force: {}", keys.join(", "));
            self.problems.set("restart", problem, advice::RESTART);
        }
    }

    /// Goes back to the design before, if the one in force has not proven itself yet.
    pub(super) fn revert_config(&mut self, why: &str) {
        if let Some(fallback) = self.fallback.take() {
            let problem = format!("the config and template before are in force: {why}");
            self.problems.set("design", problem, advice::CONFIG);
            self.loaded = fallback;
            self.apply_config();
        }
    }

    fn apply_config(&mut self) {
        let config = Arc::clone(&self.loaded.config);
        self.guard.set_rules(self.loaded.rules());
        self.guard.forget(self.loaded.scope.fixed_servers());
        self.additions.set_quiet(self.loaded.quiet());
        self.writes.set_quiet(self.loaded.quiet());
        self.runtime = startup::runtime_api(&config, &self.state);
        self.wanted = None;
        match self.worker.clone() {
            Some(worker) => self.look_at_others(&worker),
            None => self.take_scope(Others::now(&config.haproxy.files).files),
        }
        self.offenders.clear();
        self.write_retry.succeeded();
        self.select();
    }
}
