//! What the guard decides about a server, and why, as data and in words.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{
    BackendName, Check, Endpoint, Quarantine, SerfStatus, Server, ServerKey, ServerName, Servers,
    WantedAdmin, WantedAdmins,
};

/// What is to be done about one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where it listens, and its weight.
    pub endpoint: Endpoint,
    /// Whether the file lists it, and if so, whether as ready for traffic.
    pub line: Option<Line>,
    /// The admin state it is to have.
    pub admin: Option<WantedAdmin>,
    /// How it stands and why.
    pub status: ServerStatus,
    /// What each witness says of it.
    pub evidence: Evidence,
    /// How the controller came to know it.
    pub origin: Origin,
    /// Since when it has stood so.
    pub since: Instant,
}

/// A server's line in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It takes traffic from the start.
    Ready,
    /// It is `disabled` at the next start.
    Disabled,
}

/// What each witness says of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Serf.
    pub gossip: SerfStatus,
    /// HAProxy's check; none where it was not read.
    pub check: Option<Check>,
    /// The controller's own probe; none where none was wanted lately.
    pub probe: Option<super::Probed>,
    /// The agent, or its neighbours, could not reach the member just now.
    pub suspected: bool,
}

/// How the controller came to know a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A member of the cluster announced it.
    Member,
    /// It was in rotation before this controller started, by its own book or its file.
    Before,
    /// The running worker had it.
    Worker,
}

impl Origin {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Before => "before",
            Self::Worker => "worker",
        }
    }
}

/// How a server stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// In a word: `ready`, `down`, `waiting`, `drain`, `maint`, `leaving` or `out`.
    pub state: &'static str,
    /// The reason.
    pub why: Why,
}

/// Why a server stands as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Gossip says alive, and it answers.
    Proven,
    /// Gossip says alive, it answered when it came in, and nobody checks it since.
    ProvenOnce,
    /// Gossip says alive, and HAProxy's check calls it down.
    CheckedDown,
    /// It had traffic before this controller started, and gossip has not said anything yet.
    Unheard,
    /// Gossip says alive; it has not answered a probe yet.
    NotProven,
    /// Gossip says alive; HAProxy's check, which lets in, has not come back yet, or not good.
    Unchecked,
    /// Gossip says alive; HAProxy's check calls it down, as it does a standby, and so sends it nothing.
    Standby,
    /// Gossip says alive and its address is another server's, which is alive too.
    AddressTaken(ServerName),
    /// It comes and goes; it is let in again once it has been steady for so long.
    Damped(Duration),
    /// It answers, and as many as may be are in rotation.
    Full(usize),
    /// Gossip says alive; HAProxy's check asks others that never had traffic first.
    Queued,
    /// Gossip has given it up; it answers, or nobody says that it does not.
    KeptWithoutAgent,
    /// One witness would have it out; it stays.
    Held(Held),
    /// Gossip has given it up and it is dead; it is watched in case it comes back.
    Dead,
    /// The agent suspects it and it does not answer, though gossip still says alive.
    Suspected,
    /// Its tags cannot be used any more; its last good ones stay in force.
    KeptInQuarantine(Quarantine),
    /// It proves its new address before it is moved.
    Moving(SocketAddr),
    /// It leaves, or has left.
    Leaves,
    /// Gossip says that it leaves, for longer than a leave lasts, and nobody calls it dead.
    DidNotLeave,
    /// No rule picks it any more.
    Deselected,
    /// Its tag `state` asks for it.
    AskedFor,
    /// Its address and port are those of this member now, which is alive: the same web server under another name.
    Replaced {
        /// That member.
        by: ServerName,
        /// The cookie value that ends with it, as the member's is another or none.
        cookie: Option<String>,
    },
    /// Its agent has been gone for longer than `hold`.
    HeldLongEnough,
    /// Its removal was approved.
    Approved,
}

