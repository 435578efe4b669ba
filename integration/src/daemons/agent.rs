//! Real Serf agents: a name and an address go in, a `serf agent` that answers on its RPC port comes out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde::Deserialize;

use crate::daemons::container::Container;
use crate::environment::TestEnv;
use crate::environment::process::{Process, output, signal_pid};
use crate::environment::wait::wait_for;

/// The gossip port of every agent here.
pub const GOSSIP_PORT: u16 = 7946;
/// The RPC port of every agent here.
pub const RPC_PORT: u16 = 7373;

const START: Duration = Duration::from_secs(10);
/// How long Serf takes at most to notice by itself that one of a few members is gone, in its profile `local`: each is asked
/// in turn, every second and on a busy machine every eighth (`AwarenessMaxMultiplier`), and suspected for 18 s then
/// (`SuspicionMult` times `SuspicionMaxTimeoutMult`) where nobody confirms it.
const DETECTION: Duration = Duration::from_secs(60);

/// How an agent is to be started; kept, so that it can be started again.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    name: String,
    ip: Ipv4Addr,
    dir: PathBuf,
    profile: String,
    tags: Vec<(String, String)>,
    join: Vec<String>,
    rpc_auth: Option<String>,
    snapshot: bool,
    leave_on_terminate: bool,
    args: Vec<OsString>,
    container: Option<Arc<Container>>,
}

impl AgentOptions {
    /// An agent of this name on this address, its files and log in `dir`.
    #[must_use]
    pub fn new(name: impl Into<String>, ip: Ipv4Addr, dir: &Path) -> Self {
        Self {
            name: name.into(),
            ip,
            dir: dir.to_owned(),
            profile: "local".to_owned(),
            tags: Vec::new(),
            join: Vec::new(),
            rpc_auth: None,
            snapshot: false,
            leave_on_terminate: false,
            args: Vec::new(),
            container: None,
        }
    }

    /// Runs it in a container.
    #[must_use]
    pub(crate) fn container(mut self, container: Arc<Container>) -> Self {
        self.container = Some(container);
        self
    }

    /// Another profile than `local`.
    #[must_use]
    pub fn profile(mut self, profile: &str) -> Self {
        profile.clone_into(&mut self.profile);
        self
    }

    /// A tag; may be repeated.
    #[must_use]
    pub fn tag(mut self, key: &str, value: impl Into<String>) -> Self {
        self.tags.push((key.to_owned(), value.into()));
        self
    }

    /// Joins this agent at the start; may be repeated.
    #[must_use]
    pub fn join(mut self, other: Ipv4Addr) -> Self {
        self.join.push(format!("{other}:{GOSSIP_PORT}"));
        self
    }

    /// Asks RPC clients for this key.
    #[must_use]
    pub fn rpc_auth(mut self, key: &str) -> Self {
        self.rpc_auth = Some(key.to_owned());
        self
    }

    /// Keeps a snapshot file, from which a restarted agent rejoins.
    #[must_use]
    pub fn snapshot(mut self) -> Self {
        self.snapshot = true;
        self
    }

    /// Makes SIGTERM a graceful leave.
    #[must_use]
    pub fn leave_on_terminate(mut self) -> Self {
        self.leave_on_terminate = true;
        self
    }

    /// Any other argument of `serf agent`; may be repeated.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts it and waits until it answers on its RPC port.
    ///
    /// # Errors
    /// When it does not; the error ends with its log.
    pub async fn start(self) -> Result<Agent> {
        let process = self.spawn()?;
        let mut agent = Agent {
            options: self,
            process,
        };
        agent.ready().await?;
        Ok(agent)
    }

    fn rpc_addr(&self) -> SocketAddr {
        SocketAddr::from((self.ip, RPC_PORT))
    }

    fn spawn(&self) -> Result<Process> {
        let mut command = match &self.container {
            Some(container) => {
                let _ = std::fs::remove_file(self.file("pid"));
                let mut command = container.exec();
                let script = r#"echo $$ > "$0"; exec "$@""#;
                command.args(["sh", "-c", script]).arg(self.file("pid"));
                command.arg("serf");
                command
            }
            None => Command::new("serf"),
        };
        command
            .arg("agent")
            .arg(format!("-node={}", self.name))
            .arg(format!("-bind={}:{GOSSIP_PORT}", self.ip))
            .arg(format!("-rpc-addr={}", self.rpc_addr()))
            .arg(format!("-profile={}", self.profile))
            .arg("-log-level=debug");
        for (key, value) in &self.tags {
            command.arg("-tag").arg(format!("{key}={value}"));
        }
        for other in &self.join {
            command.arg(format!("-join={other}"));
        }
        if self.snapshot {
            command.arg(format!("-snapshot={}", self.file("snapshot").display()));
        }
        if let Some(config) = self.write_config()? {
            command.arg(format!("-config-file={}", config.display()));
        }
        command.args(&self.args);
        Process::start(&self.name, &command, self.file("log"))
    }

    /// The settings that have no flag.
    fn write_config(&self) -> Result<Option<PathBuf>> {
        let mut config = serde_json::Map::new();
        if self.leave_on_terminate {
            config.insert("leave_on_terminate".to_owned(), true.into());
        }
        if let Some(key) = &self.rpc_auth {
            config.insert("rpc_auth".to_owned(), key.clone().into());
        }
        if config.is_empty() {
            return Ok(None);
        }
        let path = self.file("json");
        std::fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok(Some(path))
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("agent-{}.{extension}", self.name))
    }
}

/// A member as `serf members -format json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ListedMember {
    /// Its name.
    pub name: String,
    /// `IP:PORT`.
    pub addr: String,
    /// `alive`, `leaving`, `left`, `failed`.
    pub status: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    options: AgentOptions,
    process: Process,
}

