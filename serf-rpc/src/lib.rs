//! Client for the RPC of HashiCorp's Serf agent.

pub mod member;
pub mod membership;

pub use bstr::{BStr, BString};
pub use member::{Member, MemberBuilder, MemberStatus};
pub use membership::{AgentState, Entry, Presence, Snapshot};
