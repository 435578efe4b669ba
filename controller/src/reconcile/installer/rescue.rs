//! The last way to a worker that answers nowhere: readings in, when a reload is due to bring the file into force out. Pure.
//!
//! A worker may stand still for a moment (a paused machine), and a socket be gone between two workers: only a HAProxy that
//! was silent for a while, whenever it was asked, is reloaded. A reload that does not help is repeated ever more
//! seldom, for each leaves a worker behind; sooner only for another text.

use std::time::{Duration, Instant};

use planner::stamp::Stamp;

/// So long nobody has answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// So often, so that a controller that stood still itself does not count that time.
const FAILURES: u32 = 3;
/// The pause after a reload for the same text, and the longest; for another text it is the first.
const PAUSE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));

/// How long nobody has answered, and what was done about it.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    /// When the first of the readings failed, and how many did.
    failing: Option<(Instant, u32)>,
    last: Option<Try>,
}

#[derive(Debug)]
struct Try {
    at: Instant,
    stamp: Stamp,
    pause: Duration,
}

impl Rescue {
    /// HAProxy has answered.
    pub(super) fn answered(&mut self, now: Instant) {
        self.failing = None;
        let long_ago = |last: &Try| now.saturating_duration_since(last.at) > PAUSE.1;
        if self.last.as_ref().is_some_and(long_ago) {
            self.last = None;
        }
    }

    /// HAProxy has not answered.
    pub(super) fn failed(&mut self, now: Instant) {
        let (since, times) = self.failing.unwrap_or((now, 0));
        self.failing = Some((since, times.saturating_add(1)));
    }

    /// Whether a reload that brings the text with this stamp into force may help now.
    pub(super) fn is_due(&self, stamp: &Stamp, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let silent = |(at, times): (Instant, u32)| times >= FAILURES && since(at) >= PATIENCE;
        let paused = |last: &Try| {
            let same = last.stamp == *stamp;
            since(last.at) < if same { last.pause } else { PAUSE.0 }
        };
        self.failing.is_some_and(silent) && !self.last.as_ref().is_some_and(paused)
    }

    /// Such a reload has begun.
    pub(super) fn tried(&mut self, stamp: &Stamp, now: Instant) {
        let before = self.last.as_ref().filter(|last| last.stamp == *stamp);
        let pause = before.map_or(PAUSE.0, |last| (last.pause * 2).min(PAUSE.1));
        let stamp = stamp.clone();
        self.last = Some(Try {
            at: now,
            stamp,
            pause,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(name: &str) -> Stamp {
        Stamp(name.to_owned())
    }

    /// When reloads are due while nobody answers for so many seconds, asked each second.
    fn reloads(
        rescue: &mut Rescue,
        start: Instant,
        seconds: u64,
        text: impl Fn(u64) -> Stamp,
    ) -> Vec<u64> {
        let mut reloads = Vec::new();
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            rescue.failed(now);
            if rescue.is_due(&text(second), now) {
                rescue.tried(&text(second), now);
                reloads.push(second);
            }
        }
        reloads
    }

    #[test]
    fn nobody_is_reloaded_who_was_silent_for_a_moment() {
        let (mut rescue, start) = (Rescue::default(), Instant::now());
        assert_eq!(
            reloads(&mut rescue, start, 10, |_| stamp("a")),
            [] as [u64; 0]
        );
        rescue.answered(start + PATIENCE);
        let later = start + PATIENCE;
        assert_eq!(
            reloads(&mut rescue, later, 10, |_| stamp("a")),
            [] as [u64; 0]
        );
    }

    #[test]
    fn a_controller_that_stood_still_does_not_count_that_time() {
        let (mut rescue, start) = (Rescue::default(), Instant::now());
        rescue.failed(start);
        let later = start + PATIENCE * 9;
        rescue.failed(later);
        assert!(!rescue.is_due(&stamp("a"), later));
    }

    #[test]
    fn a_reload_that_does_not_help_comes_ever_more_seldom() {
        let (mut rescue, start) = (Rescue::default(), Instant::now());
        let found = reloads(&mut rescue, start, 3000, |_| stamp("a"));
        assert_eq!(found, [10, 30, 70, 150, 310, 630, 1230, 1830, 2430]);
    }

    #[test]
    fn another_text_is_brought_into_force_sooner_but_not_at_once() {
        let (mut rescue, start) = (Rescue::default(), Instant::now());
        let text = |second| stamp(if second < 40 { "a" } else { "b" });
        assert_eq!(reloads(&mut rescue, start, 90, text), [10, 30, 50, 70]);
    }

    #[test]
    fn a_haproxy_that_falls_silent_again_and_again_is_not_reloaded_each_time() {
        let (mut rescue, start) = (Rescue::default(), Instant::now());
        let mut count = 0;
        for round in 0..10 {
            let now = start + Duration::from_secs(40 * round);
            count += reloads(&mut rescue, now, 12, |_| stamp("a")).len();
            rescue.answered(now + Duration::from_secs(13));
        }
        assert!(count <= 5, "{count} in 400 s");
    }
}
