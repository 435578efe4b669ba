//! The real `serf-haproxy`: a configuration goes in, the running sidecar comes out.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::daemons::haproxy::Haproxy;
use crate::environment::TestEnv;
use crate::environment::process::{self, Memory, Process};
use crate::environment::wait::wait_for;

/// Where the binaries are, for the harness; the controller would take it for one of its settings.
const BIN_DIR: &str = "SERF_HAPROXY_BIN_DIR";
/// A command that takes longer hangs, on a busy machine too.
const EXIT: Duration = Duration::from_secs(30);

/// The configuration of a controller, its binary not started yet.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    dir: PathBuf,
    serf: Vec<SocketAddr>,
    serf_lines: String,
    config: PathBuf,
    stats_socket: PathBuf,
    master_socket: PathBuf,
    check_command: Vec<String>,
    bind: SocketAddr,
    stats_bind: Option<SocketAddr>,
    template: Option<PathBuf>,
    frontend: String,
    front_ends: Option<String>,
    backend: String,
    haproxy: String,
    sections: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    group: Option<u32>,
    user: Option<u32>,
    reload_command: Option<Vec<String>>,
    spawns: bool,
    /// A config of the caller's, in place of all that its text is made of.
    whole: Option<String>,
}

impl ControllerOptions {
    /// A controller between this agent and this HAProxy, whose front end listens on `bind`: one
    /// backend `nodes` of the members with the tag `role=backend`, on port 3000 unless a tag says else.
    #[must_use]
    pub fn new(dir: &Path, agent: SocketAddr, haproxy: &Haproxy, bind: SocketAddr) -> Self {
        Self {
            dir: dir.to_owned(),
            serf: vec![agent],
            serf_lines: String::new(),
            config: haproxy.config(),
            stats_socket: haproxy.stats_socket(),
            master_socket: haproxy.master_socket(),
            check_command: haproxy.check_command(),
            bind,
            stats_bind: None,
            template: None,
            frontend: String::new(),
            front_ends: None,
            backend: String::new(),
            haproxy: String::new(),
            sections: String::new(),
            args: Vec::new(),
            env: Vec::new(),
            group: None,
            user: None,
            reload_command: None,
            spawns: false,
            whole: None,
        }
    }

    /// A config of the caller's, but for the state directory and the control socket.
    #[must_use]
    pub fn config(mut self, text: String) -> Self {
        self.whole = Some(text);
        self
    }

    /// The same with this place's own socket of HAProxy's master.
    #[must_use]
    pub fn config_beside_master(self, text: &str) -> Self {
        let master = format!("[haproxy]\nmaster_socket = {:?}\n", self.master_socket);
        self.config(text.replace("[haproxy]\n", &master))
    }

    /// A page with HAProxy's statistics.
    #[must_use]
    pub fn stats_bind(mut self, addr: SocketAddr) -> Self {
        self.stats_bind = Some(addr);
        self
    }

    /// A template instead of the built-in one.
    #[must_use]
    pub fn template(mut self, path: PathBuf) -> Self {
        self.template = Some(path);
        self
    }

    /// More lines for the table of the agent.
    #[must_use]
    pub fn serf(mut self, lines: &str) -> Self {
        let _ = writeln!(self.serf_lines, "{lines}");
        self
    }

    /// More lines for the front end's table.
    #[must_use]
    pub fn frontend(mut self, lines: &str) -> Self {
        let _ = writeln!(self.frontend, "{lines}");
        self
    }

    /// Several front ends in place of the one, `[[frontend]]` each.
    #[must_use]
    pub fn front_ends(mut self, tables: &str) -> Self {
        self.front_ends = Some(tables.to_owned());
        self
    }

    /// More lines for the backend's table.
    #[must_use]
    pub fn backend(mut self, lines: &str) -> Self {
        let _ = writeln!(self.backend, "{lines}");
        self
    }

    /// More lines for the table `[haproxy]`.
    #[must_use]
    pub fn haproxy(mut self, lines: &str) -> Self {
        let _ = writeln!(self.haproxy, "{lines}");
        self
    }

    /// More tables.
    #[must_use]
    pub fn sections(mut self, lines: &str) -> Self {
        let _ = writeln!(self.sections, "{lines}");
        self
    }

    /// One more argument of `serf-haproxy run`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// A variable in the environment of `serf-haproxy run`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Another command than `haproxy -c` to judge a file.
    #[must_use]
    pub fn check_command(mut self, command: &[&str]) -> Self {
        self.check_command = command.iter().map(ToString::to_string).collect();
        self
    }

    /// A command to reload with, instead of the master's socket.
    #[must_use]
    pub fn reload_command(mut self, command: &[&str]) -> Self {
        self.reload_command = Some(command.iter().map(ToString::to_string).collect());
        self
    }

    /// HAProxy as its child.
    #[must_use]
    pub fn spawn_haproxy(mut self) -> Self {
        self.spawns = true;
        self
    }

