//! The history of one server: what the witnesses said of it in, its phase out. Pure.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::haproxy::{Admin, Check, RunningServer};
use crate::model::{Attributes, Candidate, Gossip, Place, Quarantine, Wish};
use crate::plan::WantedAdmin;

use super::{Decision, Line, Probed, Rules, Target};

/// How often a draining server is looked at: it is removed when its last request is done.
const DRAIN_POLL: Duration = Duration::from_millis(100);
/// How often the other witnesses are asked about a server that gossip has given up.
const WITNESS_POLL: Duration = Duration::from_secs(1);
/// More failures than the greatest `probe_fall` say nothing new.
const MOST_FAILURES: u32 = 100;

/// One server as the guard knows it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) phase: Phase,
    pub(super) gossip: Gossip,
    pub(super) gossip_since: Instant,
    /// Its new place, not proven yet.
    moving: Option<Place>,
    wish: Wish,
    /// The rules pick it.
    selected: bool,
    quarantine: Option<Quarantine>,
    proof: Proof,
    check: Check,
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

/// What the controller's own probes found since they were last asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Proof {
    good: bool,
    refused: bool,
    failures: u32,
}

/// How a server stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// In a word: `ready`, `waiting`, `drain`, `maint`, `leaving` or `out`.
    pub state: &'static str,
    /// The reason.
    pub why: Why,
}

/// Why a server stands as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Gossip says alive, and it answers.
    Proven,
    /// Gossip says alive; it has not answered a probe yet.
    NotProven,
    /// Gossip has given it up; it answers, or nobody says that it does not.
    KeptWithoutAgent,
    /// Gossip has given it up and it is dead; it is watched in case it comes back.
    Dead,
    /// Its tags cannot be used any more; its last good ones stay in force.
    KeptInQuarantine(Quarantine),
    /// It proves its new address before it is moved.
    Moving(SocketAddr),
    /// It leaves, or has left.
    Leaves,
    /// No rule picks it any more.
    Deselected,
    /// Its tag `state` asks for it.
    AskedFor,
    /// Its agent has been gone for longer than `hold`.
    HeldLongEnough,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("alive and answering"),
            Self::NotProven => f.write_str("alive, but has not answered a probe yet"),
            Self::KeptWithoutAgent => {
                f.write_str("its agent is gone; kept, as nobody calls the server dead")
            }
            Self::Dead => f.write_str("its agent is gone and it does not answer; watched"),
            Self::KeptInQuarantine(reason) => write!(f, "kept with its last good tags: {reason}"),
            Self::Moving(addr) => write!(f, "moving to {addr} once that answers"),
            Self::Leaves => f.write_str("it leaves the cluster"),
            Self::Deselected => f.write_str("no rule picks it any more"),
            Self::AskedFor => f.write_str("its tag `state` asks for it"),
            Self::HeldLongEnough => f.write_str("its agent has been gone for longer than `hold`"),
        }
    }
}

impl Slot {
    pub(super) fn new(place: Place, now: Instant) -> Self {
        Self {
            place,
            phase: Phase::Out {
                admin: WantedAdmin::Maint,
            },
            gossip: Gossip::Absent,
            gossip_since: now,
            moving: None,
            wish: Wish::Ready,
            selected: true,
            quarantine: None,
            proof: Proof::default(),
            check: Check::None,
        }
    }

    /// Takes what gossip says.
    pub(super) fn hear(&mut self, candidate: &Candidate, now: Instant) {
        self.set_gossip(candidate.gossip, now);
        self.selected = true;
        match &candidate.attributes {
            Ok(Attributes { place, wish }) => {
                self.quarantine = None;
                self.wish = *wish;
                self.set_place(*place);
            }
            Err(quarantine) => {
                self.quarantine = Some(quarantine.clone());
                self.moving = None;
            }
        }
    }

    /// Takes that no rule picks it: because of its tags, or because gossip does not know it at all.
    pub(super) fn miss(&mut self, known: bool, now: Instant) {
        self.selected = !known;
        self.moving = None;
        if !known {
            self.set_gossip(Gossip::Absent, now);
        }
    }

