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
        for (name, server) in &mut self.servers {
            if server.phase != Phase::In || !is_silent(server, rules) || server.heir.is_some() {
                continue;
            }
            if given_up > limit {
                server.held = Some(Held::Split { given_up, limit });
                continue;
            }
            if !server.hold_is_over(rules, now) {
                continue;
            }
            match room.take(server) {
                Err(Full::Budget) => server.held = Some(Held::Budget { used, limit }),
                Err(Full::Floor) => server.held = Some(Held::Floor),
                Ok(()) => self.ledger.dismiss(name, server, RemovalCause::Hold, now),
            }
        }
    }

    /// Those whose agents are gone and who answer, in rotation or drained after `hold`.
    fn given_up(&self) -> usize {
        let there =
            |server: &ServerState| server.phase == Phase::In || server.removal_cause.is_some();
        let given_up = self.servers.values().filter(|server| there(server));
        given_up
            .filter(|server| is_silent(server, &self.rules))
            .count()
    }

    /// Puts the end of every `hold` off by the time that a split has lasted, once it is over.
    fn note_split(&mut self, split: bool, now: Instant) {
        match (split, self.split) {
            (true, None) => self.split = Some(now),
            (false, Some(since)) => {
                let lasted = now.saturating_duration_since(since);
                let mut servers = self.servers.values_mut();
                for server in servers
                    .by_ref()
                    .filter(|server| server.gossip == SerfStatus::Failed)
                {
                    server.hold_from = server.hold_from.min(since) + lasted;
                }
                self.split = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

/// Its agent is gone, or gossip says nothing of it, and nobody calls it dead.
fn is_silent(server: &ServerState, rules: &Rules) -> bool {
    server.is_given_up() && !server.did_not_leave() && !server.is_dead(rules)
}
