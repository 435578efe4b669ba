//! What of the servers needs a person: decisions, what HAProxy runs and who cannot be used in; problems with advice out.
//! Pure.
//!
//! A backend that serves nobody is a problem where somebody is to serve. One without any member is none: it becomes empty
//! by intent only, as nobody has joined yet or all have left, and whoever fails stays listed until then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use planner::guard::{Decision, Decisions, Why};
use planner::model::{BackendName, DownBackends, SerfStatus, ServerKey, Weight};
use planner::services::{Book, Unrouted};

/// A backend that serves nobody for no longer than this is about to: its servers are asked for the first time.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long a member may name the address of another: where servers are replaced by others under new names, Serf takes up to
/// half a minute to give up the old ones.
const OVERLAP: Duration = Duration::from_secs(60);
/// So many are named.
const NAMED: usize = 3;

/// Something to be said of a backend or of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reconcile) struct Concern {
    /// What it concerns, beginning with the kind: `backend nodes`.
    pub(in crate::reconcile) what: String,
    pub(in crate::reconcile) problem: String,
    pub(in crate::reconcile) advice: String,
}

/// Since when backends have served nobody.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Unserved(BTreeMap<BackendName, Instant>);

impl Unserved {
    /// Takes how things stand; says which backends have served nobody for a while. `said` is what went wrong with the
    /// checks.
    pub(in crate::reconcile) fn look(
        &mut self,
        decisions: &Decisions,
        down: &DownBackends,
        said: &BTreeMap<ServerKey, String>,
        now: Instant,
    ) -> Vec<Concern> {
        let wanting = |backend: &BackendName| down.contains(backend.as_str());
        let all = decisions.all().filter(|(key, _)| wanting(&key.backend));
        let wanted = of_backends(all, serves_by_intent);
        self.0.retain(|backend, _| wanted.contains_key(backend));
        let mut concerns = Vec::new();
        for (backend, servers) in wanted {
            let since = *self.0.entry(backend.clone()).or_insert(now);
            if now >= since + PATIENCE {
                concerns.push(unserved(backend, &servers, said));
            }
        }
        concerns
    }

    /// When time alone makes another backend a problem.
    pub(in crate::reconcile) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.0.values().map(|since| *since + PATIENCE)
    }
}

/// Whether the server is to take requests: it is not out because somebody asked for that, and does not leave.
fn serves_by_intent(decision: &Decision) -> bool {
    let there = matches!(decision.status.state, "ready" | "down" | "waiting" | "out");
    there && decision.status.why != Why::AskedFor
}

fn of_backends<'a>(
    decisions: impl IntoIterator<Item = (&'a ServerKey, &'a Decision)>,
    such: impl Fn(&Decision) -> bool,
) -> BTreeMap<&'a BackendName, Vec<(&'a ServerKey, &'a Decision)>> {
    let mut backends: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, decision) in decisions.into_iter().filter(|(_, it)| such(it)) {
        backends
            .entry(&key.backend)
            .or_default()
            .push((key, decision));
    }
    backends
}

fn unserved(
    backend: &BackendName,
    servers: &[(&ServerKey, &Decision)],
    said: &BTreeMap<ServerKey, String>,
) -> Concern {
    let count = |state| {
        let such = servers.iter().filter(|(_, it)| it.status.state == state);
        such.count()
    };
    let weightless = |(_, it): &&(&ServerKey, &Decision)| {
        it.status.state == "ready" && it.endpoint.weight == Weight::ZERO
    };
    let weightless = servers.iter().filter(weightless).count();
    let states = [
        (count("down"), "down by HAProxy's check"),
        (count("waiting"), "not answering yet"),
        (count("out"), "dead"),
        (weightless, "in rotation with a weight of 0"),
        (count("ready") - weightless, "in rotation without an answer"),
    ];
    let states = states.iter().filter(|(count, _)| *count > 0);
    let states: Vec<String> = states
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    let says = servers.iter().find_map(|(key, _)| {
        let said = said.get(key)?;
        Some(format!("; HAProxy's check of {}: {said}", key.server))
    });
    Concern {
        what: format!("backend {backend}"),
        problem: format!(
            "backend {backend} serves nobody: of its {} {}",
            servers_of(servers.len()),
            states.join(", ")
        ),
        advice: format!(
            "look after the web servers: each is back as soon as it answers{}",
            says.unwrap_or_default()
        ),
    }
}

