//! What to watch, and how.

use std::time::Duration;

use crate::client::ConnectOptions;
use crate::link::LinkOptions;
use crate::link::options::up_to;

use super::Snapshot;

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    pub(crate) link: LinkOptions,
    pub(crate) resync: Duration,
    pub(crate) seed: Snapshot,
    pub(crate) suspicion_interval: Duration,
}

impl WatchOptions {
    /// The agents to try, in this order; after the loss of one the next, and after the last the first.
    pub fn new(agents: impl IntoIterator<Item = ConnectOptions>) -> Self {
        LinkOptions::new(agents).into()
    }

    /// How long to go without asking, if nothing hints at a change; 10 s unless set, varied by a
    /// tenth so that watchers do not ask in step.
    #[must_use]
    pub fn resync(mut self, period: Duration) -> Self {
        self.resync = period;
        self
    }

    /// The snapshot to begin with, for instance one [`restored`](Snapshot::restored).
    #[must_use]
    pub fn seed(mut self, snapshot: Snapshot) -> Self {
        self.seed = snapshot;
        self
    }

    /// [`LinkOptions::retry`].
    #[must_use]
    pub fn retry(mut self, shortest: Duration, longest: Duration) -> Self {
        self.link = self.link.retry(shortest, longest);
        self
    }

    /// How long a member that was suspected is not suspected again; 1 s unless set.
    #[must_use]
    pub fn suspicion_interval(mut self, interval: Duration) -> Self {
        self.suspicion_interval = interval;
        self
    }

    /// [`LinkOptions::pulse`]: an agent that hangs is noticed after twice this time, 4 s unless set.
    #[must_use]
    pub fn pulse(mut self, period: Duration) -> Self {
        self.link = self.link.pulse(period);
        self
    }

    /// [`LinkOptions::keep_trying`].
    #[must_use]
    pub fn keep_trying(mut self) -> Self {
        self.link = self.link.keep_trying();
        self
    }

    /// How long to wait this time without a hint.
    pub(crate) fn resync_period(&self) -> Duration {
        let tenth = self.resync / 10;
        self.resync
            .saturating_sub(tenth)
            .saturating_add(up_to(tenth.saturating_mul(2)))
    }
}

impl From<LinkOptions> for WatchOptions {
    fn from(link: LinkOptions) -> Self {
        Self {
            link,
            resync: Duration::from_secs(10),
            seed: Snapshot::default(),
            suspicion_interval: Duration::from_secs(1),
        }
    }
}

impl From<ConnectOptions> for WatchOptions {
    fn from(agent: ConnectOptions) -> Self {
        Self::new([agent])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resyncs_vary_by_a_tenth() {
        let options = WatchOptions::new([]).resync(Duration::from_secs(10));
        let periods: Vec<_> = (0..100).map(|_| options.resync_period()).collect();
        let range = Duration::from_secs(9)..=Duration::from_secs(11);
        assert!(
            periods.iter().all(|period| range.contains(period)),
            "{periods:?}"
        );
        assert!(
            periods.iter().any(|period| *period != periods[0]),
            "in step"
        );
    }
}
