//! Following the membership of a cluster through the agents that answer.

mod bucket;
mod hints;
pub(crate) mod log_line;
mod membership;
mod options;
mod publisher;
mod select;
mod watcher;

pub use membership::{Change, Entry, Presence, Snapshot};
pub use options::WatchOptions;
pub use select::{Selection, SetChange};
pub use watcher::{Changes, SuspicionStream, WatchEvent, Watcher};
#[cfg(feature = "test-util")]
pub(crate) use {hints::Reasons, membership::Continuity, publisher::Publisher};
