//! The history of one server: what the witnesses said of it in, its phase out. Pure.

use std::time::{Duration, Instant};

use crate::admission::Admits;
use crate::model::{
    Admin, Check, Endpoint, Quarantine, RequestedState, RunningServer, SerfStatus, ServerName,
    WantedAdmin, Weight,
};

use super::decision::{Held, Origin};
use super::entry::CheckResult;
use super::{Rules, Target};

mod check;
mod probe;
mod serf;

/// How often a draining server is looked at: it is removed when its last request is done.
const DRAIN_POLL: Duration = Duration::from_millis(100);
/// How often the other witnesses are asked about a server that gossip has given up.
const WITNESS_POLL: Duration = Duration::from_secs(1);
/// How long a suspicion is shown that only HAProxy's check could settle.
const SUSPICION: Duration = Duration::from_secs(10);
/// A leave that lasts longer than this is none: an agent that leaves is `left` after one to four seconds.
const LEAVE: Duration = Duration::from_secs(10);
/// Good probes in a row that clear a server of a suspicion.
pub(super) const CLEARED_BY: u32 = 2;

/// One server as the guard knows it.
#[derive(Clone, Debug)]
pub(super) struct ServerState {
    pub(super) endpoint: Endpoint,
    pub(super) phase: Phase,
    /// So many times it has entered one: it may leave a phase and be back in it within one pass.
    pub(super) entered: u64,
    pub(super) since: Instant,
    pub(super) origin: Origin,
    pub(super) gossip: SerfStatus,
    /// Since when gossip has said so; `hold` runs from here, put off by the time that gossip was split.
    pub(super) hold_from: Instant,
    /// Gossip has said `leaving` for longer than a leave lasts.
    overdue: bool,
    /// Since when it has said that it is at its place.
    pub(super) claims_since: Instant,
    /// The last sign that somebody lives there: another word of gossip, or a check that came up.
    sign: Instant,
    /// Its new place, not proven yet.
    pub(super) moving: Option<Endpoint>,
    pub(super) requested: RequestedState,
    /// The rules pick it.
    pub(super) selected: bool,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) proof: Proof,
    pub(super) check: Check,
    /// Whether HAProxy has been read to say so.
    check_read: bool,
    /// Since when it has said so, as far as is known.
    check_since: Instant,
    /// Whether what its check says may be of before its wait for it.
    pub(super) result: CheckResult,
    /// HAProxy's check called it down, and another worker has not asked it yet.
    pub(super) rechecked: bool,
    /// Since when the agent suspects it, and its probes have not cleared it.
    suspected: Option<Instant>,
    /// Gossip knows it, be it as absent.
    listed: bool,
    /// It has had traffic.
    pub(super) served: bool,
    /// HAProxy had it ready at its place when it was last read.
    running: bool,
    /// The probe that the prober was told last to run.
    pub(super) told: Option<Target>,
    /// Who has its address and port now, and takes over from it.
    pub(super) heir: Option<ServerName>,
    /// The value of its clients' cookies, as HAProxy has it.
    pub(super) cookie: Option<String>,
    /// That value, where the one who took over has another or none.
    pub(super) lost_cookie: Option<String>,
    /// Too few others answer: it would be taken back while it drains.
    pub(super) missed: bool,
    /// Why it was taken out although it may answer; only an alive member comes back from it.
    pub(super) removal_cause: Option<RemovalCause>,
    /// Somebody has approved its removal.
    pub(super) approved: bool,
    /// Why it was not taken out at the last decision.
    pub(super) held: Option<Held>,
    /// Why it was not let in at the last decision.
    pub(super) blocked: Option<AdmissionBlock>,
}

/// What a server's own step has to know of the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// An alive member has its address and port.
    pub(super) taken_over: bool,
    /// It is in the book of those that went without intent.
    pub(super) counts: bool,
}

/// Where a server is on its way through the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not in rotation: not proven yet, or cut. HAProxy may have it, in that admin state.
    Out { admin: WantedAdmin },
    /// In rotation.
    In,
    /// Its running requests finish.
    Draining { since: Instant, idle: bool },
    /// To be removed from HAProxy, with its sessions shut where it did not drain in time.
    Leaving { shut: bool },
    /// HAProxy has it no more.
    Gone,
}

