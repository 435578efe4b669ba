//! One web server under two names.

use super::*;

/// Servers of a worker that was there first, by names that no member has.
fn running(names: &[&str]) -> Scene {
    let mut scene = Scene::new(true);
    for name in names {
        scene.runs(name, Admin::Ready, Check::Up, 1);
    }
    scene.decide();
    scene
}

fn line(scene: &mut Scene, name: &str) -> Option<Line> {
    scene.decision(name).and_then(|decision| decision.line)
}

#[test]
fn servers_under_other_names_are_taken_over_without_a_gap_and_drain() {
    let mut scene = running(&["web1", "web2"]);
    for (member, web) in [("d1", "web1"), ("d2", "web2")] {
        scene.gossip_at(member, SerfStatus::Alive, addr(web), RequestedState::Ready);
    }
    for name in ["d1", "d2", "web1", "web2"] {
        assert_eq!(line(&mut scene, name), Some(Line::Ready), "{name}");
    }
    let heir = Why::Replaced {
        by: ServerName::new("d1").unwrap(),
        cookie: None,
    };
    assert_eq!(scene.decision("web1").unwrap().status.why, heir);
    scene.runs_at("d1", Admin::Ready, addr("web1"));
    assert_eq!(scene.admin("web1"), Some(WantedAdmin::Drain));
    assert_eq!(scene.state("web2"), "ready", "HAProxy does not run d2 yet");
    scene.runs_at("d2", Admin::Ready, addr("web2"));
    let decision = scene.decision("web2").unwrap();
    assert_eq!(
        (decision.line, decision.admin),
        (None, Some(WantedAdmin::Drain))
    );
    let budget = scene.decide().budgets[&BackendName::new("b").unwrap()];
    assert_eq!((budget.in_rotation, budget.used), (2, 0));
    scene.runs("web1", Admin::Drain, Check::None, 0);
    assert_eq!(scene.admin("web1"), None, "nobody is shut");
}

#[test]
fn a_reload_that_lacks_the_new_name_brings_the_old_one_back() {
    let mut scene = running(&["web1"]);
    scene.gossip_at("d1", SerfStatus::Alive, addr("web1"), RequestedState::Ready);
    scene.decide();
    scene.runs_at("d1", Admin::Ready, addr("web1"));
    assert_eq!(scene.state("web1"), "drain");
    scene.gone_from_haproxy("d1");
    scene.runs("web1", Admin::Ready, Check::Up, 0);
    assert_eq!(scene.state("web1"), "ready");
    scene.runs_at("d1", Admin::Ready, addr("web1"));
    assert_eq!(scene.state("web1"), "drain");
}

#[test]
fn a_dead_server_proves_nothing_for_the_member_at_its_address() {
    let mut scene = running(&["web1", "web2"]);
    scene.runs("web1", Admin::Ready, Check::Down, 0);
    scene.gossip_at("d1", SerfStatus::Alive, addr("web1"), RequestedState::Ready);
    scene.decide();
    assert_eq!(scene.state("d1"), "waiting");
    scene.probe("d1", Probed::Good);
    assert_eq!(scene.state("d1"), "ready");
}

#[test]
fn a_member_that_asks_for_maint_asks_for_its_web_server_under_the_old_name_too() {
    let mut scene = running(&["web1", "web2"]);
    scene.gossip_at("d1", SerfStatus::Alive, addr("web1"), RequestedState::Maint);
    assert_eq!(scene.state("web1"), "drain");
    assert_eq!(scene.state("d1"), "maint");
}

/// A node that is renamed leaves under the one name and joins under the other, and its web server goes on.
#[test]
fn the_only_server_may_be_renamed() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s1", SerfStatus::Left);
    assert_eq!(scene.state("s1"), "ready");
    scene.gossip_at("s9", SerfStatus::Alive, addr("s1"), RequestedState::Ready);
    assert_eq!(scene.state("s9"), "ready");
    assert_eq!(scene.state("s1"), "ready");
    scene.runs_at("s9", Admin::Ready, addr("s1"));
    assert_eq!(scene.state("s1"), "drain");
    assert_eq!(scene.state("s9"), "ready");
}

#[test]
fn of_two_members_at_one_address_one_takes_over() {
    let mut scene = running(&["web1"]);
    for member in ["d1", "d2"] {
        scene.gossip_at(
            member,
            SerfStatus::Alive,
            addr("web1"),
            RequestedState::Ready,
        );
    }
    assert_eq!(scene.state("d1"), "ready");
    let decision = scene.decision("d2").unwrap();
    let taken = Why::AddressTaken(ServerName::new("d1").unwrap());
    assert_eq!((decision.line, decision.status.why), (None, taken));
}

