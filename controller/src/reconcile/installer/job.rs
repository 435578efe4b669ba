//! Writing the file and reloading, beside the cycle: a text in, an outcome out.
//!
//! `haproxy -c` takes tens of milliseconds and a reload may hang for its whole timeout; joins and leaves go on being
//! applied meanwhile. One job runs at a time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::model::{ServerKey, Worker};
use planner::pipeline::{OffendingServer, Text};
use planner::plan::ReloadReason;
use planner::review::changed::changed_servers;
use planner::stamp::Stamp;
use tokio::task::spawn_blocking;

use super::search::Search;
use crate::clock;
use crate::haproxy::file::{Checked, ConfigFile, FileError, Replaced};
use crate::haproxy::listen::{self, Taken};
use crate::haproxy::message::{HaproxyMessage, Level, first_alert};
use crate::haproxy::process::ProcessError;
use crate::haproxy::reload::{ReloadError, ReloadWay, reload};
use crate::haproxy::runtime::{RuntimeApi, RuntimeError};
use crate::reconcile::advice;

/// A text on its way to the disk.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) text: Text,
    /// What is on the disk before it, as far as we know.
    pub(super) before: Option<Arc<str>>,
    /// What for, if the worker has to be reloaded; nothing for a mere write.
    pub(super) reload: Option<ReloadJob>,
    /// Who is to blame, should the text be refused.
    pub(super) search: Search,
}

/// Servers that the history names of a text.
const DIFFERING: usize = 40;

/// The reload that follows the write.
#[derive(Clone, Debug)]
pub(super) struct ReloadJob {
    pub(super) reasons: Vec<ReloadReason>,
    pub(super) way: ReloadWay,
    pub(super) runtime: RuntimeApi,
    /// The worker that was seen last.
    pub(super) before: Option<Worker>,
    /// What that worker was started with, where it is known.
    pub(super) running: Option<String>,
    pub(super) timeout: Duration,
}

/// How a job ended.
#[derive(Debug)]
pub(in crate::reconcile) struct Done {
    pub(super) job: Job,
    pub(super) started: Instant,
    /// Whether the text is on the disk now.
    pub(super) written: bool,
    /// What was on the disk before.
    pub(super) replaced: Replaced,
    /// The servers that differ from those of the text before.
    pub(super) diff: Vec<String>,
    /// The worker that a reload has brought.
    pub(super) result: Result<Option<Worker>, JobError>,
    /// Who makes the text invalid.
    pub(super) offenders: Vec<(ServerKey, OffendingServer)>,
}

/// Why a text did not come into force.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the check command did not run")]
    Check(#[from] ProcessError),
    #[error(
        "the check command refuses the file ({status}): {}",
        refusal(messages, output)
    )]
    Invalid {
        status: String,
        messages: Vec<HaproxyMessage>,
        output: String,
    },
    #[error(transparent)]
    Listen(#[from] Taken),
    #[error(transparent)]
    Reload(#[from] ReloadError),
}

impl JobError {
    /// Whether another text might do better: nothing is wrong with the disk or the commands.
    pub(super) fn is_of_the_text(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. } | Self::Listen(_) | Self::Reload(_)
        )
    }

    /// What to do about it.
    pub(super) fn advice(&self) -> String {
        let mend = "mend the template or the config and reload serf-haproxy";
        match self {
        Self::File(error) => advice::of_file(error),
        Self::Check(_) => {
            "mend `[haproxy] check_command`; HAProxy and its file stay as they are".to_owned()
        }
        Self::Invalid { .. } => {
            format!("{mend}; HAProxy and its file stay as they are until then")
        }
        Self::Listen(_) => {
            format!(
                "free that port, or {mend}; HAProxy and its file stay as they are until then"
            )
        }
        Self::Reload(ReloadError::Master(RuntimeError::Connect { socket, source }))
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            format!(
                "start HAProxy with `-S {},mode,660,group,…` and a group of the user that runs serf-haproxy (on Debian \
                 EXTRAOPTS in /etc/default/haproxy)",
                socket.display()
            )
        }
        Self::Reload(_) => {
            "HAProxy's own log says why (`journalctl -u haproxy`); the old worker serves on, and it is tried again by itself"
                .to_owned()
        }
    }
    }

    /// Whether the file is another's now.
    pub(super) fn is_of_another_file(&self) -> bool {
        matches!(self, Self::File(FileError::Foreign { .. }))
    }

    /// The line of the text that is wrong, where one is known.
    pub(super) fn line(&self) -> Option<usize> {
        let messages = match self {
            Self::Invalid { messages, .. } => messages,
            Self::Listen(taken) => return Some(taken.line),
            _ => return None,
        };
        let alerts = messages
            .iter()
            .filter(|message| message.level == Level::Alert);
        alerts
            .filter_map(|message| message.location.as_ref())
            .map(|(_, line)| *line)
            .next()
    }
}

