//! What the log was last told of each server: decisions in, those that are news out. Pure.
//!
//! Right after a start nobody has said anything about the members, and what is decided then holds for milliseconds. It is
//! no news before an agent has answered, or has had some time to.

use std::time::{Duration, Instant};

use planner::guard::{Decision, Decisions, ServerStatus};
use planner::model::ServerKey;

/// So long an agent has for its first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// Whether anything was told yet: after that it is always what was decided last.
#[derive(Debug)]
pub(in crate::reconcile) struct Told {
    /// While no agent has answered, nothing is told until then.
    quiet_until: Option<Instant>,
}

impl Told {
    pub(in crate::reconcile) fn new(now: Instant) -> Self {
        Self {
            quiet_until: Some(now + FIRST_ANSWER),
        }
    }

    /// When what was kept back is told at the latest.
    pub(in crate::reconcile) fn deadline(&self) -> Option<Instant> {
        self.quiet_until
    }

    /// What is news in these decisions after those `before`, `heard` being whether an agent has answered; and whether
    /// anything is otherwise than it was told last, be it only that a server is no more.
    pub(in crate::reconcile) fn news(
        &mut self,
        before: &Decisions,
        decisions: &Decisions,
        heard: bool,
        now: Instant,
    ) -> (Vec<(ServerKey, ServerStatus)>, bool) {
        if self.quiet_until.is_some_and(|until| !heard && now < until) {
            return (Vec::new(), false);
        }
        let nothing = Decisions::default();
        let before = match self.quiet_until.take() {
            Some(_) => &nothing,
            None => before,
        };
        let status = |(key, decision): (&ServerKey, &Decision)| {
            let before = before.get(key).map(|before| &before.status);
            let is_news = before != Some(&decision.status);
            is_news.then(|| (key.clone(), decision.status.clone()))
        };
        let news: Vec<_> = decisions.beyond(before).filter_map(status).collect();
        let mut known = before.beyond(decisions);
        let changed = !news.is_empty() || known.any(|(key, _)| decisions.get(key).is_none());
        (news, changed)
    }
}

#[cfg(test)]
mod tests {
    use planner::guard::{Evidence, Origin, Why};
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
        let (nothing, unheard) = (Decisions::default(), decided(Some(Why::Unheard)));
        let (news, changed) = told.news(&nothing, &unheard, false, now);
        assert!(news.is_empty() && !changed);
        let (news, changed) = told.news(&unheard, &unheard, true, now);
        assert_eq!((news.len(), changed), (1, true), "it was never told");
        let proven = decided(Some(Why::Proven));
        let (news, changed) = told.news(&unheard, &proven, true, now);
        assert_eq!((news.len(), changed), (1, true));
        assert_eq!(news[0].1.why, Why::Proven);
        let (news, changed) = told.news(&proven, &proven, true, now);
        assert!(news.is_empty() && !changed);
        assert_eq!(told.deadline(), None);
    }

    #[test]
    fn where_no_agent_answers_it_is_told_after_a_while() {
        let now = Instant::now();
        let mut told = Told::new(now);
        let (until, unheard) = (told.deadline().unwrap(), decided(Some(Why::Unheard)));
        let (news, _) = told.news(&unheard, &unheard, false, until);
        assert_eq!(news[0].1.why, Why::Unheard);
    }

    #[test]
    fn that_a_server_is_no_more_changes_how_things_stand() {
        let now = Instant::now();
        let (mut told, proven) = (Told::new(now), decided(Some(Why::Proven)));
        told.news(&Decisions::default(), &proven, true, now);
        let (news, changed) = told.news(&proven, &Decisions::default(), true, now);
        assert!(news.is_empty() && changed);
    }

    #[test]
    fn who_comes_to_rest_or_wakes_up_is_news_only_by_his_status() {
        let now = Instant::now();
        let (mut told, awake) = (Told::new(now), decided(Some(Why::NotProven)));
        told.news(&Decisions::default(), &awake, true, now);
        let mut at_rest = awake.clone();
        let servers = std::mem::take(&mut at_rest.servers);
        let backend = servers.keys().next().unwrap().backend.clone();
        at_rest.resting.insert(backend, servers.into());
        for (before, decisions) in [(&awake, &at_rest), (&at_rest, &at_rest), (&at_rest, &awake)] {
            let (news, changed) = told.news(before, decisions, true, now);
            assert!(news.is_empty() && !changed);
        }
        let (news, _) = told.news(&at_rest, &decided(Some(Why::Proven)), true, now);
        assert_eq!(news.len(), 1);
        let (_, changed) = told.news(&at_rest, &Decisions::default(), true, now);
        assert!(changed, "it is no more");
    }
}
