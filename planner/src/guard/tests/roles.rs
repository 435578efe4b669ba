//! Where HAProxy's check lets in: by its first good result, or by its first result at all where it tells a role.

use super::*;

/// A guard whose servers are let in by HAProxy's check.
fn scene(admits: Admits) -> Scene {
    let mut scene = Scene::new(true);
    admit_by(&mut scene, admits);
    scene
}

fn admit_by(scene: &mut Scene, admits: Admits) {
    let rules = Rules {
        admits,
        ..rules(true)
    };
    let backend = BackendName::new("b").unwrap();
    scene.guard.set_rules([(backend, rules)].into());
}

/// A primary, up, and two standbys, down by their role, all in rotation.
fn cluster() -> Scene {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    admit_by(&mut scene, Admits::AnyCheck);
    for standby in ["s2", "s3"] {
        scene.runs(standby, Admin::Ready, Check::Down, 0);
        assert_eq!(scene.state(standby), "ready");
    }
    scene
}

#[test]
fn a_standby_is_ready_with_its_first_result_and_gets_nothing_before() {
    let mut scene = scene(Admits::AnyCheck);
    scene.gossip("s1", SerfStatus::Alive);
    let decision = scene.decision("s1").unwrap();
    let waits = (Some(Line::Disabled), Some(WantedAdmin::Waiting));
    assert_eq!((decision.line, decision.admin), waits);
    scene.runs("s1", Admin::Drain, Check::Pending, 0);
    assert_eq!(scene.state("s1"), "waiting");
    scene.runs("s1", Admin::Drain, Check::Down, 0);
    let decision = scene.decision("s1").unwrap();
    let in_rotation = (Some(Line::Ready), Some(WantedAdmin::Ready));
    assert_eq!((decision.line, decision.admin), in_rotation);
}

#[test]
fn where_a_good_result_is_asked_for_a_bad_one_does_not_let_in() {
    let mut scene = scene(Admits::GoodCheck);
    scene.gossip("s1", SerfStatus::Alive);
    for check in [Check::Pending, Check::Down, Check::Falling] {
        scene.runs("s1", Admin::Drain, check, 0);
        assert_eq!(scene.state("s1"), "waiting");
    }
    scene.runs("s1", Admin::Drain, Check::Up, 0);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn a_result_of_before_the_wait_lets_nobody_in() {
    for admits in [Admits::GoodCheck, Admits::AnyCheck] {
        let mut scene = scene(admits);
        scene.gossip("s1", SerfStatus::Alive);
        scene.runs("s1", Admin::Maint, Check::None, 0);
        assert_eq!(scene.state("s1"), "waiting");
        // HAProxy shows the last result until the next one is there, an interval and an answer later.
        scene.runs("s1", Admin::Drain, Check::Up, 0);
        assert_eq!(scene.state("s1"), "waiting");
        scene.pass(rules(true).check_interval * 2);
        assert_eq!(scene.state("s1"), "ready");
    }
}

#[test]
fn a_standby_whose_agent_is_gone_is_cut_only_when_nobody_listens_there() {
    let mut scene = cluster();
    scene.gossip("s2", SerfStatus::Failed);
    assert_eq!(scene.state("s2"), "ready");
    for _ in 0..5 {
        scene.probe("s2", Probed::Good);
        assert_eq!(scene.state("s2"), "ready");
    }
    scene.probe("s2", Probed::Refused);
    assert_eq!(scene.state("s2"), "out");
}

#[test]
fn a_standby_counts_in_rotation_but_answers_no_request() {
    let mut scene = cluster();
    let view = *scene.decide().budgets.values().next().unwrap();
    assert_eq!((view.in_rotation, view.answering), (3, 1));
    assert_eq!(scene.decision("s2").unwrap().status.why, Why::Standby);
    let decisions = scene.decide();
    assert_eq!(decisions.poll, None, "nothing is in motion");
    assert!(scene.guard.wants_stat(), "whoever decides asks who answers");
}

#[test]
fn a_standby_that_a_new_worker_takes_as_up_gets_nothing_before_its_first_result() {
    let mut scene = cluster();
    scene.runs("s1", Admin::Ready, Check::Pending, 0);
    scene.runs("s2", Admin::Ready, Check::Pending, 0);
    assert_eq!(scene.state("s1"), "ready", "the primary goes on");
    let decision = scene.decision("s2").unwrap();
    let waits = (Some(Line::Ready), Some(WantedAdmin::Waiting));
    assert_eq!((decision.line, decision.admin), waits);
    scene.runs("s2", Admin::Drain, Check::Pending, 0);
    assert_eq!(scene.admin("s2"), Some(WantedAdmin::Waiting));
    let promoted = Check::Up;
    scene.runs("s2", Admin::Drain, promoted, 0);
    assert_eq!(scene.admin("s2"), Some(WantedAdmin::Ready));
    assert_eq!(scene.state("s2"), "ready");
}

#[test]
fn a_server_that_is_back_before_its_agent_waits_for_haproxys_check() {
    let mut scene = cluster();
    scene.gossip("s2", SerfStatus::Failed);
    scene.decide();
    scene.probe("s2", Probed::Refused);
    assert_eq!(scene.state("s2"), "out");
    scene.gone_from_haproxy("s2");
    scene.decide();
    scene.probe("s2", Probed::Good);
    let decision = scene.decision("s2").unwrap();
    let waits = (Some(Line::Disabled), Some(WantedAdmin::Waiting));
    assert_eq!((decision.line, decision.admin), waits);
    scene.runs("s2", Admin::Drain, Check::Pending, 0);
    assert_eq!(scene.state("s2"), "waiting");
    scene.runs("s2", Admin::Drain, Check::Down, 0);
    assert_eq!(scene.state("s2"), "ready");
}
