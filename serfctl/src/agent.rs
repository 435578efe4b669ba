//! Flags and environment in, which agent is meant, its key and how long it may take out.

use std::{env, ffi::OsString, fs, path::PathBuf, time::Duration};

use clap::Args;

use crate::{duration, exit::Failure};

/// Where an agent listens unless told otherwise.
const DEFAULT_ADDR: &str = "127.0.0.1:7373";
/// How long an agent may take to answer, unless told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(next_help_heading = "Agent")]
pub(crate) struct AgentArgs {
    /// RPC address of the Serf agent [env: SERF_RPC_ADDR] [default: 127.0.0.1:7373]
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = address)]
    rpc_addr: Option<String>,

    /// RPC auth key of the Serf agent; the environment keeps it out of the process list [env: SERF_RPC_AUTH]
    #[arg(long, global = true, value_name = "KEY")]
    rpc_auth: Option<String>,

    /// A file with the RPC auth key, which goes before the key itself [env: SERF_RPC_AUTH_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    rpc_auth_file: Option<PathBuf>,

    /// How long to wait for the connection, and for each answer [default: 10s; longer for what asks all members]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse)]
    rpc_timeout: Option<Duration>,
}

impl AgentArgs {
    /// `host:port`; an empty environment means the default, as for `serf`.
    pub(crate) fn addr(&self) -> String {
        let environment = || env::var("SERF_RPC_ADDR").ok();
        let given = self.rpc_addr.clone().or_else(environment);
        given
            .filter(|addr| !addr.is_empty())
            .unwrap_or_else(|| DEFAULT_ADDR.to_owned())
    }

    /// How long the connection, and each answer, may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.rpc_timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// The same for an answer that takes the agent longer by nature, unless it was said.
    pub(crate) fn timeout_or(&self, patience: Duration) -> Duration {
        self.rpc_timeout.unwrap_or(patience)
    }

    /// The auth key: of flags and then of the environment, from its file where one is given, else the key itself. An
    /// empty one is none.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) fn auth_key(&self) -> Result<Option<String>, Failure> {
        let given = (self.rpc_auth_file.clone(), self.rpc_auth.clone());
        let (file, key) = match given {
            (None, None) => (
                env::var_os("SERF_RPC_AUTH_FILE").map(PathBuf::from),
                env::var("SERF_RPC_AUTH").ok(),
            ),
            given => given,
        };
        let key = match file.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => match fs::read_to_string(&path) {
                Ok(key) => Some(key.lines().next().unwrap_or_default().to_owned()),
                Err(source) => return Err(Failure::KeyFile { path, source }),
            },
            None => key,
        };
        Ok(key.filter(|key| !key.is_empty()))
    }

    /// The agent that a command line being completed names, as far as it goes, else the environment.
    pub(crate) fn of_completion(
        args: impl IntoIterator<Item = OsString>,
        patience: Duration,
    ) -> Self {
        let mut args = args
            .into_iter()
            .filter_map(|arg| arg.into_string().ok())
            .peekable();
        let mut agent = Self {
            rpc_addr: None,
            rpc_auth: None,
            rpc_auth_file: None,
            rpc_timeout: Some(patience),
        };
        while let Some(arg) = args.next() {
            let name = arg.trim_start_matches('-');
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, args.peek().cloned()),
            };
            match name {
                "rpc-addr" => agent.rpc_addr = value,
                "rpc-auth" => agent.rpc_auth = value,
                "rpc-auth-file" => agent.rpc_auth_file = value.map(PathBuf::from),
                _ => {}
            }
        }
        agent
    }

    /// The same for another agent.
    pub(crate) fn at(&self, addr: &str) -> Self {
        Self {
            rpc_addr: Some(addr.to_owned()),
            rpc_auth: self.rpc_auth.clone(),
            rpc_auth_file: self.rpc_auth_file.clone(),
            rpc_timeout: self.rpc_timeout,
        }
    }
}

fn address(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("HOST:PORT is wanted"),
        addr => Ok(addr.to_owned()),
    }
}
