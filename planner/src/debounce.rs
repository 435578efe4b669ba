//! Debounce: what is wanted and the time in, what may be in force now out. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long changes gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// They gather until nothing new has come for this long,
    pub quiet: Duration,
    /// but never longer than this.
    pub max_wait: Duration,
}

/// Lets additions and changes through in bursts, removals at once.
///
/// Changes gather until `quiet` has passed without another one, never longer than `max_wait` after the first that
/// waits; a lone one passes at once where that is asked for. What is no longer wanted is out of force immediately.
#[derive(Clone, Debug)]
pub struct Debouncer<K, V> {
    quiet: Debounce,
    lone_passes: bool,
    in_force: BTreeMap<K, V>,
    waiting: BTreeMap<K, V>,
    waiting_since: Option<Instant>,
    last_change: Option<Instant>,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Debouncer<K, V> {
    /// Lets a lone change pass at once.
    pub(crate) fn eager(quiet: Debounce) -> Self {
        Self::new(quiet, true)
    }

    /// Lets even a lone change wait for company.
    pub fn patient(quiet: Debounce) -> Self {
        Self::new(quiet, false)
    }

    fn new(quiet: Debounce, lone_passes: bool) -> Self {
        Self {
            quiet,
            lone_passes,
            in_force: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiting_since: None,
            last_change: None,
        }
    }

    /// Takes other times; what waits goes on waiting by them.
    pub fn set_quiet(&mut self, quiet: Debounce) {
        self.quiet = quiet;
    }

    /// Takes what is wanted now, and says what may be in force.
    pub fn update(&mut self, wanted: &BTreeMap<K, V>, now: Instant) -> &BTreeMap<K, V> {
        self.in_force.retain(|key, _| wanted.contains_key(key));
        let waiting: BTreeMap<K, V> = wanted
            .iter()
            .filter(|(key, value)| self.in_force.get(*key) != Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let something_new = waiting
            .iter()
            .any(|(key, value)| self.waiting.get(key) != Some(value));
        self.waiting = waiting;
        let lone = self.lone_passes && self.waiting_since.is_none() && self.is_quiet(now);
        if something_new {
            self.last_change = Some(now);
            self.waiting_since.get_or_insert(now);
        }
        if lone || self.deadline().is_some_and(|deadline| now >= deadline) {
            self.in_force.append(&mut self.waiting);
        }
        if self.waiting.is_empty() {
            self.waiting_since = None;
        }
        &self.in_force
    }

    /// When what waits will be let through, if nothing else comes.
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        let quiet = self.last_change? + self.quiet.quiet;
        Some(quiet.min(since + self.quiet.max_wait))
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.last_change
            .is_none_or(|last| now >= last + self.quiet.quiet)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUIET: Debounce = Debounce {
        quiet: Duration::from_millis(200),
        max_wait: Duration::from_millis(2000),
    };

    fn wanted(keys: &[u8]) -> BTreeMap<u8, u8> {
        keys.iter().map(|&key| (key, 0)).collect()
    }

    #[test]
    fn a_lone_addition_passes_at_once_and_the_burst_behind_it_gathers() {
        let mut pace = Debouncer::eager(QUIET);
        let start = Instant::now();
        assert_eq!(pace.update(&wanted(&[1]), start).len(), 1);
        for (i, keys) in [&[1, 2][..], &[1, 2, 3], &[1, 2, 3, 4]].iter().enumerate() {
            let at = start + Duration::from_millis(50) * (u32::try_from(i).unwrap() + 1);
            assert_eq!(pace.update(&wanted(keys), at).len(), 1, "gathers");
        }
        let deadline = pace.deadline().unwrap();
        assert_eq!(
            deadline,
            start + Duration::from_millis(350),
            "quiet after the last one"
        );
        assert_eq!(pace.update(&wanted(&[1, 2, 3, 4]), deadline).len(), 4);
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn even_a_lone_change_waits_where_that_is_asked_for() {
        let mut pace = Debouncer::patient(QUIET);
        let start = Instant::now();
        assert!(pace.update(&wanted(&[1]), start).is_empty());
        assert_eq!(pace.update(&wanted(&[1]), start + QUIET.quiet).len(), 1);
    }

    #[test]
    fn other_times_hold_from_now_on_for_what_waits_too() {
        let mut pace = Debouncer::patient(QUIET);
        let start = Instant::now();
        assert!(pace.update(&wanted(&[1]), start).is_empty());
        let quiet = QUIET.quiet / 2;
        pace.set_quiet(Debounce { quiet, ..QUIET });
        assert_eq!(pace.update(&wanted(&[1]), start + quiet).len(), 1);
    }

    /// What is wanted from then on, and how long after the step before, in milliseconds.
    fn histories() -> impl Strategy<Value = Vec<(u64, BTreeMap<u8, u8>)>> {
        let wanted = prop::collection::btree_map(0..6_u8, 0..3_u8, 0..6);
        prop::collection::vec((0..400_u64, wanted), 1..60)
    }

    proptest! {
        #[test]
        fn removals_are_never_delayed_additions_never_beyond_max_wait_and_nothing_is_invented(
            history in histories(), eager: bool,
        ) {
            let mut pace = if eager { Debouncer::eager(QUIET) } else { Debouncer::patient(QUIET) };
            let mut now = Instant::now();
            let mut wanted_since: BTreeMap<(u8, u8), Instant> = BTreeMap::new();
            for (pause, wanted) in history {
                now += Duration::from_millis(pause);
                wanted_since.retain(|(key, value), _| wanted.get(key) == Some(value));
                for (&key, &value) in &wanted {
                    wanted_since.entry((key, value)).or_insert(now);
                }
                let in_force = pace.update(&wanted, now).clone();
                prop_assert!(in_force.keys().all(|key| wanted.contains_key(key)), "a removal was delayed");
                for (&(key, value), &since) in &wanted_since {
                    let held = in_force.get(&key) != Some(&value);
                    prop_assert!(!held || now < since + QUIET.max_wait, "held beyond max_wait");
                    prop_assert!(!held || pace.deadline().is_some_and(|d| d <= since + QUIET.max_wait && d > now));
                }
            }
        }

        #[test]
        fn the_last_state_is_applied_when_quiet_has_passed(history in histories(), eager: bool) {
            let mut pace = if eager { Debouncer::eager(QUIET) } else { Debouncer::patient(QUIET) };
            let mut now = Instant::now();
            let mut last = BTreeMap::new();
            for (pause, wanted) in history {
                now += Duration::from_millis(pause);
                pace.update(&wanted, now);
                last = wanted;
            }
            prop_assert_eq!(pace.update(&last, now + QUIET.quiet), &last);
            prop_assert_eq!(pace.deadline(), None);
        }
    }
}
