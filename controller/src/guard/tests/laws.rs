//! What holds in every history: random ones, played against a HAProxy that does what it is told.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;

const NAMES: [&str; 5] = ["s1", "s2", "s3", "s4", "s5"];

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Gossip(usize, Gossip),
    /// A web server begins or ceases to answer; whether a dead one refuses or is silent.
    Web(usize, Web),
    /// HAProxy's check notices.
    Check(usize),
    /// The controller's own probe comes back, if it is wanted.
    Probe(usize),
    /// All of the controller's own probes fail from now on, or work again.
    OwnProbes(bool),
    Suspect(usize),
    Approve(usize),
    /// A member says that it is at another's place, or back at its own.
    Move(usize, usize),
    /// A request begins or ends.
    Request(usize, bool),
    Pass(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Web {
    Up,
    Refuses,
    Silent,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..NAMES.len();
    let gossip = prop_oneof![
        4 => Just(Gossip::Alive),
        4 => Just(Gossip::Failed),
        2 => Just(Gossip::Absent),
        1 => Just(Gossip::Leaving),
        1 => Just(Gossip::Left),
    ];
    let web = prop_oneof![
        3 => Just(Web::Up),
        2 => Just(Web::Refuses),
        1 => Just(Web::Silent)
    ];
    prop_oneof![
        6 => (who.clone(), gossip).prop_map(|(who, gossip)| Step::Gossip(who, gossip)),
        4 => (who.clone(), web).prop_map(|(who, web)| Step::Web(who, web)),
        6 => who.clone().prop_map(Step::Check),
        12 => who.clone().prop_map(Step::Probe),
        1 => any::<bool>().prop_map(Step::OwnProbes),
        3 => who.clone().prop_map(Step::Suspect),
        1 => who.clone().prop_map(Step::Approve),
        1 => (who.clone(), who.clone()).prop_map(|(who, place)| Step::Move(who, place)),
        1 => (who, any::<bool>()).prop_map(|(who, runs)| Step::Request(who, runs)),
        5 => prop_oneof![1..2_000_u64, 2_000..700_000_u64].prop_map(Step::Pass),
    ]
}

/// The truth, beside what the guard is told.
struct World {
    scene: Scene,
    web: Vec<Web>,
    gossip: Vec<Gossip>,
    place: Vec<usize>,
    own_probes_work: bool,
    /// Servers that meant to go, or whose removal was approved, since the last decision.
    intended: Vec<bool>,
    in_flight: Vec<u64>,
}

impl World {
    fn new(checked: bool, min_servers: usize) -> Self {
        let mut scene = Scene::new(checked);
        let mut rules = rules(checked);
        rules.guard.min_servers = min_servers;
        let backend = BackendName::new("b").unwrap();
        scene.guard.set_rules([(backend, rules)].into());
        for name in NAMES {
            scene.gossip(name, Gossip::Alive);
            scene.runs(name, Admin::Ready, Check::Up, 0);
        }
        scene.decide();
        let count = NAMES.len();
        Self {
            scene,
            web: vec![Web::Up; count],
            gossip: vec![Gossip::Alive; count],
            place: (0..count).collect(),
            own_probes_work: true,
            intended: vec![false; count],
            in_flight: vec![0; count],
        }
    }

    fn gossips(&mut self, who: usize) {
        let addr = addr(NAMES[self.place[who]]);
        self.scene
            .gossip_at(NAMES[who], self.gossip[who], addr, Wish::Ready);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Gossip(who, gossip) => {
                self.gossip[who] = gossip;
                self.intended[who] |= matches!(gossip, Gossip::Leaving | Gossip::Left);
                self.gossips(who);
            }
            Step::Web(who, web) => self.web[who] = web,
            Step::Check(who) => self.check(who),
            Step::Probe(who) => self.probe(who),
            Step::OwnProbes(work) => self.own_probes_work = work,
            Step::Suspect(who) => {
                let name = ServerName::new(NAMES[who]).unwrap();
                self.scene.guard.suspect(&name, self.scene.now);
            }
            Step::Approve(who) => {
                let approved = self.scene.approve(NAMES[who]) > 0;
                self.intended[who] |= approved;
            }
            Step::Move(who, place) => {
                self.place[who] = place;
                self.gossips(who);
            }
            Step::Request(who, runs) => self.in_flight[who] = u64::from(runs),
            Step::Pass(millis) => self.scene.pass(Duration::from_millis(millis)),
        }
    }

    /// What HAProxy's check says of the server that runs under this name.
    fn check(&mut self, who: usize) {
        let Some(running) = self.scene.running["b"].get(NAMES[who]).cloned() else {
            return;
        };
        let addr_of = running.addr.unwrap();
        let there = NAMES.iter().position(|name| addr(name) == addr_of).unwrap();
        let up = self.web[there] == Web::Up;
        let check = match running.admin {
            Admin::Ready if up => Check::Up,
            Admin::Ready => Check::Down,
            _ => Check::None,
        };
        self.runs(who, running.admin, check, addr_of);
    }

    fn runs(&mut self, who: usize, admin: Admin, check: Check, addr: SocketAddr) {
        let in_flight = self.in_flight[who];
        self.scene.runs(NAMES[who], admin, check, in_flight);
        let servers = self.scene.running.get_mut("b").unwrap();
        servers.get_mut(NAMES[who]).unwrap().addr = Some(addr);
    }

    fn probe(&mut self, who: usize) {
        let key = key(NAMES[who]);
        let targets = self.scene.guard.targets(self.scene.now);
        let Some(target) = targets.get(&key) else {
            return;
        };
        let there = NAMES
            .iter()
            .position(|name| addr(name) == target.addr)
            .unwrap();
        let found = match self.web[there] {
            _ if !self.own_probes_work => Probed::Failed,
            Web::Up => Probed::Good,
            Web::Refuses => Probed::Refused,
            Web::Silent => Probed::Failed,
        };
        self.scene.guard.probed(&key, target.addr, found);
    }

    /// HAProxy does what was decided.
    fn apply(&mut self, decisions: &Decisions) {
        for (who, name) in NAMES.iter().enumerate() {
            let decision = decisions.servers.get(&key(name));
            let running = self.scene.running["b"].get(*name).cloned();
            let Some(decision) = decision else {
                self.scene.gone_from_haproxy(name);
                continue;
            };
            let admin = match (decision.line, decision.admin) {
                (_, Some(WantedAdmin::Ready)) => Admin::Ready,
                (_, Some(WantedAdmin::Drain)) => Admin::Drain,
                (Some(_), _) => Admin::Maint,
                (None, _) => {
                    self.scene.gone_from_haproxy(name);
                    continue;
                }
            };
            let before = running
                .and_then(|running| running.stat)
                .map(|stat| stat.check);
            let check = match before {
                Some(check) if admin == Admin::Ready => check,
                _ => Check::None,
            };
            self.runs(who, admin, check, decision.place.addr);
        }
    }

    fn in_rotation(&self) -> Vec<bool> {
        let rotation: Vec<Key> = self.scene.guard.in_rotation().map(|(key, _)| key).collect();
        NAMES
            .iter()
            .map(|name| rotation.contains(&key(name)))
            .collect()
    }

    /// Whether any witness but gossip calls a server dead, as the guard was told.
    fn is_dead(&self, decisions: &Decisions, who: usize) -> bool {
        let Some(decision) = decisions.servers.get(&key(NAMES[who])) else {
            return false;
        };
        let witnesses = decision.witnesses;
        witnesses.check == Check::Down
            || matches!(witnesses.probe, Some(Probed::Refused | Probed::Failed))
    }

    fn floor(&self) -> usize {
        let backend = BackendName::new("b").unwrap();
        self.scene.guard.pools[&backend]
            .rules
            .guard
            .min_servers
            .max(1)
    }
}

