//! What holds in every history: random ones, played against a HAProxy that does what it is told.

use proptest::prelude::*;
use proptest::test_runner::Config;

use std::collections::BTreeSet;

use super::*;
use crate::guard::server::ServerState;

/// The members that are there at first, each at a place of its own, and two other names that may come at their places.
const NAMES: [&str; 7] = ["s1", "s2", "s3", "s4", "s5", "d1", "d2"];
const PLACES: usize = 5;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    SerfStatus(usize, SerfStatus),
    /// Its tags match no rule any more, or match again.
    Select(usize, bool),
    /// The agent does not list it any more.
    Reap(usize),
    /// Its tag `state`.
    RequestedState(usize, RequestedState),
    /// Its tag `weight`.
    Weight(usize, u16),
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
        4 => Just(SerfStatus::Alive),
        4 => Just(SerfStatus::Failed),
        2 => Just(SerfStatus::Absent),
        1 => Just(SerfStatus::Leaving),
        1 => Just(SerfStatus::Left),
    ];
    let web = prop_oneof![
        3 => Just(Web::Up),
        2 => Just(Web::Refuses),
        1 => Just(Web::Silent)
    ];
    let requested = prop_oneof![
        3 => Just(RequestedState::Ready),
        1 => Just(RequestedState::Drain),
        1 => Just(RequestedState::Maint)
    ];
    let endpoint = 0..PLACES;
    prop_oneof![
        6 => (who.clone(), gossip).prop_map(|(who, gossip)| Step::SerfStatus(who, gossip)),
        3 => (who.clone(), any::<bool>()).prop_map(|(who, picked)| Step::Select(who, picked)),
        1 => who.clone().prop_map(Step::Reap),
        1 => (who.clone(), requested).prop_map(|(who, requested)| Step::RequestedState(who, requested)),
        1 => (who.clone(), 0..3_u16).prop_map(|(who, weight)| Step::Weight(who, weight)),
        4 => (endpoint.clone(), web).prop_map(|(who, web)| Step::Web(who, web)),
        6 => who.clone().prop_map(Step::Check),
        12 => who.clone().prop_map(Step::Probe),
        1 => any::<bool>().prop_map(Step::OwnProbes),
        3 => who.clone().prop_map(Step::Suspect),
        1 => who.clone().prop_map(Step::Approve),
        2 => (who.clone(), endpoint).prop_map(|(who, endpoint)| Step::Move(who, endpoint)),
        1 => (who, any::<bool>()).prop_map(|(who, runs)| Step::Request(who, runs)),
        5 => prop_oneof![1..2_000_u64, 2_000..700_000_u64].prop_map(Step::Pass),
    ]
}

