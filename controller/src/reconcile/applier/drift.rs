//! Drift: steps that nothing of ours called for in, whether to take them and what was different out. Pure.
//!
//! Once a plan was empty, or carried out whole, everything is as it should be; a step that comes then, for the same
//! text, the same admin states and the same worker, repairs what another hand did. A repair that does not hold three times leads to one reload,
//! and from then on the repairs come less and less often.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use planner::model::{Action, Admin, RunningServers, ServerKey, Step, WantedAdmins, Worker};
use planner::stamp::Stamp;

use crate::reconcile::retry::Retry;

/// So many repairs of one server that do not hold lead to a reload.
pub(super) const REPAIRS: u32 = 3;
/// A server that stays so many drift intervals as it should be has been repaired.
const HELD: u32 = 3;

/// What is known of another hand.
#[derive(Debug, Default)]
pub(super) struct Drift {
    settled: Option<Settled>,
    /// The last repair, while it is not known to hold.
    repair: Option<Repair>,
    retry: Retry,
}

/// A moment at which nothing was left to be done.
#[derive(Debug)]
struct Settled {
    worker: Worker,
    stamp: Stamp,
    admins: WantedAdmins,
    servers: BTreeSet<ServerKey>,
}

#[derive(Debug)]
struct Repair {
    server: ServerKey,
    at: Instant,
    /// So many in a row.
    count: u32,
    /// What was done since the plan was last empty. A step that is needed once more did not hold.
    steps: Vec<Step>,
    reloaded: bool,
}

/// What to do with a plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Classification {
    /// Its steps are ours.
    Ours,
    /// It repairs this, a line for each difference.
    Repair(Vec<String>),
    /// It repairs what was repaired too often; later.
    Wait,
}

impl Drift {
    /// Judges the steps of a plan.
    pub(super) fn judge(
        &mut self,
        wanted: (&Stamp, &WantedAdmins),
        read: (&Worker, &RunningServers),
        steps: &[Step],
        interval: Duration,
        now: Instant,
    ) -> Classification {
        let (stamp, admins) = wanted;
        let (worker, servers) = read;
        let settled = self.settled.as_ref().filter(|settled| {
            settled.worker.is_same(worker) && settled.stamp == *stamp && settled.admins == *admins
        });
        if steps.is_empty() {
            if settled.is_none() {
                self.settle(wanted, read);
            }
            self.held(interval, now);
            return Classification::Ours;
        }
        let Some(settled) = settled else {
            return Classification::Ours;
        };
        // Whoever leaves is drained, watched and deleted in steps of ours, long after the plan was empty.
        let is_ours = |step: &Step| {
            let key = step.key();
            !admins.contains_key(&key) && settled.servers.contains(&key)
        };
        let Some(first) = steps.iter().find(|step| !is_ours(step)) else {
            return Classification::Ours;
        };
        if !self.retry.is_due(now) {
            return Classification::Wait;
        }
        let repairs = steps.iter().filter(|step| !is_ours(step));
        let repairs: Vec<Step> = repairs.cloned().collect();
        let found = differences(&repairs, servers, &settled.servers);
        let server = first.key();
        self.count(server, repairs, now);
        Classification::Repair(found)
    }

    /// Everything is as it should be now: a plan was empty, or was carried out whole.
    pub(super) fn settle(
        &mut self,
        (stamp, admins): (&Stamp, &WantedAdmins),
        (worker, servers): (&Worker, &RunningServers),
    ) {
        self.settled = Some(Settled {
            worker: worker.clone(),
            stamp: stamp.clone(),
            admins: admins.clone(),
            servers: names(servers).chain(admins.keys().cloned()).collect(),
        });
    }

