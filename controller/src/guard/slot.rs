//! The history of one server: what the witnesses said of it in, its phase out. Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::admission::Admits;
use crate::haproxy::{Admin, Check, RunningServer};
use crate::model::{Attributes, Candidate, Gossip, Place, Quarantine, ServerName, Wish};
use crate::plan::WantedAdmin;

use super::decision::{Held, Origin};
use super::entry::CheckResult;
use super::{Probed, Rules, Target, Urgency};

/// How often a draining server is looked at: it is removed when its last request is done.
const DRAIN_POLL: Duration = Duration::from_millis(100);
/// How often the other witnesses are asked about a server that gossip has given up.
const WITNESS_POLL: Duration = Duration::from_secs(1);
/// More probes in a row than the greatest `probe_fall` say nothing new.
const MOST_IN_A_ROW: u32 = 100;
/// How long a suspicion is shown that only HAProxy's check could settle.
const SUSPICION: Duration = Duration::from_secs(10);
/// Good probes in a row that clear a server of a suspicion.
pub(super) const CLEARED_BY: u32 = 2;

/// One server as the guard knows it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    pub(super) origin: Origin,
    pub(super) gossip: Gossip,
    /// `hold` runs from here: when the agent failed, or when a split of gossip ended.
    pub(super) hold_from: Instant,
    /// Its new place, not proven yet.
    pub(super) moving: Option<Place>,
    pub(super) wish: Wish,
    /// The rules pick it.
    pub(super) selected: bool,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) proof: Proof,
    pub(super) check: Check,
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
    /// Why it was taken out although it may answer; only an alive member comes back from it.
    pub(super) dismissed: Option<Dismissal>,
    /// Somebody has approved its removal.
    pub(super) approved: bool,
    /// Why it was not taken out at the last decision.
    pub(super) held: Option<Held>,
    /// Why it was not let in at the last decision.
    pub(super) barred: Option<Barred>,
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
pub(super) enum Dismissal {
    /// `hold` was over.
    Hold,
    /// Somebody approved it.
    Approval,
}

/// Why a server that answers is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Barred {
    /// It comes and goes, and has to be steady for so long, until then.
    Damped { until: Instant, penalty: Duration },
    /// Another server in rotation has its address.
    Taken(ServerName),
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

impl Slot {
    pub(super) fn new(place: Place, origin: Origin, now: Instant) -> Self {
        Self {
            place,
            phase: Phase::Out {
                admin: WantedAdmin::Maint,
            },
            since: now,
            origin,
            gossip: Gossip::Absent,
            hold_from: now,
            moving: None,
            wish: Wish::Ready,
            selected: true,
            quarantine: None,
            proof: Proof::default(),
            check: Check::None,
            result: CheckResult::default(),
            rechecked: false,
            suspected: None,
            listed: true,
            served: false,
            dismissed: None,
            approved: false,
            held: None,
            barred: None,
        }
    }

    /// Takes what gossip says.
    pub(super) fn hear(&mut self, candidate: &Candidate, now: Instant) {
        self.set_gossip(candidate.gossip, now);
        self.selected = true;
        self.listed = true;
        match &candidate.attributes {
            Ok(Attributes { place, wish }) => {
                self.quarantine = None;
                self.wish = *wish;
                self.set_place(*place);
            }
            Err(quarantine) => {
                // HAProxy's own: whatever goes there comes back, or meets no web server.
                if matches!(quarantine, Quarantine::Here { addr, .. } if *addr == self.place.addr)
                    && !self.is_resting()
                {
                    let admin = WantedAdmin::Maint;
                    self.enter(Phase::Out { admin }, now);
                }
                self.quarantine = Some(quarantine.clone());
                self.moving = None;
            }
        }
    }

    /// Takes that no rule picks it: because of its tags, or because gossip does not know it at all.
    pub(super) fn miss(&mut self, known: bool, now: Instant) {
        self.selected = !known;
        self.listed = known;
        self.moving = None;
        if !known {
            self.set_gossip(Gossip::Absent, now);
        }
    }

    fn set_gossip(&mut self, gossip: Gossip, now: Instant) {
        if self.gossip == gossip {
            return;
        }
        self.gossip = gossip;
        self.hold_from = now;
        self.approved = false;
        match gossip {
            Gossip::Failed if self.is_suspected() => self.proof.good = 0,
            Gossip::Alive => {
                self.proof = Proof::default();
                self.dismissed = None;
                self.suspected = None;
            }
            _ => {
                self.proof = Proof::default();
                self.suspected = None;
            }
        }
    }

