//! Members that come and go: presence in, how long each has to be steady before it is let in again out. Pure.
//!
//! The first two returns within `window` cost nothing: a rolling deployment, and the one that repairs it. Each further
//! one costs a second, then two, four and so on up to `max_penalty`. Every `max_penalty` of steady time halves that
//! again. Leaving is never delayed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::ServerName;

/// Returns within `window` that cost nothing.
const FREE: u32 = 2;
/// What the first return beyond them costs.
const FIRST_PENALTY: Duration = Duration::from_secs(1);
/// Servers remembered that are in no backend now.
const MOST_AWAY: usize = 4096;

/// The times that damping goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) window: Duration,
    pub(super) max_penalty: Duration,
}

/// How often each server has come back.
#[derive(Clone, Debug, Default)]
pub(super) struct Damper(BTreeMap<ServerName, Flaps>);

#[derive(Clone, Copy, Debug)]
struct Flaps {
    /// It is there: wanted, or answering though its agent is gone.
    present: bool,
    /// It has had traffic, and was seen away since.
    away: bool,
    /// Returns since `first`.
    returns: u32,
    first: Instant,
    /// The last return, and what it costs.
    last: Instant,
    penalty: Duration,
}

impl Damper {
    /// Takes whether a server is there, and whether it has traffic.
    pub(super) fn observe(
        &mut self,
        name: &ServerName,
        present: bool,
        in_rotation: bool,
        times: Times,
        now: Instant,
    ) {
        if in_rotation && !self.0.contains_key(name) {
            let fresh = Flaps {
                present,
                away: false,
                returns: 0,
                first: now,
                last: now,
                penalty: Duration::ZERO,
            };
            self.0.insert(name.clone(), fresh);
        }
        let Some(flaps) = self.0.get_mut(name) else {
            return;
        };
        if !present && !in_rotation {
            flaps.away = true;
        }
        if present && !flaps.present && flaps.away {
            flaps.away = false;
            flaps.come_back(times, now);
        }
        flaps.present = present;
    }

    /// Takes that the guard knows only these servers any more; forgets the steady ones and what is too much.
    pub(super) fn forget(
        &mut self,
        known: impl Fn(&ServerName) -> bool,
        times: Times,
        now: Instant,
    ) {
        for (name, flaps) in &mut self.0 {
            if !known(name) {
                flaps.present = false;
                flaps.away = true;
            }
        }
        self.0
            .retain(|name, flaps| known(name) || !flaps.is_over(times, now));
        while self.0.len() > MOST_AWAY {
            let away = self.0.iter().filter(|(name, _)| !known(name));
            let Some(oldest) = away.min_by_key(|(_, flaps)| flaps.last) else {
                return;
            };
            let oldest = oldest.0.clone();
            self.0.remove(&oldest);
        }
    }

    /// Whether anything is remembered of a server.
    pub(super) fn knows(&self, name: &ServerName) -> bool {
        self.0.contains_key(name)
    }

    /// Until when a server has to be steady before it is let in, and for how long that is in all.
    pub(super) fn until(&self, name: &ServerName) -> Option<(Instant, Duration)> {
        let flaps = self.0.get(name)?;
        (!flaps.penalty.is_zero()).then(|| (flaps.last + flaps.penalty, flaps.penalty))
    }
}

impl Flaps {
    fn come_back(&mut self, times: Times, now: Instant) {
        self.penalty = self.decayed(times, now);
        if self.penalty.is_zero() && now >= self.first + times.window {
            self.returns = 0;
        }
        if self.returns == 0 {
            self.first = now;
        }
        self.returns += 1;
        self.last = now;
        if self.returns > FREE {
            let doubled = (self.penalty * 2).max(FIRST_PENALTY);
            self.penalty = doubled.min(times.max_penalty);
        }
    }

    /// The penalty, halved for every `max_penalty` since the last return.
    fn decayed(&self, times: Times, now: Instant) -> Duration {
        let steady = now.saturating_duration_since(self.last);
        let halvings = steady
            .as_millis()
            .checked_div(times.max_penalty.as_millis())
            .unwrap_or(u128::MAX);
        let halved = u32::try_from(halvings)
            .ok()
            .and_then(|halvings| 1_u32.checked_shl(halvings))
            .map_or(Duration::ZERO, |divisor| self.penalty / divisor);
        if halved < FIRST_PENALTY / 2 {
            Duration::ZERO
        } else {
            halved
        }
    }

    fn is_over(&self, times: Times, now: Instant) -> bool {
        now >= self.first + times.window && self.decayed(times, now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        window: Duration::from_secs(300),
        max_penalty: Duration::from_secs(30),
    };

    fn name() -> ServerName {
        ServerName::new("s").unwrap()
    }

    /// One leave and one return; says what it costs, in seconds.
    fn flap(damper: &mut Damper, now: Instant) -> u64 {
        let name = name();
        damper.observe(&name, false, false, TIMES, now);
        damper.observe(&name, true, false, TIMES, now);
        damper
            .until(&name)
            .map_or(0, |(_, penalty)| penalty.as_secs())
    }

    fn steady() -> (Damper, Instant) {
        let (mut damper, now) = (Damper::default(), Instant::now());
        damper.observe(&name(), true, true, TIMES, now);
        (damper, now)
    }

    #[test]
    fn two_returns_are_free_and_the_others_cost_more_and_more() {
        let (mut damper, now) = steady();
        let costs: Vec<u64> = (0..10).map(|_| flap(&mut damper, now)).collect();
        assert_eq!(costs, [0, 0, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn steady_time_halves_what_a_return_costs() {
        let (mut damper, mut now) = steady();
        for _ in 0..8 {
            flap(&mut damper, now);
        }
        now += TIMES.max_penalty * 3;
        assert_eq!(flap(&mut damper, now), 7, "30 / 8 * 2, in whole seconds");
        now += TIMES.window * 2;
        assert_eq!(flap(&mut damper, now), 0, "all is forgotten");
    }

    #[test]
    fn a_leave_and_a_return_count_as_one_and_nobody_is_damped_who_kept_its_traffic() {
        let (mut damper, now) = steady();
        let name = name();
        for _ in 0..10 {
            damper.observe(&name, false, true, TIMES, now);
            damper.observe(&name, true, true, TIMES, now);
        }
        assert_eq!(damper.until(&name), None);
    }

    #[test]
    fn a_server_that_never_had_traffic_is_not_remembered() {
        let (mut damper, now) = (Damper::default(), Instant::now());
        for _ in 0..10 {
            flap(&mut damper, now);
        }
        assert!(damper.0.is_empty());
    }

    #[test]
    fn what_is_remembered_of_those_that_are_gone_ends_with_the_window() {
        let (mut damper, now) = steady();
        damper.forget(|_| false, TIMES, now);
        assert_eq!(damper.0.len(), 1);
        damper.forget(|_| false, TIMES, now + TIMES.window);
        assert!(damper.0.is_empty());
    }
}
