//! Servers at rest: those about whom nothing is to be decided before something of theirs changes. Pure.
//!
//! Anybody may announce any number of members, and what thousands of them wait for is theirs alone: that their web server
//! answers, or that there is a place. They change nothing about the others, so no pass walks over them. One is woken by
//! another word of its member, by HAProxy's having it, by what a probe finds, by who comes to its address, by a place
//! that is free, and by other rules. The decisions are those of a guard that never rests (`tests/laws/rest.rs`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::BackendState;
use crate::admission::Admits;
use crate::guard::decision::Resting;
use crate::guard::server::{AdmissionBlock, Phase, ServerState};
use crate::guard::{Probed, Rules};
use crate::model::{
    Attributes, Candidate, RequestedState, RunningServer, SerfStatus, ServerKey, ServerName,
    WantedAdmin,
};

/// Servers at rest, and what was decided about them.
#[derive(Clone, Debug, Default)]
pub(in crate::guard) struct Rest {
    servers: BTreeMap<ServerName, ServerState>,
    decisions: Resting,
    addresses: HashMap<SocketAddr, BTreeSet<ServerName>>,
    /// Those that answer and wait for a place, in the order in which they get one.
    full: BTreeSet<(Instant, ServerName)>,
    /// Those of which the prober may not know yet that they are to be asked.
    pub(in crate::guard) untold: Vec<ServerName>,
}

impl Rest {
    pub(in crate::guard) fn get(&self, name: &ServerName) -> Option<&ServerState> {
        self.servers.get(name)
    }

    pub(in crate::guard) fn get_mut(&mut self, name: &ServerName) -> Option<&mut ServerState> {
        self.servers.get_mut(name)
    }

    pub(in crate::guard) fn decisions(&self) -> &Resting {
        &self.decisions
    }

    #[cfg(test)]
    pub(in crate::guard) fn iter(&self) -> impl Iterator<Item = (&ServerName, &ServerState)> {
        self.servers.iter()
    }

    fn at(&self, addr: SocketAddr) -> impl Iterator<Item = &ServerName> {
        self.addresses.get(&addr).into_iter().flatten()
    }

    fn insert(&mut self, key: ServerKey, server: ServerState, rules: &Rules) {
        let name = key.server.clone();
        let here = self.addresses.entry(server.endpoint.addr).or_default();
        here.insert(name.clone());
        if server.is_full(rules) {
            self.full.insert((server.claims_since, name.clone()));
        }
        Arc::make_mut(&mut self.decisions).insert(key, server.decision(rules));
        self.servers.insert(name, server);
    }

    fn remove(&mut self, key: &ServerKey) -> Option<ServerState> {
        let (name, server) = self.servers.remove_entry(&key.server)?;
        Arc::make_mut(&mut self.decisions).remove(key);
        if let Entry::Occupied(mut here) = self.addresses.entry(server.endpoint.addr) {
            here.get_mut().remove(&name);
            if here.get().is_empty() {
                here.remove();
            }
        }
        self.full.remove(&(server.claims_since, name));
        Some(server)
    }
}

impl BackendState {
    fn key(&self, name: &ServerName) -> ServerKey {
        ServerKey::new(&self.name, name)
    }

    /// Takes a server out of its rest, if it is at rest.
    pub(in crate::guard) fn wake(&mut self, name: &ServerName) {
        if let Some(server) = self.rest.remove(&self.key(name)) {
            self.servers.insert(name.clone(), server);
        }
    }

    /// Takes all servers out of their rest.
    pub(in crate::guard) fn wake_all(&mut self) {
        let Rest {
            servers, untold, ..
        } = std::mem::take(&mut self.rest);
        self.rest.untold = untold;
        self.servers.extend(servers);
    }

    /// Wakes those of whom gossip or the rules say something else than when they came to rest.
    pub(super) fn wake_the_changed(&mut self, candidates: &BTreeMap<ServerName, Candidate>) {
        let resting = self.rest.servers.iter();
        let changed = resting.filter(|(name, server)| {
            let candidate = candidates.get(*name);
            !candidate.is_some_and(|candidate| server.is_known_as(candidate))
        });
        let changed: Vec<ServerName> = changed.map(|(name, _)| name.clone()).collect();
        changed.iter().for_each(|name| self.wake(name));
    }

    /// Wakes those whom HAProxy has.
    pub(super) fn wake_the_running(&mut self, running: Option<&BTreeMap<String, RunningServer>>) {
        let running = running.into_iter().flatten();
        let at_rest =
            running.filter_map(|(name, _)| self.rest.servers.get_key_value(name.as_str()));
        let at_rest: Vec<ServerName> = at_rest.map(|(name, _)| name.clone()).collect();
        at_rest.iter().for_each(|name| self.wake(name));
    }