/// The servers that the guard holds in rotation.
pub(in crate::reconcile) fn held(decisions: &Decisions) -> Vec<Concern> {
    let held = of_backends(&decisions.servers, |it| it.status.why.is_held());
    let held = held.into_iter();
    held.map(|(backend, servers)| {
        let names: Vec<String> = servers
            .iter()
            .map(|(key, _)| key.server.to_string())
            .collect();
        let why = servers.first().map(|(_, first)| &first.status.why);
        Concern {
            what: format!("held {backend}"),
            problem: format!(
                "{} of backend {backend} {} held in rotation ({}): {}",
                servers_of(servers.len()),
                if servers.len() == 1 { "is" } else { "are" },
                some(&names),
                why.map(ToString::to_string)
                    .unwrap_or_default()
                    .trim_start_matches("held: ")
            ),
            advice: format!(
                "look after their hosts and Serf agents; if they are to go, `serf-haproxy approve {backend}` lets them"
            ),
        }
    })
    .collect()
}

/// Members that have waited for long because another serves at their address.
pub(in crate::reconcile) fn doubled(decisions: &Decisions, now: Instant) -> Vec<Concern> {
    let long = |it: &Decision| {
        let named = matches!(it.status.why, Why::AddressTaken(_));
        named && it.evidence.gossip == SerfStatus::Alive && now >= it.since + OVERLAP
    };
    let doubled = of_backends(&decisions.servers, long).into_iter();
    doubled
        .map(|(backend, servers)| {
            let name = |(key, it): &(&ServerKey, &Decision)| match &it.status.why {
                Why::AddressTaken(by) => format!("{} that of {by}", key.server),
                _ => key.server.to_string(),
            };
            let names: Vec<String> = servers.iter().map(name).collect();
            Concern {
                what: format!("doubled {backend}"),
                problem: format!(
                    "in backend {backend} members name the addresses of others, and wait: {}",
                    some(&names)
                ),
                advice: "whoever served there first goes on; take the tag off the other member, or end its agent"
                    .to_owned(),
            }
        })
        .collect()
}

/// Members that answer and wait, as the backend has as many servers as it may.
pub(in crate::reconcile) fn crowded(decisions: &Decisions) -> Vec<Concern> {
    let full = of_backends(decisions.all(), |it| matches!(it.status.why, Why::Full(_))).into_iter();
    full.map(|(backend, servers)| {
        let most = servers.iter().find_map(|(_, it)| match it.status.why {
            Why::Full(most) => Some(most),
            _ => None,
        });
        let names = servers.iter().take(NAMED).map(|(key, _)| key.server.to_string());
        let names: Vec<String> = names.chain(more(servers.len())).collect();
        Concern {
            what: format!("crowded {backend}"),
            problem: format!(
                "{} of backend {backend} answer and get no place, for max_servers = {} are in rotation: {}",
                servers_of(servers.len()),
                most.unwrap_or_default(),
                names.join(", ")
            ),
            advice: format!(
                "if they are yours, raise `max_servers` in the guard of backend {backend}; else end their agents"
            ),
        }
    })
    .collect()
}

