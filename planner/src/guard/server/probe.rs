//! What the controller's own probes are asked about one server, and what they say: findings in, the next target out. Pure.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Phase, Proof, RemovalCause, SUSPICION, ServerState};
use crate::admission::Admits;
use crate::guard::server::CLEARED_BY;
use crate::guard::{Probed, Rules, Target, Urgency};
use crate::model::RequestedState;

impl ServerState {
    /// Takes what a probe found; says whether that is news. More in a row than anything is decided by are none, and neither
    /// is what comes after the server was let in, when nobody asks any more.
    pub(in crate::guard) fn observe_probe(
        &mut self,
        rules: &Rules,
        addr: SocketAddr,
        found: Probed,
    ) -> bool {
        let settled = self.phase == Phase::In && self.is_wanted() && !self.is_suspected();
        if (settled && self.moving.is_none()) || addr != self.moving.unwrap_or(self.endpoint).addr {
            return false;
        }
        let before = self.proof;
        self.proof = match found {
            Probed::Good => Proof {
                good: (before.good + 1).min(CLEARED_BY),
                ..Proof::default()
            },
            Probed::Refused | Probed::Failed => Proof {
                good: 0,
                refused: found == Probed::Refused,
                failures: (before.failures + 1).min(rules.guard.probe_fall),
            },
        };
        let matters = self.proof.good > 0 || self.is_suspected() || !self.is_wanted();
        before != self.proof && matters
    }

    /// Takes that the agent suspects its member; says whether that matters.
    pub(in crate::guard) fn observe_suspicion(&mut self, rules: &Rules, now: Instant) -> bool {
        let new = self.phase == Phase::In && self.is_wanted() && !self.is_suspected();
        if new {
            self.suspected = Some(now);
            if self.is_judged_by_probe(rules) {
                self.proof = Proof::default();
            }
        }
        new
    }

    pub(in crate::guard) fn is_suspected(&self) -> bool {
        self.suspected.is_some()
    }

    /// Its own answers clear it; where nobody asks it, time does.
    pub(super) fn clear_suspicion(&mut self, rules: &Rules, now: Instant) {
        let Some(since) = self.suspected else { return };
        let cleared = if self.is_judged_by_probe(rules) {
            self.proof.good >= CLEARED_BY
        } else {
            now >= since + SUSPICION
        };
        if cleared && self.phase == Phase::In {
            self.suspected = None;
        }
    }

    /// Its suspicion is settled by the controller's own probes: nobody else would notice that it is dead.
    pub(in crate::guard) fn is_judged_by_probe(&self, rules: &Rules) -> bool {
        rules.suspicion && !rules.checked && self.moving.is_none()
    }

    /// The probe that would settle something.
    pub(in crate::guard) fn target(&self, rules: &Rules, now: Instant) -> Option<Target> {
        let sign = self.sign;
        let at = |addr, urgency| {
            Some(Target {
                addr,
                urgency,
                sign,
            })
        };
        let here = self.endpoint.addr;
        match self.phase {
            Phase::Out { .. } if self.is_wanted() => {
                let asked = self.requested == RequestedState::Ready
                    && (rules.admits == Admits::Probe || self.is_suspected());
                asked.then(|| at(here, Urgency::Admission))?
            }
            Phase::Out { .. } if self.is_watched(rules, now) => at(here, Urgency::Watch),
            Phase::In if self.is_wanted() => match self.moving {
                Some(moving) => at(moving.addr, Urgency::Admission),
                None if self.is_suspected() && self.is_judged_by_probe(rules) => {
                    at(here, Urgency::Suspect)
                }
                None => None,
            },
            Phase::In if !rules.down_is_dead() => {
                let urgency = if self.is_suspected() {
                    Urgency::Suspect
                } else {
                    Urgency::Watch
                };
                at(here, urgency)
            }
            Phase::Draining { .. }
                if self.is_recallable(rules) && (self.missed || self.overdue) =>
            {
                at(here, Urgency::Watch)
            }
            _ => None,
        }
    }

    /// Out, and it may come back although gossip has given it up, or its death is still to be witnessed.
    pub(super) fn is_watched(&self, rules: &Rules, now: Instant) -> bool {
        let over = self.hold_is_over(rules, now);
        let waited_for = !over || self.removal_cause.is_some();
        let counts = self.is_deselected()
            && matches!(
                self.removal_cause,
                Some(RemovalCause::Deselection | RemovalCause::Hold)
            );
        (self.is_given_up() && waited_for) || counts
    }
}
