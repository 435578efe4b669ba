//! Where the agent is and its key in, a connection out.

use serf_rpc::{Client, ConnectError, ConnectOptions};

use crate::cli::AgentArgs;

/// Connects to the agent that the arguments name.
///
/// # Errors
///
/// See [`ConnectError`].
pub(crate) async fn connect(agent: &AgentArgs) -> Result<Client, ConnectError> {
    let options = ConnectOptions::new(agent.addr())
        .connect_timeout(agent.rpc_timeout)
        .call_timeout(agent.rpc_timeout);
    match agent.auth_key() {
        Some(key) => options.auth_key(key).connect().await,
        None => options.connect().await,
    }
}
