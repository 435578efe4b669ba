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
        self.0.retain(|_, name| known.contains_key(name.member()));
    }

    /// Forgets who says that it is elsewhere now, and takes who serves where nobody did; says whether that changed anything.
    pub(super) fn revise(
        &mut self,
        servers: &BTreeMap<ServerName, ServerState>,
        rest: &Rest,
        serves: impl Fn(&ServerState) -> bool,
    ) -> bool {
        let before = self.0.len();
        self.0.retain(|addr, name| {
            let server = servers.get(name).or_else(|| rest.get(name));
            let server = server.filter(|server| server.is_wanted());
            server.is_none_or(|server| server.endpoint.addr == *addr)
        });
        let kept = self.0.len();
        let serving = servers
            .iter()
            .filter(|(_, server)| server.is_wanted() && serves(server));
        for (name, server) in serving {
            self.0
                .entry(server.endpoint.addr)
                .or_insert_with(|| name.clone());
        }
        (before, kept) != (kept, self.0.len())
    }
}

impl BackendState {
    pub(super) fn claim(&self, name: &ServerName, server: &ServerState) -> Claim {
        Claim {
            weighs: server.weighs(),
            owns: self.owners.0.get(&server.endpoint.addr) == Some(name),
            since: Reverse(server.claims_since),
            name: Reverse(name.clone()),
        }
    }

    /// Of two members in rotation at one address one goes on, as when one returns while another has taken over from it:
    /// the one with the better claim as soon as HAProxy runs it, and both while only the other serves.
    pub(super) fn part_doubles(&mut self, now: Instant) {
        let mut firsts: BTreeMap<SocketAddr, (Claim, bool)> = BTreeMap::new();
        let runs = self
            .servers
            .iter()
            .filter(|(_, server)| server.is_wanted() && server.runs());
        for (name, server) in runs {
            let claim = self.claim(name, server);
            let addr = server.endpoint.addr;
            if firsts.get(&addr).is_none_or(|(best, _)| claim > *best) {
                firsts.insert(addr, (claim, server.serves(&self.rules)));
            }
        }
        let doubles = self.servers.iter().filter(|(name, server)| {
            let there = server.phase == Phase::In && server.is_wanted();
            let first = firsts.get(&server.endpoint.addr).filter(|_| there);
            first.is_some_and(|(best, serves)| {
                best.name.0 != **name
                    && self.claim(name, server) < *best
                    && (*serves || !server.serves(&self.rules))
            })
        });
        let doubles: Vec<ServerName> = doubles.map(|(name, _)| name.clone()).collect();
        for name in doubles {
            if let Some(server) = self.servers.get_mut(&name) {
                server.make_way(now);
            }
        }
    }
}
