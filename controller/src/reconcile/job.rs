//! Writing the file and reloading, beside the cycle: a text in, an outcome out.
//!
//! `haproxy -c` takes tens of milliseconds and a reload may hang for its whole timeout; joins and leaves go on being
//! applied meanwhile. One job runs at a time.

use std::time::Duration;

use crate::config::ReloadWay;
use crate::haproxy::file::{ConfigFile, FileError};
use crate::haproxy::reload::{ReloadError, reload};
use crate::haproxy::runtime::RuntimeApi;
use crate::haproxy::Worker;
use crate::plan::ReloadReason;

use super::Text;

/// A text on its way to the disk.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) text: Text,
    /// What for, if the worker has to be reloaded; nothing for a mere write.
    pub(super) reload: Option<ReloadJob>,
}

/// The reload that follows the write.
#[derive(Clone, Debug)]
pub(super) struct ReloadJob {
    pub(super) reasons: Vec<ReloadReason>,
    pub(super) way: ReloadWay,
    pub(super) runtime: RuntimeApi,
    pub(super) before: Worker,
    pub(super) timeout: Duration,
}

/// How a job ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) job: Job,
    /// Whether the text is on the disk now.
    pub(super) written: bool,
    pub(super) result: Result<(), JobError>,
}

/// Why a text did not come into force.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Reload(#[from] ReloadError),
}

/// Stages, checks and writes the text, then reloads where that is asked for.
pub(super) async fn run(job: Job, file: ConfigFile, check_command: Vec<String>, check_timeout: Duration) -> Done {
    if let Err(error) = file.install(&job.text.text, &check_command, check_timeout).await {
        return Done { job, written: false, result: Err(error.into()) };
    }
    let result = match &job.reload {
        None => Ok(()),
        Some(how) => reload(&how.way, &how.runtime, Some(&how.before), &job.text.stamp, how.timeout)
            .await
            .map(|_| ())
            .map_err(JobError::from),
    };
    Done { job, written: true, result }
}
