//! What one witness may do alone, and what not.

use super::*;

impl Scene {
    fn why(&mut self, name: &str) -> Why {
        self.decision(name).unwrap().status.why
    }

    fn suspect(&mut self, name: &str) {
        let name = ServerName::new(name).unwrap();
        self.guard.observe_suspicion(name.as_str(), self.now);
        self.decide();
    }

    fn states(&mut self, state: &str) -> usize {
        let decisions = self.decide();
        let standings = decisions.servers.values();
        standings
            .filter(|decision| decision.status.state == state)
            .count()
    }
}

const NAMES: [&str; 6] = ["s1", "s2", "s3", "s4", "s5", "s6"];

#[test]
fn those_whose_agents_are_gone_do_not_erode_away_one_by_one() {
    let mut scene = Scene::in_rotation(true, &NAMES);
    // Each alone is within the budget of three.
    for name in NAMES {
        scene.gossip(name, SerfStatus::Failed);
        scene.decide();
        scene.pass(HOLD);
        scene.decide();
        for name in NAMES {
            let admin = scene.admin(name);
            if admin == Some(WantedAdmin::Drain) {
                scene.runs(name, Admin::Drain, Check::None, 0);
                scene.decide();
                scene.gone_from_haproxy(name);
            }
        }
    }
    for _ in 0..20 {
        scene.pass(HOLD);
        assert_eq!(scene.states("ready"), 3, "the budget is used up for good");
    }
    assert!(matches!(
        scene.why("s6"),
        Why::Held(Held::Budget { used: 3, limit: 3 } | Held::Split { .. })
    ));
}

#[test]
fn whoever_was_drained_after_hold_counts_until_a_second_witness_agrees() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD);
    assert_eq!(scene.state("s1"), "drain");
    scene.runs("s1", Admin::Drain, Check::None, 0);
    scene.decide();
    scene.gone_from_haproxy("s1");
    assert_eq!(scene.why("s1"), Why::HeldLongEnough);
    scene.gossip("s2", SerfStatus::Failed);
    scene.probe("s1", Probed::Good);
    for _ in 0..5 {
        scene.pass(HOLD);
        let (given_up, limit) = (2, 1);
        assert_eq!(scene.why("s2"), Why::Held(Held::Split { given_up, limit }));
    }
    scene.probe("s1", Probed::Refused);
    assert_eq!(scene.why("s2"), Why::KeptWithoutAgent);
    scene.pass(HOLD);
    assert_eq!(scene.state("s2"), "drain", "s1 went long ago");
}

#[test]
fn the_dead_count_for_as_long_as_the_window() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s2", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD - Duration::from_secs(1));
    scene.gossip("s1", SerfStatus::Failed);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.state("s1"), "out");
    scene.pass(Duration::from_secs(1));
    assert_eq!(
        scene.why("s2"),
        Why::Held(Held::Budget { used: 1, limit: 1 })
    );
    let aged = scene.decide().deadline.unwrap();
    scene.now = aged;
    assert_eq!(scene.state("s2"), "drain");
}

#[test]
fn who_was_drained_after_hold_comes_back_when_gossip_says_so_and_not_before() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD);
    assert_eq!(scene.state("s1"), "drain");
    scene.runs("s1", Admin::Drain, Check::None, 0);
    scene.decide();
    scene.gone_from_haproxy("s1");
    scene.decide();
    for _ in 0..3 {
        scene.probe("s1", Probed::Good);
        assert_eq!(scene.state("s1"), "out");
    }
    scene.gossip("s1", SerfStatus::Alive);
    scene.decide();
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn hold_does_not_run_during_a_split_of_gossip() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4"]);
    for name in ["s1", "s2", "s3"] {
        scene.gossip(name, SerfStatus::Failed);
    }
    assert_eq!(
        scene.why("s1"),
        Why::Held(Held::Split {
            given_up: 3,
            limit: 2
        })
    );
    scene.pass(HOLD * 3);
    scene.decide();
    scene.gossip("s2", SerfStatus::Alive);
    scene.gossip("s3", SerfStatus::Alive);
    assert_eq!(scene.why("s1"), Why::KeptWithoutAgent);
    scene.pass(HOLD);
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn a_held_server_goes_when_somebody_approves_it() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    assert_eq!(scene.approve("s1"), 0, "nobody would have it out");
    for name in ["s1", "s2"] {
        scene.gossip(name, SerfStatus::Failed);
    }
    scene.decide();
    assert_eq!(scene.approve("s1"), 1);
    assert_eq!(scene.state("s1"), "drain");
    assert_eq!(scene.state("s2"), "ready");
    scene.runs("s1", Admin::Drain, Check::None, 0);
    scene.decide();
    scene.gone_from_haproxy("s1");
    assert_eq!(scene.why("s1"), Why::Approved);
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "out", "an answer takes back no approval");
}

#[test]
fn even_the_last_line_goes_when_that_is_approved() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.why("s1"), Why::Held(Held::Floor));
    assert_eq!(scene.approve("s1"), 1);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Cut));
}

