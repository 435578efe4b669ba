//! The web servers that HAProxy's checks ask: addresses and names in, what they say out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Everything outside of HAProxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Web {
    /// Where nobody answers.
    pub(crate) refusing: BTreeSet<SocketAddr>,
    /// What the agents of servers say, by `backend/server`.
    pub(crate) agents: BTreeMap<String, String>,
}

impl Web {
    pub(crate) fn answers(&self, addr: SocketAddr) -> bool {
        !self.refusing.contains(&addr)
    }

    /// What a server's agent says; nothing where there is none.
    pub(crate) fn says(&self, server: &str) -> &str {
        self.agents.get(server).map_or("", String::as_str)
    }
}
