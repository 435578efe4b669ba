//! Keeping a connection with one of several agents, and what rests on it: agents in, a client that comes back out.

pub(crate) mod events;
pub(crate) mod keeper;
mod latest;
pub(crate) mod managed;
pub(crate) mod options;
pub(crate) mod pulse;
mod resume;
mod state;
mod stream;
pub(crate) mod unreached;

pub use latest::Latest;
pub use managed::{ClientEvent, ClientEvents, ManagedClient};
pub use options::LinkOptions;
pub use state::AgentState;
pub use stream::{ManagedEvents, ManagedLog};
pub use unreached::Unreached;
