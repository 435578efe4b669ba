//! Who gets traffic: gossip, HAProxy's checks and the controller's own probes in, a decision with its reason for
//! every server out. Pure.
//!
//! Nobody is taken out on the word of one witness. Gossip says `failed` when an agent is gone, which says nothing of
//! the web server beside it; a check says DOWN, which says nothing of where the server went. A server that announces
//! its leave drains, once enough others serve; one that gossip gives up is cut once a second witness says that it is dead,
//! and kept while it answers; a new one gets traffic when it has answered a probe. What one witness may do alone is bounded
//! by a budget.

mod backend;
mod budget;
mod damping;
mod decision;
mod entry;
mod explain;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use crate::admission::Admits;
use crate::config;
use crate::model::{
    BackendName, Endpoint, Model, RunningServers, SerfStatus, ServerKey, ServerName, WantedAdmin,
};

use backend::BackendState;
pub use budget::Removal;
pub use decision::{
    BudgetView, Decision, Decisions, Evidence, Held, Line, Origin, Resting, ServerStatus, Why,
};
use server::Phase;

/// What the guard needs to know of a backend.
#[derive(Clone, Debug)]
pub struct Rules {
    /// HAProxy checks its servers.
    pub checked: bool,
    /// Who lets a new server in.
    pub admits: Admits,
    /// How often HAProxy checks a server: a result that is twice as old as this is no older than the wait for it.
    pub check_interval: Duration,
    /// A suspected server without a check is probed, and taken out when it is dead.
    pub suspicion: bool,
    /// The backend's `[guard]`.
    pub guard: config::GuardConfig,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Clients come back to their server by a cookie.
    pub sticky: bool,
    /// The longest that a member that comes and goes is kept out.
    pub max_penalty: Duration,
}

impl Rules {
    /// How HAProxy has a server whose running requests finish. In drain it still gets all requests of the clients that have its
    /// cookie, and would never be idle; in maint they go to others.
    fn draining(&self) -> WantedAdmin {
        if self.sticky {
            WantedAdmin::Maint
        } else {
            WantedAdmin::Drain
        }
    }

    /// A server that HAProxy's check calls down is dead. Where that check tells a role (`probe = "check"`), a standby
    /// is down by design, and it is dead when nobody listens there.
    fn down_is_dead(&self) -> bool {
        self.checked && self.admits != Admits::AnyCheck
    }
}

/// What a probe of the controller found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It answered.
    Good,
    /// Nobody listens there.
    Refused,
    /// No answer in time, or a wrong one.
    Failed,
}

/// A probe that the guard wants running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub addr: SocketAddr,
    /// What for.
    pub urgency: Urgency,
    /// The last sign that somebody lives there: an event of its member, or a check of HAProxy that came up.
    pub sign: Instant,
}

impl Target {
    /// Whether it is the same probe, be there a newer sign of life or not.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.addr, self.urgency) == (other.addr, other.urgency)
    }
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for traffic behind it.
    Admission,
    /// Its server may be dead and has traffic.
    Suspect,
    /// It only watches.
    Watch,
}

/// What gossip says of a server that had traffic, where it matters how long it has said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerfReport {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// `failed` or `leaving`.
    pub gossip: SerfStatus,
    /// Since when, without the time that gossip was split.
    pub since: Instant,
}

/// Whose removal is approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Of everybody that is held.
    All,
    /// Of those held in one backend.
    Backend(BackendName),
    /// Of one server; of all that a member has in a backend, where its name has no port.
    Server(ServerKey),
}

/// The history of every server, and the decisions that follow from it.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    backends: BTreeMap<BackendName, BackendState>,
    adopted: bool,
}

impl Guard {
    /// Nothing known of any server.
    pub fn new(rules: BTreeMap<BackendName, Rules>) -> Self {
        let mut guard = Self::default();
        guard.set_rules(rules);
        guard
    }

