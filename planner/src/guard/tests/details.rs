//! What the laws do not see: words, deadlines, polls, who is asked, and what another process left behind.

use std::collections::BTreeSet;

use super::*;
use crate::model::Quarantine;
use crate::model::here::What;

const OFTEN: Duration = Duration::from_millis(100);
const NOW_AND_THEN: Duration = Duration::from_secs(1);

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        addr: addr(name),
        weight: Weight::DEFAULT,
    }
}

fn probe_until(scene: &mut Scene, name: &str, found: Probed, times: usize) {
    for _ in 0..times {
        scene.probe(name, found);
    }
}

fn suspect(scene: &mut Scene, name: &str) -> bool {
    let name = ServerName::new(name).unwrap();
    scene.guard.observe_suspicion(name.as_str(), scene.now)
}

#[test]
fn lines_and_admin_states_are_those_of_the_decisions() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s2", SerfStatus::Alive);
    let decisions = scene.decide();
    let lines = decisions.lines();
    let lines: Vec<_> = lines[&BackendName::new("b").unwrap()]
        .iter()
        .map(|server| (server.name.as_str(), server.addr, server.ready))
        .collect();
    assert_eq!(lines, [("s1", addr("s1"), true)]);
    let admins = decisions.admins();
    let admin = |name| admins[&ServerKey::read("b", name).unwrap()];
    assert_eq!(
        (admin("s1"), admin("s2")),
        (WantedAdmin::Ready, WantedAdmin::Maint)
    );
}

#[test]
fn every_reason_and_origin_has_words_of_its_own() {
    let held = Held::Budget { used: 1, limit: 2 };
    let reasons = [
        Why::Proven,
        Why::NotProven,
        Why::AddressTaken(ServerName::new("s9").unwrap()),
        Why::Damped(Duration::from_secs(8)),
        Why::KeptWithoutAgent,
        Why::Held(held),
        Why::Held(Held::Floor),
        Why::Held(Held::LastToLeave),
        Why::Held(Held::Deselected { used: 1, limit: 2 }),
        Why::Held(Held::LastDeselected),
        Why::DidNotLeave,
        Why::Dead,
        Why::Suspected,
        Why::Leaves,
        Why::Deselected,
        Why::AskedFor,
        Why::Replaced {
            by: ServerName::new("s9").unwrap(),
            cookie: None,
        },
        Why::HeldLongEnough,
        Why::Approved,
    ];
    let words: BTreeSet<String> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), reasons.len());
    assert!(words.iter().all(|words| words.len() > 10), "{words:?}");
    assert!(words.contains("held: 1 of the 2 that may go within `window` have gone"));
    let origins = [Origin::Member, Origin::Before, Origin::Worker].map(Origin::as_str);
    assert_eq!(origins, ["member", "before", "worker"]);
}

#[test]
fn witnesses_are_shown_as_they_spoke_last() {
    let mut scene = Scene::new(true);
    scene.gossip("s1", SerfStatus::Alive);
    let probe = |scene: &mut Scene| scene.decision("s1").unwrap().evidence.probe;
    assert_eq!(probe(&mut scene), None);
    scene.probe("s1", Probed::Failed);
    assert_eq!(probe(&mut scene), Some(Probed::Failed));
    scene.probe("s1", Probed::Refused);
    assert_eq!(probe(&mut scene), Some(Probed::Refused));
}

#[test]
fn a_drain_is_looked_at_often_and_ends_in_time() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    assert!(!scene.guard.wants_stat());
    assert_eq!(scene.decide().deadline, None);
    scene.gossip("s1", SerfStatus::Left);
    scene.runs("s1", Admin::Drain, Check::None, 1);
    let decisions = scene.decide();
    assert_eq!(decisions.deadline, Some(scene.now + DRAIN));
    assert_eq!(decisions.poll, Some(OFTEN));
    assert!(scene.guard.wants_stat());
}

#[test]
fn who_is_drained_by_a_tag_and_idle_is_not_looked_at_any_more() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip_at("s1", SerfStatus::Alive, addr("s1"), RequestedState::Drain);
    scene.runs("s1", Admin::Drain, Check::None, 1);
    assert_eq!(scene.decide().poll, Some(OFTEN));
    scene.runs("s1", Admin::Drain, Check::None, 0);
    scene.decide();
    assert_eq!(scene.decide().poll, None);
}

