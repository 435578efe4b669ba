//! Where the agent is and its key in, a connection out.

use serf_rpc::{Client, ConnectError, ConnectOptions};

use crate::cli::AgentArgs;

/// How to connect to the agent that the arguments name.
pub(crate) fn options(agent: &AgentArgs) -> ConnectOptions {
    let options = ConnectOptions::new(agent.addr())
        .connect_timeout(agent.rpc_timeout)
        .call_timeout(agent.rpc_timeout);
    match agent.auth_key() {
        Some(key) => options.auth_key(key),
        None => options,
    }
}

/// Connects to it.
///
/// # Errors
///
/// See [`ConnectError`].
pub(crate) async fn connect(agent: &AgentArgs) -> Result<Client, ConnectError> {
    options(agent).connect().await
}
