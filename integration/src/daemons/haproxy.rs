//! Real HAProxy in master-worker mode: a configuration file goes in, a proxy comes out, with what it
//! says of itself on its Runtime API.
//!
//! Three kinds: the host's own, and those of Debian trixie and sid in a container, which outlives the proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::daemons::container::{Container, Image, image_missing};
use crate::environment::TestEnv;
use crate::environment::process::{Process, find_program, is_alive, signal_pid};
use crate::environment::wait::wait_for;

const START: Duration = Duration::from_secs(10);

/// Which HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaproxyKind {
    /// The host's, of whatever version.
    Host,
    /// 3.0: the host's where it is that new, else Debian trixie's in a container.
    Trixie,
    /// 3.2: Debian sid's, in a container.
    Sid,
}

impl HaproxyKind {
    pub(crate) fn missing(self) -> Option<String> {
        if host_version().is_none() && self == Self::Host {
            return Some("haproxy not found".to_owned());
        }
        let image = self.image()?;
        image_missing(image, "haproxy").map(|missing| format!("haproxy not found: {missing}"))
    }

    /// Whether this kind runs in a container on this machine.
    #[must_use]
    pub fn in_container(self) -> bool {
        self.image().is_some()
    }

    fn image(self) -> Option<Image> {
        match self {
            Self::Host => None,
            Self::Trixie => host_version()
                .is_none_or(|major| major < 3)
                .then_some(Image::Trixie),
            Self::Sid => Some(Image::Sid),
        }
    }
}

/// The major version of the host's HAProxy.
fn host_version() -> Option<u32> {
    static VERSION: LazyLock<Option<u32>> = LazyLock::new(|| {
        let output = Command::new(find_program("haproxy")?)
            .arg("-v")
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.strip_prefix("HAProxy version ")?
            .split('.')
            .next()?
            .parse()
            .ok()
    });
    *VERSION
}

/// A place for one HAProxy: its files, and the container where it needs one. Not running at first.
#[derive(Debug)]
pub struct Haproxy {
    kind: HaproxyKind,
    dir: PathBuf,
    /// Files and directories that it reads before its own.
    before: Vec<PathBuf>,
    container: Option<Container>,
    /// The process, or in a container the client that waits for it.
    process: Option<Process>,
}

impl Haproxy {
    /// A place in the lab's directory. HAProxy itself comes with [`Haproxy::start`].
    ///
    /// # Errors
    /// When its container cannot be started.
    pub async fn prepare(lab: &TestEnv, kind: HaproxyKind) -> Result<Self> {
        Self::prepare_in(lab.dir(), kind).await
    }

    /// A place in a directory of the caller's.
    ///
    /// # Errors
    /// When its container cannot be started.
    pub async fn prepare_in(dir: &Path, kind: HaproxyKind) -> Result<Self> {
        let container = match kind.image() {
            Some(image) => Some(Container::start(image, dir).await?),
            None => None,
        };
        Ok(Self {
            kind,
            dir: dir.to_owned(),
            before: Vec::new(),
            container,
            process: None,
        })
    }

    /// Lets it read another file or directory before its own.
    #[must_use]
    pub fn after(mut self, path: PathBuf) -> Self {
        self.before.push(path);
        self
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> HaproxyKind {
        self.kind
    }

    /// The file it is started with: `DIR/haproxy.cfg`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("haproxy.cfg")
    }