#[test]
fn who_is_let_in_by_haproxys_check_is_looked_at_and_never_probed() {
    let mut scene = Scene::new(true);
    let mut unprobed = rules(true);
    unprobed.admits = Admits::GoodCheck;
    scene
        .guard
        .set_rules([(BackendName::new("b").unwrap(), unprobed)].into());
    scene.gossip("s1", SerfStatus::Alive);
    let decisions = scene.decide();
    assert_eq!(decisions.poll, Some(OFTEN));
    assert_eq!(
        decisions.servers[&key("s1")].admin,
        Some(WantedAdmin::Waiting)
    );
    assert!(scene.guard.targets(scene.now).is_empty());
    scene.runs("s1", Admin::Drain, Check::Pending, 0);
    assert_eq!(scene.state("s1"), "waiting");
    scene.runs("s1", Admin::Drain, Check::Up, 0);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn the_second_witness_is_looked_at_while_an_agent_is_gone() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    let decisions = scene.decide();
    assert_eq!(decisions.poll, Some(NOW_AND_THEN));
    assert_eq!(decisions.deadline, Some(scene.now + HOLD));
    scene.forget("s1");
    assert_eq!(
        scene.decide().deadline,
        Some(scene.now + HOLD),
        "what gossip said last is remembered"
    );
}

#[test]
fn a_removal_in_the_book_has_a_deadline_of_its_own() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    scene.decide();
    let removed = scene.now;
    scene.gone_from_haproxy("s1");
    let window = rules(true).guard.window;
    assert_eq!(scene.decide().deadline, Some(removed + window));
    let removals: Vec<_> = scene.guard.removals().collect();
    assert_eq!(removals.len(), 1);
    scene.pass(window);
    assert_eq!(scene.decide().budgets.values().next().unwrap().used, 0);
}

#[test]
fn what_an_earlier_process_had_in_rotation_stays_until_somebody_calls_it_dead() {
    let mut scene = Scene::new(true);
    scene.guard.adopt(key("s1"), endpoint("s1"), scene.now);
    assert_eq!(scene.state("s1"), "ready");
    assert_eq!(scene.decision("s1").unwrap().origin, Origin::Before);
    let in_rotation: Vec<_> = scene.guard.in_rotation().collect();
    assert_eq!(in_rotation, [(key("s1"), endpoint("s1"))]);
    scene.gossip("s1", SerfStatus::Alive);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn a_server_that_the_first_worker_has_at_another_address_moves_once_the_new_one_answers() {
    let old: SocketAddr = "192.0.2.250:3000".parse().unwrap();
    let mut scene = Scene::new(true);
    scene.runs("s1", Admin::Ready, Check::Up, 0);
    let running = scene.running.get_mut("b").unwrap();
    running.get_mut("s1").unwrap().addr = Some(old);
    scene.gossip("s1", SerfStatus::Alive);
    assert_eq!(scene.decision("s1").unwrap().endpoint.addr, old);
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.decision("s1").unwrap().endpoint.addr, addr("s1"));
}

#[test]
fn what_the_first_worker_drains_goes_on_draining() {
    let mut scene = Scene::new(true);
    scene.guard.adopt(key("s1"), endpoint("s1"), scene.now);
    scene.runs("s2", Admin::Drain, Check::None, 1);
    scene.gossip("s2", SerfStatus::Alive);
    let decision = scene.decision("s2").unwrap();
    assert_eq!(
        (decision.status.state, decision.admin),
        ("waiting", Some(WantedAdmin::Drain)),
        "its running request is not cut"
    );
}

#[test]
fn approvals_reach_those_they_name_and_nobody_else() {
    let split = || {
        let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4"]);
        for name in ["s1", "s2", "s3"] {
            scene.gossip(name, SerfStatus::Failed);
        }
        scene.decide();
        scene
    };
    let backend = |name| Approval::Backend(BackendName::new(name).unwrap());
    assert_eq!(split().guard.approve(&Approval::All).len(), 3);
    assert_eq!(split().guard.approve(&backend("b")).len(), 3);
    assert_eq!(split().guard.approve(&backend("other")), []);
    let mut scene = split();
    let elsewhere = ServerKey {
        backend: BackendName::new("other").unwrap(),
        ..key("s1")
    };
    assert_eq!(scene.guard.approve(&Approval::Server(elsewhere)), []);
    assert_eq!(scene.approve("s4"), 0, "it is not held");
    assert_eq!(scene.approve("s1"), 1);
    assert_eq!(scene.state("s1"), "drain");
    assert_eq!(scene.state("s2"), "ready");
}

#[test]
fn a_suspicion_matters_once_and_only_where_a_server_is_in_use() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2"]);
    scene.gossip("s3", SerfStatus::Alive);
    scene.decide();
    assert!(suspect(&mut scene, "s1"));
    assert!(!suspect(&mut scene, "s1"), "known already");
    assert!(!suspect(&mut scene, "s3"), "not in use");
    assert!(!suspect(&mut scene, "s9"), "unknown");
    let targets = scene.guard.targets(scene.now);
    assert_eq!(targets[&key("s1")].urgency, Urgency::Suspect);
    assert!(!targets.contains_key(&key("s2")));
    scene.probe("s1", Probed::Good);
    assert!(scene.decision("s1").unwrap().evidence.suspected);
    probe_until(&mut scene, "s1", Probed::Good, 4);
    assert!(!scene.decision("s1").unwrap().evidence.suspected);
}

