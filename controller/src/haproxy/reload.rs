//! A reload: the way to trigger it in, the worker that came of it out, or why none came.
//!
//! Whatever the way says, only another worker than before, with the expected stamp, on a fresh connection to the Runtime
//! API, is a success: `haproxy -c` does not bind, `systemctl reload` returns early, HAProxy 2.6 says nothing.

use std::time::Duration;

use planner::model::{OldWorker, Worker};
use planner::runtime::reply::{self, Master};
use planner::stamp::Stamp;
use tokio::time::{Instant, sleep, timeout_at};

use super::message::{HaproxyMessage, messages};
use super::process::{self, ProcessError};
use super::runtime::{RuntimeApi, RuntimeError};
use super::session::ask_once;
use super::socket::Socket;

/// How long the master socket may refuse connections before a reload is given up; HAProxy 2.6 closes it while it loads.
const MASTER_WAIT: Duration = Duration::from_secs(2);

/// How long a new worker with another stamp is borne with, before that counts as the outcome.
const OTHER_STAMP: Duration = Duration::from_secs(2);

/// How many old workers are asked for their sessions.
const OLD_WORKERS: usize = 16;

/// The pauses between two looks at the worker.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(2)..Duration::from_millis(50);

/// How HAProxy is told to reload.
#[derive(Clone, Debug)]
pub enum ReloadWay {
    /// `reload` on the master's socket (`haproxy -W -S`).
    MasterSocket(Socket),
    /// A command, without a shell; code 0 says that it was triggered.
    Command(Vec<String>),
}