    /// The Runtime API that the file is expected to open: `DIR/admin.sock`.
    #[must_use]
    pub fn stats_socket(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    /// The master's socket: `DIR/master.sock`.
    #[must_use]
    pub fn master_socket(&self) -> PathBuf {
        self.dir.join("master.sock")
    }

    /// The command that validates a file with this very version, as the words of a `check_command`.
    #[must_use]
    pub fn check_command(&self) -> Vec<String> {
        let program = match &self.container {
            Some(container) => vec!["docker", "exec", container.name(), "haproxy"],
            None => vec!["haproxy"],
        };
        program
            .into_iter()
            .map(str::to_owned)
            .chain(["-c".to_owned()])
            .chain(
                self.before
                    .iter()
                    .flat_map(|path| ["-f".to_owned(), path.display().to_string()]),
            )
            .chain(["-f", "{path}"].map(str::to_owned))
            .collect()
    }

    /// Starts it with its file and waits until worker and master answer on their sockets.
    ///
    /// # Errors
    /// When it does not; the error ends with its log.
    pub async fn start(&mut self) -> Result<()> {
        self.kill().await?;
        let _ = std::fs::remove_file(self.pid_file());
        let script = format!(
            "echo $$ > {pid}; exec haproxy -W -S {master}{before} -f {config}",
            before = self
                .before
                .iter()
                .map(|path| format!(" -f {}", path.display()))
                .collect::<String>(),
            pid = self.pid_file().display(),
            master = self.master_socket().display(),
            config = self.config().display(),
        );
        let mut command = match &self.container {
            Some(container) => container.exec(),
            None => Command::new("sh"),
        };
        if self.container.is_some() {
            command.arg("sh");
        }
        command.args(["-c", &script]);
        command.env("PATH", path_with_sbin());
        let mut process = Process::start("haproxy", &command, self.dir.join("haproxy.log"))?;
        wait_for("haproxy to answer on its sockets", START, async || {
            !process.is_running()
                || self.worker().await.is_ok() && self.master_command("show proc").await.is_ok()
        })
        .await?;
        ensure!(process.is_running(), "haproxy ended: {}", process.log());
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL to the master and all of its workers; returns when they are gone.
    ///
    /// # Errors
    /// When they do not go.
    pub async fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let workers = self.all_pids();
        for pid in &workers {
            let _ = signal_pid(*pid, Signal::KILL);
        }
        process.kill();
        wait_for("haproxy to die", START, async || {
            !workers.iter().any(|pid| is_alive(*pid))
        })
        .await
    }

    /// The master's process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn master_pid(&self) -> Result<u32> {
        let by_controller = self.dir.join("state").join("haproxy.pid");
        let text = std::fs::read_to_string(self.pid_file())
            .or_else(|_| std::fs::read_to_string(by_controller))
            .context("haproxy was not started")?;
        Ok(text.trim().parse()?)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The worker that answers now.
    ///
    /// # Errors
    /// When none does.
    pub async fn worker(&self) -> Result<Worker> {
        let info = self.info().await?;
        let field = |key: &str| {
            info.get(key)
                .cloned()
                .with_context(|| format!("no {key} in show info"))
        };
        Ok(Worker {
            pid: field("Pid")?.parse()?,
            version: field("Version")?,
            description: info.get("description").cloned().unwrap_or_default(),
        })
    }

    /// `show info`, by name.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn info(&self) -> Result<BTreeMap<String, String>> {
        let text = self.command("show info").await?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// `show stat`: every line, by column name.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn stat(&self) -> Result<Vec<StatLine>> {
        stat(&self.stats_socket()).await
    }

    /// The servers of a backend that are neither in maintenance nor draining nor down.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn serving(&self, backend: &str) -> Result<Vec<String>> {
        let lines = self.stat().await?;
        let servers = lines
            .iter()
            .filter(|line| line.get("pxname") == backend && line.is_server());
        let serving = servers.filter(|line| {
            line.get("status").starts_with("UP") || line.get("status").starts_with("no check")
        });
        let mut names: Vec<String> = serving.map(|line| line.get("svname").to_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until exactly these servers of a backend serve.
    ///
    /// # Errors
    /// When they do not within `timeout`; the error says who does.
    pub async fn serves(&self, backend: &str, names: &[&str], timeout: Duration) -> Result<()> {
        let mut expected: Vec<&str> = names.to_vec();
        expected.sort_unstable();
        let mut last = None;
        let found = wait_for("the servers", timeout, async || {
            last = self.serving(backend).await.ok();
            last.as_ref().is_some_and(|serving| *serving == expected)
        })
        .await;
        found.map_err(|_| {
            anyhow!("waited {timeout:?} for {expected:?} to serve, there are {last:?}")
        })
    }

    /// What this worker counted against itself since it started.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn errors(&self) -> Result<Errors> {
        Ok(Errors::of(&self.stat().await?))
    }

    /// One command on the Runtime API, with its reply.
    ///
    /// # Errors
    /// When nobody answers within two seconds.
    pub async fn command(&self, line: &str) -> Result<String> {
        one_shot(&self.stats_socket(), line).await
    }

    /// One command on the master's socket, with its reply.
    ///
    /// # Errors
    /// When nobody answers within two seconds.
    pub async fn master_command(&self, line: &str) -> Result<String> {
        one_shot(&self.master_socket(), &format!("{line}; quit")).await
    }

    /// Reloads as a person would through the master's socket, which refuses connections for a moment after a reload.
    ///
    /// # Errors
    /// When the master does not take it in time.
    pub async fn reload(&self) -> Result<()> {
        wait_for("the master to reload", START, async || {
            self.master_command("reload").await.is_ok()
        })
        .await
    }

    /// How many workers of earlier reloads are left.
    ///
    /// # Errors
    /// When it does not run.
    pub fn old_workers(&self) -> Result<usize> {
        self.master_pid()?;
        Ok(self.all_pids().len().saturating_sub(2))
    }

