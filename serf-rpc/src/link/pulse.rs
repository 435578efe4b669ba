//! Whether an agent still speaks: what is heard of it and the time in, when to ask it and when it is silent out. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Since when nothing was heard, and what was done about it.
#[derive(Debug)]
pub(crate) struct Pulse {
    every: Duration,
    heard: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Heard,
    Asked(Instant),
    Silent,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is to be asked something.
    Ask,
    /// It was asked and has said nothing: it is silent, since then.
    Silent(Instant),
}

impl Pulse {
    /// An agent that was heard just now, and is to be asked after so long a silence.
    pub(crate) fn new(every: Duration, now: Instant) -> Self {
        Self {
            every,
            heard: now,
            state: State::Heard,
        }
    }

    /// When something is due; never while it is silent, as nothing follows from more of that.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Heard => self.heard.checked_add(self.every),
            State::Asked(at) => at.checked_add(self.every),
            State::Silent => None,
        }
    }

    /// What is due at the deadline.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.state == State::Heard {
            self.state = State::Asked(now);
            return Due::Ask;
        }
        self.state = State::Silent;
        Due::Silent(self.heard)
    }

    /// When something was last heard.
    pub(crate) fn last(&self) -> Instant {
        self.heard
    }

    /// Something came; says whether it was silent before.
    pub(crate) fn heard(&mut self, now: Instant) -> bool {
        self.heard = now;
        std::mem::replace(&mut self.state, State::Heard) == State::Silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2);

    #[test]
    fn an_agent_is_asked_after_a_silence_and_silent_once_it_has_not_answered_for_as_long() {
        let start = Instant::now();
        let mut pulse = Pulse::new(EVERY, start);
        assert_eq!(pulse.deadline(), Some(start + EVERY));
        assert_eq!(pulse.due(start + EVERY), Due::Ask);
        assert_eq!(pulse.deadline(), Some(start + EVERY * 2));
        assert_eq!(pulse.due(start + EVERY * 2), Due::Silent(start));
        assert_eq!(pulse.deadline(), None);
        assert!(pulse.heard(start + EVERY * 3));
        assert!(!pulse.heard(start + EVERY * 3));
        assert_eq!(pulse.deadline(), Some(start + EVERY * 4));
    }

    #[test]
    fn one_that_stood_still_itself_asks_first() {
        let start = Instant::now();
        let mut pulse = Pulse::new(EVERY, start);
        let later = start + EVERY * 100;
        assert_eq!(pulse.due(later), Due::Ask);
        assert_eq!(pulse.deadline(), Some(later + EVERY));
    }

    #[test]
    fn with_an_endless_period_nobody_is_asked() {
        let pulse = Pulse::new(Duration::MAX, Instant::now());
        assert_eq!(pulse.deadline(), None);
    }
}
