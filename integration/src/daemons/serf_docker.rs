//! The real `serf-docker`: a Docker socket and an agent go in, the running daemon comes out.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::daemons::agent::Agent;
use crate::daemons::controller::binary;
use crate::environment::process::{self, Memory, Process};
use crate::environment::wait::wait_for;

const EXIT: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(30);

/// A running serf-docker; killed when dropped.
#[derive(Debug)]
pub struct SerfDocker {
    dir: PathBuf,
    process: Process,
}

impl SerfDocker {
    /// Starts it between this Docker and this agent, its files in `dir`; `more` is added to its config.
    ///
    /// # Errors
    /// When the binary is missing or cannot be started.
    pub fn start(dir: &Path, docker: &Path, agent: SocketAddr, more: &str) -> Result<Self> {
        let dir = dir.to_owned();
        let text = format!(
            "[docker]\nsocket = {docker:?}\n[serf]\naddr = \"{agent}\"\nresync = \"1s\"\n\
             [control]\nsocket = {:?}\n{more}",
            dir.join("serf-docker.sock")
        );
        fs::write(dir.join("serf-docker.toml"), text)?;
        let process = spawn(&dir)?;
        Ok(Self { dir, process })
    }

    /// The process, for signals and its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Runs another command with the same config.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn run(&self, args: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::from(command(&self.dir)?);
        Ok(command.args(args).output().await?)
    }

    /// What `serf-docker status --format json` says, problems or not.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Value> {
        let output = self.run(&["status", "--format", "json"]).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).with_context(|| format!("status said {said}"))
    }

    /// Waits until the status fulfils a condition.
    ///
    /// # Errors
    /// When it does not soon; the error holds the last one.
    pub async fn settles(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = None;
        let found = wait_for(what, SOON, async || {
            last = self.status().await.ok();
            last.as_ref().is_some_and(&condition)
        })
        .await;
        found.with_context(|| format!("the last status was {last:#?}\n{}", self.log()))?;
        last.context("a status")
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end cleanly.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.exited(EXIT).await?;
        ensure!(status.success(), "serf-docker ended with {status}");
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, killing it before if it still runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.dir)?;
        Ok(())
    }

    /// What it occupies now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> Result<Memory> {
        process::memory(self.process.pid())
    }

    /// The time it has spent on a CPU.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.process.pid())
    }
}

fn command(dir: &Path) -> Result<Command> {
    let mut command = Command::new(binary("serf-docker")?);
    command.arg("--config").arg(dir.join("serf-docker.toml"));
    Ok(command)
}

fn spawn(dir: &Path) -> Result<Process> {
    let mut command = command(dir)?;
    command.arg("run");
    Process::start("serf-docker", &command, dir.join("serf-docker.log"))
}

/// The tags of an agent's own member, as itself lists them.
///
/// # Errors
/// When it does not answer.
pub async fn tags(agent: &Agent) -> Result<BTreeMap<String, String>> {
    let members = agent.members().await?;
    let own = members
        .into_iter()
        .find(|member| member.name == agent.name());
    Ok(own.context("the agent lists itself")?.tags)
}

/// Waits until an agent's own tags are these.
///
/// # Errors
/// When they are not soon; the error holds the last ones.
pub async fn has_tags(agent: &Agent, wanted: &[(&str, &str)]) -> Result<()> {
    let wanted: BTreeMap<String, String> = wanted
        .iter()
        .map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned()))
        .collect();
    let mut last = None;
    let found = wait_for("these tags", SOON, async || {
        last = tags(agent).await.ok();
        last.as_ref() == Some(&wanted)
    })
    .await;
    found.with_context(|| format!("wanted {wanted:?}, and there were {last:?}"))
}
