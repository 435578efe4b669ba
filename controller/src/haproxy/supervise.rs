//! HAProxy as a child (`spawn = true`): a configuration file in, a running master out, for as long as it is wanted.
//!
//! The master is started once its file is there, started again whenever it ends, and told to finish softly at the end.
//! It outlives a killed controller: the next one finds it by its process id, and starts none beside it. Orphans are left to
//! process 1: in a container that is `docker run --init` or s6.
//!
//! Source: HAProxy's Management Guide, section 4 "Stopping and restarting HAProxy".

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::process::describe;
use crate::owner;

/// The first pause before HAProxy is started again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// HAProxy that has run this long ended for a new reason.
const SOUND: Duration = Duration::from_secs(10);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// How long a master that is asked to end at once may take before it is killed.
const LAST: Duration = Duration::from_secs(2);

/// What is supervised.
#[derive(Clone, Debug)]
pub(crate) struct Supervised {
    /// The program.
    pub program: PathBuf,
    /// Files that it reads before its configuration file.
    pub files: Vec<PathBuf>,
    /// Its configuration file; nothing starts before it is there.
    pub config: PathBuf,
    /// Where its master listens, for reloads.
    pub master_socket: PathBuf,
    /// Where its process id is kept for a later controller.
    pub pid_file: PathBuf,
}

/// A supervised HAProxy; dropped, it goes on without supervision.
#[derive(Debug)]
pub(crate) struct Supervisor {
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts HAProxy as soon as its file is there, or takes over the one that an earlier controller has started.
    pub(crate) fn start(what: Supervised) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(what.run(stopped));
        Self { stop, task }
    }

    /// Ends HAProxy when its running requests are finished, at the latest after `soft_stop`.
    pub(crate) async fn stop(self, soft_stop: Duration) {
        let _ = self.stop.send(soft_stop);
        // A panic in the task is all that could go wrong here, and it has been reported.
        let _ = self.task.await;
    }
}

/// The master, ours or an earlier controller's.
enum Master {
    Child(Child),
    ProbeResult(Pid),
}

impl Supervised {
    async fn run(self, mut stop: oneshot::Receiver<Duration>) {
        let mut pause = BACKOFF.0;
        loop {
            let mut master = tokio::select! {
                master = self.master() => master,
                _ = &mut stop => break,
            };
            let started = Instant::now();
            let ended = match &mut master {
                Ok(master) => tokio::select! {
                    ended = master.ended() => ended,
                    soft_stop = &mut stop => {
                        end(master, soft_stop.unwrap_or_default()).await;
                        break;
                    }
                },
                Err(error) => format!("cannot run {}: {error}", self.program.display()),
            };
            if started.elapsed() >= SOUND {
                pause = BACKOFF.0;
            }
            tracing::warn!(
                "HAProxy ended: {ended}; starting it again in {} ms",
                pause.as_millis()
            );
            tokio::select! {
                () = sleep(pause) => {}
                _ = &mut stop => break,
            }
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// The one that runs, or a new one.
    async fn master(&self) -> io::Result<Master> {
        if let Some(pid) = self.running() {
            tracing::info!(
                pid = pid.as_raw_nonzero(),
                "taking over the HAProxy of an earlier controller"
            );
            return Ok(Master::ProbeResult(pid));
        }
        while !self.config.exists() {
            sleep(LOOK).await;
        }
        let socket = self.socket_argument();
        let files = self.files.iter().chain([&self.config]);
        let mut command = Command::new(&self.program);
        command
            .args(["-W", "-S", &socket])
            .args(files.flat_map(|file| [OsStr::new("-f"), file.as_os_str()]))
            .stdin(Stdio::null())
            .process_group(0);
        let child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        tracing::info!(pid, "started HAProxy");
        if let Err(error) = self.note(pid) {
            tracing::warn!(%error, path = %self.pid_file.display(), "a later controller will not find this HAProxy");
        }
        Ok(Master::Child(child))
    }

    /// Writes down its process id.
    fn note(&self, pid: u32) -> io::Result<()> {
        let mut file = owner::open(&self.pid_file, false)?;
        file.set_len(0)?;
        file.write_all(pid.to_string().as_bytes())
    }

    /// The master that an earlier controller has started; a process that only has its number is none.
    fn running(&self) -> Option<Pid> {
        let pid = String::from_utf8(owner::read(&self.pid_file).ok()?).ok()?;
        let pid = to_pid(pid.trim().parse().ok()?)?;
        let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        let socket = self.socket_argument();
        let is_ours = words
            .split(|byte| *byte == 0)
            .any(|word| word == socket.as_bytes());
        (is_ours && is_running(pid)).then_some(pid)
    }

    fn socket_argument(&self) -> String {
        format!("{},mode,600", self.master_socket.display())
    }
}

/// Lets running requests finish, then ends what is left.
async fn end(master: &mut Master, soft_stop: Duration) {
    tracing::info!(
        "HAProxy finishes its running requests, for at most {} s",
        soft_stop.as_secs()
    );
    for (signal, wait) in [
        (Signal::USR1, soft_stop),
        (Signal::TERM, LAST),
        (Signal::KILL, LAST),
    ] {
        if let Some(pid) = master.pid() {
            // It may have ended this moment.
            let _ = kill_process(pid, signal);
        }
        if let Ok(ended) = timeout(wait, master.ended()).await {
            tracing::info!("HAProxy ended: {ended}");
            return;
        }
    }
}

impl Master {
    fn pid(&self) -> Option<Pid> {
        match self {
            Self::Child(child) => child.id().and_then(to_pid),
            Self::ProbeResult(pid) => Some(*pid),
        }
    }

    /// Waits for its end, and says what it was.
    async fn ended(&mut self) -> String {
        match self {
            Self::Child(child) => match child.wait().await {
                Ok(status) => describe(status),
                Err(error) => error.to_string(),
            },
            Self::ProbeResult(pid) => {
                while is_running(*pid) {
                    sleep(LOOK).await;
                }
                "it was not a child of this process".to_owned()
            }
        }
    }
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether there is such a process, other than a zombie.
fn is_running(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    fs::read_to_string(Path::new(&path)).is_ok_and(|stat| state(&stat) != Some("Z"))
}

/// The state in `/proc/<pid>/stat`; the name before it may hold anything.
fn state(stat: &str) -> Option<&str> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_proc_forges_no_field() {
        let stat = "12 (a) Z 1 ) S 7 99 12 0 -1";
        assert_eq!(state(stat), Some("S"));
        assert_eq!(state(""), None);
    }
}