    fn count(&mut self, server: ServerKey, steps: Vec<Step>, now: Instant) {
        let before = self.repair.take().filter(|repair| repair.server == server);
        let mut repair = before.unwrap_or(Repair {
            server,
            at: now,
            count: 0,
            steps: Vec::new(),
            reloaded: false,
        });
        // A server that cannot be deleted yet has connections left; nobody has put it back.
        let again = |step: &Step| step.action != Action::Delete && repair.steps.contains(step);
        if repair.steps.is_empty() || steps.iter().any(again) {
            repair.count += 1;
            repair.steps.clear();
            if repair.count > REPAIRS {
                self.retry.failed(now);
            }
        }
        repair.at = now;
        repair.steps.extend(steps);
        self.repair = Some(repair);
    }

    /// The server whose repairs do not hold, until a reload has swept what is wrong.
    pub(super) fn wants_reload(&self) -> Option<&ServerKey> {
        let repair = self.repair.as_ref();
        let fails = |repair: &&Repair| repair.count > REPAIRS && !repair.reloaded;
        repair.filter(fails).map(|repair| &repair.server)
    }

    /// There was a reload.
    pub(super) fn reloaded(&mut self) {
        if let Some(repair) = &mut self.repair {
            repair.reloaded |= repair.count > REPAIRS;
        }
    }

    fn held(&mut self, interval: Duration, now: Instant) {
        if let Some(repair) = &mut self.repair {
            repair.steps.clear();
            if now.saturating_duration_since(repair.at) > interval * HELD {
                self.repair = None;
                self.retry.succeeded();
            }
        }
    }

    /// When a repair that was put off is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry.at()
    }
}

fn names(servers: &RunningServers) -> impl Iterator<Item = ServerKey> {
    servers.iter().flat_map(|(backend, servers)| {
        let names = servers.keys();
        names.filter_map(move |name| ServerKey::read(backend, name))
    })
}

/// What was different, that these steps repair: a line for each server and value.
fn differences(
    steps: &[Step],
    servers: &RunningServers,
    known: &BTreeSet<ServerKey>,
) -> Vec<String> {
    let mut found = BTreeSet::new();
    for step in steps {
        let (backend, name) = (step.backend.as_str(), step.server.as_str());
        let running = servers.get(backend).and_then(|servers| servers.get(name));
        let difference = match (&step.action, running) {
            (_, None) => "was deleted".to_owned(),
            _ if !known.contains(&step.key()) => "was added".to_owned(),
            (Action::Address(addr), Some(server)) => match server.addr {
                Some(other) => format!("was moved to {other} from {addr}"),
                None => format!("was moved from {addr}"),
            },
            (Action::Weight(weight), Some(server)) => {
                format!("got weight {} instead of {}", server.weight, weight.get())
            }
            (Action::Agent { asked: true }, _) => "had its agent check switched off".to_owned(),
            (Action::Agent { asked: false }, _) => "had its agent check switched on".to_owned(),
            (Action::Maxconn(_), _) => "got another maxconn".to_owned(),
            (Action::Ready { .. }, Some(server)) if server.admin == Admin::Drain => {
                "was set to drain".to_owned()
            }
            (Action::Ready { .. }, Some(server)) if server.admin == Admin::Maint => {
                "was set to maint".to_owned()
            }
            (Action::Drain { .. } | Action::Maint, Some(server)) if !moves(steps, step) => {
                match server.admin {
                    Admin::Ready => "was made ready".to_owned(),
                    Admin::Drain => "was set to drain".to_owned(),
                    Admin::Maint => "was set to maint".to_owned(),
                }
            }
            _ => continue,
        };
        found.insert(format!("{backend}/{name} {difference}"));
    }
    found.into_iter().collect()
}

/// A server that is moved goes through maint, which repairs nothing by itself.
fn moves(steps: &[Step], of: &Step) -> bool {
    let same = |step: &&Step| step.backend == of.backend && step.server == of.server;
    let mut steps = steps.iter().filter(same);
    steps.any(|step| matches!(step.action, Action::Address(_)))
}

#[cfg(test)]
mod tests {
    use planner::model::{RunningServer, ServerName, Version, WantedAdmin, Weight};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    struct World {
        drift: Drift,
        admins: WantedAdmins,
        worker: Worker,
        running: RunningServers,
        now: Instant,
    }

