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
            for server in self.servers.values_mut() {
                let goes =
                    server.phase == Phase::In && server.is_leaving() && server.gossip == word;
                if !goes {
                    continue;
                }
                if server.is_dead(&self.rules) {
                    server.heir = None;
                    server.drain(now);
                } else if server.heir.is_none() && others(&serving, server) >= least {
                    serving.remove(&server.endpoint.addr);
                    server.drain(now);
                } else if server.heir.is_none() {
                    server.held = Some(Held::LastToLeave);
                }
            }
        }
    }

    /// Drains whom no rule picks any more, within the budget and above the floor: a tag may be a slip, and one slip may
    /// concern all.
    pub(super) fn remove_deselected(&mut self, now: Instant) {
        let mut room = self.room();
        let Budget { used, limit } = room.budget;
        for (name, server) in &mut self.servers {
            let goes = server.phase == Phase::In && server.is_deselected();
            if !goes || server.heir.is_some() || server.is_dead(&self.rules) {
                continue;
            }
            match room.take(server) {
                Err(Full::Budget) => server.held = Some(Held::Deselected { used, limit }),
                Err(Full::Floor) => server.held = Some(Held::LastDeselected),
                Ok(()) => self
                    .ledger
                    .dismiss(name, server, RemovalCause::Deselection, now),
            }
        }
    }

    /// Takes back as many as `min_servers` lacks, of those that went on gossip's word and answer the controller's probe.
    pub(super) fn recall(&mut self, now: Instant) {
        let least = self.rules.guard.min_servers;
        let in_rotation = self.in_rotation();
        let in_rotation =
            in_rotation.filter(|server| server.weighs() && server.answers(&self.rules));
        let answering: BTreeSet<_> = in_rotation.map(|server| server.endpoint.addr).collect();
        let mut lacking = least.saturating_sub(answering.len());
        let taken = self.addresses();
        for server in self.servers.values_mut() {
            let recallable =
                server.is_recallable(&self.rules) && !taken.contains_key(&server.endpoint.addr);
            server.missed = recallable && lacking > 0;
            if server.missed && server.proof.good > 0 {
                lacking -= 1;
                server.removal_cause = None;
                server.let_in(now);
            }
        }
    }
}
