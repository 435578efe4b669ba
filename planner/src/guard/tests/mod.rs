mod crowds;
mod details;
mod handover;
mod laws;
mod one_witness;
mod roles;
mod serf;

use std::sync::Arc;

use super::*;
use crate::guard::server::ServerState;
use crate::model::{
    Admin, Attributes, Candidate, Check, Quarantine, RequestedState, RunningServer, SerfStatus,
    ServerStat, WantedAdmin, Weight,
};

const HOLD: Duration = Duration::from_secs(600);
const DRAIN: Duration = Duration::from_secs(30);

fn rules(checked: bool) -> Rules {
    Rules {
        checked,
        admits: Admits::Probe,
        check_interval: Duration::from_secs(1),
        suspicion: true,
        max_penalty: Duration::from_secs(30),
        guard: config::GuardConfig {
            min_servers: 1,
            max_servers: 1000,
            max_removal_percent: 50,
            window: Duration::from_secs(300),
            hold: Some(HOLD),
            probe_fall: 3,
        },
        drain_timeout: DRAIN,
    }
}

impl Guard {
    /// The probes that are to run.
    fn targets(&self, now: Instant) -> BTreeMap<ServerKey, Target> {
        let mut targets = BTreeMap::new();
        for (name, backend) in &self.backends {
            for (server_name, server) in backend.all() {
                if let Some(target) = server.target(&backend.rules, now) {
                    targets.insert(ServerKey::new(name, server_name), target);
                }
            }
        }
        targets
    }

    fn wake_all(&mut self) {
        self.backends.values_mut().for_each(BackendState::wake_all);
    }
}

impl BackendState {
    /// All servers, those at rest too.
    fn all(&self) -> BTreeMap<&ServerName, &ServerState> {
        self.servers.iter().chain(self.rest.iter()).collect()
    }
}

impl Decisions {
    /// With those at rest among the others.
    fn whole(mut self) -> Self {
        for resting in std::mem::take(&mut self.resting).into_values() {
            let resting = Arc::unwrap_or_clone(resting);
            self.servers.extend(resting);
        }
        self
    }
}

/// A guard over one backend, with its HAProxy played by hand.
#[derive(Clone)]
struct Scene {
    guard: Guard,
    model: Model,
    running: RunningServers,
    now: Instant,
}

impl Scene {
    fn new(checked: bool) -> Self {
        let backend = BackendName::new("b").unwrap();
        let mut model = Model::default();
        model.backends.insert(backend.clone(), BTreeMap::new());
        Self {
            guard: Guard::new([(backend, rules(checked))].into()),
            model,
            running: [("b".to_owned(), BTreeMap::new())].into(),
            now: Instant::now(),
        }
    }

    fn set_rules(&mut self, rules: Rules) {
        let backend = BackendName::new("b").unwrap();
        self.guard.set_rules([(backend, rules)].into());
    }

    /// Servers in rotation, alive and checked good.
    fn in_rotation(checked: bool, names: &[&str]) -> Self {
        let mut scene = Self::new(checked);
        for name in names {
            scene.gossip(name, SerfStatus::Alive);
            scene.runs(name, Admin::Ready, Check::Up, 0);
        }
        scene.decide();
        for name in names {
            assert_eq!(scene.state(name), "ready");
        }
        scene
    }

    fn gossip(&mut self, name: &str, gossip: SerfStatus) {
        self.gossip_at(name, gossip, addr(name), RequestedState::Ready);
    }

    fn gossip_at(
        &mut self,
        name: &str,
        gossip: SerfStatus,
        addr: SocketAddr,
        requested: RequestedState,
    ) {
        let weight = Weight::DEFAULT;
        self.says(name, gossip, Endpoint { addr, weight }, requested);
    }

    fn gossip_weight(&mut self, name: &str, gossip: SerfStatus, addr: SocketAddr, weight: u16) {
        let weight = Weight::new(weight).unwrap();
        self.says(
            name,
            gossip,
            Endpoint { addr, weight },
            RequestedState::Ready,
        );
    }

    fn says(
        &mut self,
        name: &str,
        gossip: SerfStatus,
        endpoint: Endpoint,
        requested: RequestedState,
    ) {
        self.candidate(
            name,
            Candidate {
                attributes: Ok(Attributes {
                    endpoint,
                    requested,
                }),
                gossip,
            },
        );
    }