    fn key() -> ServerKey {
        ServerKey::read("nodes", "s1").unwrap()
    }

    impl World {
        fn new() -> Self {
            let server = RunningServer {
                addr: "10.0.0.1:80".parse().ok(),
                weight: 7,
                admin: Admin::Ready,
                agent: None,
                stat: None,
            };
            let running = [("s1".to_owned(), server)].into();
            Self {
                drift: Drift::default(),
                admins: [(key(), WantedAdmin::Ready)].into(),
                worker: Worker {
                    pid: 1,
                    uptime: Duration::ZERO,
                    start: None,
                    version: Version { major: 3, minor: 0 },
                    stamp: None,
                },
                running: [("nodes".to_owned(), running)].into(),
                now: Instant::now(),
            }
        }

        fn judge(&mut self, steps: &[Step]) -> Classification {
            self.now += Duration::from_secs(1);
            let stamp = Stamp("0".into());
            self.drift.judge(
                (&stamp, &self.admins),
                (&self.worker, &self.running),
                steps,
                INTERVAL,
                self.now,
            )
        }
    }

    fn weight() -> Step {
        let ServerKey { backend, server } = key();
        Step {
            backend,
            server,
            action: Action::Weight(Weight::DEFAULT),
        }
    }

    #[test]
    fn what_follows_from_news_is_ours() {
        let mut world = World::new();
        assert_eq!(world.judge(&[weight()]), Classification::Ours);
        assert_eq!(world.judge(&[]), Classification::Ours);
        world.admins.insert(key(), WantedAdmin::Maint);
        assert_eq!(world.judge(&[weight()]), Classification::Ours);
    }

    #[test]
    fn a_server_that_leaves_is_deleted_by_us_and_one_that_appears_is_not_ours() {
        let mut world = World::new();
        world.admins.clear();
        world.judge(&[]);
        let delete = Step {
            action: Action::Delete,
            ..weight()
        };
        assert_eq!(
            world.judge(std::slice::from_ref(&delete)),
            Classification::Ours
        );
        let stranger = Step {
            server: ServerName::new("s9").unwrap(),
            ..delete
        };
        assert!(matches!(
            world.judge(&[stranger]),
            Classification::Repair(_)
        ));
    }

    #[test]
    fn three_repairs_then_one_reload_then_less_and_less() {
        let mut world = World::new();
        let mut reloads = 0;
        let mut waits = 0;
        for round in 0..40 {
            world.judge(&[]);
            match world.judge(&[weight()]) {
                Classification::Repair(found) => {
                    assert_eq!(found, ["nodes/s1 got weight 7 instead of 1"])
                }
                Classification::Wait => waits += 1,
                Classification::Ours => panic!("nobody wanted this"),
            }
            if world.drift.wants_reload().is_some() {
                assert!(round >= REPAIRS);
                reloads += 1;
                world.drift.reloaded();
            }
        }
        assert_eq!(reloads, 1);
        assert!(waits > 20, "{waits}");
        world.now += INTERVAL * (HELD + 1);
        world.judge(&[]);
        assert!(world.drift.repair.is_none());
        assert!(matches!(
            world.judge(&[weight()]),
            Classification::Repair(_)
        ));
    }

    #[test]
    fn the_steps_of_one_repair_count_once_and_a_step_done_twice_did_not_hold() {
        let mut world = World::new();
        let delete = Step {
            action: Action::Delete,
            ..weight()
        };
        let maint = Step {
            action: Action::Maint,
            ..weight()
        };
        world.judge(&[]);
        for step in [&weight(), &maint, &delete, &delete, &delete] {
            world.judge(std::slice::from_ref(step));
        }
        let count = |world: &World| world.drift.repair.as_ref().map(|repair| repair.count);
        assert_eq!(count(&world), Some(1));
        world.judge(&[maint]);
        assert_eq!(count(&world), Some(2));
    }
}
