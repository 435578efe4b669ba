//! The applier on a HAProxy in memory, under a clock that stands still but for what is waited.

use fake_haproxy::{Fault, Haproxy, Socket as Of, Version};
use planner::model::{Admin, WantedAdmin};

use super::*;
use crate::published::Published;
use crate::reconcile::testing::{FIRST, Scene, VERSIONS};

const INTERVAL: Duration = Duration::from_secs(10);

/// An applier, and what it is told that HAProxy is to run.
struct Hand {
    scene: Scene,
    applier: Applier,
    started_with: ConfigText,
    wanted: ConfigText,
    admins: WantedAdmins,
}

impl Hand {
    fn new(version: Version) -> Self {
        let scene = Scene::new(version, FIRST);
        Self {
            applier: Applier::new(scene.runtime(), clock::now()),
            started_with: ConfigText::parse(FIRST),
            wanted: ConfigText::parse(FIRST),
            admins: WantedAdmins::new(),
            scene,
        }
    }

    /// What is wanted from now on: servers by name and line, each in rotation.
    fn want(&mut self, servers: &[(&str, &str)]) {
        let line = |(name, line): &(&str, &str)| format!("server {name} {line}\n");
        let lines: String = servers.iter().map(line).collect();
        self.wanted = ConfigText::parse(&format!("{FIRST}{lines}"));
        let key = |(name, _): &(&str, &str)| ServerKey::read("web", name).unwrap();
        let admins = servers.iter().map(|it| (key(it), WantedAdmin::Ready));
        self.admins = admins.collect();
    }

    /// Reads, plans and executes once; says whether HAProxy answered.
    async fn turn(&mut self) -> bool {
        let Ok(mut state) = self.applier.runtime.read(true).await else {
            self.applier.lose_worker();
            return false;
        };
        self.applier.set_worker(&state.worker);
        let scope = Scope::default();
        let applier = &mut self.applier;
        applier.observe(&mut state, Some(&self.started_with), &scope, true);
        applier.clear_plan();
        let stamp = Stamp("0000000000000001".into());
        let decisions = Decisions::default();
        let intent = Intent {
            stamp: &stamp,
            wanted: &self.wanted,
            admins: &self.admins,
            decisions: &decisions,
            started_with: Some(&self.started_with),
            on_disk: Some(&self.wanted),
            retired_max: 100,
            drift_interval: INTERVAL,
        };
        let plan = applier.draft(&state, true, &intent).await.unwrap();
        let journal = &mut self.scene.journal;
        applier.carry_out(plan, &state, &intent, journal).await;
        true
    }

    /// Turns until nothing is left to be done.
    async fn settle(&mut self) {
        for _ in 0..6 {
            self.turn().await;
            if self.applier.plan.is_empty() && !self.applier.unfinished {
                return;
            }
        }
        panic!("still to be done: {:?}", self.applier.plan);
    }

    fn haproxy(&self, what: impl FnOnce(&mut Haproxy)) {
        self.scene.fake.with(what);
    }

