//! What the stages say to each other: plain types, and no work but reading and printing them.

pub mod here;
mod member;
mod names;
mod running;
mod server;
mod step;

pub use member::{Attributes, Candidate, Endpoint, Model, Quarantine, RequestedState, SerfStatus};
pub use names::{BackendName, Naming, ServerKey, ServerName, Weight};
pub use running::{
    AddedOptions, Admin, AgentCheck, Check, DownBackends, OldWorker, RunningServer, RunningServers,
    ServerStat, State, Version, Worker,
};
pub use server::{Details, Server, Servers};
pub use step::{Action, Step, WantedAdmin, WantedAdmins};
