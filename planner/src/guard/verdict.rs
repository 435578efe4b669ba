//! From a server's history to what is done about it, with the reason. Pure.

use crate::admission::Admits;
use crate::model::{Check, ServerName, WantedAdmin, Wish};

use super::decision::{Decision, Line, Standing, Why, Witnesses};
use super::slot::{Barred, Dismissal, Phase, Slot};
use super::{Probed, Rules};

impl Slot {
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
                let maint = idle && self.wish == Wish::Maint;
                let (admin, state) = if maint {
                    (WantedAdmin::Maint, "maint")
                } else {
                    (WantedAdmin::Drain, "drain")
                };
                (Some(Line::Disabled), Some(admin), state, Why::AskedFor)
            }
            Phase::Draining { .. } => (None, Some(WantedAdmin::Drain), "drain", self.why_going()),
            Phase::Leaving { shut } => (
                None,
                shut.then_some(WantedAdmin::Cut),
                "leaving",
                self.why_going(),
            ),
            Phase::Gone => (None, None, "leaving", self.why_going()),
        };
        Decision {
            place: self.place,
            line,
            admin,
            standing: Standing { state, why },
            witnesses: self.witnesses(),
            origin: self.origin,
            since: self.stands_since(rules),
        }
    }

    fn witnesses(&self) -> Witnesses {
        let probe = if self.proof.good > 0 {
            Some(Probed::Good)
        } else if self.proof.refused {
            Some(Probed::Refused)
        } else if self.proof.failures > 0 {
            Some(Probed::Failed)
        } else {
            None
        };
        Witnesses {
            gossip: self.gossip,
            check: self.read_check(),
            probe,
            suspected: self.is_suspected(),
        }
    }

    /// Alive and not in rotation: unproven, or asked to stay out.
    fn waiting(&self, rules: &Rules, resting: WantedAdmin) -> (WantedAdmin, &'static str, Why) {
        match self.wish {
            Wish::Drain => (WantedAdmin::Drain, "drain", Why::AskedFor),
            Wish::Maint => (WantedAdmin::Maint, "maint", Why::AskedFor),
            Wish::Ready if self.is_suspected() => (WantedAdmin::Maint, "out", Why::Suspected),
            Wish::Ready if rules.admits != Admits::Probe => {
                (WantedAdmin::Waiting, "waiting", self.why_waiting(rules))
            }
            Wish::Ready if resting == WantedAdmin::Drain => {
                (WantedAdmin::Drain, "waiting", self.why_waiting(rules))
            }
            Wish::Ready => (WantedAdmin::Maint, "waiting", self.why_waiting(rules)),
        }
    }

    /// HAProxy has it although it takes no traffic: it had some, or HAProxy's check lets it in. Nobody else is told to
    /// HAProxy before a probe has answered, as anybody may announce any number of servers.
    fn is_kept_at_hand(&self, rules: &Rules) -> bool {
        let is_asked = rules.admits != Admits::Probe && self.wish == Wish::Ready;
        let stands_back = matches!(self.barred, Some(Barred::Taken(_) | Barred::Queued));
        (self.served || is_asked) && !stands_back
    }

    fn why_waiting(&self, rules: &Rules) -> Why {
        match &self.barred {
            None if rules.admits != Admits::Probe => Why::Unchecked,
            None => Why::NotProven,
            Some(Barred::Taken(by)) => Why::AddressTaken(by.clone()),
            Some(Barred::Damped { penalty, .. }) => Why::Damped(*penalty),
            Some(Barred::Full) => Why::Full(rules.guard.max_servers),
            Some(Barred::Queued) => Why::Queued,
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
        match self.dismissed {
            Some(Dismissal::Hold) => Why::HeldLongEnough,
            Some(Dismissal::Deselection) => Why::Deselected,
            Some(Dismissal::Approval) => Why::Approved,
            None if self.is_leaving() => Why::Leaves,
            None if self.did_not_leave() && self.wish != Wish::Ready => Why::AskedFor,
            None => Why::Dead,
        }
    }

    fn why_going(&self) -> Why {
        match &self.heir {
            Some(heir) => self.why_replaced(heir),
            None if self.dismissed == Some(Dismissal::Approval) => Why::Approved,
            None if self.is_deselected() => Why::Deselected,
            None => self.why_out(),
        }
    }
}
