//! The word of Serf: leaves that are none, tags that no longer match, and what is remembered.

use super::*;

const LEAVE: Duration = Duration::from_secs(10);

fn why(scene: &mut Scene, name: &str) -> Why {
    scene.decision(name).unwrap().status.why
}

fn ready(scene: &mut Scene) -> usize {
    let decisions = scene.decide();
    let mut standings = decisions.servers.values();
    standings
        .by_ref()
        .filter(|decision| decision.status.state == "ready")
        .count()
}

/// HAProxy does what was decided about the drained.
fn drained(scene: &mut Scene, name: &str) {
    assert_eq!(scene.admin(name), Some(WantedAdmin::Drain));
    scene.runs(name, Admin::Drain, Check::None, 0);
    scene.decide();
    scene.gone_from_haproxy(name);
    scene.decide();
}

#[test]
fn the_last_server_that_answers_stays_though_it_has_left_and_goes_when_another_serves() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s1", SerfStatus::Leaving);
    assert_eq!(why(&mut scene, "s1"), Why::Held(Held::LastToLeave));
    scene.gossip("s1", SerfStatus::Left);
    scene.pass(HOLD * 2);
    assert_eq!(why(&mut scene, "s1"), Why::Held(Held::LastToLeave));
    assert!(scene.guard.wants_stat(), "its check is the witness");
    scene.gossip("s2", SerfStatus::Alive);
    scene.decide();
    scene.probe("s2", Probed::Good);
    assert_eq!(scene.state("s2"), "ready");
    assert_eq!(scene.state("s1"), "ready", "HAProxy does not run s2 yet");
    scene.runs("s2", Admin::Ready, Check::Up, 0);
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn a_last_server_that_has_left_and_stops_answering_goes_when_its_requests_are_done() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s1", SerfStatus::Left);
    scene.runs("s1", Admin::Ready, Check::Down, 1);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Drain));
    scene.runs("s1", Admin::Drain, Check::None, 1);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Drain));
    scene.gone_from_haproxy("s1");
    scene.decide();
    assert_eq!(scene.state("s1"), "unknown");
}

#[test]
fn without_a_check_the_last_that_leaves_is_watched_by_probes() {
    let mut scene = Scene::in_rotation(false, &["s1"]);
    scene.gossip("s1", SerfStatus::Left);
    assert_eq!(why(&mut scene, "s1"), Why::Held(Held::LastToLeave));
    assert_eq!(
        scene.guard.targets(scene.now)[&key("s1")].urgency,
        Urgency::Watch
    );
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "ready");
    scene.probe("s1", Probed::Refused);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Drain));
}

#[test]
fn all_that_leave_at_once_leave_min_servers_behind() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4"]);
    let mut two = rules(true);
    two.guard.min_servers = 2;
    let backend = BackendName::new("b").unwrap();
    scene.guard.set_rules([(backend, two)].into());
    for name in ["s1", "s2", "s3", "s4"] {
        scene.gossip(name, SerfStatus::Leaving);
    }
    assert_eq!(ready(&mut scene), 2);
    for name in ["s1", "s2", "s3", "s4"] {
        scene.gossip(name, SerfStatus::Left);
    }
    assert_eq!(ready(&mut scene), 2);
}

#[test]
fn where_min_servers_is_none_even_the_last_may_leave() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    let mut none = rules(true);
    none.guard.min_servers = 0;
    let backend = BackendName::new("b").unwrap();
    scene.guard.set_rules([(backend, none)].into());
    scene.gossip("s1", SerfStatus::Left);
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn a_server_that_is_down_is_nobody_that_takes_over() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.runs("s2", Admin::Ready, Check::Down, 0);
    scene.gossip("s1", SerfStatus::Leaving);
    assert_eq!(why(&mut scene, "s1"), Why::Held(Held::LastToLeave));
}

