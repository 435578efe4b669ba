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
    pub(super) fn bars(&self, slot: &ServerState, claim: &Claim) -> Option<AdmissionBlock> {
        let better = match &self.wanted {
            Some(own) => claim > own,
            None => claim.weighs || !self.weighs,
        };
        let takes_over = slot.is_wanted() && better;
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
        let asked = self.slots.iter().filter(|(_, slot)| slot.is_asked_for());
        let mut holders: BTreeMap<SocketAddr, Holder> = asked
            .map(|(name, slot)| {
                let holder = Holder {
                    name: name.clone(),
                    wanted: None,
                    weighs: true,
                    bequeaths: false,
                };
                (slot.endpoint.addr, holder)
            })
            .collect();
        for (name, slot) in self
            .slots
            .iter()
            .filter(|(_, slot)| slot.phase == Phase::In)
        {
            let holder = self.holder(name, slot);
            let kept: &mut Holder = holders.entry(slot.endpoint.addr).or_insert(holder.clone());
            if holder.rank() > kept.rank() {
                *kept = holder;
            }
        }
        holders
    }

    pub(super) fn holder(&self, name: &ServerName, slot: &ServerState) -> Holder {
        let wanted = slot.is_wanted();
        Holder {
            name: name.clone(),
            wanted: wanted.then(|| self.claim(name, slot)),
            weighs: slot.weighs(),
            bequeaths: !wanted && slot.serves(&self.rules),
        }
    }

    /// Drains whose address and port an alive member has, once that one's own check has come back good; takes it back
    /// while HAProxy does not run that one, as after a reload with a text from before. A member that asks for drain or maint asks for its web server, whatever
    /// that is called.
    pub(super) fn hand_over(&mut self, now: Instant) {
        let (heirs, asked) = self.heirs();
        for slot in self.slots.values_mut().filter(|slot| !slot.is_wanted()) {
            let heir = heirs.get(&slot.endpoint.addr);
            let answers = slot.answers(&self.rules);
            let goes_on = heir.is_some_and(|heir| heir.goes_on || (heir.runs && !answers));
            let asked = asked.contains(&slot.endpoint.addr);
            let waits = heir.is_some_and(|heir| heir.there && !heir.runs) && !asked;
            match slot.phase {
                Phase::In => {
                    slot.heir = heir.map(|heir| heir.name.clone());
                    let kept = heir.is_some_and(|heir| heir.cookie == slot.cookie);
                    slot.lost_cookie = slot.cookie.clone().filter(|_| goes_on && !kept);
                    if goes_on || asked {
                        slot.drain(now);
                    }
                }
                Phase::Draining { .. } if slot.heir.is_some() && waits => {
                    slot.heir = heir.map(|heir| heir.name.clone());
                    slot.enter(Phase::In, now);
                }
                _ => {}
            }
        }
    }

    /// Who would take over at each address, the furthest on of each; and the addresses where a member asks for drain or
    /// maint.
    fn heirs(&self) -> (BTreeMap<SocketAddr, Heir>, BTreeSet<SocketAddr>) {
        let (mut heirs, mut asked) = (BTreeMap::<SocketAddr, Heir>::new(), BTreeSet::new());
        let left = self.slots.values().filter(|slot| !slot.is_wanted());
        let left: BTreeSet<SocketAddr> = left.map(|slot| slot.endpoint.addr).collect();
        for (name, slot) in &self.slots {
            let addr = slot.endpoint.addr;
            if !left.contains(&addr) {
                continue;
            }
            let there = slot.phase == Phase::In;
            let heir = Heir {
                name: name.clone(),
                cookie: slot.cookie.clone(),
                there,
                runs: slot.runs(),
                goes_on: slot.goes_on(&self.rules),
            };
            if slot.is_asked_for() {
                asked.insert(addr);
            } else if slot.is_wanted()
                && slot.weighs()
                && slot.quarantine.is_none()
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
