//! The installer on a HAProxy in memory. The clock stands still, but while a job runs: that checks by a real command.

use std::path::Path;

use fake_haproxy::Version;
use planner::model::Version as Number;

use super::*;
use crate::reconcile::testing::{FIRST, Scene, VERSIONS, desired};

/// An installer, and what it is told to bring into force.
struct Hand {
    scene: Scene,
    installer: Installer,
    given: Given,
}

/// What it is told.
struct Given {
    desired: Desired,
    reasons: Vec<ReloadReason>,
    worker: Worker,
    runtime: RuntimeApi,
}

impl Given {
    fn target(&self) -> Target<'_> {
        Target {
            desired: &self.desired,
            reasons: &self.reasons,
            worker: Some(&self.worker),
            last_worker: Some(&self.worker),
            runtime: &self.runtime,
        }
    }
}

impl Hand {
    /// The check command is a shell script, whose `$0` is the path of the file.
    async fn new(version: Version, check: &str, members: &[&str]) -> Self {
        let scene = Scene::new(version, FIRST);
        let file = scene.file();
        let check = format!("check_command = [\"sh\", \"-c\", {check:?}, \"{{path}}\"]");
        let desired = desired(&file, &check, members);
        let config = ConfigFile::new(&file, planner::render::FIRST_LINE);
        let master = Some(scene.master());
        let (loaded, state) = (desired.loaded(), scene.journal.state());
        let runtime = scene.runtime();
        let installer = Installer::new(config, None, loaded, master, state);
        let given = Given {
            reasons: vec![ReloadReason::UnknownWorker { server: None }],
            worker: runtime.worker().await.unwrap(),
            runtime,
            desired,
        };
        Self {
            scene,
            installer,
            given,
        }
    }

    fn text(&self) -> String {
        self.given.desired.wanted().unwrap().text.text.to_string()
    }

    /// Starts what is due; says whether a job runs then.
    fn step(&mut self) -> bool {
        let target = self.given.target();
        self.installer.step(&target, &mut self.scene.journal);
        !self.installer.is_idle()
    }

    /// Waits for the end of the job.
    async fn end(&mut self) -> Installed {
        tokio::time::resume();
        let ended = self.installer.next_done().await;
        tokio::time::pause();
        let target = self.given.target();
        self.installer
            .finish(ended, &target, &mut self.scene.journal)
    }

    fn min_interval(&self) -> Duration {
        self.given.desired.loaded().config.reload.min_interval
    }