    /// A server in rotation moves only once its new address has answered.
    fn set_place(&mut self, place: Place) {
        if place.addr == self.place.addr {
            self.place = place;
            self.moving = None;
        } else if self.phase == Phase::In {
            if self.moving.is_none_or(|moving| moving.addr != place.addr) {
                self.proof = Proof::default();
            }
            self.moving = Some(place);
        } else {
            self.place = place;
            self.proof = Proof::default();
        }
    }

    /// It had traffic when this controller was last there, or has it in the worker that was there first.
    pub(super) fn adopt(&mut self, place: Place, now: Instant) {
        if self.is_resting() {
            self.enter(Phase::In, now);
            if place.addr != self.place.addr && self.gossip == Gossip::Alive {
                self.moving = Some(self.place);
                self.place.addr = place.addr;
            }
        }
    }

    /// It was taken out without intent when this controller was last there: it may come back.
    pub(super) fn restore(&mut self) {
        self.served = true;
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

    fn is_resting(&self) -> bool {
        self.phase
            == Phase::Out {
                admin: WantedAdmin::Maint,
            }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
        self.held = None;
        self.barred = None;
        self.result = CheckResult::None;
        self.served |= phase == Phase::In;
    }

    /// Where it moves once the new place has answered.
    pub(super) fn proven_move(&self) -> Option<Place> {
        let may = self.phase == Phase::In && self.is_wanted() && self.proof.good > 0;
        self.moving.filter(|_| may)
    }

    pub(super) fn move_to(&mut self, place: Place) {
        self.place = place;
        self.moving = None;
        self.proof = Proof::default();
    }

    /// It takes traffic from now on.
    pub(super) fn let_in(&mut self, now: Instant) {
        // What the check said of the server before it went out is over; what let it in is not.
        if self.result == CheckResult::None {
            self.check = Check::None;
        }
        self.enter(Phase::In, now);
        self.proof = Proof::default();
        self.suspected = None;
    }

    /// Takes how HAProxy runs it.
    pub(super) fn read(&mut self, running: Option<&RunningServer>, now: Instant) {
        let stat = running.and_then(|running| running.stat.as_ref());
        match (running, stat) {
            (None, _) => self.check = Check::None,
            (Some(_), None) => {}
            (Some(_), Some(stat)) => {
                self.hear_recheck(stat.check);
                self.check = stat.check;
            }
        }
        self.hear_check(running, now);
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
                let stays = self.dismissed.is_some() && self.is_given_up();
                self.phase = if stays || self.is_wanted() {
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

    /// Takes what a probe found; says whether that is news.
    pub(super) fn probed(&mut self, addr: SocketAddr, found: Probed) -> bool {
        if addr != self.moving.unwrap_or(self.place).addr {
            return false;
        }
        let before = self.proof;
        let more = |count: u32| (count + 1).min(MOST_IN_A_ROW);
        self.proof = match found {
            Probed::Good => Proof {
                good: more(before.good),
                ..Proof::default()
            },
            Probed::Refused | Probed::Failed => Proof {
                good: 0,
                refused: found == Probed::Refused,
                failures: more(before.failures),
            },
        };
        let matters = self.proof.good > 0 || self.is_suspected() || !self.is_wanted();
        before != self.proof && matters
    }

    /// Takes that the agent suspects its member; says whether that matters.
    pub(super) fn suspect(&mut self, rules: &Rules, now: Instant) -> bool {
        let new = self.phase == Phase::In && self.is_wanted() && !self.is_suspected();
        if new {
            self.suspected = Some(now);
            if self.is_judged_by_probe(rules) {
                self.proof = Proof::default();
            }
        }
        new
    }

    pub(super) fn is_suspected(&self) -> bool {
        self.suspected.is_some()
    }

    /// Its own answers clear it; where nobody asks it, time does.
    fn clear_suspicion(&mut self, rules: &Rules, now: Instant) {
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
    pub(super) fn is_judged_by_probe(&self, rules: &Rules) -> bool {
        rules.suspicion && !rules.checked && self.moving.is_none()
    }

    /// How soon HAProxy has to be read again for this server's sake, with `show stat`.
    pub(super) fn poll(&self, rules: &Rules) -> Option<Duration> {
        match self.phase {
            Phase::Draining { idle: true, .. } if self.is_asked_for() => None,
            Phase::Draining { .. } | Phase::Leaving { .. } => Some(DRAIN_POLL),
            Phase::In if self.is_rechecked(rules) => Some(DRAIN_POLL),
            Phase::In if self.is_given_up() => Some(WITNESS_POLL),
            Phase::Out { .. } if self.is_wanted() && rules.admits != Admits::Probe => {
                Some(DRAIN_POLL)
            }
            Phase::Out { .. } if self.is_returning(rules) => Some(DRAIN_POLL),
            _ => None,
        }
    }

    /// The probe that would settle something.
    pub(super) fn target(&self, rules: &Rules, now: Instant) -> Option<Target> {
        let at = |addr, urgency| Some(Target { addr, urgency });
        let here = self.place.addr;
        match self.phase {
            Phase::Out { .. } if self.is_wanted() => {
                let asked = self.wish == Wish::Ready
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
            Phase::In if self.is_given_up() && !rules.down_is_dead() => {
                let urgency = if self.is_suspected() {
                    Urgency::Suspect
                } else {
                    Urgency::Watch
                };
                at(here, urgency)
            }
            _ => None,
        }
    }

    /// Out, and it may come back although gossip has given it up, or its death is still to be witnessed.
    fn is_watched(&self, rules: &Rules, now: Instant) -> bool {
        let over = rules
            .guard
            .hold
            .is_some_and(|hold| now >= self.hold_from + hold);
        let waited_for = self.gossip == Gossip::Absent || !over || self.dismissed.is_some();
        self.is_given_up() && waited_for
    }

    /// Takes the steps that concern this server alone.
    pub(super) fn step(&mut self, rules: &Rules, taken_over: bool, now: Instant) {
        self.clear_suspicion(rules, now);
        self.age_result(rules, now);
        match self.phase {
            Phase::Out { .. } => self.step_out(rules, taken_over, now),
            Phase::In => self.step_in(taken_over, now),
            Phase::Draining { since, idle } => {
                if self.is_wanted() && self.wish == Wish::Ready {
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

    fn step_out(&mut self, rules: &Rules, taken_over: bool, now: Instant) {
        let unusable = self.is_wanted() && self.quarantine.is_some();
        let watched = self.is_watched(rules, now) && self.served && !taken_over;
        let given_up = self.is_given_up() && self.gossip != Gossip::Absent;
        let over = taken_over || self.dismissed.is_some() || !self.listed;
        let forgotten = self.gossip == Gossip::Absent && over;
        if unusable || self.is_going() || forgotten || (given_up && !watched) {
            self.dismissed = None;
            self.enter(Phase::Leaving { shut: false }, now);
        }
    }

    fn step_in(&mut self, taken_over: bool, now: Instant) {
        if self.is_going() || self.is_asked_for() {
            self.drain(now);
        } else if self.is_given_up() && taken_over {
            self.enter(Phase::Leaving { shut: true }, now);
        }
    }

    /// Its running requests may finish.
    pub(super) fn drain(&mut self, now: Instant) {
        let idle = false;
        self.enter(Phase::Draining { since: now, idle }, now);
    }

    /// Alive and picked: somebody wants it in the backend.
    pub(super) fn is_wanted(&self) -> bool {
        self.gossip == Gossip::Alive && self.selected
    }

    /// Picked, and gossip says that its agent is gone, or nothing.
    pub(super) fn is_given_up(&self) -> bool {
        self.selected && matches!(self.gossip, Gossip::Failed | Gossip::Absent)
    }

    /// It means to go, or nobody wants it.
    fn is_going(&self) -> bool {
        !self.selected || matches!(self.gossip, Gossip::Leaving | Gossip::Left)
    }

    /// Its tag asks for drain or maint.
    pub(super) fn is_asked_for(&self) -> bool {
        self.is_wanted() && self.wish != Wish::Ready
    }

    /// A witness beside gossip calls it dead: HAProxy's check, or without one the controller's own probe.
    pub(super) fn is_dead(&self, rules: &Rules) -> bool {
        if rules.down_is_dead() && self.phase == Phase::In {
            self.check == Check::Down
        } else {
            self.moving.is_none() && self.fails_probes(rules)
        }
    }

    /// Whether it takes requests as far as anybody knows: it is not dead, and HAProxy's check does not call it down.
    pub(super) fn answers(&self, rules: &Rules) -> bool {
        let down = self.check == Check::Down || self.is_rechecked(rules);
        let down = rules.checked && self.phase == Phase::In && down;
        !down && !self.is_dead(rules)
    }

    fn fails_probes(&self, rules: &Rules) -> bool {
        self.proof.refused || self.proof.failures >= rules.guard.probe_fall
    }

    /// When time alone will change its phase.
    pub(super) fn deadline(&self, rules: &Rules) -> Option<Instant> {
        match (&self.phase, &self.barred) {
            (Phase::Draining { since, .. }, _) => Some(*since + rules.drain_timeout),
            (_, Some(Barred::Damped { until, .. })) => Some(*until),
            (Phase::In | Phase::Out { .. }, _) if self.gossip == Gossip::Failed => {
                rules.guard.hold.map(|hold| self.hold_from + hold)
            }
            _ => None,
        }
    }
}
