//! When tags are written: what has changed and the time in, the moment to write out. Pure.
//!
//! Additions gather until nothing new has come for `quiet`, `max_wait` at most. Who goes goes at once, unless something was
//! written just now: then with all that comes until `quiet` has passed.

use std::time::{Duration, Instant};

/// What tags are to be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody goes, or something is otherwise that others have to know at once.
    AtOnce,
    /// Somebody comes.
    Gathering,
}

/// Since when something waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    waiting: Option<Waiting>,
    written: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    first: Instant,
    last: Instant,
    at_once: bool,
}

impl Pace {
    /// The tags are to be otherwise than they are, and this is new.
    pub fn changed(&mut self, urgency: Urgency, now: Instant) {
        let at_once = urgency == Urgency::AtOnce;
        let waiting = self.waiting.get_or_insert(Waiting {
            first: now,
            last: now,
            at_once,
        });
        waiting.last = now;
        waiting.at_once |= at_once;
    }

    /// Whether something waits.
    pub fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// The tags are as they are to be.
    pub fn settled(&mut self) {
        self.waiting = None;
    }

    /// The tags were written.
    pub fn written(&mut self, now: Instant) {
        self.waiting = None;
        self.written = Some(now);
    }

    /// When to write; that moment is past where it is now.
    pub fn due(&self, quiet: Duration, max_wait: Duration) -> Option<Instant> {
        let waiting = self.waiting?;
        let after_last = self.written.map(|at| at + quiet);
        let at = if waiting.at_once {
            waiting.first
        } else {
            (waiting.last + quiet).min(waiting.first + max_wait)
        };
        Some(after_last.map_or(at, |after| at.max(after.min(waiting.first + max_wait))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);

    fn ms(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn who_comes_waits_for_others_and_not_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.due(QUIET, MAX), None);
        pace.changed(Urgency::Gathering, start);
        assert_eq!(pace.due(QUIET, MAX), Some(ms(start, 100)));
        for n in 1..30 {
            pace.changed(Urgency::Gathering, ms(start, n * 50));
        }
        assert_eq!(pace.due(QUIET, MAX), Some(ms(start, 1000)));
    }

    #[test]
    fn who_goes_goes_at_once_and_a_crowd_goes_together() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.changed(Urgency::AtOnce, start);
        assert_eq!(pace.due(QUIET, MAX), Some(start));
        pace.written(start);
        assert_eq!(pace.due(QUIET, MAX), None);
        pace.changed(Urgency::AtOnce, ms(start, 10));
        pace.changed(Urgency::AtOnce, ms(start, 90));
        assert_eq!(pace.due(QUIET, MAX), Some(ms(start, 100)));
    }

    #[test]
    fn who_goes_takes_along_who_gathers() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.changed(Urgency::Gathering, start);
        pace.changed(Urgency::AtOnce, ms(start, 20));
        assert_eq!(pace.due(QUIET, MAX), Some(start));
        pace.settled();
        assert_eq!(pace.due(QUIET, MAX), None);
    }
}
