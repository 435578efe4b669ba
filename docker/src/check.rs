//! Whether `run` would work: a config in, what is wrong and what would be written out.

use controller::error_chain::chain;
use controller::here;
use serf_rpc::BString;

use crate::config::Config;
use crate::run::{RunError, preview};
use crate::status::Status;

/// What `run` would make of the containers, and everything that is wrong.
pub async fn check(config: &Config) -> (Option<Status>, Vec<String>) {
    let mut findings = Vec::new();
    let status = match preview(config).await {
        Ok(status) => status,
        Err(error) => {
            let advice = match &error {
                RunError::Docker(error) => error.advice(),
                _ => {
                    "start this host's agent, or set [serf] addr and auth_key_file to where it listens and what it asks for"
                }
            };
            findings.push(format!("{}\n    {advice}", chain(&error)));
            return (None, findings);
        }
    };
    findings.extend(elsewhere(config).await);
    for problem in &status.problems {
        findings.push(format!("{}\n    {}", problem.problem, problem.advice));
    }
    (Some(status), findings)
}

/// The agent has to be this host's: published ports are looked for at its member's address.
async fn elsewhere(config: &Config) -> Option<String> {
    let client = crate::agent::client(&config.serf);
    let own = crate::agent::own(&client).await.ok()?;
    let addr = own.addr?;
    let ours = here::addresses().ok()?;
    if addr.is_loopback() || ours.contains(&addr) {
        return None;
    }
    let name = BString::from(own.name);
    Some(format!(
        "the agent's member {name} has the address {addr}, which is none of this host's\n    \
         published ports are announced at that address: it has to be the agent of this host, or one behind its NAT"
    ))
}
