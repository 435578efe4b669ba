//! Other files rendered from the same data (`[[file]]`): servers in, files on the disk and reloaded programs out.
//!
//! Each is on its own: one whose template, check or reload fails leaves the others, and HAProxy, as they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::config::{Config, OutputFile};
use planner::model::Servers;
use planner::pipeline::LoadedConfig;
use planner::render::{RenderError, Renderer};
use planner::stamp::Stamp;
use tokio::task::{JoinError, JoinSet};

use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::file::{ConfigFile, FileError, Replaced};
use crate::haproxy::process::{self, ProcessError};
use crate::reconcile::advice;
use crate::reconcile::journal::{Journal, OUTPUTS};
use crate::reconcile::retry::Retry;
use crate::state::StateDir;

/// The files, and what is under way for them.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    outputs: Vec<Output>,
    jobs: JoinSet<FileDone>,
}

#[derive(Debug)]
struct Output {
    settings: OutputFile,
    renderer: Arc<Renderer>,
    /// What was rendered last, and of which servers.
    rendered: Option<(Servers, Arc<str>)>,
    /// What is there, as far as is known.
    on_disk: Option<Arc<str>>,
    /// The text that this process, or an earlier one, has written or found to be as it should.
    ours: Option<Stamp>,
    /// It has changed, and the program that reads it does not know yet.
    unread: bool,
    under_way: bool,
    retry: Retry,
}

/// What is to be done for one file.
#[derive(Debug)]
struct FileJob {
    settings: OutputFile,
    text: Arc<str>,
    /// The text is there already; only the program has to be told.
    written: bool,
    /// What may be there without being kept.
    ours: Option<Stamp>,
    timeout: Duration,
}

/// How that ended.
#[derive(Debug)]
pub(in crate::reconcile) struct FileDone {
    path: PathBuf,
    text: Arc<str>,
    started: Instant,
    /// The text is on the disk.
    written: bool,
    /// What another hand had written there; a copy of it.
    copy: Option<PathBuf>,
    result: Result<(), FileJobError>,
}

#[derive(Debug, thiserror::Error)]
enum FileJobError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the command did not come to an end")]
    Process(#[from] ProcessError),
    #[error("the check command refuses it ({status}): {output}")]
    Invalid { status: String, output: String },
    #[error("it is written, but the reload command failed ({status}): {output}")]
    Reload { status: String, output: String },
}

impl FileJobError {
    fn advice(&self) -> String {
        let again = "it is tried again by itself";
        match self {
            Self::File(error) => advice::of_file(error),
            Self::Process(_) => format!("mend the command in `[[file]]`; {again}"),
            Self::Invalid { .. } => advice::TEMPLATE.to_owned(),
            Self::Reload { .. } => format!("look after the program that reads it; {again}"),
        }
    }
}

impl Outputs {
    /// Begins with what is on the disk.
    pub(super) fn new(loaded: &LoadedConfig, state: &StateDir) -> Self {
        let mut outputs = Self::default();
        outputs.set_loaded(loaded, state);
        outputs
    }

    /// What was written where, by this process or an earlier one.
    pub(super) fn ours(&self) -> impl Iterator<Item = (&Path, &Stamp)> {
        let outputs = self.outputs.iter();
        outputs.filter_map(|output| Some((&*output.settings.path, output.ours.as_ref()?)))
    }

    /// Takes the files of a design. What is on the disk counts as known to its reader.
    pub(super) fn set_loaded(&mut self, loaded: &LoadedConfig, state: &StateDir) {
        let mut outputs = Vec::new();
        for (settings, renderer) in &loaded.files {
            let before = self
                .outputs
                .iter_mut()
                .find(|output| output.settings == *settings);
            let (on_disk, unread, under_way) = match before {
                Some(before) => (before.on_disk.take(), before.unread, before.under_way),
                None => {
                    let text = ConfigFile::unmarked(&settings.path).read_now();
                    (text.ok().flatten().map(Into::into), false, false)
                }
            };
            outputs.push(Output {
                settings: settings.clone(),
                renderer: Arc::clone(renderer),
                rendered: None,
                on_disk,
                ours: state.load_output(&settings.path),
                unread,
                under_way,
                retry: Retry::default(),
            });
        }
        self.outputs = outputs;
    }

