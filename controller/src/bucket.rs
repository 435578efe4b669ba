//! A token bucket: how often something may happen, in the long run and at once. Pure.

use std::time::{Duration, Instant};

/// How often.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// A second, in the long run.
    pub per_second: u32,
    /// So many at once, after a pause that was long enough.
    pub burst: u32,
}

impl Rate {
    /// How long one takes, in the long run.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }
}

/// What is left of a rate, as the moment at which all of it would be there again.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// When the next one may be taken; that moment is past where it may be taken now.
    pub fn opens_at(&self, rate: Rate, now: Instant) -> Instant {
        let room = rate.interval() * (rate.burst.max(1) - 1);
        self.full_at.checked_sub(room).unwrap_or(now)
    }

    /// Takes one, which [`Bucket::opens_at`] has allowed.
    pub fn take(&mut self, rate: Rate, now: Instant) {
        self.full_at = self.full_at.max(now) + rate.interval();
    }

    /// Whether nothing was taken for so long that it might as well be a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let rate = Rate {
            per_second: 10,
            burst: 5,
        };
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut taken = 0;
        for millis in 0..2000 {
            let now = start + Duration::from_millis(millis);
            while bucket.opens_at(rate, now) <= now {
                bucket.take(rate, now);
                taken += 1;
            }
            if millis == 0 {
                assert_eq!(taken, 5);
            }
        }
        assert_eq!(taken, 5 + 19);
        assert!(!bucket.is_full(start + Duration::from_secs(2)));
        assert!(bucket.is_full(start + Duration::from_secs(3)));
    }
}
