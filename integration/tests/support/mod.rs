//! What tests of the library against real agents share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use integration::{Agent, Serf};
use serf_rpc::ConnectOptions;

/// Within this, whatever is awaited happens on a slow machine too.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// How to connect to an agent of that Serf.
pub(crate) fn options(serf: &Serf, agent: &Agent) -> ConnectOptions {
    ConnectOptions::new(agent.rpc_addr().to_string()).auth_key(serf.key().unwrap_or_default())
}
