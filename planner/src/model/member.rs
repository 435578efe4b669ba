//! What the rules make of the cluster's members: who belongs to which backend, where, and what Serf says of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::here::What;
use super::{BackendName, Details, ServerKey, ServerName, Weight};

/// What the rules make of a Snapshot: every backend's members, and who was left out and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The members that the rules pick, by backend and name; every configured backend is here.
    pub backends: BTreeMap<BackendName, BTreeMap<ServerName, Candidate>>,
    /// Every member of the Snapshot that could be a server by its name, picked or not, and what gossip says of it.
    pub known: BTreeMap<ServerName, SerfStatus>,
    /// Picked members whose name can be no server's, escaped, with the reason.
    pub unnameable: BTreeMap<String, Quarantine>,
    /// What members have announced that is no service here, as `SERVICE/MEMBER`, escaped, with the reason.
    pub refused: BTreeMap<String, Quarantine>,
    /// The members that are called otherwise than their servers, by what those are called: their names, escaped.
    pub renamed: BTreeMap<ServerName, String>,
    /// What the lines of servers have beside address and weight; nothing of those that are not named here.
    pub details: BTreeMap<ServerKey, Details>,
}

impl Model {
    /// Everything picked, with its key.
    pub fn candidates(&self) -> impl Iterator<Item = (ServerKey, &Candidate)> {
        self.backends.iter().flat_map(|(backend, servers)| {
            servers
                .iter()
                .map(|(server, candidate)| (ServerKey::new(backend, server), candidate))
        })
    }
}

/// A member that a backend's rule picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it says of itself, or why that may not be believed.
    pub attributes: Result<Attributes, Quarantine>,
    /// What gossip says of it.
    pub gossip: SerfStatus,
}

/// What a member says of itself, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The tag `state`.
    pub requested: RequestedState,
}

/// Where a server is and how much of the traffic it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its weight.
    pub weight: Weight,
}

/// What gossip says of a member.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SerfStatus {
    /// `alive`.
    Alive,
    /// `leaving`: it announced its leave.
    Leaving,
    /// `left`: it left gracefully.
    Left,
    /// `failed`: declared dead.
    Failed,
    /// Not listed by the agent, and no other word of it is remembered: no evidence of anything.
    Absent,
}

/// What a member's tag `state` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestedState {
    /// Traffic.
    #[default]
    Ready,
    /// No new requests.
    Drain,
    /// No requests at all, once the running ones are done.
    Maint,
}

/// Why a member is kept out although a rule picks it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Quarantine {
    /// A server's name has 1 to 64 characters of `[A-Za-z0-9_.-]`.
    #[error(
        "its name can be no server's: 1 to 64 of A-Z a-z 0-9 _ . -, the first a letter or digit"
    )]
    Name,
    /// The template has a server line of its own with its name.
    #[error("a server line of the template's own has its name; rename one, or take that line out")]
    Fixed,
    /// It gossips no address.
    #[error("it has no address")]
    NoAddress,
    /// Its address is outside the backend's `networks`.
    #[error("its address {0} is outside the networks of the backend")]
    Network(IpAddr),
    /// It has no tag `port` and the backend has no `port`.
    #[error("it has no tag `port`, and the backend has no port of its own")]
    NoPort,
    /// Its port is not allowed.
    #[error("its port {0} is not allowed in the backend")]
    Port(u16),
    /// The balancer itself listens there: a request would come back to it, or meet the agent or the controller.
    #[error("its address {addr} is this balancer's own: {what}")]
    Here {
        /// Where it claims to listen.
        addr: SocketAddr,
        /// What does.
        what: What,
    },
    /// A tag has a value that cannot be used.
    #[error("its tag `{tag}` is \"{value}\", want {want}")]
    Tag {
        /// The tag, by the name that it has in the config.
        tag: String,
        /// Its value, escaped and shortened.
        value: String,
        /// What it may be.
        want: &'static str,
    },
    /// What it announces is no service.
    #[error("this is no service; write NAME, NAME:PORT or NAME:PORT@ADDRESS")]
    Announcement,
    /// `[services] allow` does not have it.
    #[error("members may not announce it: it is not in `[services] allow`")]
    NotAllowed,
    /// A `[[backend]]` has its name.
    #[error("a [[backend]] has this name; call one of them otherwise")]
    IsBackend,
    /// There are as many services as may be.
    #[error("there are {0} services, as many as `[services] max` lets be")]
    TooManyServices(usize),
    /// It announces more than anybody would.
    #[error("it announces more than {0} services")]
    TooManyAnnouncements(usize),
    /// It announces one instance twice.
    #[error("it is announced twice; one of them counts")]
    Twice,
    /// The host is not one that it may claim.
    #[error("it claims the host {0}, which is not in `[services] hosts`")]
    Host(String),
    /// The path is not one that it may claim.
    #[error("it claims the path {0}, which is not in `[services] paths` or below one")]
    Path(String),
}