    fn server(&self, name: &str) -> Option<&planner::model::RunningServer> {
        self.applier.running.get("web")?.get(name)
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_added_and_ready_without_a_reload() {
    for version in VERSIONS {
        let mut hand = Hand::new(version);
        hand.want(&[("s1", "10.0.0.1:80 check"), ("s2", "10.0.0.2:80 check")]);
        hand.settle().await;
        for name in ["s1", "s2"] {
            assert_eq!(hand.server(name).unwrap().admin, Admin::Ready, "{name}");
        }
        assert_eq!(hand.applier.added.len(), 2);
        let counters = &hand.scene.journal.counters;
        assert_eq!((counters.applies, counters.reloads), (1, 0));
        assert_eq!((counters.refused, counters.repairs), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_hand_changes_is_changed_back_and_told() {
    for version in VERSIONS {
        let mut hand = Hand::new(version);
        hand.want(&[("s1", "10.0.0.1:80 weight 10")]);
        hand.settle().await;
        hand.haproxy(|haproxy| drop(haproxy.run("set server web/s1 weight 3")));
        hand.settle().await;
        assert_eq!(hand.server("s1").unwrap().weight, 10);
        assert_eq!(hand.scene.journal.counters.repairs, 1);
        let journal = &mut hand.scene.journal;
        journal.publish(Published::default(), clock::now());
        let published = hand.scene.journal.published();
        let last = published.history.last().unwrap();
        let why = "somebody else: web/s1 got weight 3 instead of 10";
        assert_eq!(last.reasons, [why]);
    }
}

#[tokio::test(start_paused = true)]
async fn repairs_that_do_not_hold_ask_for_one_reload() {
    let mut hand = Hand::new(Version::V3_0);
    hand.want(&[("s1", "10.0.0.1:80 weight 10")]);
    hand.settle().await;
    let mut reloads = 0;
    for _ in 0..20 {
        hand.haproxy(|haproxy| drop(haproxy.run("set server web/s1 weight 3")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        hand.turn().await;
        if !hand.applier.plan.reload.is_empty() {
            reloads += 1;
            hand.applier.reloaded();
        }
    }
    assert_eq!(reloads, 1);
    let repairs = hand.scene.journal.counters.repairs;
    assert!(repairs < 12, "{repairs} in 20 s: ever less often");
}

#[tokio::test(start_paused = true)]
async fn a_server_with_connections_is_deleted_when_they_have_ended_and_holds_nobody_up() {
    let mut hand = Hand::new(Version::V3_0);
    hand.want(&[("s1", "10.0.0.1:80"), ("s2", "10.0.0.2:80")]);
    hand.settle().await;
    hand.want(&[("s2", "10.0.0.2:80")]);
    // A request comes after each reading: the server looks idle, and is not.
    let busy = |haproxy: &mut Haproxy| haproxy.in_flight("web", "s1", 1);
    for _ in 0..4 {
        hand.haproxy(|haproxy| {
            haproxy.in_flight("web", "s1", 0);
            haproxy.after("show stat", busy);
        });
        hand.turn().await;
    }
    assert!(hand.server("s1").is_some());
    let due = hand.applier.undeleted.deadlines().next();
    assert!(due.is_some_and(|due| due > clock::now()), "{due:?}");
    assert_eq!(hand.scene.journal.counters.refused, 0);
    hand.want(&[("s2", "10.0.0.2:80"), ("s3", "10.0.0.3:80")]);
    hand.turn().await;
    assert_eq!(hand.server("s3").unwrap().admin, Admin::Ready);
    hand.haproxy(|haproxy| haproxy.in_flight("web", "s1", 0));
    tokio::time::sleep(Duration::from_secs(3)).await;
    hand.settle().await;
    hand.turn().await;
    assert!(hand.server("s1").is_none());
    assert!(
        !hand
            .applier
            .added
            .contains_key(&ServerKey::read("web", "s1").unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_planned_again_after_a_pause() {
    for version in VERSIONS {
        let mut hand = Hand::new(version);
        hand.want(&[("s1", "10.0.0.1:80")]);
        let cut = |haproxy: &mut Haproxy| haproxy.fail(Of::Stats, Some(Fault::Refuses));
        hand.haproxy(move |haproxy| haproxy.after("add server", cut));
        hand.turn().await;
        let retry = hand.applier.retry.at().expect("a pause");
        assert!(retry > clock::now());
        assert!(!hand.turn().await, "nobody answers");
        assert!(hand.applier.worker().is_none() && hand.applier.checks().is_none());
        assert_eq!(hand.applier.poll(None), Some(UNREACHABLE_RETRY));
        hand.haproxy(|haproxy| haproxy.fail(Of::Stats, None));
        tokio::time::sleep_until(retry.into()).await;
        hand.settle().await;
        assert_eq!(hand.server("s1").unwrap().admin, Admin::Ready);
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_takes_three_hundred_steps_and_the_next_one_follows_at_once() {
    let mut hand = Hand::new(Version::V3_0);
    let servers: Vec<(String, String)> = (1..=200)
        .map(|n| (format!("s{n}"), format!("10.0.0.{n}:80")))
        .collect();
    let servers: Vec<(&str, &str)> = servers.iter().map(|(n, a)| (&**n, &**a)).collect();
    hand.want(&servers);
    hand.turn().await;
    assert!(hand.applier.is_unfinished());
    hand.settle().await;
    assert_eq!(hand.applier.added.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_finds_the_same_calls_for_no_cycle() {
    let mut hand = Hand::new(Version::V3_2);
    hand.want(&[("s1", "10.0.0.1:80 check inter 1s")]);
    hand.settle().await;
    let journal = &mut hand.scene.journal;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(hand.applier.look(journal).await, "the first look");
    let state = hand.applier.runtime.read(true).await.unwrap();
    hand.applier.looked(&state, clock::now());
    assert!(!hand.applier.look(journal).await);
    assert!(hand.applier.look_at() > clock::now());
    let addr = "10.0.0.1:80".parse().unwrap();
    hand.scene.fake.with(|haproxy| haproxy.answers(addr, false));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(hand.applier.look(journal).await, "its check fails");
}