/// Why a server was taken out although it may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalCause {
    /// `hold` was over.
    Hold,
    /// No rule picked it any more.
    Deselection,
    /// Somebody approved it.
    Approval,
}

/// Why a server that answers is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AdmissionBlock {
    /// It comes and goes, and has to be steady for so long, until then.
    Damped { until: Instant, penalty: Duration },
    /// Another server in rotation has its address.
    Taken(ServerName),
    /// As many as may be are in rotation.
    Full,
    /// HAProxy's check, which lets in, asks others that never had traffic first.
    Queued,
}

/// What the controller's own probes found since they were last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proof {
    /// Good ones in a row.
    pub(super) good: u32,
    /// The last one was refused.
    pub(super) refused: bool,
    /// Others than good ones in a row.
    pub(super) failures: u32,
}

impl ServerState {
    pub(super) fn new(endpoint: Endpoint, origin: Origin, now: Instant) -> Self {
        Self {
            endpoint,
            phase: Phase::Out {
                admin: WantedAdmin::Maint,
            },
            entered: 0,
            since: now,
            origin,
            gossip: SerfStatus::Absent,
            hold_from: now,
            overdue: false,
            claims_since: now,
            sign: now,
            moving: None,
            requested: RequestedState::Ready,
            selected: true,
            quarantine: None,
            proof: Proof::default(),
            check: Check::None,
            check_read: false,
            check_since: now,
            result: CheckResult::default(),
            rechecked: false,
            suspected: None,
            listed: true,
            served: false,
            running: false,
            told: None,
            heir: None,
            cookie: None,
            lost_cookie: None,
            missed: false,
            removal_cause: None,
            approved: false,
            held: None,
            blocked: None,
        }
    }

    /// A server in rotation moves only once its new address has answered.
    fn set_endpoint(&mut self, endpoint: Endpoint, now: Instant) {
        if endpoint.addr == self.endpoint.addr {
            self.endpoint = endpoint;
            self.moving = None;
        } else if self.phase == Phase::In {
            if self
                .moving
                .is_none_or(|moving| moving.addr != endpoint.addr)
            {
                self.proof = Proof::default();
            }
            self.moving = Some(endpoint);
        } else {
            self.endpoint = endpoint;
            self.claims_since = now;
            self.proof = Proof::default();
        }
    }

    /// It had traffic when this controller was last there, or has it in the worker that was there first.
    pub(super) fn adopt(&mut self, endpoint: Endpoint, now: Instant) {
        if self.is_out_of_use() {
            self.enter(Phase::In, now);
            if endpoint.addr != self.endpoint.addr && self.gossip == SerfStatus::Alive {
                self.moving = Some(self.endpoint);
                self.endpoint.addr = endpoint.addr;
            }
        }
    }

    /// It was taken out without intent when this controller was last there: it may come back.
    pub(super) fn restore(&mut self) {
        self.served = true;
    }

    pub(super) fn has_served(&self) -> bool {
        self.served
    }

    /// The worker that was there first drains it.
    pub(super) fn adopt_draining(&mut self, now: Instant) {
        let phase = if self.is_wanted() {
            Phase::Out {
                admin: WantedAdmin::Drain,
            }
        } else {
            Phase::Draining {
                since: now,
                idle: false,
            }
        };
        self.enter(phase, now);
    }

    fn is_out_of_use(&self) -> bool {
        self.phase
            == Phase::Out {
                admin: WantedAdmin::Maint,
            }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.entered += 1;
        self.since = now;
        self.held = None;
        self.blocked = None;
        self.result = CheckResult::None;
        self.missed = false;
        self.served |= phase == Phase::In;
    }

    /// Where it moves once the new place has answered.
    pub(super) fn proven_move(&self) -> Option<Endpoint> {
        let may = self.phase == Phase::In && self.is_wanted() && self.proof.good > 0;
        self.moving.filter(|_| may)
    }

    pub(super) fn move_to(&mut self, endpoint: Endpoint, now: Instant) {
        self.claims_since = now;
        self.endpoint = endpoint;
        self.moving = None;
        self.running = false;
        self.proof = Proof::default();
    }