    /// Whether HAProxy is its child.
    #[must_use]
    pub fn spawns(&self) -> bool {
        self.spawns
    }

    /// Where a HAProxy of its own has its master's socket and its process id.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The process id of a HAProxy of its own.
    ///
    /// # Errors
    /// When there was none.
    pub fn own_haproxy(&self) -> Result<u32> {
        let path = self.state_dir().join("haproxy.pid");
        let text = fs::read_to_string(path).context("no HAProxy of its own")?;
        Ok(text.trim().parse()?)
    }

    /// Runs it with this group id, by which a firewall can tell its packets.
    #[must_use]
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Runs it as this user, in a group of the same number; its directory becomes the user's.
    ///
    /// # Errors
    /// When the directory cannot be given away.
    pub fn user(mut self, id: u32) -> Result<Self> {
        std::os::unix::fs::chown(&self.dir, Some(id), Some(id))?;
        self.user = Some(id);
        self.group = Some(id);
        Ok(self)
    }

    /// Writes the configuration without starting anything.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<()> {
        Ok(fs::write(self.path(), self.text())?)
    }

    /// Where the configuration is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Writes the configuration and starts the controller; returns at once.
    ///
    /// # Errors
    /// When the binary is missing or cannot be started.
    pub fn start(self) -> Result<Controller> {
        self.write()?;
        let process = self.spawn()?;
        Ok(Controller {
            options: self,
            process,
        })
    }

    /// Runs `serf-haproxy SUBCOMMAND -c FILE ARGS` with the configuration as it is on disk.
    ///
    /// # Errors
    /// When the binary is missing or does not end within half a minute.
    pub async fn run(&self, subcommand: &str, args: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::from(self.command(subcommand)?);
        command.args(args).kill_on_drop(true);
        let output = tokio::time::timeout(EXIT, command.output()).await;
        Ok(output.with_context(|| format!("serf-haproxy {subcommand} hangs"))??)
    }

    fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(binary("serf-haproxy")?);
        command.arg(subcommand).arg("-c").arg(self.path());
        command.env_remove(BIN_DIR);
        // what is checked has to be seen by a HAProxy in a container too
        command.env("TMPDIR", &self.dir);
        Ok(command)
    }

    fn spawn(&self) -> Result<Process> {
        let mut command = self.command("run")?;
        if let Some(group) = self.group {
            let mut other = Command::new("setpriv");
            other.arg(format!("--regid={group}")).arg("--clear-groups");
            if let Some(user) = self.user {
                other.arg(format!("--reuid={user}"));
            }
            // Where the binary was built may be closed to others.
            let copy = self.dir.join("serf-haproxy");
            fs::copy(command.get_program(), &copy)?;
            other.arg("--").arg(copy).args(command.get_args());
            other.env_remove(BIN_DIR).env("TMPDIR", &self.dir);
            command = other;
        }
        command.args(&self.args).env("NO_COLOR", "1");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Process::start("serf-haproxy", &command, self.dir.join("controller.log"))
    }

    fn text(&self) -> String {
        match &self.whole {
            Some(text) => format!("{text}\n{}", self.places()),
            None => self.own_text() + &self.places(),
        }
    }

    /// The state directory, the control socket, and all that was asked for.
    fn places(&self) -> String {
        format!(
            "[state]\ndir = {:?}\n\n[control]\nsocket = {:?}\n\n{}\n",
            self.state_dir(),
            self.dir.join("control.sock"),
            self.sections
        )
    }

    fn own_text(&self) -> String {
        let serf: Vec<String> = self.serf.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "[serf]\naddr = {serf:?}\n{}\n[haproxy]\nconfig = {:?}\n",
            self.serf_lines, self.config
        );
        if let Some(template) = &self.template {
            let _ = writeln!(text, "template = {template:?}");
        }
        let _ = writeln!(text, "stats_socket = {:?}", self.stats_socket);
        match &self.reload_command {
            _ if self.spawns => {
                let _ = writeln!(text, "spawn = true");
            }
            Some(command) => {
                let _ = writeln!(text, "reload_command = {command:?}");
            }
            None => {
                let _ = writeln!(text, "master_socket = {:?}", self.master_socket);
            }
        }
        let _ = writeln!(text, "check_command = {:?}", self.check_command);
        let _ = writeln!(text, "{}", self.haproxy);
        let bind = self.bind.to_string();
        let one = format!("[frontend]\nbind = [{bind:?}]\ndefault_backend = \"nodes\"");
        let _ = writeln!(text, "{}", self.front_ends.as_ref().unwrap_or(&one));
        let _ = writeln!(text, "{}", self.frontend);
        if let Some(addr) = self.stats_bind {
            let _ = writeln!(text, "stats_bind = \"{addr}\"");
        }
        let _ = write!(
            text,
            "\n[[backend]]\nname = \"nodes\"\ntags = {{ role = \"backend\" }}\nport = 3000\n{}\n",
            self.backend
        );
        text
    }
}

