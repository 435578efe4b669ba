//! Who gets traffic: gossip, HAProxy's checks and the controller's own probes in, a decision with its reason for
//! every server out. Pure.
//!
//! Nobody is taken out on the word of one witness. Gossip says `failed` when an agent is gone, which says nothing of
//! the web server beside it; a check says DOWN, which says nothing of where the server went. A server that announces
//! its leave drains; one that gossip gives up is cut once a second witness says that it is dead, and kept while it
//! answers; a new one gets traffic when it has answered a probe.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config;
use crate::haproxy::{Admin, RunningServers};
use crate::model::{BackendName, Gossip, Key, Model, Place, ServerName, Weight};
use crate::plan::{WantedAdmin, WantedAdmins};
use crate::render::{Server, Servers};

use slot::{Phase, Slot};
pub use slot::{Standing, Why};

/// What the guard needs to know of a backend.
#[derive(Clone, Debug)]
pub struct Rules {
    /// HAProxy checks its servers.
    pub checked: bool,
    /// The controller's own probe admits; otherwise HAProxy's check does.
    pub probed: bool,
    /// The backend's `[guard]`.
    pub guard: config::Guard,
    /// How long a drain may take.
    pub drain_timeout: Duration,
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
    /// Whether somebody waits for traffic behind it, or it only watches.
    pub urgent: bool,
}

/// What is to be done about one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where it listens, and its weight.
    pub place: Place,
    /// Whether the file lists it, and if so, whether as ready for traffic.
    pub line: Option<Line>,
    /// The admin state it is to have.
    pub admin: Option<WantedAdmin>,
    /// How it stands and why.
    pub standing: Standing,
    /// What gossip says of it.
    pub gossip: Gossip,
}

/// A server's line in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It takes traffic from the start.
    Ready,
    /// It is `disabled` at the next start.
    Disabled,
}

/// All decisions, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Every server known.
    pub servers: BTreeMap<Key, Decision>,
    /// When time alone will change a decision.
    pub deadline: Option<Instant>,
    /// How soon HAProxy has to be read again, with `show stat`.
    pub poll: Option<Duration>,
}

impl Decisions {
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
                    addr: decision.place.addr,
                    weight: decision.place.weight,
                    ready: line == Line::Ready,
                });
        }
        servers
    }

    /// The admin states that the file cannot say.
    pub fn admins(&self) -> WantedAdmins {
        let admin = |(key, decision): (&Key, &Decision)| {
            Some(((key.backend.clone(), key.server.clone()), decision.admin?))
        };
        self.servers.iter().filter_map(admin).collect()
    }
}

/// The history of every server, and the decisions that follow from it.
#[derive(Debug, Default)]
pub struct Guard {
    rules: BTreeMap<BackendName, Rules>,
    slots: BTreeMap<Key, Slot>,
    /// Servers taken out without intent, within the window.
    removals: Vec<(Key, Instant)>,
    adopted: bool,
}

