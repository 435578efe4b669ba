//! Whose agent has been gone for so long that it goes, although nobody calls it dead. Pure.

use std::time::Instant;

use super::{BackendState, Full};
use crate::guard::Rules;
use crate::guard::budget::Budget;
use crate::guard::decision::Held;
use crate::guard::server::{Phase, RemovalCause, ServerState};
use crate::model::SerfStatus;

impl BackendState {
    /// Drains who answers but has been `failed` for longer than `hold`, as far as the budget goes. More than the budget
    /// given up together is a split of gossip, which is waited out: `hold` does not run meanwhile.
    pub(super) fn end_holds(&mut self, now: Instant) {
        let mut room = self.room();
        let Budget { used, limit } = room.budget;
        let given_up = self.given_up();
        self.note_split(given_up > limit, now);
        let rules = &self.rules;
        for (name, slot) in &mut self.slots {
            if slot.phase != Phase::In || !is_silent(slot, rules) || slot.heir.is_some() {
                continue;
            }
            if given_up > limit {
                slot.held = Some(Held::Split { given_up, limit });
                continue;
            }
            if !slot.hold_is_over(rules, now) {
                continue;
            }
            match room.take(slot) {
                Err(Full::Budget) => slot.held = Some(Held::Budget { used, limit }),
                Err(Full::Floor) => slot.held = Some(Held::Floor),
                Ok(()) => self.ledger.dismiss(name, slot, RemovalCause::Hold, now),
            }
        }
    }

    /// Those whose agents are gone and who answer, in rotation or drained after `hold`.
    fn given_up(&self) -> usize {
        let there = |slot: &ServerState| slot.phase == Phase::In || slot.removal_cause.is_some();
        let given_up = self.slots.values().filter(|slot| there(slot));
        given_up.filter(|slot| is_silent(slot, &self.rules)).count()
    }

    /// Puts the end of every `hold` off by the time that a split has lasted, once it is over.
    fn note_split(&mut self, split: bool, now: Instant) {
        match (split, self.split) {
            (true, None) => self.split = Some(now),
            (false, Some(since)) => {
                let lasted = now.saturating_duration_since(since);
                let mut slots = self.slots.values_mut();
                for slot in slots
                    .by_ref()
                    .filter(|slot| slot.gossip == SerfStatus::Failed)
                {
                    slot.hold_from = slot.hold_from.min(since) + lasted;
                }
                self.split = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

/// Its agent is gone, or gossip says nothing of it, and nobody calls it dead.
fn is_silent(slot: &ServerState, rules: &Rules) -> bool {
    slot.is_given_up() && !slot.did_not_leave() && !slot.is_dead(rules)
}
