//! What an application needs to be tested without an agent (feature `test-util`): everything it may be handed, made to
//! order. Members and snapshots have builders of their own: [`Member::builder`](crate::Member::builder),
//! [`Snapshot::relisted`](crate::Snapshot::relisted).

pub mod errors;
mod values;
mod watcher;

pub use values::{query, query_id, query_replies, stats, user_event};
pub use watcher::FakeWatcher;
