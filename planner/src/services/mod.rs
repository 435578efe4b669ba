//! Services that members name by tags: a Snapshot, `[services]` and the time in; backends with their servers, and where
//! their requests come from, out. Pure.
//!
//! Whatever is in a tag is hostile. What is not on the whitelist is refused, by member and service, and the rest of that
//! member goes on.

mod announce;
mod book;
mod gather;
mod place;
mod routed;
#[cfg(test)]
mod tests;
mod told;
mod vote;

pub use announce::Announcement;
pub use book::{Book, Service, Whose};
pub use gather::{Found, Gathered, Proto, Wish, gather};
pub use place::{DefaultHost, Names, Path};
pub use routed::{Effect, Unrouted};
pub use told::told;
pub use vote::Dispute;