    /// It takes traffic from now on.
    pub(super) fn let_in(&mut self, now: Instant) {
        // What the check said of the server before it went out is over; what let it in is not.
        if self.result == CheckResult::None {
            self.set_check(Check::None, now);
            self.check_read = false;
        }
        self.enter(Phase::In, now);
        self.heir = None;
        self.approved = false;
        self.proof = Proof::default();
        self.suspected = None;
    }

    /// Takes how HAProxy runs it.
    pub(super) fn observe_running(&mut self, running: Option<&RunningServer>, now: Instant) {
        let stat = running.and_then(|running| running.stat.as_ref());
        self.running = running.is_some_and(|running| {
            running.admin == Admin::Ready && running.addr == Some(self.endpoint.addr)
        });
        match (running, stat) {
            (None, _) => self.set_check(Check::None, now),
            (Some(_), None) => {}
            (Some(_), Some(stat)) => {
                self.observe_recheck(stat.check);
                // Its clients have it for longer than HAProxy may know it.
                if stat.cookie.is_some() {
                    self.cookie.clone_from(&stat.cookie);
                }
                if stat.check == Check::Up && self.check != Check::Up {
                    self.sign = now;
                }
                self.set_check(stat.check, now);
            }
        }
        self.observe_check(running, now);
        match &mut self.phase {
            Phase::Draining { idle, .. } => match (running, stat) {
                (None, _) => *idle = true,
                (Some(_), None) => {}
                (Some(running), Some(stat)) => {
                    *idle = stat.in_flight == 0 && running.admin != Admin::Ready;
                }
            },
            Phase::Leaving { .. }
                if running.is_none_or(|running| running.admin == Admin::Maint) =>
            {
                self.phase = if self.is_waited_for() || self.is_wanted() {
                    Phase::Out {
                        admin: WantedAdmin::Maint,
                    }
                } else {
                    Phase::Gone
                };
                self.since = now;
            }
            _ => {}
        }
    }

    /// Out, and it may still come back, or its death is still to be witnessed.
    fn is_waited_for(&self) -> bool {
        match self.removal_cause {
            None => self.gossip == SerfStatus::Leaving && self.served && self.heir.is_none(),
            Some(RemovalCause::Deselection | RemovalCause::Hold) => {
                self.is_deselected() || self.is_given_up()
            }
            Some(RemovalCause::Approval) => self.is_given_up(),
        }
    }

    /// How soon HAProxy has to be read again for this server's sake, with `show stat`.
    pub(super) fn poll(&self, rules: &Rules) -> Option<Duration> {
        match self.phase {
            Phase::Draining { idle: true, .. } if self.is_asked_for() => None,
            Phase::Draining { .. } | Phase::Leaving { .. } => Some(DRAIN_POLL),
            Phase::In if self.heir.is_some() || self.is_rechecked(rules) => Some(DRAIN_POLL),
            Phase::In if !self.is_wanted() => Some(WITNESS_POLL),
            Phase::Out { .. } if self.is_wanted() && rules.admits != Admits::Probe => {
                Some(DRAIN_POLL)
            }
            Phase::Out { .. } if self.is_returning(rules) => Some(DRAIN_POLL),
            _ => None,
        }
    }

    /// When `hold` is over: of those that are not listed, and of those whose leave does not end, it never is.
    fn hold_ends(&self, rules: &Rules) -> Option<Instant> {
        let hold = rules.guard.hold?;
        (self.gossip == SerfStatus::Failed).then(|| self.hold_from + hold)
    }

    pub(super) fn hold_is_over(&self, rules: &Rules, now: Instant) -> bool {
        self.hold_ends(rules).is_some_and(|end| now >= end)
    }

