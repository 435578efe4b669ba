//! Servers that have gone: the decisions of before and of now in, whom to show a while longer and why they went out. Pure.
//!
//! Whoever left or was deselected is forgotten as soon as HAProxy sends it nothing any more, which may be at once. Whoever
//! looks a minute later wants to know where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use planner::guard::{Decision, Decisions};
use planner::model::{BackendName, RunningServers, ServerKey};

/// So long they are shown after they have gone.
const SHOWN: Duration = Duration::from_secs(600);
/// So many are, the latest.
const MOST: usize = 100;

/// Those that have gone lately.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Departed {
    gone: BTreeMap<ServerKey, Gone>,
}

/// A server that has gone.
#[derive(Debug)]
pub(in crate::reconcile) struct Gone {
    /// What was last decided about it.
    pub(in crate::reconcile) last: Decision,
    pub(in crate::reconcile) at: Instant,
    /// HAProxy still has it: it cannot be deleted yet, or not before a reload.
    pub(in crate::reconcile) kept: bool,
}

impl Departed {
    /// Takes new decisions, and what HAProxy runs.
    pub(in crate::reconcile) fn take(
        &mut self,
        before: &Decisions,
        now_decided: &Decisions,
        running: &RunningServers,
        now: Instant,
    ) {
        let went = before.servers.iter().filter(|(key, decision)| {
            let goes = matches!(decision.status.state, "drain" | "leaving" | "out");
            goes && now_decided.get(key).is_none()
        });
        for (key, last) in went {
            let (last, at, kept) = (last.clone(), now, true);
            self.gone.insert(key.clone(), Gone { last, at, kept });
        }
        for (key, gone) in &mut self.gone {
            let servers = running.get(key.backend.as_str());
            gone.kept = servers.is_some_and(|servers| servers.contains_key(key.server.as_str()));
        }
        let backends: BTreeSet<&BackendName> = now_decided.budgets.keys().collect();
        self.gone.retain(|key, gone| {
            let recent = now.saturating_duration_since(gone.at) < SHOWN;
            let known = backends.contains(&key.backend) && now_decided.get(key).is_none();
            known && recent
        });
        self.shorten();
    }

    fn shorten(&mut self) {
        let mut times: Vec<Instant> = self.gone.values().map(|gone| gone.at).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(&too_old) = times.get(MOST) {
            self.gone.retain(|_, gone| gone.at > too_old);
        }
    }

    /// Who has gone lately.
    pub(in crate::reconcile) fn iter(&self) -> impl Iterator<Item = (&ServerKey, &Gone)> {
        self.gone.iter()
    }
}

#[cfg(test)]
mod tests {
    use planner::guard::{BudgetView, Evidence, Origin, ServerStatus, Why};
    use planner::model::{Endpoint, SerfStatus, Weight};

    use super::*;

    fn key(server: &str) -> ServerKey {
        ServerKey::read("nodes", server).unwrap()
    }

    fn decided(servers: &[(&str, &'static str, Why)]) -> Decisions {
        let now = Instant::now();
        let mut decisions = Decisions::default();
        let backend = key("s1").backend;
        decisions.budgets.insert(backend, BudgetView::default());
        for (name, state, why) in servers {
            let endpoint = Endpoint {
                addr: "10.0.0.1:80".parse().unwrap(),
                weight: Weight::DEFAULT,
            };
            let decision = Decision {
                endpoint,
                line: None,
                admin: None,
                status: ServerStatus {
                    state,
                    why: why.clone(),
                },
                evidence: Evidence {
                    gossip: SerfStatus::Left,
                    check: None,
                    probe: None,
                    suspected: false,
                },
                origin: Origin::Member,
                since: now,
            };
            decisions.servers.insert(key(name), decision);
        }
        decisions
    }

    fn shown(departed: &Departed) -> Vec<(String, String)> {
        let shown = departed.iter();
        shown
            .map(|(key, gone)| (key.server.to_string(), gone.last.status.why.to_string()))
            .collect()
    }

    #[test]
    fn who_has_gone_is_shown_with_the_reason_for_a_while() {
        let (mut departed, now) = (Departed::default(), Instant::now());
        let before = decided(&[
            ("s1", "leaving", Why::Leaves),
            ("s2", "drain", Why::Deselected),
            ("s3", "ready", Why::Proven),
        ]);
        let after = decided(&[("s3", "ready", Why::Proven)]);
        let running = RunningServers::new();
        departed.take(&before, &after, &running, now);
        let who = |name: &str, why: Why| (name.to_owned(), why.to_string());
        let both = [who("s1", Why::Leaves), who("s2", Why::Deselected)];
        assert_eq!(shown(&departed), both);
        departed.take(&after, &after, &running, now + SHOWN / 2);
        assert_eq!(shown(&departed), both);
        departed.take(&after, &after, &running, now + SHOWN);
        assert_eq!(shown(&departed), []);
    }

    #[test]
    fn who_is_back_is_not_shown_as_gone_and_neither_is_who_is_of_no_backend_any_more() {
        let (mut departed, now) = (Departed::default(), Instant::now());
        let before = decided(&[("s1", "leaving", Why::Leaves)]);
        let none = decided(&[]);
        let running = RunningServers::new();
        departed.take(&before, &none, &running, now);
        let back = decided(&[("s1", "waiting", Why::NotProven)]);
        departed.take(&none, &back, &running, now);
        assert_eq!(shown(&departed), []);
        departed.take(&before, &none, &running, now);
        departed.take(&none, &Decisions::default(), &running, now);
        assert_eq!(shown(&departed), []);
    }

    #[test]
    fn the_latest_are_shown_where_many_go() {
        let (mut departed, start) = (Departed::default(), Instant::now());
        let (none, running) = (decided(&[]), RunningServers::new());
        for n in 0..MOST + 50 {
            let name = format!("s{n}");
            let before = decided(&[(&name, "leaving", Why::Leaves)]);
            let now = start + Duration::from_millis(u64::try_from(n).unwrap());
            departed.take(&before, &none, &running, now);
        }
        let shown = shown(&departed);
        assert_eq!(shown.len(), MOST);
        assert!(shown.iter().any(|(name, _)| name == "s149"));
        assert!(!shown.iter().any(|(name, _)| name == "s49"));
    }
}