    fn candidate(&mut self, name: &str, candidate: Candidate) {
        let name = ServerName::new(name).unwrap();
        let member = ServerName::new(name.member()).unwrap();
        self.model.known.insert(member, candidate.gossip);
        for servers in self.model.backends.values_mut() {
            servers.insert(name.clone(), candidate.clone());
        }
    }

    fn deselect(&mut self, name: &str) {
        for servers in self.model.backends.values_mut() {
            servers.remove(&ServerName::new(name).unwrap());
        }
    }

    fn forget(&mut self, name: &str) {
        self.deselect(name);
        let name = ServerName::new(name).unwrap();
        self.model.known.remove(name.member());
    }

    fn runs(&mut self, name: &str, admin: Admin, check: Check, in_flight: u64) {
        let stat = Some(ServerStat {
            check,
            said: None,
            in_flight,
            maxconn: None,
            total: 0,
            cookie: None,
        });
        let server = RunningServer {
            addr: Some(addr(name)),
            weight: 1,
            admin,
            agent: None,
            stat,
        };
        self.running
            .get_mut("b")
            .unwrap()
            .insert(name.to_owned(), server);
    }

    fn runs_at(&mut self, name: &str, admin: Admin, addr: SocketAddr) {
        self.runs(name, admin, Check::Up, 0);
        let servers = self.running.get_mut("b").unwrap();
        servers.get_mut(name).unwrap().addr = Some(addr);
    }

    fn probe(&mut self, name: &str, found: Probed) {
        let at = self
            .guard
            .targets(self.now)
            .get(&key(name))
            .map(|target| target.addr);
        self.guard
            .observe_probe(&key(name), at.expect("a probe is wanted"), found);
    }

    fn approve(&mut self, name: &str) -> usize {
        self.guard.approve(&Approval::Server(key(name))).len()
    }

    fn gone_from_haproxy(&mut self, name: &str) {
        self.running.get_mut("b").unwrap().remove(name);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn decide(&mut self) -> Decisions {
        self.guard.observe_members(&self.model, self.now);
        self.guard.observe_running(&self.running, self.now);
        self.guard.decide(self.now).whole()
    }

    fn decision(&mut self, name: &str) -> Option<Decision> {
        self.decide().servers.remove(&key(name))
    }

    fn state(&mut self, name: &str) -> &'static str {
        self.decision(name)
            .map_or("unknown", |decision| decision.status.state)
    }

    fn admin(&mut self, name: &str) -> Option<WantedAdmin> {
        self.decision(name).and_then(|decision| decision.admin)
    }
}

fn key(name: &str) -> ServerKey {
    ServerKey::read("b", name).unwrap()
}

fn addr(name: &str) -> SocketAddr {
    let host = name.bytes().fold(0_u8, u8::wrapping_add).max(1);
    SocketAddr::from(([192, 0, 2, host], 3000))
}

#[test]
fn a_new_server_is_not_told_to_haproxy_before_it_answers() {
    let mut scene = Scene::new(true);
    scene.gossip("s1", SerfStatus::Alive);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.line, decision.admin),
        (None, Some(WantedAdmin::Maint))
    );
    scene.probe("s1", Probed::Refused);
    assert_eq!(scene.state("s1"), "waiting");
    scene.probe("s1", Probed::Good);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.line, decision.admin),
        (Some(Line::Ready), Some(WantedAdmin::Ready))
    );
    assert!(
        scene.guard.targets(scene.now).is_empty(),
        "nothing is left to be proven"
    );
}

#[test]
fn what_the_first_worker_has_ready_counts_as_proven_and_later_ones_do_not() {
    let mut scene = Scene::new(true);
    scene.gossip("s1", SerfStatus::Alive);
    scene.runs("s1", Admin::Ready, Check::Up, 0);
    assert_eq!(scene.state("s1"), "ready");
    scene.gossip("s2", SerfStatus::Alive);
    scene.runs("s2", Admin::Ready, Check::Up, 0);
    assert_eq!(scene.state("s2"), "waiting");
}

