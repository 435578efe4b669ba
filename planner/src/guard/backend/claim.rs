//! Whose an address is, where several members say that it is theirs. Pure.
//!
//! Any member may advertise any address. Whoever served there first goes on, so that nobody takes a web server over by
//! naming its address, whenever that is away for a moment; and who takes no requests stands behind all who do.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::guard::server::{Phase, ServerState};
use crate::model::{SerfStatus, ServerName};

use super::BackendState;
use super::rest::Rest;

/// How good a claim is: the greatest of an address wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// It takes requests.
    pub(super) weighs: bool,
    /// It served there before all others.
    owns: bool,
    since: Reverse<Instant>,
    name: Reverse<ServerName>,
}

/// Who served at each address first.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(BTreeMap<SocketAddr, ServerName>);

impl Owners {
    /// Takes what an earlier process knew.
    pub(super) fn restore(&mut self, addr: SocketAddr, name: ServerName) {
        self.0.insert(addr, name);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &ServerName)> {
        self.0.iter().map(|(addr, name)| (*addr, name))
    }

    /// Forgets whom gossip does not know any more.
    pub(super) fn observe_known(&mut self, known: &BTreeMap<ServerName, SerfStatus>) {
        self.0.retain(|_, name| known.contains_key(name));
    }

    /// Forgets who says that it is elsewhere now, and takes who serves where nobody did; says whether that changed anything.
    pub(super) fn revise(
        &mut self,
        slots: &BTreeMap<ServerName, ServerState>,
        rest: &Rest,
        serves: impl Fn(&ServerState) -> bool,
    ) -> bool {
        let before = self.0.len();
        self.0.retain(|addr, name| {
            let slot = slots.get(name).or_else(|| rest.get(name));
            let slot = slot.filter(|slot| slot.is_wanted());
            slot.is_none_or(|slot| slot.endpoint.addr == *addr)
        });
        let kept = self.0.len();
        let serving = slots
            .iter()
            .filter(|(_, slot)| slot.is_wanted() && serves(slot));
        for (name, slot) in serving {
            self.0
                .entry(slot.endpoint.addr)
                .or_insert_with(|| name.clone());
        }
        (before, kept) != (kept, self.0.len())
    }
}

impl BackendState {
    pub(super) fn claim(&self, name: &ServerName, slot: &ServerState) -> Claim {
        Claim {
            weighs: slot.weighs(),
            owns: self.owners.0.get(&slot.endpoint.addr) == Some(name),
            since: Reverse(slot.claims_since),
            name: Reverse(name.clone()),
        }
    }

    /// Of two members in rotation at one address one goes on, as when one returns while another has taken over from it:
    /// the one with the better claim as soon as HAProxy runs it, and both while only the other serves.
    pub(super) fn part_doubles(&mut self, now: Instant) {
        let mut firsts: BTreeMap<SocketAddr, (Claim, bool)> = BTreeMap::new();
        let runs = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_wanted() && slot.runs());
        for (name, slot) in runs {
            let claim = self.claim(name, slot);
            let addr = slot.endpoint.addr;
            if firsts.get(&addr).is_none_or(|(best, _)| claim > *best) {
                firsts.insert(addr, (claim, slot.serves(&self.rules)));
            }
        }
        let doubles = self.slots.iter().filter(|(name, slot)| {
            let there = slot.phase == Phase::In && slot.is_wanted();
            let first = firsts.get(&slot.endpoint.addr).filter(|_| there);
            first.is_some_and(|(best, serves)| {
                best.name.0 != **name
                    && self.claim(name, slot) < *best
                    && (*serves || !slot.serves(&self.rules))
            })
        });
        let doubles: Vec<ServerName> = doubles.map(|(name, _)| name.clone()).collect();
        for name in doubles {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.make_way(now);
            }
        }
    }
}