#[test]
fn a_tag_and_an_approval_go_below_the_floor() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip_at("s1", SerfStatus::Alive, addr("s1"), RequestedState::Drain);
    assert_eq!(scene.state("s1"), "drain");
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s1", SerfStatus::Left);
    scene.decide();
    assert_eq!(scene.approve("s1"), 1);
    assert_eq!(scene.state("s1"), "drain");
    assert_eq!(why(&mut scene, "s1"), Why::Approved);
    drained(&mut scene, "s1");
    assert_eq!(scene.state("s1"), "unknown");
}

#[test]
fn who_drains_because_others_answered_is_taken_back_when_they_do_not() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Left);
    scene.runs("s1", Admin::Drain, Check::None, 1);
    assert_eq!(scene.state("s1"), "drain");
    assert!(scene.guard.targets(scene.now).is_empty());
    scene.runs("s2", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.state("s1"), "drain", "it has not answered yet");
    scene.probe("s1", Probed::Good);
    assert_eq!(why(&mut scene, "s1"), Why::Held(Held::LastToLeave));
}

#[test]
fn a_leave_that_does_not_end_is_none() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Leaving);
    drained(&mut scene, "s1");
    assert_eq!(why(&mut scene, "s1"), Why::Leaves);
    assert!(
        scene.guard.targets(scene.now).is_empty(),
        "it may still leave"
    );
    assert_eq!(scene.decide().deadline, Some(scene.now + LEAVE));
    scene.pass(LEAVE);
    assert_eq!(scene.state("s1"), "out");
    assert_eq!(why(&mut scene, "s1"), Why::MayReturn);
    scene.probe("s1", Probed::Good);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.line, decision.status.why),
        (Some(Line::Ready), Why::DidNotLeave)
    );
    scene.runs("s1", Admin::Ready, Check::Up, 0);
    scene.pass(HOLD * 3);
    assert_eq!(scene.state("s1"), "ready", "no time takes it out");
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Cut));
}

#[test]
fn a_leave_that_does_not_end_while_a_request_runs_is_taken_back_without_losing_it() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Leaving);
    scene.runs("s1", Admin::Drain, Check::None, 1);
    assert_eq!(scene.state("s1"), "drain");
    scene.pass(LEAVE);
    scene.decide();
    scene.probe("s1", Probed::Good);
    assert_eq!(why(&mut scene, "s1"), Why::DidNotLeave);
}

#[test]
fn the_only_server_that_is_forced_to_leave_never_loses_its_traffic() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s1", SerfStatus::Leaving);
    assert_eq!(why(&mut scene, "s1"), Why::Held(Held::LastToLeave));
    scene.pass(LEAVE);
    assert_eq!(why(&mut scene, "s1"), Why::DidNotLeave);
}

#[test]
fn a_leave_that_ends_late_is_a_leave() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Leaving);
    drained(&mut scene, "s1");
    scene.pass(LEAVE);
    scene.decide();
    scene.probe("s1", Probed::Good);
    scene.runs("s1", Admin::Ready, Check::Up, 0);
    assert_eq!(scene.state("s1"), "ready");
    scene.gossip("s1", SerfStatus::Left);
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn a_tag_that_no_longer_matches_counts_in_the_budget() {
    let names = ["s1", "s2", "s3", "s4"];
    let mut scene = Scene::in_rotation(true, &names);
    for name in names {
        scene.deselect(name);
    }
    assert_eq!(ready(&mut scene), 2);
    let held = Why::Held(Held::Deselected { used: 2, limit: 2 });
    assert_eq!(why(&mut scene, "s3"), held);
    for name in ["s1", "s2"] {
        drained(&mut scene, name);
        assert_eq!(why(&mut scene, name), Why::Deselected);
        scene.probe(name, Probed::Good);
    }
    for _ in 0..10 {
        scene.pass(HOLD);
        assert_eq!(ready(&mut scene), 2, "they do not erode away");
    }
    assert_eq!(scene.approve("s3"), 1);
    drained(&mut scene, "s3");
    assert_eq!(scene.state("s3"), "unknown");
    assert_eq!(ready(&mut scene), 1);
    for name in names {
        scene.gossip(name, SerfStatus::Alive);
    }
    scene.decide();
    scene.probe("s3", Probed::Good);
    assert_eq!(ready(&mut scene), 4, "the others were watched and answered");
}

