//! What the log was last told of each server: decisions in, those that are news out. Pure.
//!
//! Right after a start nobody has said anything about the members, and what is decided then holds for milliseconds. It is
//! no news before an agent has answered, or has had some time to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use planner::guard::{Decisions, ServerStatus};
use planner::model::ServerKey;

/// So long an agent has for its first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// What was told.
#[derive(Debug)]
pub(in crate::reconcile) struct Told {
    servers: BTreeMap<ServerKey, ServerStatus>,
    /// While no agent has answered, nothing is told until then.
    quiet_until: Option<Instant>,
}

impl Told {
    pub(in crate::reconcile) fn new(now: Instant) -> Self {
        Self {
            servers: BTreeMap::new(),
            quiet_until: Some(now + FIRST_ANSWER),
        }
    }

    /// When what was kept back is told at the latest.
    pub(in crate::reconcile) fn deadline(&self) -> Option<Instant> {
        self.quiet_until
    }

    /// What is news in these decisions, `heard` being whether an agent has answered; and whether anything is otherwise
    /// than it was told last, be it only that a server is no more.
    pub(in crate::reconcile) fn news(
        &mut self,
        decisions: &Decisions,
        heard: bool,
        now: Instant,
    ) -> (Vec<(ServerKey, ServerStatus)>, bool) {
        if self.quiet_until.is_some_and(|until| !heard && now < until) {
            return (Vec::new(), false);
        }
        self.quiet_until = None;
        let before = self.servers.len();
        self.servers
            .retain(|key, _| decisions.servers.contains_key(key));
        let went = self.servers.len() < before;
        let mut news = Vec::new();
        for (key, decision) in &decisions.servers {
            let status = &decision.status;
            if self.servers.get(key) != Some(status) {
                self.servers.insert(key.clone(), status.clone());
                news.push((key.clone(), status.clone()));
            }
        }
        let changed = went || !news.is_empty();
        (news, changed)
    }
}

#[cfg(test)]
mod tests {
    use planner::guard::{Decision, Evidence, Origin, Why};
    use planner::model::{Endpoint, SerfStatus, Weight};

    use super::*;

    fn decided(why: Option<Why>) -> Decisions {
        let decision = |why| Decision {
            endpoint: Endpoint {
                addr: "10.0.0.1:80".parse().unwrap(),
                weight: Weight::DEFAULT,
            },
            line: None,
            admin: None,
            status: ServerStatus {
                state: "ready",
                why,
            },
            evidence: Evidence {
                gossip: SerfStatus::Absent,
                check: None,
                probe: None,
                suspected: false,
            },
            origin: Origin::Before,
            since: Instant::now(),
        };
        let key = ServerKey::read("nodes", "s1").unwrap();
        Decisions {
            servers: why.map(|why| (key, decision(why))).into_iter().collect(),
            ..Decisions::default()
        }
    }

    #[test]
    fn what_is_decided_before_the_first_answer_is_not_told() {
        let now = Instant::now();
        let mut told = Told::new(now);
        let (news, changed) = told.news(&decided(Some(Why::Unheard)), false, now);
        assert!(news.is_empty() && !changed);
        let (news, changed) = told.news(&decided(Some(Why::Proven)), true, now);
        assert_eq!((news.len(), changed), (1, true));
        assert_eq!(news[0].1.why, Why::Proven);
        let (news, changed) = told.news(&decided(Some(Why::Proven)), true, now);
        assert!(news.is_empty() && !changed);
        assert_eq!(told.deadline(), None);
    }

    #[test]
    fn where_no_agent_answers_it_is_told_after_a_while() {
        let now = Instant::now();
        let mut told = Told::new(now);
        let until = told.deadline().unwrap();
        let (news, _) = told.news(&decided(Some(Why::Unheard)), false, until);
        assert_eq!(news[0].1.why, Why::Unheard);
    }

    #[test]
    fn that_a_server_is_no_more_changes_how_things_stand() {
        let now = Instant::now();
        let mut told = Told::new(now);
        told.news(&decided(Some(Why::Proven)), true, now);
        let (news, changed) = told.news(&decided(None), true, now);
        assert!(news.is_empty() && changed);
    }
}