    /// The end of a job; waits for ever while there is none.
    pub(super) async fn next_done(&mut self) -> Result<FileDone, JoinError> {
        match self.jobs.join_next().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// When a file that failed is due again.
    pub(super) fn retry_at(&self) -> impl Iterator<Item = Instant> {
        self.outputs.iter().filter_map(|output| output.retry.at())
    }

    /// Whether nothing is under way or left to be done.
    pub(super) fn are_idle(&self) -> bool {
        let idle = |output: &Output| !output.under_way && output.retry.at().is_none();
        self.outputs.iter().all(idle)
    }

    fn output(&mut self, path: &Path) -> Option<&mut Output> {
        let mut outputs = self.outputs.iter_mut();
        outputs.find(|output| output.settings.path == path)
    }
}

impl Output {
    /// Its text with these servers; it is rendered anew only where they are others.
    fn text(&mut self, config: &Config, servers: &Servers) -> Result<Arc<str>, RenderError> {
        if let Some((of, text)) = &self.rendered
            && of == servers
        {
            return Ok(Arc::clone(text));
        }
        let text: Arc<str> = self.renderer.render_plain(config, servers)?.into();
        self.rendered = Some((servers.clone(), Arc::clone(&text)));
        Ok(text)
    }
}

impl Outputs {
    /// Starts what has to be done so that each file lists these servers.
    pub(super) fn step(&mut self, config: &Config, servers: &Servers, journal: &mut Journal) {
        let now = clock::now();
        let timeout = config.reload.timeout;
        for output in &mut self.outputs {
            if output.under_way || !output.retry.is_due(now) {
                continue;
            }
            let path = output.settings.path.display().to_string();
            let text = match output.text(config, servers) {
                Ok(text) => text,
                Err(error) => {
                    journal.problems.set(
                        &path,
                        format!("{path} is behind: {error}"),
                        advice::TEMPLATE,
                    );
                    output.retry.failed(now);
                    continue;
                }
            };
            let written = output.on_disk.as_ref() == Some(&text);
            if written && output.ours.is_none() {
                output.ours = Some(Stamp::of_blank(&text));
            }
            if written && !output.unread {
                journal.problems.clear(&path);
                output.retry.succeeded();
                continue;
            }
            output.under_way = true;
            let settings = output.settings.clone();
            self.jobs.spawn(run(FileJob {
                ours: output.ours.clone(),
                settings,
                text,
                written,
                timeout,
            }));
        }
    }

    /// Takes the end of a job.
    pub(super) fn finish(&mut self, done: Result<FileDone, JoinError>, journal: &mut Journal) {
        let Ok(done) = done else {
            tracing::warn!("writing a file ended unexpectedly");
            for output in &mut self.outputs {
                output.under_way = false;
            }
            return;
        };
        let path = done.path.display().to_string();
        if let Some(copy) = &done.copy {
            tracing::warn!(path, copy = %copy.display(), "wrote the file over what somebody else had in it; a copy of that is kept");
        }
        if done.written {
            let stamp = Stamp::of_blank(&done.text);
            let saved = journal.state().save_output(&done.path, &stamp);
            journal.saved(OUTPUTS, saved);
        }
        let error = done.result.as_ref().err().map(|error| chain(error));
        if let Some(output) = self.output(&done.path) {
            output.under_way = false;
            if done.written {
                output.on_disk = Some(Arc::clone(&done.text));
                output.ours = Some(Stamp::of_blank(&done.text));
                output.unread = done.result.is_err();
            }
            match &error {
                None => output.retry.succeeded(),
                Some(_) => output.retry.failed(clock::now()),
            }
        }
        match &error {
            None => journal.problems.clear(&path),
            Some(error) => {
                let advice = done.result.as_ref().err().map(FileJobError::advice);
                let problem = format!("{path}: {error}");
                journal
                    .problems
                    .set(&path, problem, advice.unwrap_or_default());
            }
        }
        journal.record_output(path, done.started, error);
    }
}

async fn run(job: FileJob) -> FileDone {
    let started = clock::now();
    let (mut written, mut copy) = (job.written, None);
    let result = perform(&job, &mut written, &mut copy).await;
    FileDone {
        path: job.settings.path,
        text: job.text,
        started,
        written,
        copy,
        result,
    }
}

async fn perform(
    job: &FileJob,
    written: &mut bool,
    copy: &mut Option<PathBuf>,
) -> Result<(), FileJobError> {
    let settings = &job.settings;
    if !*written {
        let file = ConfigFile::unmarked(&settings.path);
        let staged = file.stage(&*job.text).await?;
        if let Some(check) = &settings.check_command {
            let checked = staged.check(check, job.timeout).await?;
            if !checked.valid {
                return Err(FileJobError::Invalid {
                    status: checked.status,
                    output: checked.output.trim().to_owned(),
                });
            }
        }
        let (ours, text) = (job.ours.clone(), Arc::clone(&job.text));
        let known = move |there: &str| *there == *text || ours == Some(Stamp::of_blank(there));
        if let Replaced::Edited(kept) = staged.commit(known).await? {
            *copy = Some(kept);
        }
        *written = true;
    }
    if let Some(reload) = &settings.reload_command {
        let finished = process::run(reload, job.timeout).await?;
        if !finished.status.success() {
            return Err(FileJobError::Reload {
                status: process::describe(finished.status),
                output: finished.output.trim().to_owned(),
            });
        }
    }
    Ok(())
}