#[test]
fn the_last_whose_tag_no_longer_matches_stays() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.deselect("s1");
    assert_eq!(why(&mut scene, "s1"), Why::Held(Held::LastDeselected));
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(
        why(&mut scene, "s1"),
        Why::Held(Held::Floor),
        "a dead line, but the last one"
    );
}

#[test]
fn whoever_was_deselected_counts_until_its_web_server_is_gone_or_it_has_left() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.deselect("s1");
    drained(&mut scene, "s1");
    let used = |scene: &mut Scene| {
        let budgets = scene.decide().budgets;
        budgets.values().next().unwrap().used
    };
    assert_eq!(used(&mut scene), 1);
    scene.probe("s1", Probed::Refused);
    scene.decide();
    scene.pass(rules(true).guard.window);
    assert_eq!(used(&mut scene), 0);
    assert_eq!(scene.state("s1"), "unknown");
    scene.deselect("s2");
    drained(&mut scene, "s2");
    assert_eq!(used(&mut scene), 1);
    scene.gossip("s2", SerfStatus::Left);
    assert_eq!(used(&mut scene), 0);
}

#[test]
fn whoever_went_after_hold_and_is_deselected_then_is_still_watched_and_recalled() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD);
    drained(&mut scene, "s1");
    scene.deselect("s1");
    scene.decide();
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "out");
    scene.runs("s2", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.state("s1"), "ready", "nobody else answers");
}

#[test]
fn a_deselected_server_that_leaves_has_left() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.deselect("s1");
    drained(&mut scene, "s1");
    scene.deselect("s2");
    assert_eq!(
        why(&mut scene, "s2"),
        Why::Held(Held::Deselected { used: 1, limit: 1 })
    );
    scene.gossip("s2", SerfStatus::Left);
    scene.deselect("s2");
    assert_eq!(scene.state("s2"), "drain");
}

#[test]
fn hold_goes_on_when_a_failed_member_is_not_listed_any_more() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD / 2);
    scene.forget("s1");
    assert_eq!(
        scene.decision("s1").unwrap().evidence.gossip,
        SerfStatus::Failed
    );
    scene.pass(HOLD / 2);
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn hold_does_not_run_while_gossip_is_split_and_goes_on_afterwards() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD / 2);
    for name in ["s2", "s3"] {
        scene.gossip(name, SerfStatus::Absent);
    }
    scene.decide();
    scene.pass(HOLD * 3);
    for name in ["s2", "s3"] {
        scene.gossip(name, SerfStatus::Alive);
    }
    assert_eq!(why(&mut scene, "s1"), Why::KeptWithoutAgent);
    scene.pass(HOLD / 2 - Duration::from_secs(1));
    assert_eq!(scene.state("s1"), "ready");
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn hold_and_a_leave_that_does_not_end_go_on_after_a_restart() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.gossip("s2", SerfStatus::Leaving);
    drained(&mut scene, "s2");
    scene.pass(HOLD - Duration::from_secs(1));
    scene.decide();
    let rotation: Vec<_> = scene.guard.in_rotation().collect();
    let words: Vec<_> = scene.guard.words(scene.now).collect();
    assert_eq!(words.len(), 2);
    let mut after = Scene::new(true);
    after.now = scene.now;
    for (key, endpoint) in rotation {
        after.guard.adopt(key, endpoint, after.now);
    }
    for (key, word) in words {
        after.guard.remember(key, word, after.now);
    }
    for name in ["s3", "s4"] {
        after.gossip(name, SerfStatus::Alive);
        after.runs(name, Admin::Ready, Check::Up, 0);
    }
    after.gossip("s1", SerfStatus::Failed);
    after.runs("s1", Admin::Ready, Check::Up, 0);
    after.gossip("s2", SerfStatus::Leaving);
    assert_eq!(after.state("s1"), "ready");
    after.probe("s2", Probed::Good);
    assert_eq!(why(&mut after, "s2"), Why::DidNotLeave);
    after.pass(Duration::from_secs(1));
    assert_eq!(after.state("s1"), "drain");
}
