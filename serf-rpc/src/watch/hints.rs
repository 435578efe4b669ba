//! What lines of the agent's log come to: lines and the time in, whether to ask for the members and whom to suspect out,
//! each no oftener than is good. Pure.
//!
//! Whoever can make the agent log chooses how many lines come. So a line is read only where it could still change
//! something, and nothing is lost by that: while a question is due, another hint at it says nothing new, and whoever is
//! really suspected is so again within a second.

use std::collections::HashMap;
use std::time::Duration;

use bstr::{BStr, BString};
use tokio::time::Instant;

use super::bucket::Bucket;
use crate::watch::log_line::{self, Hint};

/// Questions for the members at once, and a second in the long run.
const QUESTIONS: (u32, u32) = (100, 20);
/// Suspicions at once, and a second in the long run.
const SUSPICIONS: (u32, u32) = (100, 20);

/// The hints at a change that came since the last question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasons {
    /// How many were read.
    pub(crate) hints: u64,
    /// When the first of them came.
    pub(crate) first: Option<Instant>,
}

/// What was heard and not seen to yet.
#[derive(Debug)]
pub(crate) struct Hints {
    due: bool,
    reasons: Reasons,
    questions: Bucket,
    suspicions: Bucket,
    /// How long a member that was suspected is not suspected again.
    interval: Duration,
    /// Those suspected lately.
    suspected: HashMap<BString, Instant>,
}

impl Hints {
    /// None, but that nobody has been asked yet.
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            due: true,
            reasons: Reasons::default(),
            questions: Bucket::new(QUESTIONS.0, QUESTIONS.1, now),
            suspicions: Bucket::new(SUSPICIONS.0, SUSPICIONS.1, now),
            interval,
            suspected: HashMap::new(),
        }
    }

    /// The members may have changed: something hints at it.
    pub(crate) fn membership(&mut self, now: Instant) {
        self.reasons.hints += 1;
        self.reasons.first.get_or_insert(now);
        self.due = true;
    }

    /// The members are to be read again, though nothing hints at a change.
    pub(crate) fn resync(&mut self) {
        self.due = true;
    }

    /// When to ask for the members; never where nothing hints at a change.
    pub(crate) fn ask_at(&self, now: Instant) -> Option<Instant> {
        self.due.then(|| self.questions.opens_at(now))
    }

    /// They are being asked for, because of what is returned.
    pub(crate) fn asked(&mut self, now: Instant) -> Reasons {
        self.due = false;
        self.questions.take(now);
        std::mem::take(&mut self.reasons)
    }

    /// Takes a line of the log, and says whom it suspects, where that may still be said.
    pub(crate) fn line<'a>(&mut self, line: &'a [u8], now: Instant) -> Option<&'a BStr> {
        let may_suspect = self.suspicions.is_open(now);
        if self.due && !may_suspect {
            return None;
        }
        match log_line::hint(line)? {
            Hint::Membership => {
                self.membership(now);
                None
            }
            Hint::Suspicion(name) => may_suspect.then_some(name),
        }
    }

    /// Whether a member, whom a line has named, is to be suspected: it was not lately.
    pub(crate) fn suspect(&mut self, name: &BStr, now: Instant) -> bool {
        let interval = self.interval;
        let is_recent = |last: &Instant| now.duration_since(*last) < interval;
        if self.suspected.get(name).is_some_and(is_recent) {
            return false;
        }
        self.suspected.retain(|_, last| is_recent(last));
        self.suspected.insert(name.to_owned(), now);
        self.suspicions.take(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const JOIN: &[u8] = b"x [INFO] serf: EventMemberJoin: a 127.0.0.12";

    fn suspect(number: usize) -> String {
        format!("x [INFO] memberlist: Suspect s{number} has failed, no acks received")
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join,
        Suspect(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Join),
            4 => (0_usize..300).prop_map(Step::Suspect),
            2 => (0_u64..50).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// However many lines come: so many questions and suspicions, and the last hint is always asked about.
        #[test]
        fn what_lines_cost_is_bounded_and_no_change_is_lost(
            steps in prop::collection::vec(step(), 0..600),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut hints = Hints::new(INTERVAL, start);
            let (mut asked, mut suspected) = (0, 0);
            for step in steps {
                match step {
                    Step::Join => {
                        hints.line(JOIN, now);
                        prop_assert!(hints.ask_at(now).is_some(), "a hint was lost");
                    }
                    Step::Suspect(number) => {
                        let line = suspect(number);
                        let name = hints.line(line.as_bytes(), now);
                        suspected += u64::from(name.is_some_and(|name| hints.suspect(name, now)));
                    }
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                }
                if hints.ask_at(now).is_some_and(|at| at <= now) {
                    hints.asked(now);
                    asked += 1;
                }
                let at = hints.ask_at(now);
                prop_assert!(at.is_none_or(|at| at <= now + Duration::from_millis(50)));
                let most = 101 + 20 * u64::try_from((now - start).as_millis()).unwrap() / 1000;
                prop_assert!(asked <= most && suspected <= most, "{asked} {suspected} {most}");
                prop_assert!(hints.suspected.len() <= 200);
            }
        }
    }

    #[test]
    fn a_question_knows_the_hints_that_led_to_it_and_a_resync_is_none() {
        let start = Instant::now();
        let mut hints = Hints::new(INTERVAL, start);
        assert_eq!(hints.asked(start), Reasons::default(), "the first");
        let at = |millis| start + Duration::from_millis(millis);
        hints.resync();
        hints.line(JOIN, at(5));
        hints.membership(at(7));
        let reasons = Reasons {
            hints: 2,
            first: Some(at(5)),
        };
        assert_eq!(hints.asked(at(9)), reasons);
        hints.resync();
        assert_eq!(hints.asked(at(20)), Reasons::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_hint_is_asked_about_at_once_and_each_of_a_burst_is() {
        let now = Instant::now();
        let mut hints = Hints::new(INTERVAL, now);
        for _ in 0..100 {
            hints.line(JOIN, now);
            assert!(hints.ask_at(now).is_some_and(|at| at <= now));
            hints.asked(now);
            assert_eq!(hints.ask_at(now), None);
        }
        hints.line(JOIN, now);
        assert_eq!(hints.ask_at(now), Some(now + Duration::from_millis(50)));
    }

    #[test]
    fn a_member_is_suspected_once_in_an_interval() {
        let now = Instant::now();
        let mut hints = Hints::new(INTERVAL, now);
        let line = suspect(1);
        let name = hints.line(line.as_bytes(), now).unwrap();
        assert!(hints.suspect(name, now));
        assert!(!hints.suspect(name, now + INTERVAL / 2));
        assert!(hints.suspect(name, now + INTERVAL));
    }
}
