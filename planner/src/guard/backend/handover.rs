//! One web server under two names: servers with their addresses in, who takes over from whom out. Pure.
//!
//! Same address and port is the same web server, whatever it is called: a running configuration that is taken over names it
//! otherwise than its member, or its node was renamed. The new name comes in first, proven by the old one, and once HAProxy
//! runs it the old one drains. So a request finds a server at any time, and none is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use super::BackendState;
use super::claim::Claim;
use crate::guard::server::{AdmissionBlock, Phase, ServerState};
use crate::model::ServerName;

/// Who has an address in rotation.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    name: ServerName,
    /// A member wants it in rotation, with this claim to the address.
    wanted: Option<Claim>,
    /// It takes requests.
    weighs: bool,
    /// HAProxy runs it and nobody calls it dead, and no member wants it: another name may go on where it ends.
    pub(super) bequeaths: bool,
}

impl Holder {
    /// Why that server is not let in beside this one: only a wanted one takes over, from one that is not, or that has the
    /// weaker claim.
    pub(super) fn bars(&self, server: &ServerState, claim: &Claim) -> Option<AdmissionBlock> {
        let better = match &self.wanted {
            Some(own) => claim > own,
            None => claim.weighs || !self.weighs,
        };
        let takes_over = server.is_wanted() && better;
        (!takes_over).then(|| AdmissionBlock::Taken(self.name.clone()))
    }

    fn rank(&self) -> (&Option<Claim>, bool) {
        (&self.wanted, self.bequeaths)
    }
}

impl BackendState {
    /// The addresses in rotation, and whose they are; and those of members that ask for drain or maint, where nobody comes in
    /// for whom no member speaks.
    pub(super) fn addresses(&self) -> BTreeMap<SocketAddr, Holder> {
        let asked = self
            .servers
            .iter()
            .filter(|(_, server)| server.is_asked_for());
        let mut holders: BTreeMap<SocketAddr, Holder> = asked
            .map(|(name, server)| {
                let holder = Holder {
                    name: name.clone(),
                    wanted: None,
                    weighs: true,
                    bequeaths: false,
                };
                (server.endpoint.addr, holder)
            })
            .collect();
        for (name, server) in self
            .servers
            .iter()
            .filter(|(_, server)| server.phase == Phase::In)
        {
            let holder = self.holder(name, server);
            let kept: &mut Holder = holders
                .entry(server.endpoint.addr)
                .or_insert(holder.clone());
            if holder.rank() > kept.rank() {
                *kept = holder;
            }
        }
        holders
    }

    pub(super) fn holder(&self, name: &ServerName, server: &ServerState) -> Holder {
        let wanted = server.is_wanted();
        Holder {
            name: name.clone(),
            wanted: wanted.then(|| self.claim(name, server)),
            weighs: server.weighs(),
            bequeaths: !wanted && server.serves(&self.rules),
        }
    }

    /// Drains whose address and port an alive member has, once that one's own check has come back good; takes it back
    /// while HAProxy does not run that one, as after a reload with a text from before. A member that asks for drain or maint asks for its web server, whatever
    /// that is called.
    pub(super) fn hand_over(&mut self, now: Instant) {
        let (heirs, asked) = self.heirs();
        for server in self
            .servers
            .values_mut()
            .filter(|server| !server.is_wanted())
        {
            let heir = heirs.get(&server.endpoint.addr);
            let answers = server.answers(&self.rules);
            let goes_on = heir.is_some_and(|heir| heir.goes_on || (heir.runs && !answers));
            let asked = asked.contains(&server.endpoint.addr);
            let waits = heir.is_some_and(|heir| heir.there && !heir.runs) && !asked;
            match server.phase {
                Phase::In => {
                    server.heir = heir.map(|heir| heir.name.clone());
                    let kept = heir.is_some_and(|heir| heir.cookie == server.cookie);
                    server.lost_cookie = server.cookie.clone().filter(|_| goes_on && !kept);
                    if goes_on || asked {
                        server.drain(now);
                    }
                }
                Phase::Draining { .. } if server.heir.is_some() && waits => {
                    server.heir = heir.map(|heir| heir.name.clone());
                    server.enter(Phase::In, now);
                }
                _ => {}
            }
        }
    }

    /// Who would take over at each address, the furthest on of each; and the addresses where a member asks for drain or
    /// maint.
    fn heirs(&self) -> (BTreeMap<SocketAddr, Heir>, BTreeSet<SocketAddr>) {
        let (mut heirs, mut asked) = (BTreeMap::<SocketAddr, Heir>::new(), BTreeSet::new());
        let left = self.servers.values().filter(|server| !server.is_wanted());
        let left: BTreeSet<SocketAddr> = left.map(|server| server.endpoint.addr).collect();
        for (name, server) in &self.servers {
            let addr = server.endpoint.addr;
            if !left.contains(&addr) {
                continue;
            }
            let there = server.phase == Phase::In;
            let heir = Heir {
                name: name.clone(),
                cookie: server.cookie.clone(),
                there,
                runs: server.runs(),
                goes_on: server.goes_on(&self.rules),
            };
            if server.is_asked_for() {
                asked.insert(addr);
            } else if server.is_wanted()
                && server.weighs()
                && server.quarantine.is_none()
                && heirs
                    .get(&addr)
                    .is_none_or(|kept| (heir.there, heir.runs) > (kept.there, kept.runs))
            {
                heirs.insert(addr, heir);
            }
        }
        (heirs, asked)
    }
}

/// A member that has the address of another server.
struct Heir {
    name: ServerName,
    cookie: Option<String>,
    /// It is in rotation.
    there: bool,
    /// HAProxy runs it so.
    runs: bool,
    /// Its own check, where it has one, has come back good.
    goes_on: bool,
}