#[test]
fn an_approval_is_over_when_gossip_says_something_else() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    assert_eq!(scene.approve("s1"), 1);
    scene.gossip("s1", SerfStatus::Alive);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn a_suspect_that_refuses_goes_out_at_once_and_comes_back_after_two_answers() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2", "s3"]);
    scene.suspect("s1");
    assert_eq!(
        scene.guard.targets(scene.now)[&key("s1")].urgency,
        Urgency::Suspect
    );
    assert_eq!(scene.state("s1"), "ready");
    scene.probe("s1", Probed::Refused);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.line, decision.admin),
        (Some(Line::Disabled), Some(WantedAdmin::Maint))
    );
    assert_eq!(decision.status.why, Why::Suspected);
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "out");
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn a_suspect_that_answers_stays() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2"]);
    scene.suspect("s1");
    for _ in 0..2 {
        scene.probe("s1", Probed::Good);
        assert_eq!(scene.state("s1"), "ready");
    }
    assert!(scene.guard.targets(scene.now).is_empty(), "it is cleared");
}

#[test]
fn a_suspect_with_a_check_is_left_to_haproxy() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.suspect("s1");
    assert!(scene.guard.targets(scene.now).is_empty());
    assert!(scene.decision("s1").unwrap().evidence.suspected);
    scene.pass(Duration::from_secs(10));
    assert!(!scene.decision("s1").unwrap().evidence.suspected);
}

#[test]
fn too_many_failing_probes_at_once_are_the_controllers_own_fault() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2", "s3", "s4"]);
    for name in ["s1", "s2", "s3"] {
        scene.suspect(name);
    }
    for name in ["s1", "s2", "s3"] {
        scene
            .guard
            .observe_probe(&key(name), addr(name), Probed::Refused);
        assert_eq!(scene.states("ready"), 4, "the others have not answered yet");
    }
    assert_eq!(scene.states("ready"), 4);
    assert_eq!(
        scene.why("s1"),
        Why::Held(Held::OwnProbes {
            silent: 3,
            limit: 2
        })
    );
}

#[test]
fn the_last_server_that_may_answer_is_not_taken_out_by_a_suspicion() {
    let mut scene = Scene::in_rotation(false, &["s1"]);
    scene.suspect("s1");
    scene.probe("s1", Probed::Refused);
    assert_eq!(scene.why("s1"), Why::Held(Held::Floor));
}

#[test]
fn a_suspect_that_fails_in_the_end_is_cut_without_further_probes() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2"]);
    scene.suspect("s1");
    for _ in 0..3 {
        scene.probe("s1", Probed::Failed);
        scene.decide();
    }
    assert_eq!(scene.state("s1"), "out");
    scene.gossip("s1", SerfStatus::Failed);
    let decision = scene.decision("s1").unwrap();
    assert_eq!((decision.line, decision.status.why), (None, Why::Dead));
}

#[test]
fn an_address_is_listed_under_one_name() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip_at("s9", SerfStatus::Alive, addr("s1"), RequestedState::Ready);
    scene.decide();
    scene.probe("s9", Probed::Good);
    let decision = scene.decision("s9").unwrap();
    let taken = Why::AddressTaken(ServerName::new("s1").unwrap());
    assert_eq!((decision.line, decision.status.why), (None, taken));
    scene.gossip("s1", SerfStatus::Failed);
    assert_eq!(scene.decision("s9").unwrap().line, Some(Line::Ready));
    scene.runs_at("s9", Admin::Ready, addr("s1"));
    assert_eq!(scene.decision("s1").unwrap().line, None);
}

#[test]
fn a_member_that_comes_and_goes_is_let_in_when_it_has_been_steady() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    let mut admitted = 0;
    for _ in 0..100 {
        scene.gossip("s1", SerfStatus::Left);
        scene.decide();
        scene.gone_from_haproxy("s1");
        scene.decide();
        scene.pass(Duration::from_millis(150));
        scene.gossip("s1", SerfStatus::Alive);
        scene.decide();
        scene.probe("s1", Probed::Good);
        admitted += usize::from(scene.state("s1") == "ready");
        scene.pass(Duration::from_millis(150));
        scene.decide();
    }
    assert_eq!(admitted, 2, "two returns are free");
    assert!(matches!(scene.why("s1"), Why::Damped(_)));
    let deadline = scene.decide().deadline.unwrap();
    assert!(deadline <= scene.now + Duration::from_secs(30));
    scene.now = deadline;
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn damping_never_leaves_too_few() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    let mut none = rules(true);
    none.guard.min_servers = 0;
    let backend = BackendName::new("b").unwrap();
    scene.guard.set_rules([(backend, none)].into());
    for _ in 0..20 {
        scene.gossip("s1", SerfStatus::Left);
        scene.decide();
        scene.gone_from_haproxy("s1");
        scene.decide();
        scene.gossip("s1", SerfStatus::Alive);
        scene.decide();
        scene.probe("s1", Probed::Good);
        assert_eq!(scene.state("s1"), "ready", "there is no other");
    }
}

#[test]
fn the_book_of_removals_survives_a_restart_and_so_does_the_way_back() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.state("s1"), "out");
    let (rotation, removals): (Vec<_>, Vec<_>) = (
        scene.guard.in_rotation().collect(),
        scene.guard.removals().collect(),
    );
    assert_eq!((rotation.len(), removals.len()), (2, 1));
    let mut after = Scene::new(true);
    for (key, endpoint) in rotation {
        after.guard.adopt(key, endpoint, after.now);
    }
    for (key, removal) in removals {
        after.guard.restore(key, removal, after.now);
    }
    after.gossip("s1", SerfStatus::Failed);
    let budget = after.decide().budgets[&BackendName::new("b").unwrap()];
    assert_eq!((budget.used, budget.limit), (1, 1));
    after.probe("s1", Probed::Good);
    assert_eq!(after.state("s1"), "ready");
}