#[test]
fn servers_of_the_first_worker_that_gossip_does_not_know_stay() {
    let mut scene = Scene::new(true);
    scene.runs("s1", Admin::Ready, Check::Up, 0);
    assert_eq!(scene.state("s1"), "ready");
    scene.pass(HOLD * 2);
    assert_eq!(
        scene.state("s1"),
        "ready",
        "absent members are never taken out by time"
    );
}

#[test]
fn a_leaving_server_drains_and_goes_when_it_is_idle() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Leaving);
    scene.runs("s1", Admin::Ready, Check::Up, 2);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.line, decision.admin),
        (None, Some(WantedAdmin::Drain))
    );
    scene.runs("s1", Admin::Drain, Check::None, 1);
    scene.gossip("s1", SerfStatus::Left);
    assert_eq!(
        scene.admin("s1"),
        Some(WantedAdmin::Drain),
        "a request is running"
    );
    scene.runs("s1", Admin::Drain, Check::None, 0);
    assert_eq!(scene.admin("s1"), None, "idle: nothing has to be cut");
    scene.runs("s1", Admin::Maint, Check::None, 0);
    assert_eq!(scene.state("s1"), "unknown");
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Left);
    scene.decide();
    scene.runs("s1", Admin::Drain, Check::None, 1);
    scene.pass(DRAIN);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Cut));
}

#[test]
fn a_deselected_server_drains() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.deselect("s1");
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn a_member_that_gossip_forgets_altogether_stays() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.forget("s1");
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn a_failed_server_is_kept_while_its_check_is_up_and_cut_when_it_is_down() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    assert_eq!(
        scene.decision("s1").unwrap().status.why,
        Why::KeptWithoutAgent
    );
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.line, decision.admin),
        (None, Some(WantedAdmin::Cut))
    );
}

#[test]
fn a_check_that_says_down_alone_takes_nobody_out() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.state("s1"), "down");
}

#[test]
fn without_a_check_the_probes_are_the_second_witness() {
    let mut scene = Scene::in_rotation(false, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.gossip("s2", SerfStatus::Failed);
    assert_eq!(scene.state("s1"), "ready");
    scene.probe("s1", Probed::Refused);
    assert_eq!(scene.state("s1"), "out", "a refusal is final");
    for _ in 0..2 {
        scene.probe("s2", Probed::Failed);
        assert_eq!(scene.state("s2"), "ready");
    }
    scene.probe("s2", Probed::Failed);
    assert_eq!(scene.state("s2"), "out", "three silent probes are enough");
}

#[test]
fn a_cut_server_comes_back_as_soon_as_it_answers_even_before_gossip_says_alive() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.state("s1"), "out");
    scene.running.get_mut("b").unwrap().remove("s1");
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn a_cut_server_is_watched_for_as_long_as_hold() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    scene.runs("s1", Admin::Ready, Check::Down, 0);
    assert_eq!(scene.state("s1"), "out");
    scene.pass(HOLD);
    assert!(scene.guard.targets(scene.now).is_empty());
    scene.running.get_mut("b").unwrap().remove("s1");
    scene.decide();
    assert_eq!(scene.state("s1"), "unknown");
}

#[test]
fn the_last_line_stays_dead_or_not() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    for name in ["s1", "s2", "s3"] {
        scene.gossip(name, SerfStatus::Failed);
        scene.runs(name, Admin::Ready, Check::Down, 0);
    }
    let ready = scene
        .decide()
        .servers
        .values()
        .filter(|decision| decision.line == Some(Line::Ready))
        .count();
    assert_eq!(ready, 1);
}

#[test]
fn an_address_that_a_living_member_took_over_is_given_up_once_that_one_serves() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Failed);
    assert_eq!(scene.state("s1"), "ready");
    scene.gossip_at("s9", SerfStatus::Alive, addr("s1"), RequestedState::Ready);
    assert_eq!(scene.state("s9"), "ready");
    assert_eq!(scene.state("s1"), "ready");
    scene.runs_at("s9", Admin::Ready, addr("s1"));
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Drain));
}

#[test]
fn a_crashed_agent_is_held_then_drained_within_the_budget() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3"]);
    scene.gossip("s1", SerfStatus::Failed);
    let deadline = scene.decide().deadline;
    assert_eq!(deadline, Some(scene.now + HOLD));
    scene.pass(HOLD);
    assert_eq!(scene.state("s1"), "drain");
}

