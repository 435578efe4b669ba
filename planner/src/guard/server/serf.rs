//! What gossip says of one server: its words in, what somebody wants of the server out. Pure.

use std::time::Instant;

use super::{Phase, Proof, RemovalCause, ServerState};
use crate::model::{Attributes, Candidate, Quarantine, RequestedState, SerfStatus, WantedAdmin};

impl ServerState {
    /// Takes what gossip says of a member that a rule picks.
    pub(in crate::guard) fn observe_candidate(&mut self, candidate: &Candidate, now: Instant) {
        self.set_gossip(candidate.gossip, now);
        if !self.selected {
            self.approved = false;
            self.removal_cause
                .take_if(|why| *why == RemovalCause::Deselection);
        }
        self.selected = true;
        self.listed = true;
        match &candidate.attributes {
            Ok(Attributes {
                endpoint,
                requested,
            }) => {
                self.quarantine = None;
                self.requested = *requested;
                self.set_endpoint(*endpoint, now);
            }
            Err(quarantine) => {
                // HAProxy's own: whatever goes there comes back, or meets no web server.
                if matches!(quarantine, Quarantine::Here { addr, .. } if *addr == self.endpoint.addr)
                    && !self.is_out_of_use()
                {
                    let admin = WantedAdmin::Maint;
                    self.enter(Phase::Out { admin }, now);
                }
                self.quarantine = Some(quarantine.clone());
                self.moving = None;
            }
        }
    }

    /// Takes that no rule picks it: because of its tags, or because gossip does not know it at all. Then what gossip said
    /// last stands, unless it was good.
    pub(in crate::guard) fn observe_unpicked(&mut self, gossip: Option<SerfStatus>, now: Instant) {
        let selected = gossip.is_none();
        self.approved &= self.selected == selected;
        self.selected = selected;
        self.listed = gossip.is_some();
        self.moving = None;
        let last = match self.gossip {
            SerfStatus::Alive => SerfStatus::Absent,
            word => word,
        };
        self.set_gossip(gossip.unwrap_or(last), now);
    }

    fn set_gossip(&mut self, gossip: SerfStatus, now: Instant) {
        if self.gossip == gossip {
            return;
        }
        self.gossip = gossip;
        self.hold_from = now;
        self.sign = now;
        self.overdue = false;
        self.approved = false;
        match gossip {
            SerfStatus::Failed if self.is_suspected() => self.proof.good = 0,
            SerfStatus::Alive => {
                self.proof = Proof::default();
                self.removal_cause = None;
                self.suspected = None;
            }
            _ => {
                self.proof = Proof::default();
                self.suspected = None;
            }
        }
    }

    /// It had traffic when an earlier process was last there, and gossip said so of it since then.
    pub(in crate::guard) fn remember(&mut self, gossip: SerfStatus, since: Instant) {
        self.restore();
        self.gossip = gossip;
        self.hold_from = since;
    }

    /// Alive and picked: somebody wants it in the backend.
    pub(in crate::guard) fn is_wanted(&self) -> bool {
        self.gossip == SerfStatus::Alive && self.selected
    }

    /// Picked, and gossip says that its agent is gone, or nothing, or a leave that does not end.
    pub(in crate::guard) fn is_given_up(&self) -> bool {
        self.selected
            && (matches!(self.gossip, SerfStatus::Failed | SerfStatus::Absent)
                || self.did_not_leave())
    }

    /// Gossip says that it leaves, or has left.
    pub(in crate::guard) fn is_leaving(&self) -> bool {
        matches!(self.gossip, SerfStatus::Leaving | SerfStatus::Left) && !self.overdue
    }

    /// Gossip has said `leaving` for longer than a leave lasts: an agent that goes on living was forced to.
    pub(in crate::guard) fn did_not_leave(&self) -> bool {
        self.overdue
    }

    /// No rule picks it any more, which is no leave: its tags may be a slip.
    pub(in crate::guard) fn is_deselected(&self) -> bool {
        !self.selected && !self.is_leaving()
    }

    /// Its tag asks for drain or maint.
    pub(in crate::guard) fn is_asked_for(&self) -> bool {
        let lives = self.is_wanted() || (self.selected && self.did_not_leave());
        lives && self.requested != RequestedState::Ready
    }
}
