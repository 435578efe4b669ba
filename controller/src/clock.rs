//! The time: everything of the controller reads it here, so that a test may pause it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, by tokio's clock: the monotonic one, unless a test has paused it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time since then.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// The time since then in milliseconds, to the microsecond.
pub fn millis_since(then: Instant) -> f64 {
    (since(then).as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds since 1970, by the calendar.
pub fn unix_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
