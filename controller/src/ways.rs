//! A config in; the ways to its agents and to its HAProxy out.

use std::path::PathBuf;
use std::time::Duration;

use planner::config::{Config, ReloadMethod};
use serf_rpc::ConnectOptions;

use crate::haproxy::runtime::RuntimeApi;
use crate::state::StateDir;

/// How long an agent may take to connect and shake hands: it is near, and one that stands still is to be known as such
/// within five seconds.
const CONNECT: Duration = Duration::from_secs(3);

/// The configured agents; their key is read whenever one is connected to.
pub(crate) fn agents(config: &Config) -> Vec<ConnectOptions> {
    let agent = |addr: &String| {
        let options = ConnectOptions::new(addr.clone()).connect_timeout(CONNECT);
        match &config.serf.auth_key_file {
            Some(path) => options.auth_key_file(path),
            None => options,
        }
    };
    config.serf.addr.iter().map(agent).collect()
}

/// HAProxy's Runtime API, with the way by its master where we know of one.
pub(crate) fn runtime_api(config: &Config, state: &StateDir) -> RuntimeApi {
    RuntimeApi::new(&config.haproxy.stats_socket).master(master_socket(config, state))
}

/// The socket of HAProxy's master, where there is one that we know of.
pub(crate) fn master_socket(config: &Config, state: &StateDir) -> Option<PathBuf> {
    match &config.haproxy.reload {
        ReloadMethod::MasterSocket(socket) => Some(socket.clone()),
        ReloadMethod::Spawn => Some(state.master_socket()),
        ReloadMethod::Command(_) => None,
    }
}
