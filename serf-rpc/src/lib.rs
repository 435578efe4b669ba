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
//! use std::time::Duration;
//! use serf_rpc::{ConnectOptions, WatchOptions, Watcher};
//!
//! let agents = ["10.0.0.1:7373", "10.0.0.2:7373"].map(ConnectOptions::new);
//! let watcher = Watcher::spawn(WatchOptions::new(agents));
//! watcher.ready().await?;
//! let mut snapshots = watcher.snapshots();
//! while let Some(snapshot) = snapshots.next().await {
//!     let entries = snapshot.entries().iter();
//!     let usable = entries.filter(|entry| entry.usable(Duration::from_secs(10)));
//!     tracing::info!(revision = snapshot.revision(), usable = usable.count());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Over the loss of agents
//!
//! A [`Client`] is one connection. A [`ManagedClient`] keeps one with any of several agents, and repeats what is safe to
//! repeat; [`Watcher::client`] is one on the watcher's connection.
//!
//! # Events, as they come
//!
//! ```no_run
//! # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use serf_rpc::{Event, EventFilter, EventKind};
//!
//! let mut events = client.stream(EventFilter::of([EventKind::User])).await?;
//! while let Some(event) = events.next().await {
//!     match event? {
//!         Event::User { name, payload, .. } => tracing::info!(%name, bytes = payload.len()),
//!         // The reader was too slow: whoever counts events must look for another way to know.
//!         Event::Lagged(missed) => tracing::warn!(missed),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # An event for everybody
//!
//! ```no_run
//! # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use serf_rpc::UserEvent;
//!
//! client.event(&UserEvent::new("deploy").payload("4.2")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A question, and the answers
//!
//! ```no_run
//! # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use serf_rpc::{Expected, MemberFilter, Query};
//!
//! // Who should answer is known; the agent itself waits for the whole time of the query.
//! let web = client.members_filtered(&MemberFilter::new().status("alive").tag("role", "web")).await?;
//! let query = Query::new("uptime").tag_is("role", "web").timeout(Duration::from_secs(2));
//! let mut answers = client.query(&query).await?;
//! let gathered = answers.gather(Expected::responses_of(&web), Duration::from_secs(3)).await;
//! for (name, uptime) in &gathered.responses {
//!     tracing::info!(%name, %uptime);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Answers to the questions of others
//!
//! ```no_run
//! # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use serf_rpc::{Event, EventFilter, EventKind, EventName};
//!
//! let uptime = EventName::new("uptime").ok_or("no name for a query")?;
//! let mut queries = client.stream(EventFilter::of([EventKind::QueryNamed(uptime)])).await?;
//! while let Some(event) = queries.next().await {
//!     if let Event::Query { id, .. } = event?
//!         && let Err(error) = client.respond(id, "3 days").await
//!     {
//!         // Too late, or another client of this agent was faster.
//!         tracing::warn!(%error);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! Each is one line with its reason. [`CallError::retry`] says where the same command may succeed,
//! [`CallError::outcome`] whether it may have been carried out, [`ConnectError::is_permanent`] that no attempt helps.
//!
//! # Runtime
//!
//! To connect and to watch needs a Tokio runtime with I/O and time enabled; without one both are errors, and with one that
//! lacks them Tokio panics. Calls on a [`Client`] work on any executor.
//!
//! # Features
//!
//! * `serde`: members, snapshots and coordinates are saved and read.
//! * `discover`: `Selection::into_discover`, a set of members as `tower` balances load over it.
//! * `test-util`: module `testing`, a watcher that a test feeds, and everything an application is handed.
//!
//! # What to know about the agent
//!
//! * Its events are held back for 1–3 s, merged, sometimes suppressed and sometimes repeated.
//!   They are reasons to ask for the members again and nothing else; the [`Watcher`] does so, and
//!   takes the agent's log, which is not held back, for a further reason.
//! * Ending a stream while events flow can crash it; see [`Subscription`].
//! * A member that is not listed after a reconnection is not gone; see [`Presence`].
//! * It carries out the commands of one connection one after another, and some are slow: `tags` waits
//!   until the cluster has heard, `join` for a silent address, `leave` up to 11 s. Streams go on
//!   meanwhile, and so do other connections.
//! * Names, tags and payloads come from any node of the cluster: they are any bytes, and hostile.
//!
//! # How it is made
//!
//! Seven folders, each of which knows only those before it.
//!
//! * `wire`: `framing` finds where a msgpack value ends, `codec` reads and writes values, `protocol` knows the rules
//!   that no byte shows, and `session` tells which response belongs to which call. No socket, no clock.
//! * `types`: what an agent speaks of. Bytes of a body in, a [`Member`], an [`Event`], [`Stats`] out.
//! * `error`: what can go wrong, by boundary, and what to do then.
//! * `command`: one type a command, which writes its request and names its response.
//! * `client`: `connection` is the task that owns the socket, `handle` sends it commands, [`Client`] has a method for
//!   each, and a [`Subscription`] reads a stream. `connect` makes one of [`ConnectOptions`].
//! * `link`: `keeper` goes from one connection to the next, and a [`ManagedClient`] rests on it.
//! * `watch`: `membership` makes snapshots of answers, `log_line` hints of the agent's log, and the [`Watcher`] both
//!   of the connections that `link` keeps.
//!
//! A new command is a type in `command` and a method of [`Client`]. A new kind of event is a variant of [`Event`] and
//! a line of its decoder in `types/event.rs`.

mod client;
mod command;
mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod link;
#[cfg(test)]
mod recordings;
#[cfg(feature = "test-util")]
pub mod testing;
mod types;
mod watch;
mod wire;

/// Its example must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use bstr::{BStr, BString};
pub use client::{
    AddrError, Client, ConnectOptions, EventStream, Expected, ForceLeave, Join, LogStream,
    QueryEnd, QueryReplies, QueryStream, Subscription,
};
pub use command::{MalformedPattern, MemberFilter, Pattern, Query, TagChange, UserEvent};
pub use error::{
    CallError, CallErrorKind, ConnectError, ConnectionError, Outcome, Retry, StreamError,
    WatchError,
};
pub use link::{
    AgentState, ClientEvent, ClientEvents, Latest, LinkOptions, ManagedClient, ManagedEvents,
    ManagedLog, Unreached,
};
pub use types::{
    Coordinate, Event, EventFilter, EventKind, EventName, KeyReply, LogEntry, LogLevel, LogLine,
    Member, MemberBuilder, MemberEventKind, MemberStatus, ProtocolVersions, QueryId, QueryReply,
    Record, Stats,
};
pub use watch::{
    Change, Changes, Entry, Presence, Selection, SetChange, Snapshot, SuspicionStream, WatchEvent,
    WatchOptions, Watcher,
};
pub use wire::codec::DecodeError;
pub use wire::framing::ObjectError;
pub use wire::protocol::{ProtocolError, Refusal};
