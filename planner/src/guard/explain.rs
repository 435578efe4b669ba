//! From a server's history to what is done about it, with the reason. Pure.

use crate::admission::Admits;
use crate::model::{Check, RequestedState, ServerName, WantedAdmin};

use super::decision::{Decision, Evidence, Line, ServerStatus, Why};
use super::server::{AdmissionBlock, Phase, RemovalCause, ServerState};
use super::{Probed, Rules};

impl ServerState {
    pub(super) fn decision(&self, rules: &Rules) -> Decision {
        let (line, admin, state, why) = match self.phase {
            Phase::In if self.is_rechecked(rules) => {
                let waiting = Some(WantedAdmin::Waiting);
                (Some(Line::Ready), waiting, "waiting", Why::Unchecked)
            }
            Phase::In => {
                let state = if self.is_down(rules) { "down" } else { "ready" };
                let ready = Some(WantedAdmin::Ready);
                (Some(Line::Ready), ready, state, self.why_in(rules))
            }
            Phase::Out { admin } if self.is_wanted() => {
                let (admin, state, why) = self.waiting(rules, admin);
                let line = self.is_kept_at_hand(rules).then_some(Line::Disabled);
                (line, Some(admin), state, why)
            }
            Phase::Out { .. } if self.is_returning(rules) => {
                let waiting = Some(WantedAdmin::Waiting);
                (Some(Line::Disabled), waiting, "waiting", Why::Unchecked)
            }
            Phase::Out { admin } => (None, Some(admin), "out", self.why_out()),
            Phase::Draining { idle, .. } if self.is_asked_for() => {
                let maint = idle && self.requested == RequestedState::Maint;
                let (admin, state) = if maint {
                    (WantedAdmin::Maint, "maint")
                } else {
                    (rules.draining(), "drain")
                };
                (Some(Line::Disabled), Some(admin), state, Why::AskedFor)
            }
            Phase::Draining { .. } => (None, Some(rules.draining()), "drain", self.why_going()),
            Phase::Leaving { shut } => (
                None,
                shut.then_some(WantedAdmin::Cut),
                "leaving",
                self.why_going(),
            ),
            Phase::Gone => (None, None, "leaving", self.why_going()),
        };
        Decision {
            endpoint: self.endpoint,
            line,
            admin,
            status: ServerStatus { state, why },
            evidence: self.evidence(),
            origin: self.origin,
            since: self.stands_since(rules),
        }
    }

    fn evidence(&self) -> Evidence {
        let probe = if self.proof.good > 0 {
            Some(Probed::Good)
        } else if self.proof.refused {
            Some(Probed::Refused)
        } else if self.proof.failures > 0 {
            Some(Probed::Failed)
        } else {
            None
        };
        Evidence {
            gossip: self.gossip,
            check: self.read_check(),
            probe,
            suspected: self.is_suspected(),
        }
    }

    /// Alive and not in rotation: unproven, or asked to stay out.
    fn waiting(&self, rules: &Rules, resting: WantedAdmin) -> (WantedAdmin, &'static str, Why) {
        match self.requested {
            RequestedState::Drain => (rules.draining(), "drain", Why::AskedFor),
            RequestedState::Maint => (WantedAdmin::Maint, "maint", Why::AskedFor),
            RequestedState::Ready if self.is_suspected() => {
                (WantedAdmin::Maint, "out", Why::Suspected)
            }
            RequestedState::Ready if rules.admits != Admits::Probe => {
                (WantedAdmin::Waiting, "waiting", self.why_waiting(rules))
            }
            RequestedState::Ready if resting == WantedAdmin::Drain => {
                (WantedAdmin::Drain, "waiting", self.why_waiting(rules))
            }
            RequestedState::Ready => (WantedAdmin::Maint, "waiting", self.why_waiting(rules)),
        }
    }

    /// HAProxy has it although it takes no traffic: it had some, or HAProxy's check lets it in. Nobody else is told to
    /// HAProxy before a probe has answered, as anybody may announce any number of servers.
    fn is_kept_at_hand(&self, rules: &Rules) -> bool {
        let is_asked = rules.admits != Admits::Probe && self.requested == RequestedState::Ready;
        let stands_back = matches!(
            self.blocked,
            Some(AdmissionBlock::Taken(_) | AdmissionBlock::Queued)
        );
        (self.served || is_asked) && !stands_back
    }

    fn why_waiting(&self, rules: &Rules) -> Why {
        match &self.blocked {
            None if rules.admits != Admits::Probe => Why::Unchecked,
            None => Why::NotProven,
            Some(AdmissionBlock::Taken(by)) => Why::AddressTaken(by.clone()),
            Some(AdmissionBlock::Damped { penalty, .. }) => Why::Damped(*penalty),
            Some(AdmissionBlock::Full) => Why::Full(rules.guard.max_servers),
            Some(AdmissionBlock::Queued) => Why::Queued,
        }
    }

    fn why_in(&self, rules: &Rules) -> Why {
        match (&self.quarantine, self.moving) {
            _ if self.held.is_some() => self.held.map_or(Why::Proven, Why::Held),
            _ if !self.is_wanted() => self.why_kept(),
            (Some(quarantine), _) => Why::KeptInQuarantine(quarantine.clone()),
            (None, Some(moving)) => Why::Moving(moving.addr),
            (None, None) if rules.admits == Admits::AnyCheck && self.check == Check::Down => {
                Why::Standby
            }
            (None, None) if self.is_down(rules) => Why::CheckedDown,
            (None, None) if !rules.checked => Why::ProvenOnce,
            (None, None) => Why::Proven,
        }
    }

    /// In rotation, though gossip would have it out.
    fn why_kept(&self) -> Why {
        match &self.heir {
            Some(heir) => self.why_replaced(heir),
            None if self.did_not_leave() => Why::DidNotLeave,
            None => Why::KeptWithoutAgent,
        }
    }

    fn why_replaced(&self, heir: &ServerName) -> Why {
        Why::Replaced {
            by: heir.clone(),
            cookie: self.lost_cookie.clone(),
        }
    }

    fn why_out(&self) -> Why {
        match self.removal_cause {
            Some(RemovalCause::Hold) => Why::HeldLongEnough,
            Some(RemovalCause::Deselection) => Why::Deselected,
            Some(RemovalCause::Approval) => Why::Approved,
            None if self.is_leaving() => Why::Leaves,
            None if self.did_not_leave() && self.requested != RequestedState::Ready => {
                Why::AskedFor
            }
            None if self.did_not_leave() && !self.is_called_dead() => Why::MayReturn,
            None => Why::Dead,
        }
    }

    /// A probe, or HAProxy's check, has found nobody there.
    fn is_called_dead(&self) -> bool {
        self.proof.failures > 0 || self.check == Check::Down
    }

    fn why_going(&self) -> Why {
        match &self.heir {
            Some(heir) => self.why_replaced(heir),
            None if self.removal_cause == Some(RemovalCause::Approval) => Why::Approved,
            None if self.is_deselected() => Why::Deselected,
            None => self.why_out(),
        }
    }
}
