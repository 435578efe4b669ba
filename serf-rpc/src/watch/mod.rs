//! Following the membership of a cluster through the agents that answer.

mod bucket;
pub(crate) mod error;
mod hints;
pub(crate) mod log_line;
mod membership;
mod pulse;
mod unreached;
mod watcher;

pub use error::WatchError;
pub use membership::{AgentState, Change, Continuity, Entry, Presence, Snapshot};
pub use unreached::Unreached;
pub use watcher::{Changes, SuspicionStream, WatchEvent, WatchOptions, Watcher};