#[test]
fn a_split_of_gossip_is_waited_out() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2", "s3", "s4"]);
    for name in ["s1", "s2", "s3"] {
        scene.gossip(name, SerfStatus::Failed);
    }
    scene.decide();
    for _ in 0..10 {
        scene.pass(HOLD);
        for name in ["s1", "s2", "s3"] {
            assert_eq!(scene.state(name), "ready");
        }
    }
}

#[test]
fn a_tag_asks_for_drain_and_for_maint_and_takes_it_back() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip_at("s1", SerfStatus::Alive, addr("s1"), RequestedState::Maint);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.line, decision.admin),
        (Some(Line::Disabled), Some(WantedAdmin::Drain))
    );
    scene.runs("s1", Admin::Drain, Check::None, 0);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Maint));
    assert_eq!(
        scene.decide().poll,
        None,
        "nothing is left to be waited for"
    );
    scene.gossip("s1", SerfStatus::Alive);
    assert_eq!(scene.state("s1"), "waiting", "it has to prove itself again");
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "ready");
}

#[test]
fn a_drain_for_maint_that_takes_too_long_ends_in_maint() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip_at("s1", SerfStatus::Alive, addr("s1"), RequestedState::Maint);
    scene.decide();
    scene.runs("s1", Admin::Drain, Check::None, 1);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Drain));
    scene.pass(DRAIN);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Maint));
}

#[test]
fn a_server_moves_when_its_new_address_answers_and_not_before() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    let new = SocketAddr::from(([198, 51, 100, 1], 3000));
    scene.gossip_at("s1", SerfStatus::Alive, new, RequestedState::Ready);
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.endpoint.addr, decision.status.why),
        (addr("s1"), Why::Moving(new))
    );
    scene.probe("s1", Probed::Refused);
    assert_eq!(scene.decision("s1").unwrap().endpoint.addr, addr("s1"));
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.decision("s1").unwrap().endpoint.addr, new);
}

#[test]
fn two_servers_may_change_places_and_none_moves_to_where_one_stays() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    let at = |scene: &mut Scene, name| scene.decision(name).unwrap().endpoint.addr;
    scene.gossip_at("s1", SerfStatus::Alive, addr("s2"), RequestedState::Ready);
    scene.decide();
    scene.probe("s1", Probed::Good);
    assert_eq!(at(&mut scene, "s1"), addr("s1"));
    scene.gossip_at("s2", SerfStatus::Alive, addr("s1"), RequestedState::Ready);
    scene.decide();
    scene.probe("s2", Probed::Good);
    assert_eq!(at(&mut scene, "s1"), addr("s2"));
    assert_eq!(at(&mut scene, "s2"), addr("s1"));
}

#[test]
fn bad_tags_leave_a_server_in_service_with_its_last_good_ones_and_keep_a_new_one_out() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    let bad = |gossip| Candidate {
        attributes: Err(Quarantine::NoPort),
        gossip,
    };
    scene.candidate("s1", bad(SerfStatus::Alive));
    scene.candidate("s3", bad(SerfStatus::Alive));
    let decision = scene.decision("s1").unwrap();
    assert_eq!(
        (decision.endpoint.addr, decision.status.why),
        (addr("s1"), Why::KeptInQuarantine(Quarantine::NoPort))
    );
    assert_eq!(scene.state("s3"), "unknown");
    scene.candidate("s1", bad(SerfStatus::Left));
    assert_eq!(scene.state("s1"), "drain", "it may still leave");
}

#[test]
fn a_server_that_returns_while_it_drains_proves_itself_without_losing_its_requests() {
    let mut scene = Scene::in_rotation(true, &["s1", "s2"]);
    scene.gossip("s1", SerfStatus::Leaving);
    scene.decide();
    scene.runs("s1", Admin::Drain, Check::None, 3);
    scene.gossip("s1", SerfStatus::Alive);
    assert_eq!(scene.admin("s1"), Some(WantedAdmin::Drain));
    scene.probe("s1", Probed::Good);
    assert_eq!(scene.state("s1"), "ready");
}