/// Why a server stays that one witness, or two, would have out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// More may not go within `window`.
    Budget {
        /// Servers that went already.
        used: usize,
        /// Servers that may go.
        limit: usize,
    },
    /// So many were given up together that it looks like a split of gossip.
    Split {
        /// Servers given up that answer.
        given_up: usize,
        /// Servers that may go.
        limit: usize,
    },
    /// Fewer than `min_servers` would be left, or none.
    Floor,
    /// It leaves or has left, and fewer than `min_servers` others answer.
    LastToLeave,
    /// No rule picks it any more, and more may not go within `window`.
    Deselected {
        /// Servers that went already.
        used: usize,
        /// Servers that may go.
        limit: usize,
    },
    /// No rule picks it any more, and fewer than `min_servers` others answer.
    LastDeselected,
    /// So many fail the controller's own probes together that the fault is likely its own.
    OwnProbes {
        /// Suspects that do not answer them.
        silent: usize,
        /// Servers that may go.
        limit: usize,
    },
}

impl Why {
    /// Whether one witness, or two, would have the server out, and the guard keeps it.
    pub fn is_held(&self) -> bool {
        matches!(
            self,
            Self::Held(_) | Self::KeptWithoutAgent | Self::DidNotLeave
        )
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget { used, limit } => write!(
                f,
                "{used} of the {limit} that may go within `window` have gone"
            ),
            Self::Split { given_up, limit } => write!(
                f,
                "{given_up} answer whose agents are gone, more than the {limit} that may go: \
                 it looks like a split of gossip"
            ),
            Self::Floor => f.write_str("fewer than `min_servers` would be left"),
            Self::LastToLeave => f.write_str(
                "it leaves the cluster, but fewer than `min_servers` others answer; \
                 it goes when they do, or stops answering",
            ),
            Self::Deselected { used, limit } => write!(
                f,
                "no rule picks it any more, which is no leave, \
                 and {used} of the {limit} that may go within `window` have gone"
            ),
            Self::LastDeselected => f.write_str(
                "no rule picks it any more, which is no leave, \
                 and fewer than `min_servers` others answer",
            ),
            Self::OwnProbes { silent, limit } => write!(
                f,
                "{silent} do not answer this controller at once, more than the {limit} that may go: \
                 the fault is likely here"
            ),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("alive and answering"),
            Self::ProvenOnce => {
                f.write_str("alive, and answered when it came in; no check of HAProxy's")
            }
            Self::CheckedDown => f.write_str(
                "alive, but HAProxy's check calls it down: no request until that is over",
            ),
            Self::Unheard => {
                f.write_str("as before the start of this controller; no agent has answered yet")
            }
            Self::NotProven => f.write_str("alive, but has not answered a probe yet"),
            Self::Unchecked => f.write_str("waits for HAProxy's first check"),
            Self::Standby => {
                f.write_str("in, and called down by HAProxy's check: no request until that is over")
            }
            Self::AddressTaken(other) => write!(f, "alive, but its address is that of {other}"),
            Self::Damped(penalty) => write!(
                f,
                "it comes and goes: let in after {} s of being steady",
                penalty.as_secs()
            ),
            Self::Full(most) => write!(
                f,
                "alive and answering, but max_servers = {most} are in rotation"
            ),
            Self::Queued => f.write_str("waits: HAProxy's check asks others first"),
            Self::KeptWithoutAgent => {
                f.write_str("its agent is gone; kept, as nobody calls the server dead")
            }
            Self::Held(held) => write!(f, "held: {held}"),
            Self::Dead => f.write_str("its agent is gone and it does not answer; watched"),
            Self::Suspected => {
                f.write_str("the agent cannot reach it and it does not answer; watched")
            }
            Self::KeptInQuarantine(reason) => write!(f, "kept with its last good tags: {reason}"),
            Self::Moving(addr) => write!(f, "moving to {addr} once that answers"),
            Self::Leaves => f.write_str("it leaves the cluster"),
            Self::DidNotLeave => f.write_str(
                "Serf has said `leaving` for more than 10 s and never `left`, as after a \
                 force-leave of a living node; kept, as nobody calls the server dead",
            ),
            Self::Deselected => f.write_str("no rule picks it any more"),
            Self::AskedFor => f.write_str("its tag `state` asks for it"),
            Self::Replaced { by, cookie } => {
                write!(
                    f,
                    "its address is that of {by} now, the same web server: {by} takes over"
                )?;
                match cookie {
                    Some(cookie) => write!(
                        f,
                        "; its cookie `{}` ends with it, as {by} has another or none: \
                         its clients are balanced anew",
                        cookie.escape_debug()
                    ),
                    None => Ok(()),
                }
            }
            Self::HeldLongEnough => f.write_str("its agent has been gone for longer than `hold`"),
            Self::Approved => f.write_str("its removal was approved"),
        }
    }
}