    fn on_disk(&self) -> Option<String> {
        std::fs::read_to_string(self.scene.file()).ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_is_checked_written_and_brought_into_force() {
    for version in VERSIONS {
        let mut hand = Hand::new(version, "test -s \"$0\"", &["s1"]).await;
        assert!(!hand.step(), "it gathers first");
        tokio::time::sleep_until(hand.installer.write_at().unwrap().into()).await;
        assert!(hand.step());
        let text = hand.text();
        hand.scene.fake.with(|haproxy| haproxy.write(text));
        let Installed::Done { stamp, reloaded } = hand.end().await else {
            panic!("not done: {:?}", hand.scene.problem("file"));
        };
        let worker = reloaded.unwrap();
        assert_eq!(worker.stamp, Some(stamp));
        assert!(!worker.is_same(&hand.given.worker));
        assert!(hand.installer.knows(&worker));
        assert_eq!(hand.on_disk(), Some(hand.text()));
        let counters = &hand.scene.journal.counters;
        assert_eq!((counters.writes, counters.reloads), (1, 1));
        let (scope, state) = (hand.given.desired.scope(), hand.scene.journal.state());
        assert!(hand.installer.text_of(&worker, scope, state).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_is_not_on_the_disk_while_another_is_on_its_way_there() {
    let mut hand = Hand::new(Version::V3_0, "true", &["s1"]).await;
    hand.given.reasons.clear();
    let wanted = |hand: &mut Hand, members: &[&str]| {
        let file = hand.scene.file();
        hand.given.desired = desired(&file, "check_command = [\"true\", \"{path}\"]", members);
    };
    wanted(&mut hand, &["s1"]);
    for begun in 1..=2 {
        hand.step();
        tokio::time::sleep_until(hand.installer.write_at().unwrap().into()).await;
        assert!(hand.step());
        if begun == 1 {
            assert!(matches!(hand.end().await, Installed::Done { .. }));
            assert!(hand.installer.has(hand.given.desired.wanted()));
            wanted(&mut hand, &["s1", "s2"]);
        }
    }
    wanted(&mut hand, &["s1"]);
    assert!(!hand.installer.has(hand.given.desired.wanted()), "s2 comes");
    hand.end().await;
    assert!(
        !hand.installer.has(hand.given.desired.wanted()),
        "s2 is there"
    );
    assert!(hand.on_disk().unwrap().contains("server s2 "));
}

#[tokio::test(start_paused = true)]
async fn reloads_keep_their_distance_and_mere_writes_do_not_wait_for_it() {
    let mut hand = Hand::new(Version::V3_0, "true", &["s1"]).await;
    hand.step();
    tokio::time::sleep_until(hand.installer.write_at().unwrap().into()).await;
    assert!(hand.step());
    let text = hand.text();
    hand.scene.fake.with(|haproxy| haproxy.write(text));
    assert!(matches!(hand.end().await, Installed::Done { .. }));
    assert!(!hand.step(), "another reload, and the text is on the disk");
    let min_interval = hand.min_interval();
    let next = hand.installer.deadlines(min_interval, true).next().unwrap();
    assert!(next > clock::now());
    assert_eq!(hand.installer.deadlines(min_interval, false).next(), None);
    tokio::time::sleep_until(next.into()).await;
    assert!(hand.step());
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_refused_leaves_file_and_worker_and_is_tried_ever_less_often() {
    let mut hand = Hand::new(Version::V3_0, "echo no good; exit 1", &["s1"]).await;
    hand.step();
    tokio::time::sleep_until(hand.installer.write_at().unwrap().into()).await;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        assert!(hand.step());
        let Installed::Refused {
            problem,
            of_the_text,
            offenders,
            ..
        } = hand.end().await
        else {
            panic!("taken");
        };
        assert!(problem.contains("refuses the file") && problem.contains("no good"));
        assert!(of_the_text && offenders.is_empty());
        assert!(!hand.step(), "at once");
        let next = hand.installer.retry.at().unwrap();
        pauses.push(next - clock::now());
        tokio::time::sleep_until(next.into()).await;
    }
    assert!(
        pauses.is_sorted() && pauses[4] > pauses[0] * 8,
        "{pauses:?}"
    );
    assert_eq!(hand.on_disk(), None);
    let seen = hand.given.runtime.worker().await.unwrap();
    assert!(seen.is_same(&hand.given.worker));
}

#[tokio::test(start_paused = true)]
async fn the_member_that_a_file_is_invalid_with_is_found() {
    let check = "if grep -q 'server bad ' \"$0\"; then exit 1; fi";
    let mut hand = Hand::new(Version::V3_0, check, &["bad", "s1", "s2"]).await;
    hand.step();
    tokio::time::sleep_until(hand.installer.write_at().unwrap().into()).await;
    assert!(hand.step());
    let Installed::Refused { offenders, .. } = hand.end().await else {
        panic!("taken");
    };
    let names: Vec<_> = offenders
        .iter()
        .map(|(key, _)| key.server.as_str())
        .collect();
    assert_eq!(names, ["bad"]);
    hand.given.desired.blame(offenders);
    hand.installer.try_again();
    let now = clock::now();
    hand.given.desired.decide(now);
    let lines = hand.given.desired.in_force(now).lines();
    hand.given.desired.render(lines).unwrap();
    hand.step();
    tokio::time::sleep_until(hand.installer.write_at().unwrap().into()).await;
    assert!(hand.step());
    let text = hand.text();
    hand.scene.fake.with(|haproxy| haproxy.write(text));
    assert!(matches!(hand.end().await, Installed::Done { .. }));
    assert!(hand.on_disk().unwrap().contains("server s2 "));
}

#[tokio::test(start_paused = true)]
async fn a_file_of_somebody_elses_stops_everything_until_it_is_gone() {
    let mut hand = Hand::new(Version::V3_0, "true", &["s1"]).await;
    hand.step();
    tokio::time::sleep_until(hand.installer.write_at().unwrap().into()).await;
    std::fs::write(hand.scene.file(), "global\n").unwrap();
    assert!(hand.step());
    assert!(matches!(hand.end().await, Installed::Nothing));
    assert!(hand.scene.problem("file").is_some());
    assert_eq!(hand.on_disk().unwrap(), "global\n");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!hand.step());
    std::fs::remove_file(hand.scene.file()).unwrap();
    hand.installer.look_at_file(&mut hand.scene.journal).await;
    assert!(hand.step());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_appears_while_another_hands_text_is_in_the_file_is_unknown() {
    let mut hand = Hand::new(Version::V3_0, "true", &["s1"]).await;
    let edited = format!("{}# by hand\n", hand.text());
    std::fs::write(hand.scene.file(), edited).unwrap();
    let journal = &mut hand.scene.journal;
    let ours = hand
        .installer
        .worker_appeared(&hand.given.worker, false, journal);
    assert!(!ours.await);
    assert!(!hand.installer.knows(&hand.given.worker));
    assert!(hand.scene.problem("text").is_some());
    let remembered = Worker {
        pid: 99,
        version: Number { major: 3, minor: 0 },
        ..hand.given.worker.clone()
    };
    assert!(Path::new(&hand.scene.file()).exists());
    let mut another = Hand::new(Version::V3_0, "true", &["s1"]).await;
    let journal = &mut another.scene.journal;
    another
        .installer
        .worker_appeared(&remembered, true, journal)
        .await;
    assert!(another.installer.knows(&remembered));
}
