//! Client for the RPC of HashiCorp's Serf agent.

mod client;
mod codec;
mod command;
mod connection;
mod error;
mod event;
mod log_line;
mod member;
mod membership;
mod object;
mod options;
mod protocol;
mod session;
mod subscription;
#[cfg(test)]
mod testing;
mod watcher;

pub use bstr::{BStr, BString};
pub use client::{Client, MemberFilter};
pub use codec::DecodeError;
pub use error::{CallError, ConnectError, ConnectionError, ProtocolError, StreamError, WatchError};
pub use event::{Event, MemberEventKind};
pub use member::{Member, MemberBuilder, MemberStatus, ProtocolVersions};
pub use membership::{AgentState, Change, Continuity, Entry, Presence, Snapshot};
pub use object::ObjectError;
pub use options::ConnectOptions;
pub use subscription::{
    EventFilter, EventKind, EventName, EventStream, LogLevel, LogLine, LogStream, Record,
    Subscription,
};
pub use watcher::{Changes, SuspicionStream, WatchEvent, WatchOptions, Watcher};
