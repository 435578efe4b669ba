//! Whether the agent answers.

use std::time::SystemTime;

/// Whether the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentState {
    /// No agent has answered yet.
    NeverReached,
    /// The agent at that address answers.
    Connected {
        /// `host:port`.
        addr: String,
    },
    /// The agent at that address is connected and has not answered for a while: it stands still, or is overloaded. See
    /// [`LinkOptions::pulse`](crate::LinkOptions::pulse).
    Silent {
        /// `host:port`.
        addr: String,
        /// When something was last heard of it.
        since: SystemTime,
    },
    /// The last agent is lost.
    Lost {
        /// `host:port` of the last agent.
        addr: String,
        /// When something was last heard of it.
        since: SystemTime,
    },
    /// Nobody asks any more: the watcher or client was stopped or dropped, its runtime has ended, or all agents refuse
    /// for good. This is the last state.
    Stopped {
        /// When something was last heard of an agent, or since it was stopped if nothing ever was.
        since: SystemTime,
    },
}

impl AgentState {
    /// Since when no agent has answered; none while one does, and before any ever did.
    pub fn stale_since(&self) -> Option<SystemTime> {
        match self {
            Self::Lost { since, .. } | Self::Silent { since, .. } | Self::Stopped { since } => {
                Some(*since)
            }
            Self::Connected { .. } | Self::NeverReached => None,
        }
    }
}