impl Guard {
    /// Nothing known of any server.
    pub fn new(rules: BTreeMap<BackendName, Rules>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes other rules; servers of backends that are gone are forgotten.
    pub fn set_rules(&mut self, rules: BTreeMap<BackendName, Rules>) {
        self.slots.retain(|key, _| rules.contains_key(&key.backend));
        self.rules = rules;
    }

    /// Takes a server as proven and in rotation: it was before this process started.
    pub fn adopt(&mut self, key: Key, place: Place, now: Instant) {
        if self.rules.contains_key(&key.backend) {
            self.slots
                .entry(key)
                .or_insert_with(|| Slot::new(place, now))
                .phase = Phase::In;
        }
    }

    /// The servers in rotation, for the ledger.
    pub fn in_rotation(&self) -> impl Iterator<Item = (&Key, Place)> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.phase == Phase::In)
            .map(|(key, slot)| (key, slot.place))
    }

    /// Hears gossip.
    pub fn hear(&mut self, model: &Model, now: Instant) {
        for (key, slot) in &mut self.slots {
            let listed = model
                .backends
                .get(&key.backend)
                .and_then(|servers| servers.get(&key.server));
            match listed {
                Some(candidate) => slot.hear(candidate, now),
                None => slot.miss(model.known.contains(&key.server), now),
            }
        }
        for (key, candidate) in model.candidates() {
            let Ok(attributes) = candidate.attributes else {
                continue;
            };
            let gone = matches!(candidate.gossip, Gossip::Leaving | Gossip::Left);
            if gone || self.slots.contains_key(&key) {
                continue;
            }
            let mut slot = Slot::new(attributes.place, now);
            slot.hear(candidate, now);
            self.slots.insert(key, slot);
        }
    }

    /// Reads what HAProxy runs. The first time, what it has ready counts as proven.
    pub fn read(&mut self, running: &RunningServers, now: Instant) {
        if !self.adopted {
            self.adopted = true;
            self.adopt_running(running, now);
        }
        for (key, slot) in &mut self.slots {
            slot.read(
                running
                    .get(key.backend.as_str())
                    .and_then(|servers| servers.get(key.server.as_str())),
            );
        }
        self.slots.retain(|_, slot| slot.phase != Phase::Gone);
    }

    fn adopt_running(&mut self, running: &RunningServers, now: Instant) {
        for (backend, servers) in running {
            let Some(backend) =
                BackendName::new(backend).filter(|name| self.rules.contains_key(name))
            else {
                continue;
            };
            for (server, running) in servers {
                let (Some(server), Some(addr)) = (ServerName::new(server), running.addr) else {
                    continue;
                };
                let Some(weight) = Weight::new(running.weight) else {
                    continue;
                };
                let key = Key {
                    backend: backend.clone(),
                    server,
                };
                let place = Place { addr, weight };
                match running.admin {
                    Admin::Ready => {
                        let slot = self
                            .slots
                            .entry(key)
                            .or_insert_with(|| Slot::new(place, now));
                        slot.adopt(place);
                    }
                    Admin::Drain => {
                        let slot = self
                            .slots
                            .entry(key)
                            .or_insert_with(|| Slot::new(place, now));
                        slot.adopt_draining(now);
                    }
                    Admin::Maint => {}
                }
            }
        }
    }

    /// Hears what a probe found at an address; says whether anything may follow from it.
    pub fn probed(&mut self, key: &Key, addr: SocketAddr, found: Probed) -> bool {
        self.slots
            .get_mut(key)
            .is_some_and(|slot| slot.probed(addr, found))
    }

    /// Whether the next decision depends on `show stat`.
    pub fn wants_stat(&self) -> bool {
        self.slots.iter().any(|(key, slot)| {
            self.rules
                .get(&key.backend)
                .is_some_and(|rules| slot.poll(rules).is_some())
        })
    }

    /// The probes that are to run.
    pub fn targets(&self, now: Instant) -> BTreeMap<Key, Target> {
        self.slots
            .iter()
            .filter_map(|(key, slot)| {
                let rules = self.rules.get(&key.backend)?;
                Some((key.clone(), slot.target(rules, now)?))
            })
            .collect()
    }

    /// Decides about every server.
    pub fn decide(&mut self, now: Instant) -> Decisions {
        self.forget_removals(now);
        let taken = self.places_of_the_living();
        for (key, slot) in &mut self.slots {
            if let Some(rules) = self.rules.get(&key.backend) {
                let taken_over = taken.contains(&(key.backend.clone(), slot.place.addr));
                slot.step(rules, taken_over, now);
            }
        }
        for (backend, rules) in &self.rules {
            cut_the_dead(&mut self.slots, backend, rules, &mut self.removals, now);
            end_holds(&mut self.slots, backend, rules, &mut self.removals, now);
        }
        self.slots.retain(|_, slot| slot.phase != Phase::Gone);
        self.decisions(now)
    }

    /// Addresses that are an alive member's now: a server that gossip has given up is none of them.
    fn places_of_the_living(&self) -> BTreeSet<(BackendName, SocketAddr)> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.is_wanted())
            .map(|(key, slot)| (key.backend.clone(), slot.place.addr))
            .collect()
    }

    /// A removal counts against the budget until its window ends or the server is back.
    fn forget_removals(&mut self, now: Instant) {
        let (rules, slots) = (&self.rules, &self.slots);
        self.removals.retain(|(key, at)| {
            let window = rules
                .get(&key.backend)
                .map_or(Duration::ZERO, |rules| rules.guard.window);
            let back = slots
                .get(key)
                .is_some_and(|slot| slot.phase == Phase::In || slot.gossip == Gossip::Left);
            now < *at + window && !back
        });
    }

    fn decisions(&self, now: Instant) -> Decisions {
        let mut decisions = Decisions::default();
        for (key, slot) in &self.slots {
            let Some(rules) = self.rules.get(&key.backend) else {
                continue;
            };
            decisions.poll = earliest(decisions.poll, slot.poll(rules));
            let deadline = slot.deadline(rules).filter(|&deadline| deadline > now);
            decisions.deadline = earliest(decisions.deadline, deadline);
            decisions.servers.insert(key.clone(), slot.decision(rules));
        }
        decisions
    }
}

