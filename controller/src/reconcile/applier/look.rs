//! Regular looks at HAProxy: what it runs and what its checks say in, whether any of it is otherwise than it was last seen
//! out. Where it is not, nothing else has to be done, and a look is all that an idle controller costs.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use planner::model::{RunningServer, ServerStat};

use crate::haproxy::runtime::State;

/// How often HAProxy is looked at. What a look finds is said within five seconds of its beginning; a check of HAProxy's
/// needs some of them.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// What was last seen.
#[derive(Debug)]
pub(super) struct Look {
    /// When the next one is due.
    pub(super) next: Instant,
    seen: Option<u64>,
}

impl Look {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now,
            seen: None,
        }
    }

    /// Takes a reading with what the checks say; tells whether it is otherwise than the one before.
    pub(super) fn take(&mut self, state: &State, detour: bool, now: Instant) -> bool {
        self.next = now + EVERY;
        let seen = Some(digest(state, detour));
        std::mem::replace(&mut self.seen, seen) != seen
    }
}

/// Everything that matters of a reading: figures that grow with each request do not.
fn digest(state: &State, detour: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    let worker = &state.worker;
    (worker.pid, worker.start, &worker.stamp, detour).hash(&mut hasher);
    state.down.hash(&mut hasher);
    for (backend, servers) in &state.servers {
        backend.hash(&mut hasher);
        for (name, server) in servers {
            let RunningServer {
                addr,
                weight,
                admin,
                agent,
                stat,
            } = server;
            (name, addr, weight, admin, agent).hash(&mut hasher);
            let check = stat.as_ref().map(|stat| {
                let ServerStat {
                    check,
                    said,
                    maxconn,
                    cookie,
                    in_flight: _,
                    total: _,
                } = stat;
                (check, said, maxconn, cookie)
            });
            check.hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use planner::model::{Admin, Check, Version, Worker};

    use super::*;

    fn state(check: Check, total: u64) -> State {
        let stat = ServerStat {
            check,
            said: None,
            in_flight: total % 3,
            maxconn: None,
            total,
            cookie: None,
        };
        let server = RunningServer {
            addr: "10.0.0.1:80".parse().ok(),
            weight: 1,
            admin: Admin::Ready,
            agent: None,
            stat: Some(stat),
        };
        State {
            worker: Worker {
                pid: 7,
                uptime: Duration::from_secs(total),
                start: Some(1),
                version: Version { major: 3, minor: 0 },
                stamp: None,
            },
            servers: [("nodes".to_owned(), [("s1".to_owned(), server)].into())].into(),
            down: Default::default(),
        }
    }

    #[test]
    fn traffic_is_no_news_and_what_a_check_says_is() {
        let now = Instant::now();
        let mut look = Look::new(now);
        assert!(look.take(&state(Check::Up, 1), false, now), "the first");
        assert_eq!(look.next, now + EVERY);
        assert!(!look.take(&state(Check::Up, 2), false, now));
        assert!(look.take(&state(Check::Down, 2), false, now));
        assert!(!look.take(&state(Check::Down, 3), false, now));
        assert!(look.take(&state(Check::Down, 3), true, now), "a detour");
        let mut other = state(Check::Down, 3);
        other.worker.pid = 8;
        assert!(look.take(&other, true, now), "another worker");
        other.down.insert("nodes".to_owned());
        assert!(look.take(&other, true, now), "its backend is down");
    }
}