/// Where HAProxy checks, gossip's early word changes nothing, and is forgotten.
#[test]
fn a_suspicion_beside_haproxys_check_takes_nobody_out_and_passes() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    assert!(suspect(&mut scene, "s1"));
    assert_eq!(scene.state("s1"), "ready");
    assert!(scene.guard.targets(scene.now).is_empty());
    scene.pass(Duration::from_secs(60));
    assert!(!scene.decision("s1").unwrap().evidence.suspected);
}

#[test]
fn gossips_word_alive_ends_a_suspicion_and_failed_keeps_what_the_probes_said() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2", "s3"]);
    suspect(&mut scene, "s1");
    scene.probe("s1", Probed::Failed);
    scene.gossip("s1", SerfStatus::Failed);
    let evidence = scene.decision("s1").unwrap().evidence;
    assert_eq!(
        (evidence.probe, evidence.suspected),
        (Some(Probed::Failed), true)
    );
    scene.gossip("s1", SerfStatus::Alive);
    let evidence = scene.decision("s1").unwrap().evidence;
    assert_eq!((evidence.probe, evidence.suspected), (None, false));
}

#[test]
fn a_probe_is_news_where_something_follows_from_it() {
    let mut scene = Scene::new(true);
    scene.gossip("s1", SerfStatus::Alive);
    scene.decide();
    let mut probed = |found| scene.guard.observe_probe(&key("s1"), addr("s1"), found);
    assert!(!probed(Probed::Failed), "it waits, as before");
    assert!(probed(Probed::Good));
    assert!(probed(Probed::Good));
    let elsewhere = "192.0.2.251:1".parse().unwrap();
    assert!(
        !scene
            .guard
            .observe_probe(&key("s1"), elsewhere, Probed::Good)
    );
    let mut scene = Scene::in_rotation(false, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    let mut probed = |found| scene.guard.observe_probe(&key("s1"), addr("s1"), found);
    assert!(
        probed(Probed::Failed),
        "its agent is gone: this is the second witness"
    );
}

#[test]
fn an_agent_gone_is_no_suspect_and_is_watched_without_hurry() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    let urgency = |scene: &Scene| scene.guard.targets(scene.now)[&key("s1")].urgency;
    assert_eq!(urgency(&scene), Urgency::Watch);
    let mut checked = Scene::in_rotation(true, &["s1", "s2"]);
    checked.gossip("s1", SerfStatus::Failed);
    checked.decide();
    assert!(
        checked.guard.targets(checked.now).is_empty(),
        "HAProxy's own check is the witness"
    );
}

#[test]
fn a_tag_for_drain_is_not_probed_for_and_not_let_in() {
    let mut scene = Scene::new(true);
    scene.gossip_at("s1", SerfStatus::Alive, addr("s1"), RequestedState::Maint);
    scene.decide();
    assert!(scene.guard.targets(scene.now).is_empty());
    assert_eq!(scene.state("s1"), "maint");
}

#[test]
fn a_member_that_is_forgotten_while_it_waits_goes() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    scene.gossip("s2", SerfStatus::Alive);
    assert_eq!(scene.state("s2"), "waiting");
    scene.deselect("s2");
    assert_eq!(scene.state("s2"), "leaving");
    scene.gone_from_haproxy("s2");
    assert_eq!(scene.state("s2"), "unknown");
    scene.gossip("s3", SerfStatus::Alive);
    assert_eq!(scene.state("s3"), "waiting");
    scene.gossip("s3", SerfStatus::Failed);
    assert_eq!(
        scene.state("s3"),
        "leaving",
        "it was never in use: nobody waits for it"
    );
}

/// Two that fail on one budget of one: the second is held, by the book and not by chance.
#[test]
fn what_is_taken_out_is_taken_from_the_budget() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2", "s3", "s4", "s5", "s6"]);
    for name in ["s1", "s2", "s3"] {
        suspect(&mut scene, name);
    }
    for name in ["s1", "s2", "s3"] {
        scene.probe(name, Probed::Refused);
    }
    let out = |scene: &mut Scene| {
        let decisions = scene.decide();
        let states = decisions.servers.values();
        states
            .filter(|decision| decision.status.state == "out")
            .count()
    };
    assert_eq!(out(&mut scene), 3, "half of six");
    suspect(&mut scene, "s4");
    scene.probe("s4", Probed::Refused);
    assert_eq!(out(&mut scene), 3, "the budget is used up");
    assert_eq!(scene.decide().budgets.values().next().unwrap().used, 3);
}

