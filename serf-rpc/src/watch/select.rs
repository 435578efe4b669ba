//! The members that are of use, as a set that changes: snapshots and a choice in; who comes, changes and goes out.

use std::collections::btree_map::{BTreeMap, Entry as Slot};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bstr::{BString, ByteSlice};
use tokio::time::sleep;

use crate::link::Latest;

use super::membership::{Entry, Presence, Snapshot};

/// How often a choice is made anew while members are absent: theirs may depend on for how long.
const AGAIN: Duration = Duration::from_secs(1);

/// A difference of a set of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetChange<V> {
    /// A member that was not in the set, or stands for another value now.
    Insert(BString, V),
    /// It is not in the set any more.
    Remove(BString),
}

/// The members that somebody chooses, as a set that changes; see [`Watcher::select`](crate::Watcher::select).
pub struct Selection<V> {
    snapshots: Latest<Snapshot>,
    choose: Choose<V>,
    chosen: BTreeMap<BString, V>,
    changes: VecDeque<SetChange<V>>,
    begun: bool,
    some_absent: bool,
}

/// What a member stands for, if it is chosen.
type Choose<V> = Box<dyn Fn(&Entry) -> Option<V> + Send + Sync>;

impl<V: Clone + PartialEq> Selection<V> {
    pub(crate) fn new(snapshots: Latest<Snapshot>, choose: Choose<V>) -> Self {
        Self {
            snapshots,
            choose,
            chosen: BTreeMap::new(),
            changes: VecDeque::new(),
            begun: false,
            some_absent: false,
        }
    }

    /// The next change; none once the watcher has ended, which leaves the set as it is.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<SetChange<V>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Some(change);
            }
            let snapshot = if self.begun {
                tokio::select! {
                    biased;
                    snapshot = self.snapshots.next() => snapshot?,
                    () = sleep(AGAIN), if self.some_absent => self.snapshots.latest(),
                }
            } else {
                self.begun = true;
                self.snapshots.latest()
            };
            self.compare(&snapshot);
        }
    }

    fn compare(&mut self, snapshot: &Snapshot) {
        let entries = snapshot.entries();
        self.some_absent = entries
            .iter()
            .any(|entry| matches!(entry.presence, Presence::Absent { .. }));
        let now: BTreeMap<BString, V> = entries
            .iter()
            .filter_map(|entry| Some((entry.member.name().to_owned(), (self.choose)(entry)?)))
            .collect();
        let gone: BTreeSet<BString> = self
            .chosen
            .keys()
            .filter(|name| !now.contains_key(name.as_bstr()))
            .cloned()
            .collect();
        for name in gone {
            self.chosen.remove(&name);
            self.changes.push_back(SetChange::Remove(name));
        }
        for (name, value) in now {
            match self.chosen.entry(name.clone()) {
                Slot::Occupied(same) if *same.get() == value => continue,
                Slot::Occupied(mut other) => drop(other.insert(value.clone())),
                Slot::Vacant(place) => drop(place.insert(value.clone())),
            }
            self.changes.push_back(SetChange::Insert(name, value));
        }
    }

    /// The changes as a load balancer of `tower` takes them (`tower::discover::Discover`).
    #[cfg(feature = "discover")]
    pub fn into_discover(
        self,
    ) -> impl futures_util::Stream<
        Item = Result<tower::discover::Change<BString, V>, std::convert::Infallible>,
    > + Send
    where
        V: Send + Sync + 'static,
    {
        futures_util::stream::unfold(self, |mut selection| async {
            let change = match selection.next().await? {
                SetChange::Insert(name, value) => tower::discover::Change::Insert(name, value),
                SetChange::Remove(name) => tower::discover::Change::Remove(name),
            };
            Some((Ok(change), selection))
        })
    }
}

impl<V> fmt::Debug for Selection<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selection")
            .field("chosen", &self.chosen.len())
            .finish_non_exhaustive()
    }
}