    /// The process id of the worker that was started last, whether it answers or not.
    ///
    /// # Errors
    /// When it does not run.
    pub fn newest_worker(&self) -> Result<u32> {
        let master = self.master_pid()?;
        let pids = self.all_pids().into_iter().rev();
        let mut workers = pids.filter(|pid| *pid != master);
        workers.next().context("a master without a worker")
    }

    /// The master and every worker, old ones too: the processes that have the master for a parent.
    fn all_pids(&self) -> Vec<u32> {
        let Ok(master) = self.master_pid() else {
            return Vec::new();
        };
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let children = children.unwrap_or_default();
        let workers = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        [master].into_iter().chain(workers).collect()
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("haproxy.pid")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if self.process.is_some() {
            for pid in self.all_pids() {
                let _ = signal_pid(pid, Signal::KILL);
            }
        }
    }
}

/// A worker, as it names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its process id.
    pub pid: u32,
    /// Its version, `2.6.12-1+deb12u4`.
    pub version: String,
    /// Its `description`, where the controller's stamp is.
    pub description: String,
}

/// One line of `show stat`.
#[derive(Clone, Debug)]
pub struct StatLine(BTreeMap<String, String>);

impl StatLine {
    /// A column, empty where there is none.
    #[must_use]
    pub fn get(&self, column: &str) -> &str {
        self.0.get(column).map_or("", String::as_str)
    }

    /// A column as a number, 0 where it is empty.
    #[must_use]
    pub fn count(&self, column: &str) -> u64 {
        self.get(column).parse().unwrap_or(0)
    }

    /// Whether it is about a server, not a frontend or a whole backend.
    #[must_use]
    pub fn is_server(&self) -> bool {
        !matches!(self.get("svname"), "FRONTEND" | "BACKEND")
    }
}

/// Everything HAProxy counts that a client may have felt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// `econ` of the backends: requests that got no connection to a server.
    pub connection: u64,
    /// `eresp` of the backends: responses that broke.
    pub response: u64,
    /// `ereq` of the frontends: requests that broke.
    pub request: u64,
    /// `hrsp_5xx` of the frontends.
    pub status_5xx: u64,
    /// `wretr` of the backends: connections tried again, which no client felt.
    pub retries: u64,
    /// `wredis` of the backends: requests sent to another server, which no client felt.
    pub redispatches: u64,
}

impl Errors {
    fn of(lines: &[StatLine]) -> Self {
        let sum = |name: &str, column: &str| {
            lines
                .iter()
                .filter(|line| line.get("svname") == name)
                .map(|line| line.count(column))
                .sum()
        };
        Self {
            connection: sum("BACKEND", "econ"),
            response: sum("BACKEND", "eresp"),
            request: sum("FRONTEND", "ereq"),
            status_5xx: sum("FRONTEND", "hrsp_5xx"),
            retries: sum("BACKEND", "wretr"),
            redispatches: sum("BACKEND", "wredis"),
        }
    }
}

/// A plain configuration with one backend, for tests that need no controller.
#[must_use]
pub fn plain_config(
    stats_socket: &Path,
    front: SocketAddr,
    servers: &[(&str, SocketAddr)],
) -> String {
    let servers: String = servers
        .iter()
        .map(|(name, addr)| format!("    server {name} {addr}\n"))
        .collect();
    format!(
        "global\n    stats socket {} mode 600 level admin\n\
         defaults\n    mode http\n    timeout connect 500ms\n    timeout client 10s\n    timeout server 10s\n\
         frontend front\n    bind {front}\n    default_backend nodes\n\
         backend nodes\n    balance roundrobin\n{servers}",
        stats_socket.display(),
    )
}

/// `show stat` on a Runtime API: every line, by column name.
///
/// # Errors
/// When nobody answers within two seconds.
pub async fn stat(socket: &Path) -> Result<Vec<StatLine>> {
    parse_stat(&one_shot(socket, "show stat").await?)
}

fn parse_stat(text: &str) -> Result<Vec<StatLine>> {
    let mut lines = text.lines();
    let header = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .context("no show stat header")?;
    let columns: Vec<&str> = header.split(',').collect();
    let line = |text: &str| {
        let values = columns.iter().map(|column| (*column).to_owned());
        StatLine(values.zip(text.split(',').map(str::to_owned)).collect())
    };
    Ok(lines.filter(|text| !text.is_empty()).map(line).collect())
}

async fn one_shot(socket: &Path, line: &str) -> Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        anyhow::Ok(reply)
    };
    let reply = tokio::time::timeout(Duration::from_secs(2), exchange).await;
    let reply = reply.with_context(|| format!("no reply to {line:?} within 2 s"))?;
    reply.with_context(|| format!("{line:?} on {}", socket.display()))
}

fn path_with_sbin() -> String {
    format!(
        "{}:/usr/local/sbin:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}
