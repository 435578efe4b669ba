//! What an agent speaks of: decoded values, each in a type of its own.

pub(crate) mod coordinate;
pub(crate) mod event;
mod keys;
mod log;
pub(crate) mod member;
mod query;
mod record;
mod stats;
#[cfg(feature = "serde")]
pub(crate) mod text;

pub use coordinate::Coordinate;
pub use event::{Event, EventFilter, EventKind, EventName, MemberEventKind, QueryId};
pub use keys::KeyReply;
pub use log::{LogEntry, LogLevel, LogLine};
pub use member::{Member, MemberBuilder, MemberStatus, ProtocolVersions};
pub(crate) use query::QueryRecord;
pub use query::QueryReply;
pub use record::Record;
pub(crate) use record::{ConnectionId, Sealed};
pub use stats::Stats;