/// A HAProxy that is its child goes with it: master and workers are one process group.
impl Drop for Controller {
    fn drop(&mut self) {
        if self.options.spawns
            && let Ok(pid) = self.options.own_haproxy()
            && let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            self.process.kill();
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    options: ControllerOptions,
    process: Process,
}

impl Controller {
    /// A controller in the lab's directory, the front end on the lab's `.1:8080`.
    #[must_use]
    pub fn on(lab: &TestEnv, agent: SocketAddr, haproxy: &Haproxy) -> ControllerOptions {
        ControllerOptions::new(lab.dir(), agent, haproxy, lab.net().addr(1, 8080))
    }

    /// Its configuration, to be changed, written and read again with [`Controller::reload`].
    pub fn options(&mut self) -> &mut ControllerOptions {
        &mut self.options
    }

    /// Where the front end is.
    #[must_use]
    pub fn front(&self) -> SocketAddr {
        self.options.bind
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

    /// What `serf-haproxy status --format json` says, problems or not.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub async fn status(&self) -> Result<Status> {
        let output = self.options.run("status", &["--format", "json"]).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let status: Value = serde_json::from_str(&text)
            .with_context(|| format!("status printed {text}\n{said}"))?;
        let well = status["problems"] == serde_json::json!([]);
        ensure!(
            output.status.code() == Some(i32::from(!well)),
            "status ended with {}: {text}\n{said}",
            output.status
        );
        Ok(Status(status))
    }

    /// What `serf-haproxy status` prints for people.
    ///
    /// # Errors
    /// When it fails.
    pub async fn status_text(&self) -> Result<String> {
        let output = self.options.run("status", &[]).await?;
        ensure!(output.status.success(), "status failed");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until the status fulfils a condition.
    ///
    /// # Errors
    /// When it does not within `timeout`; the error holds the last one.
    pub async fn settles(
        &self,
        what: &str,
        timeout: Duration,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let mut last = None;
        let found = wait_for(what, timeout, async || {
            last = self.status().await.ok();
            last.as_ref().is_some_and(&condition)
        })
        .await;
        found.with_context(|| format!("the last status was {last:?}"))?;
        last.context("a status")
    }

    /// SIGHUP: reads configuration and template again.
    ///
    /// # Errors
    /// When it is gone.
    pub fn reload(&self) -> Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// Its history, the oldest entry first.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn history(&self) -> Result<Vec<Value>> {
        let output = self.options.run("history", &["--format", "json"]).await?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end cleanly within half a minute.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.exited(EXIT).await?;
        ensure!(status.success(), "the controller ended with {status}");
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
        self.process = self.options.spawn()?;
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

/// The controller's status.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// A counter, `applies`, `admissions`, `reloads`.
    ///
    /// # Panics
    /// When it has none of that name: a test that reads it would prove nothing.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let counter = self.0["counters"][name].as_u64();
        counter.unwrap_or_else(|| panic!("no counter {name} in {}", self.0))
    }

    /// Whether the agent answers, HAProxy runs, and the file is what it should be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0["agent"]["state"] == "connected"
            && self.0["haproxy"]["state"] == "running"
            && self.0["file"]["state"] == "current"
    }

    /// The state of a server of the backend `nodes`; empty where there is no such server.
    #[must_use]
    pub fn server(&self, name: &str) -> &str {
        self.of_server(name, "state")
    }

    /// Anything that the status says in a word or sentence of a server of the backend `nodes`.
    #[must_use]
    pub fn of_server(&self, name: &str, field: &str) -> &str {
        self.0["backends"]["nodes"]["servers"][name][field]
            .as_str()
            .unwrap_or_default()
    }

    /// The names of the servers of a backend that are in this state, in the order of the alphabet.
    #[must_use]
    pub fn named(&self, backend: &str, state: &str) -> Vec<&str> {
        let servers = self.0["backends"][backend]["servers"].as_object();
        let servers = servers.into_iter().flatten();
        let such = servers.filter(|(_, server)| server["state"] == state);
        such.map(|(name, _)| name.as_str()).collect()
    }

    /// How many servers of the backend `nodes` are in this state.
    #[must_use]
    pub fn servers(&self, state: &str) -> usize {
        let servers = self.0["backends"]["nodes"]["servers"].as_object();
        servers.map_or(0, |servers| {
            servers
                .values()
                .filter(|server| server["state"] == state)
                .count()
        })
    }
}

/// A binary of this workspace: `$SERF_HAPROXY_BIN_DIR/NAME`, else beside the running test or program.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os(BIN_DIR) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let own = std::env::current_exe().context("where am I?")?;
            let dir = own.parent().context("a program lies in a directory")?;
            let deps = dir.ends_with("deps") || dir.ends_with("examples");
            if deps {
                dir.parent().unwrap_or(dir)
            } else {
                dir
            }
            .to_owned()
        }
    };
    let path = dir.join(name);
    ensure!(
        path.is_file(),
        "{} is missing: build it first with `cargo build --workspace`",
        path.display()
    );
    Ok(path)
}