/// Decides, and compares with how it was before.
fn decide(world: &mut World) -> Result<(), TestCaseError> {
    let before = world.in_rotation();
    let was_dead: Vec<bool> = {
        world.scene.guard.hear(&world.scene.model, world.scene.now);
        world
            .scene
            .guard
            .read(&world.scene.running, world.scene.now);
        let backend = BackendName::new("b").unwrap();
        let pool = &world.scene.guard.pools[&backend];
        let dead = |name: &str| {
            let slot = pool.slots.get(&ServerName::new(name).unwrap());
            slot.is_some_and(|slot| slot.is_dead(&pool.rules))
        };
        NAMES.iter().map(|name| dead(name)).collect()
    };
    let decisions = world.scene.guard.decide(world.scene.now);
    let again = world.scene.guard.decide(world.scene.now);
    prop_assert!(decisions == again, "a decision changed without news");
    let after = world.in_rotation();
    let view = decisions.budgets.values().next().copied().unwrap();
    let mut alone = 0;
    for (who, name) in NAMES.iter().enumerate() {
        if !before[who] || after[who] || world.intended[who] {
            continue;
        }
        // Out without intent.
        let why = decisions
            .servers
            .get(&key(name))
            .map(|d| d.standing.why.clone());
        match &why {
            Some(Why::Dead) => {
                prop_assert!(world.gossip[who] != Gossip::Alive && was_dead[who]);
            }
            Some(Why::Replaced) => prop_assert!(world.gossip[who] != Gossip::Alive),
            Some(Why::Suspected) => {
                prop_assert!(was_dead[who], "a suspect that answers went out");
                alone += 1;
            }
            Some(Why::HeldLongEnough) => {
                prop_assert_eq!(world.gossip[who], Gossip::Failed);
                prop_assert!(view.answering >= world.floor(), "below the floor");
                alone += 1;
            }
            other => prop_assert!(false, "{} went out: {:?}", name, other),
        }
    }
    prop_assert!(
        alone == 0 || view.used <= view.limit,
        "{alone} beyond the budget"
    );
    // Whoever is dead by two witnesses is out, but for the floor.
    for (who, name) in NAMES.iter().enumerate() {
        let given_up = matches!(world.gossip[who], Gossip::Failed | Gossip::Absent);
        if after[who] && given_up && was_dead[who] {
            let held = decisions.servers[&key(name)].standing.why == Why::Held(Held::Floor);
            prop_assert!(held || !world.is_dead(&decisions, who));
        }
    }
    let mut ready = Vec::new();
    for decision in decisions.servers.values() {
        if decision.line == Some(Line::Ready) {
            ready.push(decision.place.addr);
        }
    }
    let all = ready.len();
    ready.sort();
    ready.dedup();
    prop_assert_eq!(ready.len(), all, "an address has traffic under two names");
    world.apply(&decisions);
    world.intended.fill(false);
    Ok(())
}

