//! The end of a job: what it did in; what the other owners have to know, and what needs a person, out.

use std::sync::Arc;

use planner::model::{ServerKey, Worker};
use planner::pipeline::{OffendingServer, Text, Wanted};
use planner::stamp::Stamp;
use tokio::task::JoinError;

use super::job::{Done, Job, JobError};
use super::{Installer, Target, outputs};
use crate::clock;
use crate::error_chain::chain;
use crate::haproxy::file::Replaced;
use crate::reconcile::advice;
use crate::reconcile::journal::Journal;
use crate::reconcile::journal::record::Written;

/// The end of a job.
#[derive(Debug)]
pub(in crate::reconcile) enum Ended {
    /// Of HAProxy's file.
    File(Result<Box<Done>, JoinError>),
    /// Of another file.
    Output(Result<outputs::FileDone, JoinError>),
}

/// How a job ended, for the other owners.
#[derive(Debug)]
pub(in crate::reconcile) enum Installed {
    /// The text is on the disk; the worker that a reload has brought.
    Done {
        stamp: Stamp,
        reloaded: Option<Worker>,
    },
    /// The text is not in force: why, and what to do.
    Refused {
        problem: String,
        advice: String,
        /// Another text might do better: nothing is wrong with the disk or the commands.
        of_the_text: bool,
        /// The servers that it is invalid with.
        offenders: Vec<(ServerKey, OffendingServer)>,
    },
    /// What the journal was told says it all.
    Nothing,
}

impl Installer {
    /// Takes the end of a job.
    pub(in crate::reconcile) fn finish(
        &mut self,
        ended: Ended,
        target: &Target<'_>,
        journal: &mut Journal,
    ) -> Installed {
        if let Ended::File(_) = ended {
            self.under_way = None;
        }
        match ended {
            Ended::Output(done) => {
                self.outputs.finish(done, journal);
                Installed::Nothing
            }
            Ended::File(Ok(done)) => self.finish_job(*done, target, journal),
            Ended::File(Err(_)) => {
                journal.problems.set(
                    "file",
                    "writing the file ended unexpectedly",
                    advice::PANICKED,
                );
                self.retry.failed(clock::now());
                Installed::Nothing
            }
        }
    }

    fn finish_job(&mut self, done: Done, target: &Target<'_>, journal: &mut Journal) -> Installed {
        let Done {
            job,
            started,
            written,
            replaced,
            diff,
            result,
            offenders,
        } = done;
        if written {
            journal.counters.writes += 1;
            journal.readings.file = Some(clock::now());
            let parsed = Arc::new(target.desired.scope().read(&job.text.text));
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
                .replaced_edit(target.worker, started, clock::now());
        }
        journal.record_written(Written {
            path: self.file.path(),
            stamp: &job.text.stamp,
            reload: job.reload.as_ref().map(|reload| &*reload.reasons),
            replaced: &replaced,
            before: job.before.is_some(),
            started,
            diff,
            error: result.as_ref().err().map(|error| chain(error)),
        });
        if job.reload.is_some() {
            self.last_reload = Some(clock::now());
            self.reloading &= result.is_ok();
        }
        match result {
            Ok(reloaded) => {
                journal.problems.clear("file");
                self.retry.succeeded();
                if let Some(worker) = &reloaded {
                    self.worker_text.reloaded(worker.clone());
                }
                if let Some(reload) = &job.reload {
                    journal.count_reload(&reload.reasons);
                }
                let stamp = job.text.stamp;
                Installed::Done { stamp, reloaded }
            }
            Err(error) => self.refused(&job, &error, offenders, target, journal),
        }
    }

    fn refused(
        &mut self,
        job: &Job,
        error: &JobError,
        offenders: Vec<(ServerKey, OffendingServer)>,
        target: &Target<'_>,
        journal: &mut Journal,
    ) -> Installed {
        self.retry.failed(clock::now());
        self.is_foreign = error.is_of_another_file();
        if self.is_foreign {
            self.say_foreign(journal);
            return Installed::Nothing;
        }
        let what = if job.reload.is_some() {
            "the reload failed"
        } else {
            "the file is behind"
        };
        let origin = origin_in_template(job, error, target.desired.wanted());
        Installed::Refused {
            problem: format!("{what}: {}{origin}", chain(error)),
            advice: error.advice(),
            of_the_text: error.is_of_the_text(),
            offenders,
        }
    }
}

/// Where in the template the line comes from that HAProxy complains of, as words to add.
fn origin_in_template(job: &Job, error: &JobError, wanted: Option<&Wanted>) -> String {
    let origin = || {
        let wanted = wanted.filter(|wanted| wanted.text.stamp == job.text.stamp)?;
        wanted.rendered.origin(error.line()?)
    };
    origin().map_or_else(String::new, |origin| {
        format!(", which comes from {}:{}", origin.template, origin.line)
    })
}
