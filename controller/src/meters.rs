//! What is measured as it happens, for whoever reads it on another thread: moments and lasting times in, metrics out.
//!
//! What can be told from a status is not here: that is counted when somebody asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use planner::guard::Probed;
use prometheus_client::metrics::histogram::Histogram;

use crate::clock;

/// Upper bounds of the buckets, in seconds: from what a cycle costs to what a HAProxy that does not answer does.
const SECONDS: [f64; 13] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];
/// The loop looks at HAProxy every two seconds. One that has not turned for so long stands still, as systemd's watchdog
/// has it, too.
const TURN: Duration = Duration::from_secs(30);

/// The meters of one controller. Reading and writing them waits for nobody.
#[derive(Debug)]
pub(crate) struct Meters {
    started: Instant,
    /// When the loop last turned, in milliseconds since the start.
    turned_ms: AtomicU64,
    applied: AtomicBool,
    /// How long cycles took.
    pub(crate) cycles: Histogram,
    /// How long it took from the first hint at a change to the end of the apply that followed.
    pub(crate) latency: Histogram,
    good: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            started: clock::now(),
            turned_ms: AtomicU64::new(0),
            applied: AtomicBool::new(false),
            cycles: Histogram::new(SECONDS),
            latency: Histogram::new(SECONDS),
            good: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl Meters {
    /// The loop turns.
    pub(crate) fn turned(&self) {
        let since = clock::since(self.started).as_millis();
        let millis = u64::try_from(since).unwrap_or(u64::MAX);
        self.turned_ms.store(millis, Ordering::Relaxed);
    }

    /// How long ago the loop last turned.
    pub(crate) fn turn_age(&self) -> Duration {
        let turned = Duration::from_millis(self.turned_ms.load(Ordering::Relaxed));
        clock::since(self.started).saturating_sub(turned)
    }

    /// Whether the loop turned within its time.
    pub(crate) fn is_turning(&self) -> bool {
        self.turn_age() < TURN
    }

    /// HAProxy and its file are as they should be.
    pub(crate) fn applied(&self) {
        self.applied.store(true, Ordering::Relaxed);
    }

    /// Whether they were so once.
    pub(crate) fn has_applied(&self) -> bool {
        self.applied.load(Ordering::Relaxed)
    }

    /// A probe has come to its end.
    pub(crate) fn probed(&self, found: Probed) {
        let count = match found {
            Probed::Good => &self.good,
            Probed::Refused => &self.refused,
            Probed::Failed => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The probes that came to their end, by what they found.
    pub(crate) fn probes(&self) -> [(&'static str, u64); 3] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("good", read(&self.good)),
            ("refused", read(&self.refused)),
            ("failed", read(&self.failed)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_is_told_by_the_clock_alone() {
        let meters = Meters::default();
        tokio::time::advance(TURN - Duration::from_millis(1)).await;
        assert!(meters.is_turning());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!meters.is_turning());
        meters.turned();
        assert!(meters.is_turning());
    }
}
