//! What an agent can be made to do: typed settings, switchable while it runs.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;

/// How an agent answers and what becomes of its hints; that of a sound one unless set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// What it says when it is asked for the members.
    pub members: MembersAnswer,
    /// How old each answer is when it is sent: a random time between these.
    pub answer_after: (Duration, Duration),
    /// Writes at most so many bytes at a time.
    pub chunk: Option<NonZeroUsize>,
    /// What becomes of lines of its log on their way to monitors.
    pub lines: Delivery,
    /// What becomes of events, once coalesced, on their way to streams.
    pub events: Delivery,
    /// So many records come for a stream or monitor after its `stop` was confirmed.
    pub late_records: usize,
}

/// What an agent says when it is asked for the members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MembersAnswer {
    /// All of them, in the order of their names.
    #[default]
    Whole,
    /// All of them, in random order.
    Shuffled,
    /// Nobody, not even itself.
    Empty,
    /// At most so many, chosen at random.
    Partial(usize),
    /// All of them twice, in random order.
    Repeated,
}

/// What becomes of lines or events between their origin and those who read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// So many of a hundred never come.
    pub lost_percent: u8,
    /// So many of a hundred come twice.
    pub repeated_percent: u8,
    /// Each comes later by a random time between these, so that they overtake each other.
    pub delay: (Duration, Duration),
}

impl Delivery {
    /// Nothing comes.
    pub const NONE: Self = Self {
        lost_percent: 100,
        repeated_percent: 0,
        delay: (Duration::ZERO, Duration::ZERO),
    };

    /// After how long each copy of one item comes; none at all where it is lost.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Vec<Duration> {
        if rng.u8(..100) < self.lost_percent {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.u8(..100) < self.repeated_percent);
        (0..copies).map(|_| between(self.delay, rng)).collect()
    }
}

/// What goes wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is closed, as by the end of the process.
    Close,
    /// It is reset (RST): what is on its way is lost with it.
    Reset,
    /// The agent's direction ends (FIN). Requests are still read, and answered by nothing.
    HalfClose,
    /// Requests are still read, and nothing is said any more.
    Mute,
    /// Nothing is read and nothing said any more, as under SIGSTOP.
    Hang,
    /// These bytes come in between.
    Garbage(Bytes),
}

impl Fault {
    /// Bytes that begin no msgpack value.
    #[must_use]
    pub fn garbage() -> Self {
        Self::Garbage(Bytes::from_static(&[0xc1; 8]))
    }
}

/// A fault that waits for an answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trap {
    pub(super) command: String,
    /// After so many bytes of the answer.
    pub(super) after: usize,
    pub(super) fault: Fault,
}

/// A random time between two, both included.
pub(super) fn between(
    (shortest, longest): (Duration, Duration),
    rng: &mut fastrand::Rng,
) -> Duration {
    let spread = longest.saturating_sub(shortest);
    shortest + spread.mul_f64(rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_lost_repeated_and_delayed_as_was_asked_for() {
        let mut rng = fastrand::Rng::with_seed(7);
        let sound = Delivery::default();
        assert_eq!(sound.draw(&mut rng), [Duration::ZERO]);
        assert!((0..1000).all(|_| Delivery::NONE.draw(&mut rng).is_empty()));
        let bad = Delivery {
            lost_percent: 20,
            repeated_percent: 50,
            delay: (Duration::from_millis(1), Duration::from_millis(3)),
        };
        let drawn: Vec<_> = (0..10_000).map(|_| bad.draw(&mut rng)).collect();
        let of = |copies: usize| drawn.iter().filter(|draw| draw.len() == copies).count();
        assert!((1700..2300).contains(&of(0)), "{}", of(0));
        assert!((3700..4300).contains(&of(2)), "{}", of(2));
        let delays = drawn.iter().flatten();
        assert!(
            delays
                .clone()
                .all(|delay| (1..=3).contains(&delay.as_millis()))
        );
        assert!(
            delays
                .clone()
                .any(|delay| *delay > Duration::from_millis(2))
        );
    }
}
