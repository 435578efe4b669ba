//! Where the agent is and its key in, a connection out.

use serf_rpc::{Client, ConnectOptions};

use crate::{agent::AgentArgs, exit::Failure};

/// How to connect to the agent that the arguments name.
///
/// # Errors
///
/// The file with the key cannot be read.
pub(crate) fn options(agent: &AgentArgs) -> Result<ConnectOptions, Failure> {
    let options = ConnectOptions::new(agent.addr())
        .connect_timeout(agent.timeout())
        .call_timeout(agent.timeout());
    Ok(match agent.auth_key()? {
        Some(key) => options.auth_key(key),
        None => options,
    })
}

/// Connects to it.
///
/// # Errors
///
/// See [`ConnectError`](serf_rpc::ConnectError), and those of [`options`].
pub(crate) async fn connect(agent: &AgentArgs) -> Result<Client, Failure> {
    Ok(options(agent)?.connect().await?)
}