/// The truth, beside what the guard is told.
struct World {
    scene: Scene,
    web: Vec<Web>,
    gossip: Vec<SerfStatus>,
    endpoint: Vec<usize>,
    requested: Vec<RequestedState>,
    weight: Vec<u16>,
    selected: Vec<bool>,
    own_probes_work: bool,
    /// Servers whose removal was approved, or whose tag asks for it.
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
        for name in &NAMES[..PLACES] {
            scene.gossip(name, SerfStatus::Alive);
            scene.runs(name, Admin::Ready, Check::Up, 0);
        }
        scene.decide();
        let count = NAMES.len();
        Self {
            scene,
            web: vec![Web::Up; PLACES],
            gossip: vec![SerfStatus::Alive; count],
            endpoint: (0..count).map(|who| who % PLACES).collect(),
            requested: vec![RequestedState::Ready; count],
            weight: vec![1; count],
            selected: vec![true; count],
            own_probes_work: true,
            intended: vec![false; count],
            in_flight: vec![0; count],
        }
    }

    fn gossips(&mut self, who: usize) {
        let addr = addr(NAMES[self.endpoint[who]]);
        let weight = Weight::new(self.weight[who]).unwrap();
        let endpoint = Endpoint { addr, weight };
        self.scene
            .says(NAMES[who], self.gossip[who], endpoint, self.requested[who]);
        if !self.selected[who] {
            self.scene.deselect(NAMES[who]);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::SerfStatus(who, gossip) => {
                self.gossip[who] = gossip;
                self.gossips(who);
            }
            Step::Select(who, picked) => {
                self.selected[who] = picked;
                self.gossips(who);
            }
            Step::Reap(who) => {
                self.scene.forget(NAMES[who]);
                if self.gossip[who] == SerfStatus::Alive {
                    self.gossip[who] = SerfStatus::Absent;
                }
            }
            Step::RequestedState(who, requested) => {
                self.requested[who] = requested;
                self.gossips(who);
            }
            Step::Weight(who, weight) => {
                self.weight[who] = weight;
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
            Step::Move(who, endpoint) => {
                self.endpoint[who] = endpoint;
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
        let there = place_of(addr_of);
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
        let found = match self.web[place_of(target.addr)] {
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
            self.runs(who, admin, check, decision.endpoint.addr);
        }
    }

    fn pool(&self) -> &BackendState {
        &self.scene.guard.pools[&BackendName::new("b").unwrap()]
    }

    fn slot(&self, who: usize) -> Option<&ServerState> {
        let name = ServerName::new(NAMES[who]).unwrap();
        self.pool().slots.get(&name)
    }

    fn in_rotation(&self, who: usize) -> bool {
        self.slot(who).is_some_and(|slot| slot.phase == Phase::In)
    }

    /// How the guard sees everybody after it has heard all there is to hear.
    fn see(&self) -> Vec<Seen> {
        let rules = &self.pool().rules;
        let see = |who| {
            let slot = self.slot(who);
            Seen {
                phase: slot.map(|slot| slot.phase),
                addr: slot.map(|slot| slot.endpoint.addr),
                serves: slot.is_some_and(|slot| slot.serves(rules)),
                dead: slot.is_some_and(|slot| slot.is_dead(rules)),
                picked: slot.is_none_or(|slot| slot.selected),
            }
        };
        (0..NAMES.len()).map(see).collect()
    }

    fn least(&self) -> usize {
        self.pool().rules.guard.min_servers
    }

    /// The member asks for it, or somebody approved it.
    fn is_meant(&self, who: usize) -> bool {
        let asked =
            self.gossip[who] == SerfStatus::Alive && self.requested[who] != RequestedState::Ready;
        // Whoever asks for it asks for the web server, whatever that is called.
        let asked_there = (0..NAMES.len()).any(|other| {
            let slot = self.slot(other);
            let here = self.slot(who).map(|slot| slot.endpoint.addr);
            slot.is_some_and(|slot| slot.is_asked_for() && Some(slot.endpoint.addr) == here)
        });
        self.intended[who] || asked || asked_there
    }
}

fn place_of(wanted: SocketAddr) -> usize {
    let mut endpoints = NAMES.iter().take(PLACES);
    endpoints.position(|name| addr(name) == wanted).unwrap()
}

/// A server as the guard sees it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    phase: Option<Phase>,
    addr: Option<SocketAddr>,
    serves: bool,
    dead: bool,
    picked: bool,
}

/// Decides, and compares with how it was before.
fn decide(world: &mut World) -> Result<(), TestCaseError> {
    world.scene.guard.hear(&world.scene.model, world.scene.now);
    let running = world.scene.running.clone();
    world.scene.guard.read(&running, world.scene.now);
    let before = world.see();
    let decisions = world.scene.guard.decide(world.scene.now);
    let again = world.scene.guard.decide(world.scene.now);
    prop_assert!(decisions == again, "a decision changed without news");
    let after = world.see();
    // Who moves to its new address serves all the while.
    let serves = |(before, after): &(&Seen, &Seen)| {
        after.serves || before.serves && after.phase == Some(Phase::In) && !after.dead
    };
    let serving = before.iter().zip(&after).filter(serves);
    let serving: BTreeSet<_> = serving.map(|(_, after)| after.addr).collect();
    let serving = serving.len();
    let mut alone = 0;
    for (who, name) in NAMES.iter().enumerate() {
        let went = before[who].phase == Some(Phase::In) && !world.in_rotation(who);
        if went && !world.is_meant(who) {
            let decision = decisions.servers.get(&key(name));
            let why = decision.map(|decision| decision.status.why.clone());
            alone += usize::from(went_by_right(world, who, before[who], why, serving)?);
        }
        not_shut_unless_dead(world, who, before[who], &decisions)?;
        dead_by_two_witnesses_are_out(world, who, before[who], &decisions)?;
    }
    let view = decisions.budgets.values().next().copied().unwrap();
    prop_assert!(
        alone == 0 || view.used <= view.limit,
        "{alone} beyond the budget"
    );
    // A web server counts once, whatever it is called, and not where its member says that it is elsewhere now.
    let stayed = |who: &usize| {
        let moved = after[*who]
            .addr
            .is_some_and(|addr| before[*who].addr != Some(addr));
        before[*who].serves && !world.is_meant(*who) && !moved
    };
    let served: BTreeSet<_> = (0..NAMES.len())
        .filter(stayed)
        .map(|who| before[who].addr)
        .collect();
    let served = served.len();
    prop_assert!(
        serving >= world.least().min(served),
        "below the floor: {serving} of {served} serve: {before:#?} {decisions:#?}"
    );
    one_member_an_address(world, &decisions)?;
    world.apply(&decisions);
    world.intended.fill(false);
    Ok(())
}

/// Whether a server that went without intent went on one witness's word; an error where it should not have gone.
fn went_by_right(
    world: &World,
    who: usize,
    before: Seen,
    why: Option<Why>,
    serving: usize,
) -> Result<bool, TestCaseError> {
    let gossip = world.slot(who).map(|slot| slot.gossip);
    match &why {
        Some(Why::Dead) => {
            prop_assert!(gossip != Some(SerfStatus::Alive) && before.dead);
            Ok(false)
        }
        Some(Why::Leaves) => {
            prop_assert!(matches!(
                gossip,
                Some(SerfStatus::Leaving | SerfStatus::Left)
            ));
            prop_assert!(before.dead || serving >= world.least(), "the last one left");
            Ok(false)
        }
        Some(Why::Deselected) => {
            prop_assert!(!before.picked);
            prop_assert!(before.dead || serving >= world.least().max(1));
            Ok(!before.dead)
        }
        Some(Why::Replaced { by: heir, .. }) => {
            let slot = &world.pool().slots[heir];
            prop_assert!(slot.phase == Phase::In && slot.runs() && slot.is_wanted());
            prop_assert_eq!(slot.endpoint.addr, world.slot(who).unwrap().endpoint.addr);
            Ok(false)
        }
        Some(Why::AddressTaken(other)) => {
            let slot = &world.pool().slots[other];
            prop_assert!(slot.runs() && slot.is_wanted());
            Ok(false)
        }
        Some(Why::Suspected) => {
            let mut others = world.pool().slots.values();
            if others.any(|other| other.runs() && Some(other.endpoint.addr) == before.addr) {
                return Ok(false);
            }
            prop_assert!(before.dead, "a suspect that answers went out");
            Ok(true)
        }
        Some(Why::HeldLongEnough) => {
            prop_assert_eq!(gossip, Some(SerfStatus::Failed));
            prop_assert!(serving >= world.least().max(1), "below the floor");
            Ok(true)
        }
        other => {
            prop_assert!(false, "{} went out: {:?}", NAMES[who], other);
            Ok(false)
        }
    }
}

/// Sessions are shut where a witness calls the server dead, or a drain has taken too long.
fn not_shut_unless_dead(
    world: &World,
    who: usize,
    before: Seen,
    decisions: &Decisions,
) -> Result<(), TestCaseError> {
    let decision = decisions.servers.get(&key(NAMES[who]));
    if decision.and_then(|decision| decision.admin) != Some(WantedAdmin::Cut) {
        return Ok(());
    }
    match before.phase {
        Some(Phase::In) => prop_assert!(before.dead, "{} was shut", NAMES[who]),
        Some(Phase::Draining { since, .. }) => prop_assert!(world.scene.now >= since + DRAIN),
        _ => {}
    }
    Ok(())
}

fn dead_by_two_witnesses_are_out(
    world: &World,
    who: usize,
    before: Seen,
    decisions: &Decisions,
) -> Result<(), TestCaseError> {
    let Some(slot) = world.slot(who).filter(|slot| slot.phase == Phase::In) else {
        return Ok(());
    };
    if before.phase == Some(Phase::In) && before.dead && !slot.is_wanted() {
        let why = &decisions.servers[&key(NAMES[who])].status.why;
        prop_assert!(*why == Why::Held(Held::Floor) || !slot.is_dead(&world.pool().rules));
    }
    Ok(())
}

/// An address has the traffic of one member; another name beside it is what it takes over from, or serves for one that
/// HAProxy calls down.
fn one_member_an_address(world: &World, decisions: &Decisions) -> Result<(), TestCaseError> {
    let mut addrs = BTreeSet::new();
    for (key, decision) in &decisions.servers {
        let slot = &world.pool().slots[&key.server];
        let rules = &world.pool().rules;
        let there = decision.line == Some(Line::Ready) && slot.is_wanted() && slot.runs();
        if there && slot.answers(rules) {
            prop_assert!(addrs.insert(decision.endpoint.addr), "{} runs twice", key);
        }
    }
    Ok(())
}

/// Time passes, and everybody who is asked answers.
fn pass(world: &mut World, seconds: u64) -> Result<(), TestCaseError> {
    for _ in 0..seconds {
        for who in 0..NAMES.len() {
            world.check(who);
            world.probe(who);
        }
        decide(world)?;
        world.scene.pass(Duration::from_millis(1000));
    }
    Ok(())
}

/// Nothing happens any more: what gossip said last stands for ever, and web servers are as they are.
fn rest(world: &mut World) -> Result<(), TestCaseError> {
    world.own_probes_work = true;
    world.in_flight.fill(0);
    // Drains end, and leaves, and the longest penalty.
    pass(world, 45)?;
    for _ in 0..4 {
        world.scene.pass(HOLD);
        pass(world, 3)?;
    }
    let decisions = world.scene.decide();
    let up = |slot: &ServerState| world.web[place_of(slot.endpoint.addr)] == Web::Up;
    let rules = &world.pool().rules;
    // Its web server has traffic under another name, or is to have none.
    let taken = |slot: &ServerState| {
        let mut others = world.pool().slots.values();
        others.any(|other| {
            let there = other.phase == Phase::In || other.is_asked_for();
            there && other.endpoint.addr == slot.endpoint.addr
        })
    };
    // As far as anybody knows: of who is alive and has no check nobody else says anything.
    let slots = world.pool().slots.values();
    let answering = slots.filter(|slot| slot.phase == Phase::In && slot.answers(rules));
    let answering: BTreeSet<_> = answering.map(|slot| slot.endpoint.addr).collect();
    let answering = answering.len();
    for (name, slot) in &world.pool().slots {
        if !up(slot) {
            continue;
        }
        let why = &decisions.servers[&key(name.as_str())].status.why;
        prop_assert!(
            answering >= world.least() || !slot.is_recallable(rules) || taken(slot),
            "{name} is missed and not taken back: {why}"
        );
        let over = slot.gossip == SerfStatus::Failed && slot.phase == Phase::In && slot.selected;
        prop_assert!(
            !over || slot.is_dead(rules) || matches!(why, Why::Held(_) | Why::Replaced { .. }),
            "hold does not end for {name}: {why}"
        );
        let picked = slot.selected && slot.requested == RequestedState::Ready;
        let stuck = slot.gossip == SerfStatus::Leaving && slot.has_served() && picked;
        prop_assert!(
            !stuck
                || slot.phase == Phase::In
                || slot.blocked.is_some()
                || slot.removal_cause.is_some(),
            "{name} answers, did not leave, and is out: {why}"
        );
    }
    Ok(())
}

/// All is well again: everybody alive, at its own place, and answering.
fn heal(world: &mut World) -> Result<(), TestCaseError> {
    world.own_probes_work = true;
    world.web.fill(Web::Up);
    for who in 0..NAMES.len() {
        world.gossip[who] = if who < PLACES {
            SerfStatus::Alive
        } else {
            SerfStatus::Left
        };
        world.endpoint[who] = who % PLACES;
        world.requested[who] = RequestedState::Ready;
        world.weight[who] = 1;
        world.selected[who] = true;
        world.in_flight[who] = 0;
        world.gossips(who);
    }
    // Drains end, and the longest penalty.
    pass(world, 80)
}

fn play(
    checked: bool,
    min_servers: usize,
    rests: bool,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut world = World::new(checked, min_servers);
    for step in steps {
        world.take(step);
        decide(&mut world)?;
    }
    if rests {
        rest(&mut world)?;
    }
    heal(&mut world)?;
    prop_assert!(
        (0..PLACES).all(|who| world.in_rotation(who)),
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
        .unwrap_or(200)
}

proptest! {
    #![proptest_config(Config { cases: histories(), ..Config::default() })]

    #[test]
    fn nobody_is_taken_out_without_reason_and_everybody_comes_back(
        checked in any::<bool>(),
        min_servers in 0..4_usize,
        rests in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        play(checked, min_servers, rests, &steps)?;
    }
}