    /// Takes the steps that concern this server alone.
    pub(super) fn step(&mut self, rules: &Rules, around: Around, now: Instant) {
        self.overdue = self.gossip == SerfStatus::Leaving && now >= self.hold_from + LEAVE;
        if self.is_wanted() {
            self.heir = None;
        }
        self.clear_suspicion(rules, now);
        self.age_result(rules, now);
        match self.phase {
            Phase::Out { .. } => self.step_out(rules, around, now),
            Phase::In if self.is_asked_for() => self.drain(now),
            Phase::In => {}
            Phase::Draining { since, idle } => {
                if self.is_wanted() && self.requested == RequestedState::Ready {
                    let admin = WantedAdmin::Drain;
                    self.enter(Phase::Out { admin }, now);
                    self.proof = Proof::default();
                } else if idle || now >= since + rules.drain_timeout {
                    self.end_drain(since, idle, now);
                }
            }
            Phase::Leaving { .. } | Phase::Gone => {
                if self.is_wanted() {
                    let admin = WantedAdmin::Maint;
                    self.enter(Phase::Out { admin }, now);
                }
            }
        }
    }

    /// Whose tag asked for the drain stays, out of use; everybody else goes.
    fn end_drain(&mut self, since: Instant, idle: bool, now: Instant) {
        if self.is_asked_for() {
            self.phase = Phase::Draining { since, idle: true };
        } else {
            self.enter(Phase::Leaving { shut: !idle }, now);
        }
    }

    /// Whoever is out and nobody waits for goes.
    fn step_out(&mut self, rules: &Rules, around: Around, now: Instant) {
        if self.is_deselected() && around.counts {
            self.removal_cause.get_or_insert(RemovalCause::Deselection);
        }
        let goes = if self.is_wanted() {
            self.quarantine.is_some()
        } else if around.taken_over {
            true
        } else if self.is_leaving() {
            !self.is_waited_for()
        } else if self.is_deselected() {
            !around.counts
        } else if self.gossip == SerfStatus::Absent {
            self.removal_cause.is_some() || !self.listed
        } else {
            !(self.served && self.is_watched(rules, now))
        };
        if goes {
            let cut = WantedAdmin::Cut;
            let shut = self.phase == Phase::Out { admin: cut };
            self.removal_cause = None;
            // Whose address is another's now is not waited for.
            self.served &= self.is_wanted() || !around.taken_over;
            self.enter(Phase::Leaving { shut }, now);
        }
    }

    /// Its running requests may finish.
    pub(super) fn drain(&mut self, now: Instant) {
        let idle = false;
        self.enter(Phase::Draining { since: now, idle }, now);
    }

    /// It went, or goes, on the word of gossip alone and by nobody's explicit wish: it is taken back where too few others
    /// answer. Where HAProxy's check lets in, that goes only for who has not left HAProxy yet.
    pub(super) fn is_recallable(&self, rules: &Rules) -> bool {
        let phase = match self.phase {
            Phase::Out { .. } => {
                let removal_cause = matches!(
                    self.removal_cause,
                    Some(RemovalCause::Hold | RemovalCause::Deselection)
                );
                removal_cause && rules.admits == Admits::Probe
            }
            Phase::Draining { .. } => self.removal_cause != Some(RemovalCause::Approval),
            _ => false,
        };
        phase && !self.is_wanted() && self.heir.is_none()
    }

    /// It gets requests where it is in rotation.
    pub(super) fn weighs(&self) -> bool {
        self.endpoint.weight > Weight::ZERO
    }

    /// Another member has the better claim to its address, and goes on there.
    pub(super) fn make_way(&mut self, now: Instant) {
        let admin = WantedAdmin::Drain;
        self.enter(Phase::Out { admin }, now);
    }

    /// Gossip has said `leaving` for so long that it is no leave, and it may have traffic again as soon as it answers.
    pub(super) fn may_stop_leaving(&self, rules: &Rules) -> bool {
        self.overdue && self.is_recallable(rules)
    }

    /// When time alone will change its phase.
    pub(super) fn deadline(&self, rules: &Rules) -> Option<Instant> {
        let own = match (&self.phase, &self.blocked) {
            (Phase::Draining { since, .. }, _) => Some(*since + rules.drain_timeout),
            (_, Some(AdmissionBlock::Damped { until, .. })) => Some(*until),
            (Phase::In | Phase::Out { .. }, _) => self.hold_ends(rules),
            _ => None,
        };
        let leaving = self.gossip == SerfStatus::Leaving && !self.overdue;
        let overdue = leaving.then(|| self.hold_from + LEAVE);
        own.into_iter().chain(overdue).min()
    }
}