    /// Takes what a probe found; says whether anything may follow from it. Of one more that fails nothing does.
    pub(in crate::guard) fn observe_probe(
        &mut self,
        name: &ServerName,
        addr: SocketAddr,
        found: Probed,
    ) -> bool {
        if let Some(server) = self.rest.get_mut(name) {
            if found != Probed::Good && server.proof.good == 0 {
                let before = server.proof;
                let matters = server.observe_probe(&self.rules, addr, found);
                if server.proof != before {
                    let decision = server.decision(&self.rules);
                    let key = self.key(name);
                    Arc::make_mut(&mut self.rest.decisions).insert(key, decision);
                }
                return matters;
            }
            self.wake(name);
        }
        let server = self.servers.get_mut(name);
        server.is_some_and(|server| server.observe_probe(&self.rules, addr, found))
    }

    /// Wakes those at whose address something may be decided. They change nothing about each other while none of them
    /// answers.
    pub(super) fn wake_the_neighbours(&mut self) {
        if self.rest.servers.is_empty() {
            return;
        }
        let mut neighbours = BTreeSet::new();
        for server in self.servers.values() {
            let waits = server.only_waits(&self.rules);
            for addr in server.addresses() {
                let here = self.rest.at(addr);
                let is_full = |name: &ServerName| {
                    self.rest
                        .get(name)
                        .is_some_and(|it| it.is_full(&self.rules))
                };
                neighbours.extend(here.filter(|name| !waits || is_full(name)).cloned());
            }
        }
        neighbours.iter().for_each(|name| self.wake(name));
    }

    /// Wakes those that get a place, where so many are free: each of them would take one.
    pub(super) fn wake_the_first(&mut self, places: usize) {
        let first = self.rest.full.iter().take(places);
        let first: Vec<ServerName> = first.map(|(_, name)| name.clone()).collect();
        first.iter().for_each(|name| self.wake(name));
    }

    /// Lays to rest whoever waits for what concerns nobody else.
    pub(super) fn lay_to_rest(&mut self, now: Instant) {
        // How many are at an address, and whether all of them only wait.
        let mut addresses: HashMap<SocketAddr, (usize, bool)> = HashMap::new();
        for server in self.servers.values() {
            let waits = server.only_waits(&self.rules);
            for addr in server.addresses() {
                let (count, all_wait) = addresses.entry(addr).or_insert((0, true));
                *count += 1;
                *all_wait &= waits;
            }
        }
        let rests = |(name, server): &(&ServerName, &ServerState)| {
            let addr = server.endpoint.addr;
            let (count, all_wait) = addresses.get(&addr).copied().unwrap_or_default();
            let alone = count == 1 && self.rest.at(addr).next().is_none();
            let full = server.is_full(&self.rules) && !self.damper.knows(name);
            let rests = all_wait || (full && alone);
            rests && server.is_read_as_absent() && !self.ledger.contains(name)
        };
        let resting = self.servers.iter().filter(rests);
        let resting: Vec<ServerName> = resting.map(|(name, _)| name.clone()).collect();
        for name in resting {
            let Some(server) = self.servers.remove(&name) else {
                continue;
            };
            if server.told != server.target(&self.rules, now) {
                self.rest.untold.push(name.clone());
            }
            let key = self.key(&name);
            self.rest.insert(key, server, &self.rules);
        }
    }
}

impl ServerState {
    /// Alive and out of use, it never had traffic, and the controller's own probe would let it in.
    fn waits(&self, rules: &Rules) -> bool {
        let maint = WantedAdmin::Maint;
        let is_out = self.phase == Phase::Out { admin: maint } && !self.served;
        let welcome = self.quarantine.is_none() && self.requested == RequestedState::Ready;
        let by_probe = rules.admits == Admits::Probe && !self.is_suspected();
        is_out && welcome && by_probe && self.is_wanted()
    }

    /// It waits for the first answer to a probe of the controller's, and for nothing else.
    fn only_waits(&self, rules: &Rules) -> bool {
        self.waits(rules) && self.proof.good == 0
    }

    /// It answers, and as many as may be are in rotation.
    fn is_full(&self, rules: &Rules) -> bool {
        let full = self.blocked == Some(AdmissionBlock::Full);
        self.waits(rules) && self.proof.good > 0 && full
    }

    /// Whether this is what is known of its member, which is alive.
    fn is_known_as(&self, candidate: &Candidate) -> bool {
        let known = Attributes {
            endpoint: self.endpoint,
            requested: self.requested,
        };
        candidate.gossip == SerfStatus::Alive && candidate.attributes == Ok(known)
    }

    /// Where it is, and where it is going to be.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let endpoints = [Some(self.endpoint), self.moving];
        endpoints
            .into_iter()
            .flatten()
            .map(|endpoint| endpoint.addr)
    }
}
