//! A Docker of the test's own: a directory goes in, a daemon with one small image comes out, that may be stopped and killed
//! while others use the machine's.
//!
//! Its containers are in the host's network, as it makes no bridge and no rules of a firewall.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::daemons::controller::binary;
use crate::environment::process::{Process, find_program, output};
use crate::environment::wait::wait_for;

const START: Duration = Duration::from_secs(60);
/// What the image is called.
pub const IMAGE: &str = "tiny";
/// Programs of this host that are in it, beside the lab's web application.
const PROGRAMS: [&str; 3] = ["/bin/sh", "/bin/sleep", "/bin/cat"];

/// The running daemon. All that runs in it goes when it is dropped.
#[derive(Debug)]
pub struct Dockerd {
    dir: PathBuf,
    process: Process,
    live_restore: bool,
}

/// Why there can be none here.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root runs a dockerd".to_owned());
    }
    let programs = ["dockerd", "docker"].into_iter();
    programs
        .filter(|name| find_program(name).is_none())
        .map(|name| format!("{name} not found"))
        .next()
}

impl Dockerd {
    /// Starts it, and gives it the image [`IMAGE`].
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn start(dir: &Path, live_restore: bool) -> Result<Self> {
        let dir = dir.join("dockerd");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("daemon.json"), "{\"storage-driver\": \"vfs\"}")?;
        let process = spawn(&dir, live_restore)?;
        let docker = Self {
            dir,
            process,
            live_restore,
        };
        docker.answers().await?;
        docker.make_image().await?;
        Ok(docker)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// `docker` with these arguments.
    ///
    /// # Errors
    /// When it fails.
    pub async fn docker(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()));
        output(command.args(args)).await
    }

    /// `docker run --detach` of a container in the host's network, with these labels.
    ///
    /// # Errors
    /// When it fails.
    pub async fn run(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        more: &[&str],
        command: &[&str],
    ) -> Result<()> {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("--label={label}={value}"))
            .collect();
        let mut args = vec!["run", "--detach", "--network=host", "--name", name];
        args.extend(labels.iter().map(String::as_str));
        args.extend(more);
        args.push(IMAGE);
        args.extend(command);
        self.docker(&args).await.map(drop)
    }

    /// SIGTERM, and waits for its end: without live-restore its containers end with it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.process.exited(START).await.map(drop)
    }

    /// SIGKILL to the daemon alone.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.exited(START).await.map(drop)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn start_again(&mut self) -> Result<()> {
        // What one that was killed has left.
        let _ = fs::remove_file(self.dir.join("pid"));
        self.process = spawn(&self.dir, self.live_restore)?;
        self.answers().await
    }

    async fn answers(&self) -> Result<()> {
        let log = || self.process.log();
        let answers = async || self.docker(&["info"]).await.is_ok();
        wait_for("dockerd to answer", START, answers)
            .await
            .with_context(log)
    }

    async fn make_image(&self) -> Result<()> {
        let root = self.dir.join("root");
        for program in PROGRAMS {
            put(&root, Path::new(program), program).await?;
        }
        put(&root, &binary("webapp")?, "/bin/webapp").await?;
        let tar = self.dir.join("root.tar");
        output(
            Command::new("tar")
                .arg("-C")
                .arg(&root)
                .arg("-cf")
                .arg(&tar)
                .arg("."),
        )
        .await?;
        self.docker(&["import", &tar.display().to_string(), IMAGE])
            .await
            .map(drop)
    }
}

/// Copies a program and the libraries that it is linked to.
async fn put(root: &Path, program: &Path, to: &str) -> Result<()> {
    let copy = |from: &Path, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        fs::copy(from, to).map(drop)
    };
    copy(program, to)?;
    let libraries = output(Command::new("ldd").arg(program)).await?;
    for word in libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        copy(Path::new(word), word)?;
    }
    Ok(())
}

fn spawn(dir: &Path, live_restore: bool) -> Result<Process> {
    let mut command = Command::new("dockerd");
    let option = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
    command.args([
        option("config-file", "daemon.json"),
        option("data-root", "data"),
        option("exec-root", "exec"),
        option("pidfile", "pid"),
        format!("--host=unix://{}", dir.join("docker.sock").display()),
        format!("--live-restore={live_restore}"),
    ]);
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
    Process::start("dockerd", &command, dir.join("log"))
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let host = format!("unix://{}", self.socket().display());
        let docker = |args: &[&str]| {
            Command::new("docker")
                .args(["--host", &host])
                .args(args)
                .output()
        };
        if let Ok(listed) = docker(&["ps", "--all", "--quiet"]) {
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let mut args = vec!["rm", "--force"];
            args.extend(listed.split_whitespace());
            let _ = docker(&args);
        }
        let _ = self.process.signal(Signal::TERM);
        for _ in 0..100 {
            if !self.process.is_running() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