#[test]
fn a_cookie_that_ends_with_the_old_name_is_said() {
    let mut scene = running(&["web1"]);
    let cookie = |scene: &mut Scene, name: &str, value: &str| {
        let servers = scene.running.get_mut("b").unwrap();
        let stat = servers.get_mut(name).unwrap().stat.as_mut().unwrap();
        stat.cookie = Some(value.to_owned());
    };
    cookie(&mut scene, "web1", "w1");
    scene.gossip_at("d1", SerfStatus::Alive, addr("web1"), RequestedState::Ready);
    scene.decide();
    scene.runs_at("d1", Admin::Ready, addr("web1"));
    cookie(&mut scene, "d1", "d1");
    let why = scene.decision("web1").unwrap().status.why.to_string();
    assert!(why.contains("its cookie `w1` ends"), "{why}");
}

/// Members a1 and a2 name the addresses of s1 and s2, with this weight.
fn squatted(scene: &mut Scene, weight: u16) {
    for (squatter, victim) in [("a1", "s1"), ("a2", "s2")] {
        scene.gossip_weight(squatter, SerfStatus::Alive, addr(victim), weight);
    }
}

/// It answers, if it has to, and HAProxy runs it. Who goes on for one that serves need not answer.
fn comes_in(scene: &mut Scene, name: &str) {
    if scene.state(name) == "waiting" {
        scene.probe(name, Probed::Good);
    }
    assert_eq!(scene.state(name), "ready", "{name}");
    let endpoint = scene.decision(name).unwrap().endpoint.addr;
    scene.runs_at(name, Admin::Ready, endpoint);
    scene.decide();
}

#[test]
fn who_names_the_address_of_a_server_waits_while_that_is_there() {
    for weight in [0, 1, 10] {
        let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
        squatted(&mut scene, weight);
        let decision = scene.decision("a1").unwrap();
        let taken = Why::AddressTaken(ServerName::new("s1").unwrap());
        assert_eq!((decision.line, decision.status.why), (None, taken));
        assert_eq!(scene.state("s1"), "ready");
    }
}

/// It leaves for a restart, another name goes on meanwhile, and it comes back: the address is its own.
#[test]
fn a_server_that_comes_back_has_its_address_back() {
    for weight in [0, 1] {
        let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
        squatted(&mut scene, weight);
        scene.gossip("s1", SerfStatus::Left);
        scene.decide();
        scene.gone_from_haproxy("s1");
        scene.decide();
        comes_in(&mut scene, "a1");
        scene.gone_from_haproxy("s1");
        scene.decide();
        scene.gossip("s1", SerfStatus::Alive);
        scene.decide();
        comes_in(&mut scene, "s1");
        assert_eq!(scene.state("s1"), "ready");
        let why = scene.decision("a1").unwrap().status.why;
        assert_eq!(why, Why::AddressTaken(ServerName::new("s1").unwrap()));
    }
}

/// A balancer that begins with nothing sees them all at once.
#[test]
fn of_two_unknown_ones_the_one_that_takes_requests_is_first() {
    let mut scene = Scene::new(true);
    squatted(&mut scene, 0);
    for name in ["s1", "s2"] {
        scene.gossip(name, SerfStatus::Alive);
    }
    scene.decide();
    for name in ["a1", "s1", "a2", "s2"] {
        scene.probe(name, Probed::Good);
    }
    scene.decide();
    for name in ["s1", "s2"] {
        comes_in(&mut scene, name);
    }
    for name in ["a1", "a2"] {
        assert_eq!(scene.decision(name).unwrap().line, None, "{name}");
    }
    // The weight of the first is a matter of its own from then on.
    squatted(&mut scene, 10);
    scene.decide();
    assert_eq!(scene.state("s1"), "ready");
    assert_eq!(scene.decision("a1").unwrap().line, None);
}

#[test]
fn servers_without_weight_do_not_count_for_the_floor() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip_weight("s2", SerfStatus::Alive, addr("s2"), 0);
    scene.decide();
    scene.probe("s2", Probed::Good);
    assert_eq!(scene.state("s2"), "ready");
    scene.runs("s2", Admin::Ready, Check::Up, 0);
    scene.gossip("s1", SerfStatus::Left);
    assert_eq!(
        scene.state("s1"),
        "ready",
        "the last one that takes requests"
    );
}