/// What members disagree about, and the services that get no requests as others have them.
pub(in crate::reconcile) fn disputed(
    services: &Book,
    unrouted: &BTreeMap<BackendName, Unrouted>,
) -> Vec<Concern> {
    let mut concerns = Vec::new();
    for (name, service) in services.iter() {
        let disputes = service.disputes.iter().map(ToString::to_string);
        let clash = unrouted.get(name).filter(|why| why.is_dispute());
        let clash = clash.map(|why| format!("it gets no requests: {why}"));
        let said: Vec<String> = disputes.chain(clash).collect();
        if !said.is_empty() {
            concerns.push(Concern {
                what: format!("service {name}"),
                problem: format!("of service {name} {}", said.join("; ")),
                advice:
                    "make the tags of its members say the same, and of no other's host and path"
                        .to_owned(),
            });
        }
    }
    concerns
}

/// The members that a rule picks and that cannot be used.
pub(in crate::reconcile) fn unusable(quarantined: &BTreeMap<String, String>) -> Vec<Concern> {
    if quarantined.is_empty() {
        return Vec::new();
    }
    let reasons: Vec<String> = quarantined
        .iter()
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    let several = reasons.len() > 1;
    vec![Concern {
        what: "members".to_owned(),
        problem: format!(
            "{} cannot be used: {}",
            if several {
                format!("{} members", reasons.len())
            } else {
                "a member".to_owned()
            },
            reasons
                .iter()
                .take(NAMED)
                .cloned()
                .chain(more(reasons.len()))
                .collect::<Vec<_>>()
                .join("; ")
        ),
        advice: "mend its tags or its name on its own host, or the rule of the backend here; nobody else is affected"
            .to_owned(),
    }]
}

fn servers_of(count: usize) -> String {
    format!("{count} server{}", if count == 1 { "" } else { "s" })
}

fn more(count: usize) -> Option<String> {
    (count > NAMED).then(|| format!("and {} more", count - NAMED))
}