#[test]
fn holds_that_end_together_end_within_the_budget_and_above_the_floor() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.gossip("s2", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD);
    let decisions = scene.decide();
    let drained = decisions.servers.values();
    let drained = drained.filter(|decision| decision.status.state == "drain");
    assert_eq!(drained.count(), 2, "half of four");
    let mut floor = rules(true);
    floor.guard.min_servers = 3;
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4"]);
    scene
        .guard
        .set_rules([(BackendName::new("b").unwrap(), floor)].into());
    scene.gossip("s1", SerfStatus::Failed);
    scene.gossip("s2", SerfStatus::Failed);
    scene.decide();
    scene.pass(HOLD);
    let decisions = scene.decide();
    let ready = decisions.servers.values();
    let ready = ready.filter(|decision| decision.status.state == "ready");
    assert_eq!(ready.count(), 3, "min_servers");
}

fn states(scene: &mut Scene, state: &str) -> usize {
    let decisions = scene.decide();
    let mut servers: Vec<_> = decisions.servers.into_values().collect();
    servers.retain(|decision| decision.status.state == state);
    servers.len()
}

/// What gossip and a second witness took out has used the budget up for those that only one witness calls dead.
#[test]
fn suspects_share_the_budget_with_the_dead() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2", "s3", "s4", "s5", "s6"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.decide();
    scene.probe("s1", Probed::Refused);
    assert_eq!(scene.state("s1"), "out");
    for name in ["s2", "s3", "s4"] {
        suspect(&mut scene, name);
    }
    for name in ["s2", "s3", "s4"] {
        scene.probe(name, Probed::Refused);
    }
    assert_eq!(
        states(&mut scene, "out"),
        3,
        "the dead one and two of three"
    );
    assert_eq!(states(&mut scene, "ready"), 3);
}

#[test]
fn ended_holds_share_the_budget_with_the_dead() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4", "s5", "s6"]);
    for name in ["s2", "s3", "s4"] {
        scene.gossip(name, SerfStatus::Failed);
    }
    scene.decide();
    scene.pass(HOLD - Duration::from_secs(1));
    scene.gossip("s1", SerfStatus::Failed);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(states(&mut scene, "out"), 1);
    scene.pass(Duration::from_secs(1));
    assert_eq!(
        states(&mut scene, "drain"),
        2,
        "the dead one and two of three"
    );
    assert_eq!(states(&mut scene, "ready"), 3);
}

#[test]
fn a_check_that_says_down_is_nothing_to_approve_while_its_agent_lives() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    scene.decide();
    assert_eq!(scene.approve("s1"), 0);
}

#[test]
fn who_goes_is_told_why() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2", "s3"]);
    scene.deselect("s1");
    let why = |scene: &mut Scene, name| scene.decision(name).unwrap().status.why;
    assert_eq!(why(&mut scene, "s1"), Why::Deselected);
    scene.gossip("s2", SerfStatus::Failed);
    scene.decide();
    scene.probe("s2", Probed::Good);
    let evidence = scene.decision("s2").unwrap().evidence;
    assert_eq!(evidence.probe, Some(Probed::Good));
    scene.probe("s2", Probed::Refused);
    assert_eq!(why(&mut scene, "s2"), Why::Dead);
    scene.pass(HOLD);
    let decision = scene.decision("s2").unwrap();
    assert_eq!(
        (decision.status.state, decision.status.why),
        ("leaving", Why::Dead)
    );
}

/// An address that becomes this host's while its server is in rotation: requests would come back for ever.
#[test]
fn a_server_that_turns_out_to_be_the_balancer_itself_is_out_at_once_even_as_the_last_one() {
    let mut scene = Scene::in_rotation(true, &["s1"]);
    let claim = |at: &str| Candidate {
        attributes: Err(Quarantine::Here {
            addr: addr(at),
            what: What::Haproxy("bind *:80".to_owned()),
        }),
        gossip: SerfStatus::Alive,
    };
    // Its place is another one, which is kept as with any tag that turns bad.
    scene.candidate("s1", claim("s2"));
    scene.decide();
    assert_eq!(scene.state("s1"), "ready");
    scene.candidate("s1", claim("s1"));
    scene.decide();
    assert_ne!(scene.state("s1"), "ready");
    scene.probe("s1", Probed::Good);
    scene.decide();
    assert_ne!(scene.state("s1"), "ready");
    scene.gossip("s1", SerfStatus::Alive);
    scene.probe("s1", Probed::Good);
    scene.decide();
    assert_eq!(scene.state("s1"), "ready");
}