fn earliest<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}

/// Cuts who gossip has given up and another witness calls dead; the last line of a backend stays, dead or not.
fn cut_the_dead(
    slots: &mut BTreeMap<Key, Slot>,
    backend: &BackendName,
    rules: &Rules,
    removals: &mut Vec<(Key, Instant)>,
    now: Instant,
) {
    let mut remaining = in_backend(slots, backend)
        .filter(|(_, slot)| slot.phase == Phase::In)
        .count();
    for (key, slot) in slots.iter_mut().filter(|(key, _)| key.backend == *backend) {
        if remaining <= 1 {
            return;
        }
        if slot.phase == Phase::In && !slot.is_listed_alive() && slot.is_dead(rules) {
            slot.phase = Phase::Out {
                admin: WantedAdmin::Cut,
            };
            removals.push((key.clone(), now));
            remaining -= 1;
        }
    }
}

/// Drains who answers but has been `failed` for longer than `hold`, as far as the budget goes.
fn end_holds(
    slots: &mut BTreeMap<Key, Slot>,
    backend: &BackendName,
    rules: &Rules,
    removals: &mut Vec<(Key, Instant)>,
    now: Instant,
) {
    let Some(hold) = rules.guard.hold else { return };
    let in_rotation: Vec<&Slot> = in_backend(slots, backend)
        .map(|(_, slot)| slot)
        .filter(|slot| slot.phase == Phase::In)
        .collect();
    let answering = in_rotation
        .iter()
        .filter(|slot| !slot.is_dead(rules))
        .count();
    let given_up = in_rotation
        .iter()
        .filter(|slot| !slot.is_listed_alive())
        .count();
    let used = removals
        .iter()
        .filter(|(key, _)| key.backend == *backend)
        .count();
    let base = in_rotation.len() + used;
    let budget = (base * usize::from(rules.guard.max_removal_percent) / 100).max(1);
    // More than the budget given up at once is a split of gossip, which is waited out.
    if given_up > budget {
        return;
    }
    let mut spare = budget
        .saturating_sub(used)
        .min(answering.saturating_sub(rules.guard.min_servers.max(1)));
    for (key, slot) in slots.iter_mut().filter(|(key, _)| key.backend == *backend) {
        let held_out = slot.phase == Phase::In
            && slot.gossip == Gossip::Failed
            && now >= slot.gossip_since + hold;
        if held_out && spare > 0 {
            slot.phase = Phase::Draining {
                since: now,
                idle: false,
            };
            removals.push((key.clone(), now));
            spare -= 1;
        }
    }
}

fn in_backend<'a>(
    slots: &'a BTreeMap<Key, Slot>,
    backend: &'a BackendName,
) -> impl Iterator<Item = (&'a Key, &'a Slot)> {
    slots.iter().filter(move |(key, _)| key.backend == *backend)
}
