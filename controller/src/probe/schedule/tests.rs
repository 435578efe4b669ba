use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::super::lane::Lane;
use super::*;

/// How long a probe of a silent server lasts.
const SILENCE: Duration = Duration::from_secs(1);

/// A network of servers on virtual time, and the probes that a schedule has of them.
struct Scene {
    schedule: Schedule,
    start: Instant,
    now: Instant,
    /// How each server answers; those that are not here are silent.
    answers: BTreeMap<ServerKey, Probed>,
    under_way: BTreeSet<(Instant, ServerKey)>,
    /// When each was asked, since the start.
    asked: BTreeMap<ServerKey, Vec<Duration>>,
    most: usize,
}

impl Scene {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            schedule: Schedule::new(start),
            start,
            now: start,
            answers: BTreeMap::new(),
            under_way: BTreeSet::new(),
            asked: BTreeMap::new(),
            most: 0,
        }
    }

    fn add(&mut self, key: &ServerKey, addr: SocketAddr, urgency: Urgency) {
        let target = Target {
            addr,
            urgency,
            sign: self.now,
        };
        self.schedule.add(key, target, self.now);
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while let Some(turn) = self.schedule.next(self.now) {
                let lasts = if self.answers.contains_key(&turn.key) {
                    Duration::ZERO
                } else {
                    SILENCE
                };
                let key = turn.key;
                assert!(
                    !self.under_way.iter().any(|(_, asked)| *asked == key),
                    "twice at once"
                );
                let since = self.now - self.start;
                self.asked.entry(key.clone()).or_default().push(since);
                self.under_way.insert((self.now + lasts, key));
                self.most = self.most.max(self.under_way.len());
            }
            let ends = self.under_way.first().map(|(at, _)| *at);
            let wakes = self.schedule.wakes_at(self.now);
            let next = ends.into_iter().chain(wakes).min().unwrap_or(end);
            self.now = next.max(self.now).min(end);
            while let Some((at, _)) = self.under_way.first()
                && *at <= self.now
                && let Some((_, key)) = self.under_way.pop_first()
            {
                let found = self.answers.get(&key).copied().unwrap_or(Probed::Failed);
                if let Some(target) = self.schedule.target(&key) {
                    self.schedule.ended(target.urgency);
                    self.schedule.found(&key, found, self.now);
                }
            }
        }
    }

    fn asked(&self, key: &ServerKey) -> &[Duration] {
        self.asked.get(key).map_or(&[], Vec::as_slice)
    }

    /// How many probes there were in all from then on.
    fn asked_since(&self, since: Duration) -> usize {
        let all = self.asked.values().flatten();
        all.filter(|at| **at >= since).count()
    }
}

fn key(number: u32) -> ServerKey {
    ServerKey::read("nodes", &format!("s{number}")).unwrap()
}

/// Each at an address of its own.
fn apart(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    (Ipv4Addr::new(10, a, b, c), 3000).into()
}

