//! Who goes because of gossip's word alone, and who stays all the same: the last `min_servers` that answer. Pure.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{BackendState, Full, others};
use crate::guard::budget::Budget;
use crate::guard::decision::Held;
use crate::guard::server::{Phase, RemovalCause};
use crate::model::SerfStatus;

impl BackendState {
    /// Drains who leaves or has left, as long as `min_servers` others serve, and whoever of them another witness calls dead:
    /// it may only have closed its listener, and finish what it has begun. Who has left goes before who is still leaving,
    /// which may be taken back.
    pub(super) fn let_the_leaving_go(&mut self, now: Instant) {
        let least = self.rules.guard.min_servers;
        let mut serving = self.serving();
        for word in [SerfStatus::Left, SerfStatus::Leaving] {
            for slot in self.slots.values_mut() {
                let goes = slot.phase == Phase::In && slot.is_leaving() && slot.gossip == word;
                if !goes {
                    continue;
                }
                if slot.is_dead(&self.rules) {
                    slot.heir = None;
                    slot.drain(now);
                } else if slot.heir.is_none() && others(&serving, slot) >= least {
                    serving.remove(&slot.endpoint.addr);
                    slot.drain(now);
                } else if slot.heir.is_none() {
                    slot.held = Some(Held::LastToLeave);
                }
            }
        }
    }

    /// Drains whom no rule picks any more, within the budget and above the floor: a tag may be a slip, and one slip may
    /// concern all.
    pub(super) fn remove_deselected(&mut self, now: Instant) {
        let mut room = self.room();
        let Budget { used, limit } = room.budget;
        for (name, slot) in &mut self.slots {
            let goes = slot.phase == Phase::In && slot.is_deselected();
            if !goes || slot.heir.is_some() || slot.is_dead(&self.rules) {
                continue;
            }
            match room.take(slot) {
                Err(Full::Budget) => slot.held = Some(Held::Deselected { used, limit }),
                Err(Full::Floor) => slot.held = Some(Held::LastDeselected),
                Ok(()) => self
                    .ledger
                    .dismiss(name, slot, RemovalCause::Deselection, now),
            }
        }
    }

    /// Takes back as many as `min_servers` lacks, of those that went on gossip's word and answer the controller's probe.
    pub(super) fn recall(&mut self, now: Instant) {
        let least = self.rules.guard.min_servers;
        let in_rotation = self.in_rotation();
        let in_rotation = in_rotation.filter(|slot| slot.weighs() && slot.answers(&self.rules));
        let answering: BTreeSet<_> = in_rotation.map(|slot| slot.endpoint.addr).collect();
        let mut lacking = least.saturating_sub(answering.len());
        let taken = self.addresses();
        for slot in self.slots.values_mut() {
            let recallable =
                slot.is_recallable(&self.rules) && !taken.contains_key(&slot.endpoint.addr);
            slot.missed = recallable && lacking > 0;
            if slot.missed && slot.proof.good > 0 {
                lacking -= 1;
                slot.removal_cause = None;
                slot.let_in(now);
            }
        }
    }
}