impl Agent {
    /// An agent of this name on the lab's address with this last octet.
    #[must_use]
    pub fn on(lab: &TestEnv, name: impl Into<String>, last: u8) -> AgentOptions {
        AgentOptions::new(name, lab.net().ip(last), lab.dir())
    }

    /// Its node name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.options.ip
    }

    /// Where its RPC is.
    #[must_use]
    pub fn rpc_addr(&self) -> SocketAddr {
        self.options.rpc_addr()
    }

    /// The process, for its end and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it runs in a container and was never started.
    pub fn pid(&self) -> Result<u32> {
        if self.options.container.is_none() {
            return Ok(self.process.pid());
        }
        let text = std::fs::read_to_string(self.options.file("pid"))?;
        Ok(text.trim().parse()?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_pid(self.pid()?, signal).with_context(|| format!("cannot signal {}", self.name()))
    }

    /// All it has logged, at debug level.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Makes it join another agent now.
    ///
    /// # Errors
    /// When `serf join` fails.
    pub async fn join(&self, other: Ipv4Addr) -> Result<()> {
        self.serf("join")
            .run(&[&format!("{other}:{GOSSIP_PORT}")])
            .await
            .map(drop)
    }

    /// Sets tags.
    ///
    /// # Errors
    /// When `serf tags` fails.
    pub async fn set_tag(&self, key: &str, value: &str) -> Result<()> {
        self.serf("tags")
            .run(&["-set", &format!("{key}={value}")])
            .await
            .map(drop)
    }

    /// Tells this agent to give up a failed member for good.
    ///
    /// # Errors
    /// When `serf force-leave` fails.
    pub async fn force_leave(&self, name: &str) -> Result<()> {
        self.serf("force-leave").run(&[name]).await.map(drop)
    }

    /// Waits until it takes these members, which leave gracefully, to have left. One whose last words
    /// get lost on a busy machine is a failure to the others as soon as they notice, and is given up for good.
    ///
    /// # Errors
    /// When it does not within the time that Serf takes to notice.
    pub async fn sees_off(&self, names: &[&str]) -> Result<()> {
        let what = format!("{} to see {names:?} off", self.name());
        wait_for(&what, DETECTION, async || {
            let Ok(members) = self.members().await else {
                return false;
            };
            let mut all = true;
            for member in members.iter().filter(|one| names.contains(&&*one.name)) {
                all &= member.status == "left";
                // Asked for again until it is done.
                if member.status == "failed" {
                    let _ = self.force_leave(&member.name).await;
                }
            }
            all
        })
        .await
    }

    /// The members it knows, sorted by name.
    ///
    /// # Errors
    /// When `serf members` fails or prints something else.
    pub async fn members(&self) -> Result<Vec<ListedMember>> {
        #[derive(Deserialize)]
        struct Listed {
            members: Option<Vec<ListedMember>>,
        }
        let text = self.serf("members").run(&["-format", "json"]).await?;
        let mut members = serde_json::from_str::<Listed>(&text)
            .with_context(|| format!("serf members printed {text}"))?
            .members
            .unwrap_or_default();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// Waits until it knows this many members with this status, itself among them.
    ///
    /// # Errors
    /// When it does not within `timeout`.
    pub async fn knows(&self, count: usize, status: &str, timeout: Duration) -> Result<()> {
        let what = format!("{} to know {count} members {status}", self.name());
        wait_for(&what, timeout, async || {
            self.members().await.is_ok_and(|members| {
                members
                    .iter()
                    .filter(|member| member.status == status)
                    .count()
                    == count
            })
        })
        .await
    }

    /// Starts a graceful leave and returns at once (SIGINT, what `^C` sends).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn begin_leave(&self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// Leaves gracefully and waits for the end of the process.
    ///
    /// # Errors
    /// When it does not end within ten seconds.
    pub async fn leave(&mut self) -> Result<ExitStatus> {
        self.begin_leave()?;
        self.process.exited(Duration::from_secs(10)).await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if self.options.container.is_some() && self.process.is_running() {
            let _ = self.signal(Signal::KILL);
        }
        self.process.kill();
    }

    /// Starts it again as it was first started; kills it before if it still runs.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.process = self.options.spawn()?;
        self.ready().await
    }

    /// Starts it again with another RPC key, killing it before.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn rekey(&mut self, key: &str) -> Result<()> {
        self.options.rpc_auth = Some(key.to_owned());
        self.restart().await
    }

    async fn ready(&mut self) -> Result<()> {
        let addr = self.rpc_addr();
        let what = format!("the agent {} to answer on {addr}", self.name());
        let process = &mut self.process;
        wait_for(&what, START, async || {
            !process.is_running() || tokio::net::TcpStream::connect(addr).await.is_ok()
        })
        .await?;
        anyhow::ensure!(
            self.process.is_running(),
            "serf agent ended: {}",
            self.process.log()
        );
        Ok(())
    }

    fn serf(&self, subcommand: &str) -> SerfCommand {
        let mut command = match &self.options.container {
            Some(container) => {
                let mut command = container.exec();
                command.arg("serf");
                command
            }
            None => Command::new("serf"),
        };
        command
            .arg(subcommand)
            .arg(format!("-rpc-addr={}", self.rpc_addr()));
        if let Some(key) = &self.options.rpc_auth {
            command.arg(format!("-rpc-auth={key}"));
        }
        SerfCommand(command)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

struct SerfCommand(Command);

impl SerfCommand {
    async fn run(mut self, args: &[&str]) -> Result<String> {
        self.0.args(args);
        output(&mut self.0).await
    }
}