/// All at one.
fn together(number: u32) -> SocketAddr {
    let port = u16::try_from(number % 60_000).unwrap() + 1;
    (Ipv4Addr::new(192, 0, 2, 1), port).into()
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_dead_rack_costs_a_newcomer_nothing() {
    for dead in [20, 150, 600] {
        for urgency in [Urgency::Watch, Urgency::Suspect] {
            let mut scene = Scene::new();
            for number in 0..dead {
                scene.add(&key(number), apart(number), urgency);
            }
            scene.pass(MINUTE / 2);
            scene.answers.insert(key(9999), Probed::Good);
            scene.add(&key(9999), apart(9999), Urgency::Admission);
            scene.pass(SECOND);
            assert_eq!(scene.asked(&key(9999))[0], MINUTE / 2);
            assert!(scene.most <= 256, "{} at once", scene.most);
        }
    }
}

#[test]
fn who_is_suspected_first_now_is_asked_before_all_that_have_been_for_long() {
    let mut scene = Scene::new();
    for number in 0..200 {
        scene.answers.insert(key(number), Probed::Good);
        scene.add(&key(number), apart(number), Urgency::Suspect);
    }
    scene.pass(MINUTE);
    scene.add(&key(9999), apart(9999), Urgency::Suspect);
    scene.pass(4 * SECOND);
    let asked = scene.asked(&key(9999));
    assert!(
        asked.len() >= 3 && asked[2] <= MINUTE + 3 * SECOND,
        "{asked:?}"
    );
}

#[test]
fn a_thousand_that_accept_and_never_answer_cost_a_join_at_most_a_second() {
    let mut scene = Scene::new();
    for number in 0..1000 {
        scene.add(&key(number), apart(number), Urgency::Admission);
    }
    for (after, number) in [(SECOND / 10, 5001), (MINUTE, 5002), (10 * MINUTE, 5003)] {
        scene.pass(after);
        let at = scene.now - scene.start;
        scene.answers.insert(key(number), Probed::Good);
        scene.add(&key(number), apart(number), Urgency::Admission);
        scene.pass(2 * SECOND);
        let asked = scene.asked(&key(number));
        assert!(
            asked.first().is_some_and(|first| *first <= at + SECOND),
            "{asked:?} from {at:?}"
        );
    }
    assert!(scene.most <= 512, "{} at once", scene.most);
}

/// What a third party gets of members that name its address, or of members that name many addresses.
#[test]
fn probes_are_bounded_in_the_long_run() {
    for urgency in [Urgency::Admission, Urgency::Suspect, Urgency::Watch] {
        let mut scene = Scene::new();
        for number in 0..1000 {
            scene.answers.insert(key(number), Probed::Refused);
            scene.add(&key(number), together(number), urgency);
        }
        scene.pass(5 * MINUTE);
        let all = scene.asked_since(Duration::ZERO);
        assert!(
            (600..=64 + 2 * 300).contains(&all),
            "{urgency:?}: {all} to one address"
        );
    }
    let mut scene = Scene::new();
    for number in 0..3000 {
        let urgency = match number % 3 {
            0 => Urgency::Admission,
            1 => Urgency::Suspect,
            _ => Urgency::Watch,
        };
        scene.answers.insert(key(number), Probed::Refused);
        scene.add(&key(number), apart(number), urgency);
    }
    scene.pass(10 * MINUTE);
    let late = scene.asked_since(5 * MINUTE);
    assert!(
        (14_000..=50 * 300).contains(&late),
        "{late} in five minutes"
    );
}

#[test]
fn who_starts_slowly_is_let_in_a_tenth_of_that_time_later_at_most() {
    for starts in [1, 3, 10, 30, 45] {
        let starts = Duration::from_secs(starts);
        let mut scene = Scene::new();
        scene.answers.insert(key(1), Probed::Refused);
        scene.add(&key(1), apart(1), Urgency::Admission);
        scene.pass(starts);
        let before = scene.asked(&key(1)).len();
        scene.pass(10 * SECOND);
        let late = scene.asked(&key(1))[before].saturating_sub(starts);
        assert!(late <= starts / 9, "{late:?} after {starts:?}");
    }
}

#[test]
fn a_sign_of_life_makes_a_silent_server_be_asked_often_again() {
    let mut scene = Scene::new();
    scene.answers.insert(key(1), Probed::Refused);
    scene.add(&key(1), apart(1), Urgency::Watch);
    scene.pass(10 * MINUTE);
    let seldom = scene.asked_since(5 * MINUTE);
    assert!((59..=61).contains(&seldom), "{seldom}");
    scene.schedule.revive(&key(1), scene.now, scene.now);
    scene.pass(3 * SECOND);
    let often = scene.asked_since(10 * MINUTE);
    assert!((5..=7).contains(&often), "{often}");
}

#[test]
fn one_that_answers_is_watched_twice_a_second() {
    let mut scene = Scene::new();
    scene.answers.insert(key(1), Probed::Good);
    scene.add(&key(1), apart(1), Urgency::Watch);
    scene.pass(MINUTE);
    assert_eq!(scene.asked(&key(1)).len(), 120);
}

fn urgency() -> impl Strategy<Value = Urgency> {
    prop_oneof![
        Just(Urgency::Admission),
        Just(Urgency::Suspect),
        Just(Urgency::Watch)
    ]
}

proptest! {
    /// Whatever comes and goes: nobody is asked twice at once, and whoever is there in the end is asked again.
    #[test]
    fn nobody_is_asked_twice_at_once_and_nobody_is_forgotten(
        changes in prop::collection::vec((0..12_u32, 0..4_u32, urgency(), 0..4_u64), 1..60),
    ) {
        let mut scene = Scene::new();
        for (number, what, urgency, pause) in changes {
            let key = key(number);
            match what {
                0 => {
                    // Its probe under way is none any more.
                    if let Some(target) = scene.schedule.target(&key)
                        && scene.under_way.iter().any(|(_, asked)| *asked == key)
                    {
                        scene.under_way.retain(|(_, asked)| *asked != key);
                        scene.schedule.ended(target.urgency);
                    }
                    scene.schedule.remove(&key);
                }
                1 => scene.schedule.revive(&key, scene.now, scene.now),
                _ if scene.schedule.target(&key).is_none() => {
                    scene.answers.insert(key.clone(), Probed::Refused);
                    scene.add(&key, together(number), urgency);
                }
                _ => {
                    scene.answers.remove(&key);
                }
            }
            scene.pass(Duration::from_millis(pause * pause * 100));
        }
        let there: Vec<ServerKey> = scene.schedule.targets().map(|(key, _)| key.clone()).collect();
        let before = scene.now - scene.start;
        scene.pass(20 * SECOND);
        for key in there {
            let last = scene.asked(&key).last().copied();
            prop_assert!(last.is_some_and(|last| last >= before), "{key} at {last:?}");
        }
        let lanes: usize = scene.schedule.lanes.all().map(Lane::under_way).sum();
        prop_assert_eq!(lanes, scene.under_way.len());
    }
}
