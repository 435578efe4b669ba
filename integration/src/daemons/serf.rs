//! Which Serf: a kind goes in, agents of that version come out.

use std::process::Command;
use std::sync::{Arc, LazyLock};

use anyhow::Result;
use serf_rpc::ConnectOptions;

use crate::daemons::agent::{Agent, AgentOptions};
use crate::daemons::container::{Container, Image, image_missing};
use crate::environment::TestEnv;
use crate::environment::process::find_program;

/// Which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerfKind {
    /// The host's, of whatever version.
    Host,
    /// 0.10: the host's where it is that new, else Debian trixie's in a container.
    Trixie,
}

impl SerfKind {
    pub(crate) fn missing(self) -> Option<String> {
        if !self.in_container() {
            let missing = find_program("serf").is_none();
            return missing.then(|| "serf not found".to_owned());
        }
        image_missing(Image::Trixie, "serf")
            .map(|missing| format!("serf 0.10 not found: {missing}"))
    }

    /// Whether this kind runs in a container on this machine.
    #[must_use]
    pub fn in_container(self) -> bool {
        self == Self::Trixie && !host_is_new()
    }
}

/// Whether the host's is 0.10 or later. Debian's binaries all print the same version, so the package
/// is asked.
fn host_is_new() -> bool {
    static NEW: LazyLock<bool> = LazyLock::new(|| {
        let package = Command::new("dpkg-query")
            .args(["--show", "--showformat=${Version}", "serf"])
            .output();
        package.is_ok_and(|output| {
            let version = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut numbers = version.split(['.', '~', '-']).map(str::parse::<u32>);
            let (major, minor) = (numbers.next(), numbers.next());
            matches!(
                (major, minor),
                (Some(Ok(0)), Some(Ok(10..))) | (Some(Ok(1..)), _)
            )
        })
    });
    *NEW
}

/// One version of Serf in one lab, and the key that its agents ask for. All agents share a container,
/// where they need one.
#[derive(Debug)]
pub struct Serf {
    container: Option<Arc<Container>>,
    key: Option<&'static str>,
}

impl Serf {
    /// Serf of that kind, its agents with that `rpc_auth` key.
    ///
    /// # Errors
    /// When its container cannot be started.
    pub async fn prepare(lab: &TestEnv, kind: SerfKind, key: Option<&'static str>) -> Result<Self> {
        let container = if kind.in_container() {
            Some(Arc::new(Container::start(Image::Trixie, lab.dir()).await?))
        } else {
            None
        };
        Ok(Self { container, key })
    }

    /// An agent of this name on the lab's address with this last octet.
    #[must_use]
    pub fn agent(&self, lab: &TestEnv, name: impl Into<String>, last: u8) -> AgentOptions {
        let options = AgentOptions::new(name, lab.net().ip(last), lab.dir());
        let options = match &self.container {
            Some(container) => options.container(Arc::clone(container)),
            None => options,
        };
        match self.key {
            Some(key) => options.rpc_auth(key),
            None => options,
        }
    }

    /// How to connect to one of its agents.
    #[must_use]
    pub fn connect_options(&self, agent: &Agent) -> ConnectOptions {
        ConnectOptions::new(agent.rpc_addr().to_string()).auth_key(self.key.unwrap_or_default())
    }

    /// The command line of this version, pointed at one of its agents; what to do is still to be added.
    #[must_use]
    pub fn command_line(&self, agent: &Agent) -> Command {
        let addr = format!("SERF_RPC_ADDR={}", agent.rpc_addr());
        let key = format!("SERF_RPC_AUTH={}", self.key.unwrap_or_default());
        let mut command = match &self.container {
            None => Command::new("env"),
            Some(container) => {
                let mut command = container.exec();
                command.arg("env");
                command
            }
        };
        command.args([&addr, &key]).arg("serf");
        command
    }

    /// The key that its agents ask for.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        self.key
    }
}