    /// Takes other rules; servers of backends that are gone are forgotten.
    pub fn set_rules(&mut self, rules: BTreeMap<BackendName, Rules>) {
        self.backends
            .retain(|backend, _| rules.contains_key(backend));
        for (backend, rules) in rules {
            match self.backends.get_mut(&backend) {
                Some(state) => {
                    state.wake_all();
                    state.rules = rules;
                }
                None => {
                    let state = BackendState::new(backend.clone(), rules);
                    self.backends.insert(backend, state);
                }
            }
        }
    }

    /// Takes a server as proven and in rotation: it was before this process started.
    pub fn adopt(&mut self, key: ServerKey, endpoint: Endpoint, now: Instant) {
        if let Some(state) = self.backends.get_mut(&key.backend) {
            state.adopt(key.server, endpoint, now);
        }
    }

    /// Takes a removal that an earlier process made: it counts, and the server may come back.
    pub fn restore(&mut self, key: ServerKey, removal: Removal, now: Instant) {
        if let Some(state) = self.backends.get_mut(&key.backend) {
            state.restore(key.server, removal, now);
        }
    }

    /// Forgets servers that are nobody's to decide about any more: the template has them itself.
    pub fn forget(&mut self, keys: impl IntoIterator<Item = ServerKey>) {
        for key in keys {
            if let Some(state) = self.backends.get_mut(&key.backend) {
                state.forget(&key.server);
            }
        }
    }

    /// Takes what gossip said of a server when an earlier process was last there, and since when: `hold` goes on.
    /// It had traffic then, and may come back.
    pub fn remember(&mut self, key: ServerKey, word: SerfReport, now: Instant) {
        if let Some(state) = self.backends.get_mut(&key.backend) {
            state.remember(key.server, word, now);
        }
    }

    /// Since when gossip has said that servers failed or leave, for the next process.
    pub fn words(&self, now: Instant) -> impl Iterator<Item = (ServerKey, SerfReport)> {
        self.backends.iter().flat_map(move |(backend, state)| {
            let words = state.words(now);
            words.map(|(server, word)| (ServerKey::new(backend, server), word))
        })
    }

    /// Takes that a server was the first at its address when an earlier process was last there.
    pub fn own(&mut self, key: ServerKey, addr: SocketAddr) {
        if let Some(state) = self.backends.get_mut(&key.backend) {
            state.own(key.server, addr);
        }
    }

    /// Those who were the first at their address and are not in rotation, for the next process.
    pub fn absent_owners(&self) -> impl Iterator<Item = (ServerKey, SocketAddr)> {
        self.backends.iter().flat_map(|(backend, state)| {
            let owners = state.absent_owners();
            owners.map(|(server, addr)| (ServerKey::new(backend, server), addr))
        })
    }

    /// The servers in rotation, for the next process.
    pub fn in_rotation(&self) -> impl Iterator<Item = (ServerKey, Endpoint)> {
        self.backends.iter().flat_map(|(backend, state)| {
            let servers = state.servers.iter();
            servers
                .filter(|(_, server)| server.phase == Phase::In)
                .map(|(name, server)| (ServerKey::new(backend, name), server.endpoint))
        })
    }

    /// The removals that count, for the next process.
    pub fn removals(&self) -> impl Iterator<Item = (ServerKey, Removal)> {
        self.backends.iter().flat_map(|(backend, state)| {
            let removals = state.ledger.iter();
            removals.map(|(server, removal)| (ServerKey::new(backend, server), removal))
        })
    }

    /// Takes the members as the rules pick them.
    pub fn observe_members(&mut self, model: &Model, now: Instant) {
        let none = BTreeMap::new();
        for (backend, state) in &mut self.backends {
            let candidates = model.backends.get(backend).unwrap_or(&none);
            state.observe_members(candidates, &model.known, now);
        }
    }

