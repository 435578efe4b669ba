//! A client for the RPC of [Serf](https://www.serf.io)'s agent, and a watcher that follows the
//! membership of its cluster.
//!
//! # The members, once
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use serf_rpc::{Client, MemberFilter, MemberStatus};
//!
//! let client = Client::connect("127.0.0.1:7373").await?;
//! let members = client.members().await?;
//! for member in members.iter().filter(|member| member.status() == MemberStatus::Alive) {
//!     // Names and tags are any bytes: nothing in Serf makes them UTF-8.
//!     let role = member.tag("role").unwrap_or_default();
//!     tracing::info!(name = %member.name(), addr = ?member.addr(), %role);
//! }
//! let web = client.members_filtered(&MemberFilter::new().tag("role", "web")).await?;
//! # drop(web);
//! # Ok(())
//! # }
//! ```
//!
//! # The membership, for as long as the process lives
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use serf_rpc::{ConnectOptions, Presence, WatchOptions, Watcher};
//!
//! let agent = ConnectOptions::new("127.0.0.1:7373").auth_key(std::env::var("SERF_RPC_AUTH")?);
//! let watcher = Watcher::spawn(WatchOptions::new(vec![agent]));
//! let mut snapshots = watcher.snapshots();
//! while snapshots.changed().await.is_ok() {
//!     let snapshot = snapshots.borrow_and_update().clone();
//!     let listed = snapshot.entries().iter().filter(|entry| entry.presence == Presence::Listed);
//!     tracing::info!(revision = snapshot.revision(), listed = listed.count());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What to know about the agent
//!
//! * Its events are held back for 1–3 s, merged, sometimes suppressed and sometimes repeated.
//!   They are reasons to ask for the members again and nothing else; the [`Watcher`] does so, and
//!   takes the agent's log, which is not held back, for a further reason.
//! * Ending a stream while events flow can crash it; see [`Subscription`].
//! * A member that is not listed after a reconnection is not gone; see [`Presence`].
//!
//! # How it is made
//!
//! From the bytes up: `object` finds where a msgpack value ends, `codec` reads and writes values,
//! `protocol` knows the rules that no byte shows, `command`, `member`, `event` and `subscription`
//! give the values types, `session` says which answer belongs to whom, all without a socket.
//! `connection` is the task that owns one, [`Client`] the handle to it. On top, `membership` makes
//! snapshots of answers, `log_line` hints of the agent's log, and the [`Watcher`] both of an agent.
//!
//! A new command is a type in `command` and a method of [`Client`].

mod client;
mod codec;
mod command;
mod connection;
mod coordinate;
mod error;
mod event;
mod filter;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod log_line;
mod member;
mod membership;
mod object;
mod options;
mod protocol;
mod query;
mod session;
mod stats;
mod subscription;
#[cfg(test)]
mod testing;
mod watcher;

pub use bstr::{BStr, BString};
pub use client::Client;
pub use codec::DecodeError;
pub use command::{KeyReply, TagChange, UserEvent};
pub use coordinate::Coordinate;
pub use error::{CallError, ConnectError, ConnectionError, ProtocolError, StreamError, WatchError};
pub use event::{Event, MemberEventKind};
pub use filter::MemberFilter;
pub use member::{Member, MemberBuilder, MemberStatus, ProtocolVersions};
pub use membership::{AgentState, Change, Continuity, Entry, Presence, Snapshot};
pub use object::ObjectError;
pub use options::ConnectOptions;
pub use query::{Query, QueryReplies, QueryReply, QueryStream};
pub use stats::Stats;
pub use subscription::{
    EventFilter, EventKind, EventName, EventStream, LogLevel, LogLine, LogStream, Record,
    Subscription,
};
pub use watcher::{Changes, SuspicionStream, WatchEvent, WatchOptions, Watcher};