    fn set_gossip(&mut self, gossip: Gossip, now: Instant) {
        if self.gossip != gossip {
            self.gossip = gossip;
            self.gossip_since = now;
            self.proof = Proof::default();
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

    /// The worker that was there first has it ready.
    pub(super) fn adopt(&mut self, place: Place) {
        if self.phase
            == (Phase::Out {
                admin: WantedAdmin::Maint,
            })
        {
            self.phase = Phase::In;
            if place.addr != self.place.addr && self.gossip == Gossip::Alive {
                self.moving = Some(self.place);
                self.place.addr = place.addr;
            }
        }
    }

    /// The worker that was there first drains it.
    pub(super) fn adopt_draining(&mut self, now: Instant) {
        self.phase = if self.is_wanted() {
            Phase::Out {
                admin: WantedAdmin::Drain,
            }
        } else {
            Phase::Draining {
                since: now,
                idle: false,
            }
        };
    }

    /// Takes how HAProxy runs it.
    pub(super) fn read(&mut self, running: Option<&RunningServer>) {
        let stat = running.and_then(|running| running.stat.as_ref());
        match (running, stat) {
            (None, _) => self.check = Check::None,
            (Some(_), None) => {}
            (Some(_), Some(stat)) => self.check = stat.check,
        }
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
                self.phase = Phase::Gone;
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
        let failures = if found == Probed::Good {
            0
        } else {
            before.failures.saturating_add(1)
        };
        self.proof = Proof {
            good: found == Probed::Good,
            refused: found == Probed::Refused,
            failures,
        };
        let judged = |proof: Proof| (proof.good, proof.refused, proof.failures.min(MOST_FAILURES));
        judged(before) != judged(self.proof) && (self.proof.good || !self.is_wanted())
    }

    /// How soon HAProxy has to be read again for this server's sake, with `show stat`.
    pub(super) fn poll(&self, rules: &Rules) -> Option<Duration> {
        match self.phase {
            Phase::Draining { idle: true, .. } if self.is_asked_for() => None,
            Phase::Draining { .. } | Phase::Leaving { .. } => Some(DRAIN_POLL),
            Phase::In if self.is_given_up() => Some(WITNESS_POLL),
            Phase::Out { .. } if self.is_wanted() && !rules.probed => Some(DRAIN_POLL),
            _ => None,
        }
    }

    /// The probe that would settle something.
    pub(super) fn target(&self, rules: &Rules, now: Instant) -> Option<Target> {
        let watch = Some(Target {
            addr: self.place.addr,
            urgent: false,
        });
        match self.phase {
            Phase::Out { .. } if self.is_wanted() => (rules.probed && self.wish == Wish::Ready)
                .then_some(Target {
                    addr: self.place.addr,
                    urgent: true,
                }),
            Phase::Out { .. } if self.is_given_up() => {
                let over = rules
                    .guard
                    .hold
                    .is_some_and(|hold| now >= self.gossip_since + hold);
                (self.gossip == Gossip::Absent || !over).then_some(watch)?
            }
            Phase::In if self.is_wanted() => self.moving.map(|moving| Target {
                addr: moving.addr,
                urgent: true,
            }),
            Phase::In if self.is_given_up() && !rules.checked => watch,
            _ => None,
        }
    }

    /// Takes the steps that concern this server alone.
    pub(super) fn step(&mut self, rules: &Rules, taken_over: bool, now: Instant) {
        match self.phase {
            Phase::Out { .. } => self.step_out(rules, taken_over, now),
            Phase::In => self.step_in(taken_over, now),
            Phase::Draining { since, idle } => {
                if self.is_wanted() && self.wish == Wish::Ready {
                    self.phase = Phase::Out {
                        admin: WantedAdmin::Drain,
                    };
                    self.proof = Proof::default();
                } else if idle || now >= since + rules.drain_timeout {
                    self.end_drain(since, idle);
                }
            }
            Phase::Leaving { .. } | Phase::Gone => {
                if self.is_wanted() {
                    self.phase = Phase::Out {
                        admin: WantedAdmin::Maint,
                    };
                }
            }
        }
    }

    /// Whose tag asked for the drain stays, out of use; everybody else goes.
    fn end_drain(&mut self, since: Instant, idle: bool) {
        self.phase = if self.is_asked_for() {
            Phase::Draining { since, idle: true }
        } else {
            Phase::Leaving { shut: !idle }
        };
    }

    fn step_out(&mut self, rules: &Rules, taken_over: bool, now: Instant) {
        let unusable = self.is_wanted() && self.quarantine.is_some();
        let given_up = self.is_given_up();
        let watched = given_up && self.target(rules, now).is_some() && !taken_over;
        if unusable || self.is_going() || (given_up && !watched) {
            self.phase = Phase::Leaving { shut: false };
        } else if self.wish == Wish::Ready && self.is_proven(rules) {
            self.phase = Phase::In;
            self.proof = Proof::default();
            // What the check said of the server before it went out is over.
            self.check = Check::None;
        }
    }

    fn step_in(&mut self, taken_over: bool, now: Instant) {
        if self.is_going() || self.is_asked_for() {
            self.phase = Phase::Draining {
                since: now,
                idle: false,
            };
        } else if self.is_given_up() && taken_over {
            self.phase = Phase::Leaving { shut: true };
        } else if self.proof.good
            && let Some(place) = self.moving.take()
        {
            self.place = place;
            self.proof = Proof::default();
        }
    }

    /// Alive and picked: somebody wants it in the backend.
    pub(super) fn is_wanted(&self) -> bool {
        self.gossip == Gossip::Alive && self.selected
    }

    /// Gossip lists it and calls it alive, picked or not.
    pub(super) fn is_listed_alive(&self) -> bool {
        self.gossip == Gossip::Alive
    }

    fn is_given_up(&self) -> bool {
        self.selected && matches!(self.gossip, Gossip::Failed | Gossip::Absent)
    }

    /// It means to go, or nobody wants it.
    fn is_going(&self) -> bool {
        !self.selected || matches!(self.gossip, Gossip::Leaving | Gossip::Left)
    }

    /// Its tag asks for drain or maint.
    fn is_asked_for(&self) -> bool {
        self.is_wanted() && self.wish != Wish::Ready
    }

    fn is_proven(&self, rules: &Rules) -> bool {
        self.proof.good || (!rules.probed && self.is_wanted() && self.check == Check::Up)
    }

    /// A second witness calls it dead: HAProxy's check, or without one the controller's own probe.
    pub(super) fn is_dead(&self, rules: &Rules) -> bool {
        if rules.checked {
            self.check == Check::Down
        } else {
            self.proof.refused || self.proof.failures >= rules.guard.probe_fall
        }
    }

    /// When time alone will change its phase.
    pub(super) fn deadline(&self, rules: &Rules) -> Option<Instant> {
        match self.phase {
            Phase::Draining { since, .. } => Some(since + rules.drain_timeout),
            Phase::In | Phase::Out { .. } if self.gossip == Gossip::Failed => {
                rules.guard.hold.map(|hold| self.gossip_since + hold)
            }
            _ => None,
        }
    }

    pub(super) fn decision(&self, rules: &Rules) -> Decision {
        let (line, admin, state, why) = match self.phase {
            Phase::In => (
                Some(Line::Ready),
                Some(WantedAdmin::Ready),
                "ready",
                self.why_in(),
            ),
            Phase::Out { admin } if self.is_wanted() => {
                let (admin, state, why) = self.waiting(rules, admin);
                (Some(Line::Disabled), Some(admin), state, why)
            }
            Phase::Out { admin } => (None, Some(admin), "out", Why::Dead),
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
            gossip: self.gossip,
        }
    }

    /// Alive and not in rotation: unproven, or asked to stay out.
    fn waiting(&self, rules: &Rules, resting: WantedAdmin) -> (WantedAdmin, &'static str, Why) {
        match self.wish {
            Wish::Drain => (WantedAdmin::Drain, "drain", Why::AskedFor),
            Wish::Maint => (WantedAdmin::Maint, "maint", Why::AskedFor),
            Wish::Ready if !rules.probed => (WantedAdmin::Waiting, "waiting", Why::NotProven),
            Wish::Ready if resting == WantedAdmin::Drain => {
                (WantedAdmin::Drain, "waiting", Why::NotProven)
            }
            Wish::Ready => (WantedAdmin::Maint, "waiting", Why::NotProven),
        }
    }

    fn why_in(&self) -> Why {
        match (&self.quarantine, self.moving) {
            _ if self.is_given_up() => Why::KeptWithoutAgent,
            (Some(quarantine), _) => Why::KeptInQuarantine(quarantine.clone()),
            (None, Some(moving)) => Why::Moving(moving.addr),
            (None, None) => Why::Proven,
        }
    }

    fn why_going(&self) -> Why {
        match self.gossip {
            _ if !self.selected => Why::Deselected,
            Gossip::Leaving | Gossip::Left => Why::Leaves,
            Gossip::Failed => Why::HeldLongEnough,
            Gossip::Alive | Gossip::Absent => Why::Dead,
        }
    }
}
