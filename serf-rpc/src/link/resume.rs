//! Which lines of a log that begins anew were there before: lines in, whether each is new out. Pure.
//!
//! An agent begins with the last 512 lines of its log, each with its second. Those of a second before the last one that
//! was seen are old; of those of that second as many as were seen.

use bstr::BString;

use crate::types::LogLine;

/// An agent keeps so many lines for whoever begins to follow.
const KEPT: usize = 512;

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Resume {
    /// The last second of which there was a line.
    second: BString,
    /// The lines of that second, as many as an agent keeps.
    lines: Vec<BString>,
    /// What of that is still to come again.
    repeated: Vec<BString>,
    /// How many lines may still be old.
    old: usize,
}

impl Resume {
    /// The log begins anew.
    pub(crate) fn begin(&mut self) {
        self.repeated = self.lines.clone();
        self.old = if self.second.is_empty() { 0 } else { KEPT };
    }

    /// Whether a line is new.
    pub(crate) fn is_new(&mut self, line: &LogLine) -> bool {
        let (time, bytes) = (line.time(), line.as_bytes());
        if self.old > 0 && !time.is_empty() {
            self.old -= 1;
            if time < self.second {
                return false;
            }
            if time > self.second {
                self.old = 0;
            } else if let Some(at) = self.repeated.iter().position(|seen| seen == bytes) {
                self.repeated.swap_remove(at);
                return false;
            }
        }
        if !time.is_empty() {
            if time != self.second {
                self.second = time.to_owned();
                self.lines.clear();
            }
            if self.lines.len() < KEPT {
                self.lines.push(bytes.to_owned());
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(second: usize, text: usize) -> LogLine {
        LogLine::new(format!("2026/11/23 16:07:{second:02} [INFO] serf: {text}"))
    }

    proptest! {
        /// However often it begins anew: every line once, and in order.
        #[test]
        fn a_log_that_begins_anew_repeats_nothing_and_leaves_nothing_out(
            gaps in prop::collection::vec((0..2_usize, 0..3_usize), 1..120),
            breaks in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut second = 10;
            let written: Vec<_> = gaps
                .iter()
                .map(|(gap, text)| {
                    second = (second + gap).min(59);
                    line(second, *text)
                })
                .collect();
            let mut breaks: Vec<_> = breaks.iter().map(|at| at.index(written.len())).collect();
            breaks.sort_unstable();
            breaks.push(written.len());
            let mut resume = Resume::default();
            let mut seen = Vec::new();
            for until in breaks {
                resume.begin();
                seen.extend(written[..until].iter().filter(|line| resume.is_new(line)));
            }
            prop_assert_eq!(seen, written.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_agent_that_has_started_again_is_heard_from_its_first_line() {
        let mut resume = Resume::default();
        resume.begin();
        assert!(resume.is_new(&line(10, 1)));
        resume.begin();
        assert!(resume.is_new(&line(12, 1)));
        assert!(resume.is_new(&line(11, 1)), "its clock was set back");
    }
}
