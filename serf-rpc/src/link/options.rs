//! Which agents to be connected with, and how: addresses and choices in, the pauses between attempts out.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::client::ConnectOptions;
use crate::error::{ConnectError, WatchError};

/// The agents that a [`ManagedClient`](crate::ManagedClient) or a [`Watcher`](crate::Watcher) keeps a connection with
/// one of, and how.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    pub(crate) agents: Vec<ConnectOptions>,
    pub(crate) retry: (Duration, Duration),
    pub(crate) pulse: Duration,
    pub(crate) keeps_trying: bool,
}

impl LinkOptions {
    /// The agents to try, in this order; after the loss of one the next, and after the last the first.
    pub fn new(agents: impl IntoIterator<Item = ConnectOptions>) -> Self {
        Self {
            agents: agents.into_iter().collect(),
            retry: (Duration::from_millis(50), Duration::from_secs(2)),
            pulse: Duration::from_secs(2),
            keeps_trying: false,
        }
    }

    /// The shortest and the longest pause before all agents are tried again, or the next one after a loss; 50 ms and 2 s
    /// unless set. It doubles from one to the other, and starts anew after a connection that lasted longer than the
    /// longest pause.
    #[must_use]
    pub fn retry(mut self, shortest: Duration, longest: Duration) -> Self {
        self.retry = (shortest, longest.max(shortest));
        self
    }

    /// Notices an agent that stands still: where nothing was heard of it for so long, it is asked something small, and
    /// where it has not answered after as long again it is [`AgentState::Silent`](crate::AgentState::Silent), and given
    /// up for the next agent where there is one. 2 s unless set, so an agent that hangs is noticed after 4 s. The
    /// connection with the only one is kept, until a call has no reply in its own time.
    ///
    /// An agent that prunes a member which is alive is silent for 6 s.
    #[must_use]
    pub fn pulse(mut self, period: Duration) -> Self {
        self.pulse = period;
        self
    }

    /// Goes on for ever, even if each agent refuses in a way that must fail again: an address that is none, a key that is
    /// wrong ([`ConnectError::is_permanent`](crate::ConnectError::is_permanent)). Unless set, that is the end.
    #[must_use]
    pub fn keep_trying(mut self) -> Self {
        self.keeps_trying = true;
        self
    }

    /// There is no runtime to be connected in.
    pub(crate) fn no_runtime(&self) -> WatchError {
        let addr = |agent: &ConnectOptions| agent.addr().to_owned();
        match self.agents.first().map(addr) {
            Some(addr) => ConnectError::NoRuntime { addr }.into(),
            None => WatchError::NoAgents,
        }
    }

    /// The pauses between attempts, one after the other.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let (shortest, longest) = self.retry;
        // As much again is added at most.
        let last = shortest.max(longest / 2);
        let doubled = move |pause: &Duration| Some(pause.saturating_mul(2).min(last));
        std::iter::successors(Some(shortest), doubled)
            .map(move |pause| pause.saturating_add(up_to(pause)).min(longest))
    }
}

/// A random time up to that.
pub(crate) fn up_to(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    let per_mille = u32::try_from(random % 1001).unwrap_or_default();
    most.saturating_mul(per_mille) / 1000
}

impl From<ConnectOptions> for LinkOptions {
    fn from(agent: ConnectOptions) -> Self {
        Self::new([agent])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_the_shortest_to_the_longest_and_stay_there() {
        let (shortest, longest) = (Duration::from_millis(50), Duration::from_secs(2));
        let options = LinkOptions::new([]).retry(shortest, longest);
        let pauses: Vec<_> = options.pauses().take(30).collect();
        assert!(
            pauses[0] >= shortest && pauses[0] <= shortest * 2,
            "{pauses:?}"
        );
        assert!(
            pauses
                .iter()
                .all(|pause| (shortest..=longest).contains(pause))
        );
        assert!(
            pauses[10..].iter().all(|pause| *pause >= longest / 2),
            "{pauses:?}"
        );
        let starts: Vec<_> = (0..50).filter_map(|_| options.pauses().next()).collect();
        assert!(starts.iter().any(|start| *start != starts[0]), "in step");
    }
}
