//! serfctl, pointed at an agent.

use std::process::Command;

use anyhow::Result;
use integration::Agent;
use integration::controller::binary;

/// At one that wants no key; the address comes by the environment, so that a flag may name another.
pub(crate) fn serfctl(agent: &Agent, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("serfctl")?);
    command
        .args(args)
        .env("SERF_RPC_ADDR", agent.rpc_addr().to_string())
        .env_remove("SERF_RPC_AUTH");
    Ok(command)
}
