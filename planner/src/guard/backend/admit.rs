//! Who is let in, and who waits for a place: servers that are out, with what bars them, in; some of them in rotation out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use super::BackendState;
use super::handover::Holder;
use crate::admission::Admits;
use crate::guard::budget::Budget;
use crate::guard::server::{AdmissionBlock, Phase, ServerState};
use crate::model::ServerName;

/// Servers of a backend that HAProxy has for its check alone to let in.
const MOST_UNPROVEN: usize = 100;

impl BackendState {
    /// Lets in who answers and is wanted, those first who have been there longest, up to `max_servers`. Who comes and goes
    /// has to wait, but never so that `min_servers` or the budget would be broken.
    pub(super) fn let_in(&mut self, now: Instant) {
        let mut taken = self.addresses();
        let mut room = self.endpoints();
        self.wake_the_first(room);
        let mut damped = BTreeSet::new();
        for name in self.waiting(&taken) {
            let Some(server) = self.servers.get(&name) else {
                continue;
            };
            let there = taken.get(&server.endpoint.addr);
            let blocked = there.and_then(|there| there.bars(server, &self.claim(&name, server)));
            let inherits = there.is_some_and(|there| there.bequeaths);
            let comes = blocked.is_none() && server.may_come_in(&self.rules, inherits);
            let Some(server) = self.servers.get_mut(&name) else {
                continue;
            };
            server.blocked = blocked;
            if !comes {
                continue;
            }
            match self.damper.until(&name) {
                _ if room == 0 => server.blocked = Some(AdmissionBlock::Full),
                Some((until, penalty)) if now < until => {
                    server.blocked = Some(AdmissionBlock::Damped { until, penalty });
                    damped.insert((until, name));
                }
                _ => {
                    server.let_in(now);
                    room -= 1;
                    if let Some(server) = self.servers.get(&name) {
                        taken.insert(server.endpoint.addr, self.holder(&name, server));
                    }
                }
            }
        }
        self.let_in_damped(damped, room, now);
        self.queue_for_checks();
    }

    /// Lets in who should be steady for longer, where the backend would be too small without them.
    fn let_in_damped(
        &mut self,
        mut damped: BTreeSet<(Instant, ServerName)>,
        mut room: usize,
        now: Instant,
    ) {
        while room > 0
            && let Some((_, name)) = damped.pop_first()
        {
            let waiting = damped.len() + 1;
            let base = self.in_rotation().count() + waiting;
            let budget = Budget::new(base, self.ledger.used(), &self.rules.guard);
            if self.answering() >= self.floor() && waiting <= budget.spare() {
                break;
            }
            if let Some(server) = self.servers.get_mut(&name) {
                server.let_in(now);
                room -= 1;
            }
        }
    }

    /// Who is out and may come in, or has the address of another, in the order of their claims. Nothing bars all others.
    fn waiting(&mut self, taken: &BTreeMap<SocketAddr, Holder>) -> Vec<ServerName> {
        let rules = &self.rules;
        let mut waiting = Vec::new();
        for (name, server) in &mut self.servers {
            if !matches!(server.phase, Phase::Out { .. } | Phase::Draining { .. }) {
                continue;
            }
            server.blocked = None;
            if taken.contains_key(&server.endpoint.addr) || server.may_come_in(rules, false) {
                waiting.push((server.claims_since, name.clone()));
            }
        }
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, name)| name).collect()
    }

    /// How many more may be in rotation.
    fn endpoints(&self) -> usize {
        let most = self.rules.guard.max_servers;
        most.saturating_sub(self.in_rotation().count())
    }

    /// Of those whom HAProxy's check is to let in and who never had traffic, HAProxy has a few at a time: who gave a sign
    /// of life last goes first.
    fn queue_for_checks(&mut self) {
        if self.rules.admits == Admits::Probe {
            return;
        }
        let waits = |server: &ServerState| {
            let out = matches!(server.phase, Phase::Out { .. });
            out && server.is_wanted() && !server.served && server.blocked.is_none()
        };
        let servers = self.servers.iter_mut().map(|(_, server)| server);
        let mut waiting: Vec<&mut ServerState> = servers.filter(|server| waits(server)).collect();
        // Stable, so that of those of one moment the first by name goes first.
        waiting.sort_by_key(|server| Reverse(server.claims_since));
        for server in waiting.into_iter().skip(MOST_UNPROVEN) {
            server.blocked = Some(AdmissionBlock::Queued);
        }
    }
}
