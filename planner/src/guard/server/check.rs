//! What HAProxy's check says of one server: readings in, whether it is down, serves or is dead out. Pure.

use std::time::Instant;

use super::{Phase, ServerState};
use crate::guard::Rules;
use crate::guard::entry::CheckResult;
use crate::model::Check;

impl ServerState {
    pub(in crate::guard) fn set_check(&mut self, check: Check, now: Instant) {
        if self.check != check {
            self.check_since = now;
        }
        self.check = check;
        self.check_read = true;
    }

    /// What HAProxy's check says; none where HAProxy was not read since it matters.
    pub(in crate::guard) fn read_check(&self) -> Option<Check> {
        self.check_read.then_some(self.check)
    }

    /// In rotation as far as the controller goes, and HAProxy's check calls it down: it gets no request.
    pub(in crate::guard) fn is_down(&self, rules: &Rules) -> bool {
        self.phase == Phase::In && rules.down_is_dead() && self.check == Check::Down
    }

    /// Since when it has stood as it does.
    pub(in crate::guard) fn stands_since(&self, rules: &Rules) -> Instant {
        if self.is_down(rules) {
            self.since.max(self.check_since)
        } else {
            self.since
        }
    }

    /// HAProxy was read since it matters, and neither has it nor checks it.
    pub(in crate::guard) fn is_read_as_absent(&self) -> bool {
        let unchecked = self.read_check() == Some(Check::None) && self.result == CheckResult::None;
        unchecked && !self.running
    }

    /// HAProxy had it ready at its place when it was last read.
    pub(in crate::guard) fn runs(&self) -> bool {
        self.phase == Phase::In && self.running
    }

    /// In rotation, run so by HAProxy, and it takes requests: others may go because of it.
    pub(in crate::guard) fn serves(&self, rules: &Rules) -> bool {
        self.runs() && self.weighs() && self.answers(rules)
    }

    /// It serves, and its own check, where it has one, has come back good: it may ask for what no other name was asked.
    pub(in crate::guard) fn goes_on(&self, rules: &Rules) -> bool {
        self.serves(rules) && (!rules.checked || self.check == Check::Up)
    }

    /// A witness beside gossip calls it dead: HAProxy's check, or without one the controller's own probe.
    pub(in crate::guard) fn is_dead(&self, rules: &Rules) -> bool {
        if rules.down_is_dead() && self.phase == Phase::In {
            self.check == Check::Down
        } else {
            self.moving.is_none() && self.fails_probes(rules)
        }
    }

    /// Whether it takes requests as far as anybody knows: it is not dead, and HAProxy's check does not call it down.
    pub(in crate::guard) fn answers(&self, rules: &Rules) -> bool {
        let down = self.check == Check::Down || self.is_rechecked(rules);
        let down = rules.checked && self.phase == Phase::In && down;
        !down && !self.is_dead(rules)
    }

    fn fails_probes(&self, rules: &Rules) -> bool {
        self.proof.refused || self.proof.failures >= rules.guard.probe_fall
    }
}