/// What a check command says first, or else all of it.
pub(super) fn refusal(messages: &[HaproxyMessage], output: &str) -> String {
    let alert = first_alert(messages);
    alert.map_or_else(|| output.trim().to_owned(), ToString::to_string)
}

/// Stages, checks and writes the text, then reloads where that is asked for.
pub(super) async fn run(job: Job, file: ConfigFile) -> Done {
    let started = clock::now();
    let timeout = job.search.config.reload.timeout;
    let replaced = match install(&job, &file, timeout).await {
        Ok(replaced) => replaced,
        Err(error) => {
            let offenders = match &error {
                JobError::Invalid { .. } => job.search.run(&file, timeout).await,
                _ => Vec::new(),
            };
            return Done {
                job,
                started,
                written: false,
                replaced: Replaced::Known,
                diff: Vec::new(),
                result: Err(error),
                offenders,
            };
        }
    };
    let diff = difference(&job).await;
    let result = match &job.reload {
        None => Ok(None),
        Some(how) => how.run(&job.text).await.map(Some),
    };
    Done {
        job,
        started,
        written: true,
        replaced,
        diff,
        result,
        offenders: Vec::new(),
    }
}

/// The servers that differ, for the history: looked for on a thread of its own, as texts may be long.
async fn difference(job: &Job) -> Vec<String> {
    let Some(before) = job.before.clone() else {
        return Vec::new();
    };
    let after = Arc::clone(&job.text.text);
    let differing = move || changed_servers(&before, &after, DIFFERING);
    spawn_blocking(differing).await.unwrap_or_default()
}

/// Puts the text on the disk; says what it took the place of.
async fn install(job: &Job, file: &ConfigFile, timeout: Duration) -> Result<Replaced, JobError> {
    let staged = file.stage(&*job.text.text).await?;
    let command = &job.search.config.haproxy.check_command;
    let checked = staged.check(command, timeout).await?;
    if !checked.valid {
        let Checked {
            status,
            messages,
            output,
            ..
        } = checked;
        return Err(JobError::Invalid {
            status,
            messages,
            output,
        });
    }
    let running = job.reload.as_ref().and_then(|how| how.running.as_ref());
    if let Some(running) = running {
        listen::try_new(&job.text.text, running)?;
    }
    let before = job.before.clone();
    let known = move |text: &str| before.as_deref() == Some(text) || Stamp::genuine(text).is_some();
    Ok(staged.commit(known).await?)
}

impl ReloadJob {
    async fn run(&self, text: &Text) -> Result<Worker, JobError> {
        let worker = reload(
            &self.way,
            &self.runtime,
            self.before.as_ref(),
            &text.stamp,
            self.timeout,
        )
        .await?;
        Ok(worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masters_socket_that_lets_nobody_in_is_opened_where_haproxy_is_started() {
        let denied = |kind: io::ErrorKind| {
            JobError::Reload(ReloadError::Master(RuntimeError::Connect {
                socket: "/run/haproxy-master.sock".into(),
                source: kind.into(),
            }))
        };
        let advice = denied(io::ErrorKind::PermissionDenied).advice();
        assert!(
            advice.starts_with("start HAProxy with `-S /run/haproxy-master.sock,mode,660,group,…`"),
            "{advice}"
        );
        assert!(!denied(io::ErrorKind::NotFound).advice().contains("-S"));
    }
}