/// Why there is no new worker with the expected stamp; unless it says otherwise the old worker goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The master could not be told; nothing was triggered.
    #[error("cannot ask haproxy's master to reload")]
    Master(#[source] RuntimeError),
    /// The master says that loading failed.
    #[error("haproxy could not load the new configuration{}", because(messages))]
    Failed {
        /// Its reasons; HAProxy 2.6 gives none here, they are in its log.
        messages: Vec<HaproxyMessage>,
    },
    /// The command did not come to an end.
    #[error("the reload command failed")]
    Command(#[from] ProcessError),
    /// The command ended with a code other than 0.
    #[error("the reload command failed with {status}: {output}")]
    CommandFailed {
        /// How it ended.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// The worker from before still answers when the time is up.
    #[error("haproxy still runs {worker} after {} s", after.as_secs_f32())]
    SameWorker {
        /// The worker.
        worker: Box<Worker>,
        /// How long was waited.
        after: Duration,
    },
    /// There is another worker, which was started with another text.
    #[error("haproxy reloaded, but {worker} has not the expected stamp {expected}")]
    OtherStamp {
        /// The worker.
        worker: Box<Worker>,
        /// The stamp of the text that was to be loaded.
        expected: Stamp,
    },
    /// No worker answers when the time is up.
    #[error("haproxy does not answer {} s after the reload", after.as_secs_f32())]
    NoWorker {
        /// How long was waited.
        after: Duration,
        /// What the last look ended with.
        source: RuntimeError,
    },
}

fn because(messages: &[HaproxyMessage]) -> String {
    use super::message::Level;
    messages
        .iter()
        .filter(|message| message.level == Level::Alert)
        .map(|message| format!("; {message}"))
        .collect()
}

/// Triggers a reload and waits until another worker than `before` runs with the `expected` stamp; `before` is the last one
/// seen, none when there was none.
///
/// # Errors
/// [`ReloadError`].
///
/// # Cancel safety
/// When dropped, a reload may be under way.
pub async fn reload(
    way: &ReloadWay,
    api: &RuntimeApi,
    before: Option<&Worker>,
    expected: &Stamp,
    timeout: Duration,
) -> Result<Worker, ReloadError> {
    let started = Instant::now();
    let watch = Watch {
        api,
        before,
        expected,
        started,
        timeout,
    };
    match way {
        ReloadWay::MasterSocket(socket) => {
            let master = RuntimeApi::new(socket.clone()).timeout(timeout);
            let failed = failed_reloads(&master).await.map_err(ReloadError::Master)?;
            trigger(&master).await?;
            watch.wait(Some((&master, failed))).await
        }
        ReloadWay::Command(command) => {
            let finished = process::run(command, timeout).await?;
            if !finished.status.success() {
                let status = process::describe(finished.status);
                return Err(ReloadError::CommandFailed {
                    status,
                    output: finished.output.trim_end().to_owned(),
                });
            }
            watch.wait(None).await
        }
    }
}

/// How many reloads failed in a row before this one; waits out that the master is loading already.
async fn failed_reloads(master: &RuntimeApi) -> Result<u32, RuntimeError> {
    let ends = Instant::now() + MASTER_WAIT;
    let master = master.clone().timeout(MASTER_WAIT / 4);
    loop {
        match show_proc(&master).await {
            Ok(found) => return Ok(found.failed),
            Err(error) if Instant::now() >= ends => return Err(error),
            Err(_) => sleep(PAUSE.end).await,
        }
    }
}

/// What the master says of itself and its workers; without `quit` it keeps the connection open.
pub async fn show_proc(master: &RuntimeApi) -> Result<Master, RuntimeError> {
    let reply = ask_once(master.door(), "show proc;quit\n").await?;
    Ok(reply::master(&reply)?)
}

/// The workers of earlier reloads, and for the first 16 how many sessions they hold, where they say so in time: each has
/// a fourth of `wait`, all together have it all.
///
/// # Errors
/// When the master does not answer within `wait`.
pub async fn old_workers(
    master: &RuntimeApi,
    wait: Duration,
) -> Result<Vec<OldWorker>, RuntimeError> {
    let pids = show_proc(&master.clone().timeout(wait)).await?.old_workers;
    let asked = master.clone().timeout(wait / 4);
    let ends = Instant::now() + wait;
    let mut workers = Vec::with_capacity(pids.len());
    for pid in pids {
        // a pid that is gone meanwhile leaves the connection open on 3.0 and 3.2
        let question = format!("@!{pid} show info;quit\n");
        let reply = async {
            let worth_it = workers.len() < OLD_WORKERS;
            let asking = worth_it.then(|| timeout_at(ends, ask_once(asked.door(), &question)))?;
            asking.await.ok()?.ok()
        };
        let sessions = reply
            .await
            .and_then(|reply| reply::connections(&reply).ok());
        workers.push(OldWorker { pid, sessions });
    }
    Ok(workers)
}

/// HAProxy 2.6 closes the connection without a word, later versions answer `Success=1` or `Success=0` when they are done,
/// with what they printed meanwhile.
async fn trigger(master: &RuntimeApi) -> Result<(), ReloadError> {
    match ask_once(master.door(), "reload\n").await {
        Ok(reply) if reply.starts_with("Success=0") => Err(ReloadError::Failed {
            messages: messages(&reply),
        }),
        Ok(_) | Err(RuntimeError::Io { .. }) => Ok(()),
        Err(error) => Err(ReloadError::Master(error)),
    }
}

/// What is waited for, and since when.
struct Watch<'a> {
    api: &'a RuntimeApi,
    before: Option<&'a Worker>,
    expected: &'a Stamp,
    started: Instant,
    timeout: Duration,
}

impl Watch<'_> {
    /// Looks at the worker, and at the master's count of failures where it is known, until one says how it ended.
    async fn wait(&self, master: Option<(&RuntimeApi, u32)>) -> Result<Worker, ReloadError> {
        let ends = self.started + self.timeout;
        self.api.forget();
        let mut other: Option<Instant> = None;
        let mut last = None;
        let mut pause = PAUSE.start;
        while let Ok(seen) = timeout_at(ends, self.api.worker()).await {
            last = Some(match self.judge(seen) {
                Ok(worker) => return Ok(worker),
                Err(error) => error,
            });
            if let Some(ReloadError::OtherStamp { .. }) = last
                && other.get_or_insert_with(Instant::now).elapsed() >= OTHER_STAMP
            {
                break;
            }
            if let Some((master, failed)) = master.filter(|_| pause == PAUSE.end)
                && show_proc(&master.clone().timeout(PAUSE.end * 5))
                    .await
                    .is_ok_and(|now| now.failed > failed)
            {
                return Err(ReloadError::Failed {
                    messages: Vec::new(),
                });
            }
            if timeout_at(ends, sleep(pause)).await.is_err() {
                break;
            }
            pause = (pause * 2).min(PAUSE.end);
        }
        Err(last.unwrap_or_else(|| {
            self.no_worker(RuntimeError::timeout(self.api.socket(), self.timeout))
        }))
    }

    /// The expected worker, or what it would mean if the time were up.
    fn judge(&self, seen: Result<Worker, RuntimeError>) -> Result<Worker, ReloadError> {
        let worker = seen.map_err(|source| self.no_worker(source))?;
        if !self.is_another(&worker) {
            return Err(ReloadError::SameWorker {
                worker: Box::new(worker),
                after: self.timeout,
            });
        }
        if worker.stamp.as_ref() != Some(self.expected) {
            return Err(ReloadError::OtherStamp {
                worker: Box::new(worker),
                expected: self.expected.clone(),
            });
        }
        Ok(worker)
    }

    fn no_worker(&self, source: RuntimeError) -> ReloadError {
        ReloadError::NoWorker {
            after: self.timeout,
            source,
        }
    }

    /// A worker with the same pid and stamp is another one when it has another start; where that is not told, when it is
    /// younger than the one from before would be by now.
    fn is_another(&self, worker: &Worker) -> bool {
        self.before.is_none_or(|before| {
            let waited = Duration::from_secs(self.started.elapsed().as_secs());
            let aged = Worker {
                uptime: before.uptime + waited,
                ..before.clone()
            };
            !aged.is_same(worker)
        })
    }
}

#[cfg(test)]
mod tests;