fn some(names: &[String]) -> String {
    let some = names.iter().take(NAMED).cloned();
    some.chain(more(names.len())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use planner::guard::{Evidence, Held, Origin, ServerStatus};
    use planner::model::{Endpoint, ServerName};

    use super::*;

    fn key(server: &str) -> ServerKey {
        ServerKey::read("nodes", server).unwrap()
    }

    fn decided(servers: &[(&str, &'static str, Why)]) -> Decisions {
        let mut decisions = Decisions::default();
        for (name, state, why) in servers {
            let why = why.clone();
            let decision = Decision {
                endpoint: Endpoint {
                    addr: "10.0.0.1:80".parse().unwrap(),
                    weight: Weight::DEFAULT,
                },
                line: None,
                admin: None,
                status: ServerStatus { state, why },
                evidence: Evidence {
                    gossip: SerfStatus::Alive,
                    check: None,
                    probe: None,
                    suspected: false,
                },
                origin: Origin::Member,
                since: Instant::now(),
            };
            decisions.servers.insert(key(name), decision);
        }
        decisions
    }

    #[test]
    fn a_backend_that_haproxy_has_down_is_a_problem_after_a_moment_and_over_at_once() {
        let (mut unserved, now) = (Unserved::default(), Instant::now());
        let said = [(key("s2"), "L4CON: connection failed".to_owned())].into();
        let servers = decided(&[
            ("s1", "waiting", Why::NotProven),
            ("s2", "down", Why::CheckedDown),
        ]);
        let down: DownBackends = ["nodes".to_owned()].into();
        assert_eq!(unserved.look(&servers, &down, &said, now), []);
        assert_eq!(unserved.deadlines().next(), Some(now + PATIENCE));
        let concerns = unserved.look(&servers, &down, &said, now + PATIENCE);
        assert_eq!(concerns.len(), 1);
        assert_eq!(concerns[0].what, "backend nodes");
        assert_eq!(
            concerns[0].problem,
            "backend nodes serves nobody: of its 2 servers 1 down by HAProxy's check, 1 not answering yet"
        );
        assert!(
            concerns[0]
                .advice
                .ends_with("of s2: L4CON: connection failed"),
            "{concerns:?}"
        );
        let up = DownBackends::new();
        assert_eq!(unserved.look(&servers, &up, &said, now + PATIENCE), []);
        assert_eq!(unserved.deadlines().next(), None);
    }

    #[test]
    fn a_backend_that_nobody_is_to_serve_is_no_problem() {
        let (mut unserved, now) = (Unserved::default(), Instant::now());
        let down: DownBackends = ["nodes".to_owned()].into();
        for servers in [
            decided(&[]),
            decided(&[("s1", "maint", Why::AskedFor)]),
            decided(&[("s1", "leaving", Why::Leaves)]),
        ] {
            for at in [now, now + PATIENCE * 2] {
                let concerns = unserved.look(&servers, &down, &BTreeMap::new(), at);
                assert_eq!(concerns, []);
            }
        }
    }

    #[test]
    fn who_is_held_is_named_with_the_way_to_let_him_go() {
        let limit = 2;
        let why = || Why::Held(Held::Split { given_up: 4, limit });
        let servers = decided(&[
            ("s1", "ready", why()),
            ("s2", "ready", why()),
            ("s3", "ready", why()),
            ("s4", "down", why()),
            ("s5", "ready", Why::Proven),
        ]);
        let concerns = held(&servers);
        assert_eq!(concerns.len(), 1);
        assert!(
            concerns[0].problem.starts_with(
                "4 servers of backend nodes are held in rotation (s1, s2, s3, and 1 more)"
            ),
            "{concerns:?}"
        );
        assert!(concerns[0].advice.contains("`serf-haproxy approve nodes`"));
        assert_eq!(held(&decided(&[("s1", "ready", Why::Unheard)])), []);
    }

    #[test]
    fn who_names_the_address_of_another_is_a_problem_after_a_while() {
        let by = ServerName::new("s1").unwrap();
        let servers = decided(&[
            ("a1", "waiting", Why::AddressTaken(by)),
            ("s1", "ready", Why::Proven),
        ]);
        let now = Instant::now();
        assert_eq!(doubled(&servers, now), []);
        let concerns = doubled(&servers, now + OVERLAP);
        assert_eq!(
            concerns[0].problem,
            "in backend nodes members name the addresses of others, and wait: a1 that of s1"
        );
    }

    #[test]
    fn a_backend_without_any_weight_says_so() {
        let mut servers = decided(&[("s1", "ready", Why::Proven)]);
        for decision in servers.servers.values_mut() {
            decision.endpoint.weight = Weight::ZERO;
        }
        let all: Vec<_> = servers.servers.iter().collect();
        let concern = unserved(&key("s1").backend, &all, &BTreeMap::new());
        assert_eq!(
            concern.problem,
            "backend nodes serves nobody: of its 1 server 1 in rotation with a weight of 0"
        );
    }

    #[test]
    fn members_that_cannot_be_used_are_named_up_to_a_few() {
        assert_eq!(unusable(&BTreeMap::new()), []);
        let many = (0..9).map(|n| (format!("nodes/s{n}"), "it has no address".to_owned()));
        let concerns = unusable(&many.collect());
        assert_eq!(
            concerns[0].problem,
            "9 members cannot be used: nodes/s0: it has no address; nodes/s1: it has no address; \
             nodes/s2: it has no address; and 6 more"
        );
    }

    #[test]
    fn who_answers_and_finds_no_place_is_told_with_the_way_out() {
        let names: Vec<String> = (1..=9).map(|number| format!("m{number}")).collect();
        let mut servers: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), "waiting", Why::Full(1000)))
            .collect();
        servers.push(("m0", "waiting", Why::NotProven));
        let concerns = crowded(&decided(&servers));
        let [concern] = concerns.as_slice() else {
            panic!("{concerns:?}")
        };
        assert_eq!(
            concern.problem,
            "9 servers of backend nodes answer and get no place, for max_servers = 1000 are in rotation: m1, m2, m3, and 6 more"
        );
        assert!(concern.advice.contains("max_servers"), "{concern:?}");
    }
}
