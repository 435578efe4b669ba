//! Supervised processes: a command goes in, a process with a log file comes out that cannot outlive
//! the one that started it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::environment::wait::wait_some;

/// A command that takes longer hangs, on a busy machine too.
const LONGEST: Duration = Duration::from_secs(60);

/// A running process in a process group of its own. Killed, group and all, when dropped; killed by
/// the kernel when the process that started it dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// When the log file cannot be opened or nothing can be started.
    pub fn start(
        name: impl Into<String>,
        command: &Command,
        log: impl Into<PathBuf>,
    ) -> Result<Self> {
        Self::start_with(name, command, log, Stdio::null())
    }

    /// The same with a standard input of the caller's choice.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_with(
        name: impl Into<String>,
        command: &Command,
        log: impl Into<PathBuf>,
        stdin: Stdio,
    ) -> Result<Self> {
        let (name, log) = (name.into(), log.into());
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut bound = Command::new("setpriv");
        bound
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program());
        bound.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(key, value),
                None => bound.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            bound.current_dir(dir);
        }
        bound
            .process_group(0)
            .stdin(stdin)
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = spawn(bound).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// What it was called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is also its group's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes its standard input, where it was started with a pipe.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal to this process alone.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_pid(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL to the whole group; returns when the process is gone.
    pub fn kill(&mut self) {
        if let Some(group) = as_pid(self.pid())
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not within `timeout`.
    pub async fn exited(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("{} to exit", self.name);
        wait_some(&what, timeout, async || {
            self.child.try_wait().ok().flatten()
        })
        .await
    }

    /// Everything it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Its log file.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process by its id.
///
/// # Errors
/// When there is no such process, or it is not ours.
pub fn signal_pid(pid: u32, signal: Signal) -> Result<()> {
    let pid = as_pid(pid).ok_or_else(|| anyhow!("{pid} is no process id"))?;
    Ok(kill_process(pid, signal)?)
}

/// Whether a process of this id exists and is no zombie. While any of its threads is, its sockets are.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().any(|task| {
        fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| {
            !stat
                .rsplit(") ")
                .next()
                .unwrap_or_default()
                .starts_with('Z')
        })
    })
}

/// What a process occupies, in kilobytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Everything resident: what it allocated, and the parts of its program that it has used.
    pub resident_kb: u64,
    /// What it allocated alone. Other than the rest it does not depend on how it was compiled.
    pub allocated_kb: u64,
}

/// What a process occupies now.
///
/// # Errors
/// When it is gone.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let value = value.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
        value.ok_or_else(|| anyhow!("no {name} for process {pid}"))
    };
    Ok(Memory {
        resident_kb: field("VmRSS:")?,
        allocated_kb: field("RssAnon:")?,
    })
}

/// How many file descriptors a process has open.
///
/// # Errors
/// When it is gone, or is somebody else's.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Time all threads of a process have spent on a CPU.
///
/// # Errors
/// When it is gone.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Runs a command to its end and gives what it printed on standard output.
///
/// # Errors
/// When it cannot be started, takes longer than a minute, or fails; the error carries its output.
pub async fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let mut command =
        tokio::process::Command::from(std::mem::replace(command, Command::new("true")));
    command.kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(LONGEST, command.output())
        .await
        .with_context(|| format!("{shown} took longer than {LONGEST:?}"))?
        .with_context(|| format!("cannot run {shown}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(anyhow!("{shown}: {}\n{stdout}{stderr}", output.status))
}

/// A file's text, empty where it is missing.
#[must_use]
pub fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Where a program is, looked up in `PATH` and in the directories a plain user's `PATH` leaves out.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

type Spawned = std::io::Result<Child>;

/// The kernel's death signal comes when the *thread* that forked ends, so one thread, which lives as
/// long as the process, starts everything.
fn spawn(command: Command) -> Spawned {
    static SPAWNER: LazyLock<mpsc::Sender<(Command, mpsc::Sender<Spawned>)>> =
        LazyLock::new(|| {
            let (requests, queue) = mpsc::channel::<(Command, mpsc::Sender<Spawned>)>();
            std::thread::spawn(move || {
                for (mut command, reply) in queue {
                    let _ = reply.send(command.spawn());
                }
            });
            requests
        });
    let (reply, spawned) = mpsc::channel();
    SPAWNER
        .send((command, reply))
        .map_err(std::io::Error::other)?;
    spawned.recv().map_err(std::io::Error::other)?
}