    /// Takes that the agent suspects a member, whatever servers that has; says whether anything may follow from it.
    pub fn observe_suspicion(&mut self, member: &str, now: Instant) -> bool {
        let mut news = false;
        // `a`, and `a:80` and the like, which stand together in the order of names.
        let (first, behind) = (format!("{member}:"), format!("{member};"));
        let named = (Bound::Included(&*first), Bound::Excluded(&*behind));
        for BackendState { servers, rules, .. } in self.backends.values_mut() {
            if let Some(server) = servers.get_mut(member) {
                news |= server.observe_suspicion(rules, now);
            }
            for (_, server) in servers.range_mut::<str, _>(named) {
                news |= server.observe_suspicion(rules, now);
            }
        }
        news
    }

    /// Takes the servers as HAProxy runs them. The first time, what it has ready counts as proven.
    pub fn observe_running(&mut self, running: &RunningServers, now: Instant) {
        let adopts = !std::mem::replace(&mut self.adopted, true);
        for (backend, state) in &mut self.backends {
            let servers = running.get(backend.as_str());
            if adopts {
                for (name, running) in servers.into_iter().flatten() {
                    if let Some(name) = ServerName::new(name) {
                        state.adopt_running(name, running, now);
                    }
                }
            }
            state.observe_running(servers, now);
        }
    }

    /// Takes what a probe found at an address; says whether anything may follow from it.
    pub fn observe_probe(&mut self, key: &ServerKey, addr: SocketAddr, found: Probed) -> bool {
        let state = self.backends.get_mut(&key.backend);
        state.is_some_and(|state| state.observe_probe(&key.server, addr, found))
    }

    /// Takes that somebody approves removals which the guard holds back; says whose.
    pub fn approve(&mut self, approval: &Approval) -> Vec<ServerKey> {
        let mut approved = Vec::new();
        for (backend, state) in &mut self.backends {
            let names = match approval {
                Approval::All => state.approve(|_| true),
                Approval::Backend(wanted) if wanted == backend => state.approve(|_| true),
                Approval::Server(wanted) if wanted.backend == *backend => {
                    state.approve(|name| wanted.server.means(name))
                }
                _ => continue,
            };
            approved.extend(names.iter().map(|name| ServerKey::new(backend, name)));
        }
        approved
    }

    /// Whether the next decision depends on `show stat`.
    pub fn wants_stat(&self) -> bool {
        self.backends.values().any(|state| {
            // Who of a backend with roles answers, only its check tells.
            let roles = state.rules.admits == Admits::AnyCheck;
            let mut servers = state.servers.values();
            servers.any(|server| roles || server.poll(&state.rules).is_some())
        })
    }

    /// What is otherwise than when this was asked last: the probes that are to run, and none for those that are not to any
    /// more. Those of a backend that is gone are not named.
    pub fn probe_news(&mut self, now: Instant) -> Vec<(ServerKey, Option<Target>)> {
        let news = self.backends.iter_mut().flat_map(|(backend, state)| {
            let news = state.probe_news(now).into_iter();
            news.map(|(server, target)| (ServerKey::new(backend, &server), target))
        });
        news.collect()
    }

    /// Decides about every server.
    pub fn decide(&mut self, now: Instant) -> Decisions {
        let mut decisions = Decisions::default();
        for (backend, state) in &mut self.backends {
            state.decide(now);
            let aged = state.ledger.deadline(state.rules.guard.window);
            decisions.deadline = earliest(decisions.deadline, aged.filter(|&at| at > now));
            for (name, server) in &state.servers {
                let deadline = server.deadline(&state.rules).filter(|&at| at > now);
                decisions.deadline = earliest(decisions.deadline, deadline);
                decisions.poll = earliest(decisions.poll, server.poll(&state.rules));
                let decision = server.decision(&state.rules);
                decisions
                    .servers
                    .insert(ServerKey::new(backend, name), decision);
            }
            let resting = state.rest.decisions().clone();
            decisions.resting.insert(backend.clone(), resting);
            let budget = state.budget_view();
            decisions.budgets.insert(backend.clone(), budget);
        }
        decisions
    }
}

fn earliest<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}
