//! The one moment that is known by both clocks: monotonic times in, times of the calendar out, and back. Pure.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clock;

/// Ties the monotonic clock, which decides, to the calendar, which is kept and shown.
#[derive(Clone, Copy, Debug)]
pub struct ClockAnchor {
    instant: Instant,
    system: SystemTime,
}

impl ClockAnchor {
    /// The moment that was the same by both clocks.
    pub fn new(instant: Instant, system: SystemTime) -> Self {
        Self { instant, system }
    }

    /// Now, by both clocks.
    pub fn now() -> Self {
        Self::new(clock::now(), SystemTime::now())
    }

    /// Seconds since 1970, whole.
    pub fn unix_secs(&self, at: Instant) -> u64 {
        self.since_1970(at).as_secs()
    }

    /// Milliseconds since 1970, whole.
    pub fn unix_millis(&self, at: Instant) -> u64 {
        u64::try_from(self.since_1970(at).as_millis()).unwrap_or(u64::MAX)
    }

    fn since_1970(&self, at: Instant) -> Duration {
        let start = self.system.duration_since(UNIX_EPOCH).unwrap_or_default();
        match at.checked_duration_since(self.instant) {
            Some(after) => start + after,
            None => start.saturating_sub(self.instant.duration_since(at)),
        }
    }

    /// The moment so many seconds after 1970; one that the monotonic clock cannot express, or that is still to come,
    /// counts as the epoch itself.
    pub fn instant(&self, unix_secs: u64) -> Instant {
        let at = UNIX_EPOCH + Duration::from_secs(unix_secs.min(u64::from(u32::MAX)));
        let before = self.system.duration_since(at).unwrap_or_default();
        self.instant.checked_sub(before).unwrap_or(self.instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_to_the_calendar_and_back() {
        let system = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let start = Instant::now() + Duration::from_secs(1000);
        let anchor = ClockAnchor::new(start, system);
        assert_eq!(anchor.unix_millis(start), 1_700_000_000_250);
        let before = start - Duration::from_millis(100_250);
        assert_eq!(anchor.unix_secs(before), 1_699_999_900);
        assert_eq!(anchor.instant(1_699_999_900), before);
        assert_eq!(
            anchor.instant(1_800_000_000),
            start,
            "what is still to come is now"
        );
    }
}