/// All is well again: everybody alive, at its own place, and answering.
fn heal(world: &mut World) -> Result<(), TestCaseError> {
    world.own_probes_work = true;
    for who in 0..NAMES.len() {
        world.web[who] = Web::Up;
        world.gossip[who] = Gossip::Alive;
        world.place[who] = who;
        world.in_flight[who] = 0;
        world.gossips(who);
    }
    // Drains end, and the longest penalty.
    for _ in 0..80 {
        for who in 0..NAMES.len() {
            world.check(who);
            world.probe(who);
        }
        decide(world)?;
        world.scene.pass(Duration::from_millis(1000));
    }
    Ok(())
}

fn play(checked: bool, min_servers: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(checked, min_servers);
    for step in steps {
        world.take(step);
        decide(&mut world)?;
    }
    heal(&mut world)?;
    prop_assert!(
        world.in_rotation().into_iter().all(|there| there),
        "who answers and is wanted is in, in the end"
    );
    Ok(())
}

/// How many histories: `GUARD_HISTORIES=100000` for a campaign.
fn histories() -> u32 {
    let wanted = std::env::var("GUARD_HISTORIES");
    wanted
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(400)
}

proptest! {
    #![proptest_config(Config { cases: histories(), ..Config::default() })]

    #[test]
    fn nobody_is_taken_out_without_reason_and_everybody_comes_back(
        checked in any::<bool>(),
        min_servers in 0..4_usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        play(checked, min_servers, &steps)?;
    }
}