/// How much of a backend may go on the word of one witness, and how much has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetView {
    /// Servers in rotation.
    pub in_rotation: usize,
    /// Those of them that answer, as far as anybody knows.
    pub answering: usize,
    /// Servers that went without intent and count still.
    pub used: usize,
    /// Servers that may go.
    pub limit: usize,
}

/// All decisions, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// The servers about which something may have to be done.
    pub servers: BTreeMap<ServerKey, Decision>,
    /// The others of every backend: they wait, and HAProxy does not have them. Of equal ones nothing is copied.
    pub resting: BTreeMap<BackendName, Resting>,
    /// Every backend's budget.
    pub budgets: BTreeMap<BackendName, BudgetView>,
    /// When time alone will change a decision.
    pub deadline: Option<Instant>,
    /// How soon HAProxy has to be read again, with `show stat`.
    pub poll: Option<Duration>,
}

/// The decisions about servers at rest.
pub type Resting = Arc<BTreeMap<ServerKey, Decision>>;

impl Decisions {
    /// What was decided about a server, if it is known.
    pub fn get(&self, key: &ServerKey) -> Option<&Decision> {
        let at_rest = || self.resting.get(&key.backend)?.get(key);
        self.servers.get(key).or_else(at_rest)
    }

    /// Every server known, those at rest last.
    pub fn all(&self) -> impl Iterator<Item = (&ServerKey, &Decision)> {
        let at_rest = self.resting.values().flat_map(|resting| resting.iter());
        self.servers.iter().chain(at_rest)
    }

    /// Every server but those at rest about which these others say the same.
    pub fn beyond(&self, other: &Self) -> impl Iterator<Item = (&ServerKey, &Decision)> {
        let resting = self.resting.iter().filter(|(backend, resting)| {
            let same = |before| Arc::ptr_eq(before, resting);
            !other.resting.get(*backend).is_some_and(same)
        });
        let at_rest = resting.flat_map(|(_, resting)| resting.iter());
        self.servers.iter().chain(at_rest)
    }

    /// Takes that gossip has said nothing at all yet: whom it does not name is not given up.
    pub(crate) fn before_gossip(&mut self) {
        for decision in self.servers.values_mut() {
            let kept = matches!(decision.status.state, "ready" | "down");
            if kept && decision.evidence.gossip == SerfStatus::Absent {
                decision.status.why = Why::Unheard;
            }
        }
    }

    /// The servers that the file lists.
    pub fn lines(&self) -> Servers {
        let mut servers = Servers::new();
        for (key, decision) in &self.servers {
            let Some(line) = decision.line else { continue };
            servers
                .entry(key.backend.clone())
                .or_default()
                .push(Server {
                    name: key.server.clone(),
                    addr: decision.endpoint.addr,
                    weight: decision.endpoint.weight,
                    ready: line == Line::Ready,
                    details: Arc::default(),
                });
        }
        servers
    }

    /// The admin states that the file cannot say.
    pub fn admins(&self) -> WantedAdmins {
        let admin = |(key, decision): (&ServerKey, &Decision)| Some((key.clone(), decision.admin?));
        self.servers.iter().filter_map(admin).collect()
    }
}
