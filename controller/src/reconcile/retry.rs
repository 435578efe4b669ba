//! A pause that doubles with every failure: failures and the time in, when to try again out. Pure.

use std::time::{Duration, Instant};

/// The first pause, and the longest.
pub(super) const PAUSE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(30));

/// When something that failed is worth another try.
#[derive(Clone, Debug, Default)]
pub(super) struct Retry {
    pause: Option<Duration>,
    at: Option<Instant>,
}

impl Retry {
    /// It failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed_for(PAUSE.1, now);
    }

    /// It failed, and is tried again after no more than so long.
    pub(super) fn failed_for(&mut self, longest: Duration, now: Instant) {
        let pause = self.pause.map_or(PAUSE.0, |pause| (pause * 2).min(longest));
        self.pause = Some(pause);
        self.at = Some(now + pause);
    }

    /// It works.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// When it is tried again; none where it did not fail.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it may be tried now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now >= at)
    }
}
