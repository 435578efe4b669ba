//! Who may come in: what the witness that admits says of a server in, whether it is let in out. Pure.

use std::time::Instant;

use crate::admission::Admits;
use crate::model::{Admin, Check, RequestedState, RunningServer};

use super::Rules;
use super::server::{AdmissionBlock, CLEARED_BY, Phase, ServerState};

/// How old a result of HAProxy's check may be, of a server that waits for one: leaving maint it still shows the last one
/// from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CheckResult {
    /// It does not wait yet, or has none.
    #[default]
    None,
    /// There was none when the wait began: the next one is of now.
    Awaited,
    /// It was there when it was first seen to wait, then.
    Since(Instant),
}

impl ServerState {
    /// It is out, answers, and somebody wants it in: the member itself, or what it was before its agent went. Who
    /// `inherits` has the address of a server in rotation that answers, hence is that web server.
    pub(super) fn may_come_in(&self, rules: &Rules, inherits: bool) -> bool {
        let out = match self.phase {
            Phase::Out { .. } => true,
            Phase::Draining { .. } => self.may_stop_leaving(rules) && self.proof.good > 0,
            _ => false,
        };
        let welcome = if self.is_wanted() {
            self.quarantine.is_none()
        } else {
            self.may_return()
        };
        let inherits = inherits && self.is_wanted() && !self.is_suspected();
        // Who still drains has not left HAProxy, whose check goes on where it was.
        let drains = matches!(self.phase, Phase::Draining { .. });
        let proven = inherits || drains || self.is_proven(rules);
        out && welcome && self.requested == RequestedState::Ready && proven
    }

    /// Gossip has given it up, and it may have traffic again as soon as it answers.
    fn may_return(&self) -> bool {
        self.is_given_up() && self.served && self.removal_cause.is_none()
    }

    /// Gossip has given it up and the controller's own probe reaches it, and it is HAProxy's check that lets in.
    pub(super) fn is_returning(&self, rules: &Rules) -> bool {
        let reached = rules.admits != Admits::Probe && self.proof.good > 0;
        let doubled = matches!(self.blocked, Some(AdmissionBlock::Taken(_)));
        reached && self.requested == RequestedState::Ready && self.may_return() && !doubled
    }

    fn is_proven(&self, rules: &Rules) -> bool {
        if self.is_suspected() && self.proof.good < CLEARED_BY {
            return false;
        }
        match rules.admits {
            Admits::Probe => self.proof.good > 0,
            Admits::GoodCheck => self.check == Check::Up && self.result == CheckResult::Awaited,
            Admits::AnyCheck => match self.check {
                Check::None | Check::Pending => false,
                Check::Down => self.result != CheckResult::None,
                Check::Up | Check::Falling => self.result == CheckResult::Awaited,
            },
        }
    }

    /// Takes what HAProxy's check was just read to say.
    pub(super) fn observe_check(&mut self, running: Option<&RunningServer>, now: Instant) {
        let waits = matches!(self.phase, Phase::Out { .. })
            && running.is_some_and(|running| running.admin == Admin::Drain);
        self.result = match (self.check, self.result) {
            _ if !waits => CheckResult::None,
            (Check::Pending, _) => CheckResult::Awaited,
            (Check::None, result) => result,
            (_, CheckResult::None) => CheckResult::Since(now),
            (_, result) => result,
        };
    }

    /// Takes that a check of another worker has no result yet, or has one: a new worker takes every server as up.
    pub(super) fn observe_recheck(&mut self, check: Check) {
        self.rechecked = match check {
            Check::Pending => self.rechecked || self.check == Check::Down,
            Check::None => self.rechecked,
            Check::Up | Check::Falling | Check::Down => false,
        };
    }

    /// A standby that a new worker takes as up: no request before its first result.
    pub(super) fn is_rechecked(&self, rules: &Rules) -> bool {
        self.rechecked && rules.admits == Admits::AnyCheck && self.phase == Phase::In
    }

    /// Takes that a result which is old enough is none of before.
    pub(super) fn age_result(&mut self, rules: &Rules, now: Instant) {
        if let CheckResult::Since(since) = self.result
            && now >= since + rules.check_interval * 2
        {
            self.result = CheckResult::Awaited;
        }
    }
}
