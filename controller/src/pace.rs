//! Debounce: what is wanted and the time in, what may be in force now out. [P]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long changes gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
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
pub struct Pace<K, V> {
    quiet: Quiet,
    lone_passes: bool,
    in_force: BTreeMap<K, V>,
    waiting: BTreeMap<K, V>,
    waiting_since: Option<Instant>,
    last_change: Option<Instant>,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Pace<K, V> {
    /// Lets a lone change pass at once.
    pub fn eager(quiet: Quiet) -> Self {
        Self::new(quiet, true)
    }

    /// Lets even a lone change wait for company.
    pub fn patient(quiet: Quiet) -> Self {
        Self::new(quiet, false)
    }

    fn new(quiet: Quiet, lone_passes: bool) -> Self {
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
    pub fn set_quiet(&mut self, quiet: Quiet) {
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
        let something_new = waiting.iter().any(|(key, value)| self.waiting.get(key) != Some(value));
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
        self.last_change.is_none_or(|last| now >= last + self.quiet.quiet)
    }
}
