//! How much of a backend may go on the word of one witness, and the book of what has gone. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config;
use crate::model::{Endpoint, ServerName};

/// A server that was taken out without intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Where it was.
    pub endpoint: Endpoint,
    /// When it went.
    pub at: Instant,
    /// A second witness has said that it is dead: now only time keeps it in the book.
    pub agreed: bool,
}

/// The servers of a backend that were taken out without intent and are neither back nor `left`.
///
/// Failures come one by one: without a book each would be small enough, and all would go.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(BTreeMap<ServerName, Removal>);

impl Ledger {
    pub(super) fn insert(&mut self, name: ServerName, removal: Removal) {
        self.0.insert(name, removal);
    }

    /// A server goes now; `agreed` says that a second witness has called it dead.
    pub(super) fn note(
        &mut self,
        name: &ServerName,
        endpoint: Endpoint,
        agreed: bool,
        now: Instant,
    ) {
        let removal = Removal {
            endpoint,
            at: now,
            agreed,
        };
        self.insert(name.clone(), removal);
    }

    pub(super) fn contains(&self, name: &ServerName) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ServerName, Removal)> {
        self.0.iter().map(|(name, removal)| (name, *removal))
    }

    /// Goes through all entries; those for which it is told so are struck out.
    pub(super) fn revise(&mut self, keep: impl FnMut(&ServerName, &mut Removal) -> bool) {
        self.0.retain(keep);
    }

    /// How many count.
    pub(super) fn used(&self) -> usize {
        self.0.len()
    }

    /// When the first entry ages out.
    pub(super) fn deadline(&self, window: Duration) -> Option<Instant> {
        let agreed = self.0.values().filter(|removal| removal.agreed);
        agreed.map(|removal| removal.at + window).min()
    }
}

/// What one witness may take out of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) used: usize,
    pub(super) limit: usize,
}

impl Budget {
    /// The base are the servers in rotation and those that went without intent; of them the share that may go is
    /// taken, rounded down, but at least one.
    pub(super) fn new(in_rotation: usize, used: usize, guard: &config::GuardConfig) -> Self {
        let base = in_rotation + used;
        Self {
            used,
            limit: (base * usize::from(guard.max_removal_percent) / 100).max(1),
        }
    }

    pub(super) fn spare(self) -> usize {
        self.limit.saturating_sub(self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_the_rounded_share_of_those_that_are_and_those_that_went() {
        let guard = |max_removal_percent| config::GuardConfig {
            max_removal_percent,
            ..config::GuardConfig::default()
        };
        for (in_rotation, used, percent, limit, spare) in [
            (4, 0, 50, 2, 2),
            (3, 1, 50, 2, 1),
            (2, 2, 50, 2, 0),
            (3, 0, 50, 1, 1),
            (3, 0, 0, 1, 1),
            (10, 0, 100, 10, 10),
            (0, 0, 50, 1, 1),
        ] {
            let budget = Budget::new(in_rotation, used, &guard(percent));
            assert_eq!((budget.limit, budget.spare()), (limit, spare));
        }
    }
}
