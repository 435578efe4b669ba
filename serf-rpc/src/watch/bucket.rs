//! A token bucket: how often something may happen, at once and in the long run; a moment in, yes or no out. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What is left of a rate, as the moment at which all of it would be there again.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// So many at once, after a pause that was long enough.
    burst: u32,
    /// How long one takes, in the long run.
    interval: Duration,
    full_at: Instant,
}

impl Bucket {
    /// A full one, of so many at once and so many a second in the long run.
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self {
            burst,
            interval: Duration::from_secs(1) / per_second,
            full_at: now,
        }
    }

    /// When the next may be taken; that moment is past, or now, where it may be taken now.
    pub(crate) fn opens_at(&self, now: Instant) -> Instant {
        let room = self.interval * (self.burst - 1);
        self.full_at.checked_sub(room).unwrap_or(now)
    }

    /// Whether one may be taken now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.opens_at(now) <= now
    }

    /// Takes one, which [`Bucket::is_open`] has allowed.
    pub(crate) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval;
    }
}
