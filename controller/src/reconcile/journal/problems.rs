//! What is wrong now: findings in, each said once when it begins and once when it is over; a list for the status out.

use std::collections::BTreeMap;

use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::printable::printable;
use crate::status::Problem;

use super::concerns::Concern;

/// What needs a person, by what it concerns.
#[derive(Clone, Debug)]
pub(in crate::reconcile) struct Problems {
    anchor: ClockAnchor,
    by_what: BTreeMap<String, Problem>,
}

impl Problems {
    /// None yet.
    pub(in crate::reconcile) fn new(anchor: ClockAnchor) -> Self {
        Self {
            anchor,
            by_what: BTreeMap::new(),
        }
    }

    /// Takes what is wrong with something, and what to do about it. It lasts from the first time that anything was wrong
    /// with it, whatever is said of it meanwhile.
    pub(in crate::reconcile) fn set(
        &mut self,
        what: &str,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let lines = problem.into();
        let lines: Vec<_> = lines.lines().map(printable).collect();
        let problem = lines.join("; ");
        let advice = printable(&advice.into()).into_owned();
        let before = self.by_what.get(what);
        if before.is_none_or(|before| before.problem != problem) {
            tracing::warn!(what, advice, "{problem}");
        }
        let since = before.map(|before| before.since);
        let since = since.unwrap_or_else(|| self.anchor.unix_secs(clock::now()));
        self.by_what.insert(
            what.to_owned(),
            Problem {
                what: what.to_owned(),
                problem,
                since,
                advice,
            },
        );
    }

    /// Takes all that is wrong of one kind, by how its names begin; what is not among it is over.
    pub(in crate::reconcile) fn set_all(&mut self, kind: &str, concerns: Vec<Concern>) {
        let of_kind = self.by_what.keys().filter(|what| what.starts_with(kind));
        let is_over = |what: &&String| !concerns.iter().any(|concern| concern.what == **what);
        let over: Vec<String> = of_kind.filter(is_over).cloned().collect();
        for what in over {
            self.clear(&what);
        }
        for Concern {
            what,
            problem,
            advice,
        } in concerns
        {
            self.set(&what, problem, advice);
        }
    }

    /// Forgets all of one kind, which is not known to be over.
    pub(in crate::reconcile) fn forget(&mut self, kind: &str) {
        self.by_what.retain(|what, _| !what.starts_with(kind));
    }

    /// Nothing is wrong with it any more.
    pub(in crate::reconcile) fn clear(&mut self, what: &str) {
        if self.by_what.remove(what).is_some() {
            tracing::info!(what, "works again");
        }
    }

    /// Whether something is wrong with it.
    pub(in crate::reconcile) fn is(&self, what: &str) -> bool {
        self.by_what.contains_key(what)
    }

    /// Whether anything of one kind is wrong.
    pub(in crate::reconcile) fn any(&self, kind: &str) -> bool {
        self.by_what.keys().any(|what| what.starts_with(kind))
    }

    /// What is wrong, the oldest first: what came later may follow from it.
    pub(in crate::reconcile) fn list(&self) -> Vec<Problem> {
        let mut list: Vec<Problem> = self.by_what.values().cloned().collect();
        list.sort_by(|a, b| (a.since, &a.what).cmp(&(b.since, &b.what)));
        list
    }

    /// The sentences alone.
    pub(in crate::reconcile) fn sentences(&self) -> Vec<String> {
        let list = self.list().into_iter();
        list.map(|problem| problem.problem).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    /// A moment that lies so many seconds back.
    fn problems(seconds_ago: u64) -> Problems {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = UNIX_EPOCH + now - Duration::from_secs(seconds_ago);
        Problems::new(ClockAnchor::new(clock::now(), at))
    }

    #[test]
    fn a_problem_lasts_from_its_beginning_whatever_is_said_of_it_meanwhile() {
        let mut problems = problems(100);
        problems.set("file", "the disk is full", "make room");
        let since = problems.list()[0].since;
        problems.anchor = ClockAnchor::now();
        problems.set("file", "the disk is gone", "bring it back");
        let list = problems.list();
        assert_eq!((list.len(), list[0].since), (1, since));
        assert_eq!(list[0].problem, "the disk is gone");
        assert_eq!(list[0].advice, "bring it back");
        problems.clear("file");
        problems.set("file", "the disk is full", "make room");
        assert!(problems.list()[0].since > since, "it began anew");
    }

    #[test]
    fn the_oldest_problem_stands_first() {
        let mut problems = problems(100);
        problems.set("haproxy", "nobody answers", "start it");
        problems.anchor = ClockAnchor::now();
        problems.set("file", "the disk is full", "make room");
        assert_eq!(problems.sentences(), ["nobody answers", "the disk is full"]);
    }
}
