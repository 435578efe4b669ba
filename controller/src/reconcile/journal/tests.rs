//! The journal in a folder of its own, under a clock that stands still.

use std::time::Duration;

use fake_haproxy::Version;
use planner::model::{AddedOptions, ServerKey, Worker};

use crate::clock;
use crate::published::Published;
use crate::reconcile::testing::{FIRST, Scene, desired};

async fn scene() -> (Scene, Worker) {
    let scene = Scene::new(Version::V3_0, FIRST);
    let worker = scene.runtime().worker().await.unwrap();
    (scene, worker)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_saved_is_a_problem_and_is_saved_as_soon_as_it_can_be() {
    let (mut scene, worker) = scene().await;
    let state = scene.dir.path().join("state");
    std::fs::rename(&state, scene.dir.path().join("away")).unwrap();
    let key = ServerKey::read("web", "s1").unwrap();
    let added: AddedOptions = [(key, vec!["check".to_owned()])].into();
    scene.journal.save_added(&worker, &added);
    assert!(scene.problem("state added servers").is_some());
    let now = clock::now();
    assert!(!scene.journal.may_save(now), "not at once");
    let due = scene.journal.deadlines().max().unwrap();
    assert!(due - now <= Duration::from_secs(5));
    std::fs::rename(scene.dir.path().join("away"), &state).unwrap();
    tokio::time::sleep_until(due.into()).await;
    assert!(scene.journal.may_save(clock::now()));
    scene.journal.save_added(&worker, &added);
    assert_eq!(scene.problem("state added servers"), None);
    let loaded = scene
        .journal
        .state()
        .load_added(&worker, clock::unix_secs());
    assert_eq!(loaded, Some(added));
}

#[tokio::test(start_paused = true)]
async fn members_are_saved_when_they_have_changed() {
    let (mut scene, _) = scene().await;
    let file = scene.file();
    let members = |scene: &Scene| scene.journal.state().load_memory().members.len();
    let one = desired(&file, "", &["s1"]);
    scene.journal.save_members(&one, clock::now());
    assert_eq!(members(&scene), 1);
    std::fs::remove_file(scene.dir.path().join("state/members.json")).unwrap();
    scene.journal.save_members(&one, clock::now());
    assert_eq!(members(&scene), 0, "the same is not written again");
    let two = desired(&file, "", &["s1", "s2"]);
    scene.journal.save_members(&two, clock::now());
    assert_eq!(members(&scene), 2);
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_to_word_is_published_less_often_and_not_forgotten() {
    let (mut scene, _) = scene().await;
    let started = clock::now();
    assert!(scene.journal.may_publish(started));
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.journal.publish(Published::default(), started);
    assert_eq!(scene.journal.publish_at(), None);
    assert!(!scene.journal.may_publish(clock::now()));
    let due = scene.journal.publish_at().unwrap();
    assert_eq!(due - clock::now(), Duration::from_secs(1));
    tokio::time::sleep_until(due.into()).await;
    assert!(scene.journal.may_publish(clock::now()));
}

#[tokio::test(start_paused = true)]
async fn news_counts_the_revision_up_and_the_same_does_not() {
    let (mut scene, _) = scene().await;
    let desired = desired(&scene.file(), "", &["s1"]);
    let (before, running) = (Default::default(), Default::default());
    let decisions = desired.decisions();
    let now = clock::now();
    scene
        .journal
        .decided(&before, decisions, &running, true, now);
    assert_eq!(scene.journal.revision, 1);
    scene
        .journal
        .decided(decisions, decisions, &running, true, now);
    assert_eq!(scene.journal.revision, 1);
    scene
        .journal
        .decided(decisions, &before, &running, true, now);
    assert_eq!(scene.journal.revision, 2);
}
