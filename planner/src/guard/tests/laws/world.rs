//! What may happen to servers, and the truth beside what the guard is told of it.

use super::*;

/// The members that are there at first, each at a place of its own, and two other names that may come at their places.
/// Two of them are of one member, which has announced both.
pub(super) const NAMES: [&str; 7] = ["s1", "s2", "s3:80", "s3:81", "s5", "d1", "d2"];
pub(super) const PLACES: usize = 5;

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
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
pub(super) enum Web {
    Up,
    Refuses,
    Silent,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
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
#[derive(Clone)]
pub(super) struct World {
    pub(super) scene: Scene,
    pub(super) web: Vec<Web>,
    pub(super) gossip: Vec<SerfStatus>,
    pub(super) endpoint: Vec<usize>,
    pub(super) requested: Vec<RequestedState>,
    pub(super) weight: Vec<u16>,
    pub(super) selected: Vec<bool>,
    pub(super) own_probes_work: bool,
    /// Servers whose removal was approved, or whose tag asks for it.
    pub(super) intended: Vec<bool>,
    pub(super) in_flight: Vec<u64>,
    /// Whether anything could follow from what the guard was told last.
    pub(super) mattered: bool,
}

impl World {
    pub(super) fn new(checked: bool, min_servers: usize) -> Self {
        let mut rules = rules(checked);
        rules.guard.min_servers = min_servers;
        Self::with(rules, PLACES)
    }

    /// With so many of the members in rotation, and the others unknown yet.
    pub(super) fn with(rules: Rules, serving: usize) -> Self {
        let mut scene = Scene::new(rules.checked);
        scene.set_rules(rules);
        for name in &NAMES[..serving] {
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
            mattered: false,
        }
    }

    pub(super) fn gossips(&mut self, who: usize) {
        let addr = addr(NAMES[self.endpoint[who]]);
        let weight = Weight::new(self.weight[who]).unwrap();
        let endpoint = Endpoint { addr, weight };
        self.scene
            .says(NAMES[who], self.gossip[who], endpoint, self.requested[who]);
        if !self.selected[who] {
            self.scene.deselect(NAMES[who]);
        }
    }

    pub(super) fn take(&mut self, step: &Step) {
        match *step {
            Step::SerfStatus(who, gossip) => {
                for who in of_member(who) {
                    self.gossip[who] = gossip;
                    self.gossips(who);
                }
            }
            Step::Select(who, picked) => {
                self.selected[who] = picked;
                self.gossips(who);
            }
            Step::Reap(who) => {
                for who in of_member(who) {
                    self.scene.forget(NAMES[who]);
                    if self.gossip[who] == SerfStatus::Alive {
                        self.gossip[who] = SerfStatus::Absent;
                    }
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
                let now = self.scene.now;
                let guard = &mut self.scene.guard;
                self.mattered = guard.observe_suspicion(name.member(), now);
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
    pub(super) fn check(&mut self, who: usize) {
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

    pub(super) fn runs(&mut self, who: usize, admin: Admin, check: Check, addr: SocketAddr) {
        let in_flight = self.in_flight[who];
        self.scene.runs(NAMES[who], admin, check, in_flight);
        let servers = self.scene.running.get_mut("b").unwrap();
        servers.get_mut(NAMES[who]).unwrap().addr = Some(addr);
    }

    pub(super) fn probe(&mut self, who: usize) {
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
        self.mattered = self.scene.guard.observe_probe(&key, target.addr, found);
    }

    /// HAProxy does what was decided.
    pub(super) fn apply(&mut self, decisions: &Decisions) {
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

    pub(super) fn backend(&self) -> &BackendState {
        &self.scene.guard.backends[&BackendName::new("b").unwrap()]
    }

    pub(super) fn server(&self, who: usize) -> Option<&ServerState> {
        let name = ServerName::new(NAMES[who]).unwrap();
        self.servers().get(&name).copied()
    }

    pub(super) fn servers(&self) -> BTreeMap<&ServerName, &ServerState> {
        self.backend().all()
    }

    pub(super) fn in_rotation(&self, who: usize) -> bool {
        self.server(who)
            .is_some_and(|server| server.phase == Phase::In)
    }

    /// How the guard sees everybody after it has heard all there is to hear.
    pub(super) fn see(&self) -> Vec<Seen> {
        let rules = &self.backend().rules;
        let see = |who| {
            let server = self.server(who);
            Seen {
                phase: server.map(|server| server.phase),
                addr: server.map(|server| server.endpoint.addr),
                serves: server.is_some_and(|server| server.serves(rules)),
                dead: server.is_some_and(|server| server.is_dead(rules)),
                picked: server.is_none_or(|server| server.selected),
            }
        };
        (0..NAMES.len()).map(see).collect()
    }

    pub(super) fn least(&self) -> usize {
        self.backend().rules.guard.min_servers
    }

    /// The member asks for it, or somebody approved it.
    pub(super) fn is_meant(&self, who: usize) -> bool {
        let asked =
            self.gossip[who] == SerfStatus::Alive && self.requested[who] != RequestedState::Ready;
        // Whoever asks for it asks for the web server, whatever that is called.
        let asked_there = (0..NAMES.len()).any(|other| {
            let server = self.server(other);
            let here = self.server(who).map(|server| server.endpoint.addr);
            server.is_some_and(|server| server.is_asked_for() && Some(server.endpoint.addr) == here)
        });
        self.intended[who] || asked || asked_there
    }
}

/// All that are of the same member as this one.
pub(super) fn of_member(who: usize) -> impl Iterator<Item = usize> {
    let member = |who: usize| NAMES[who].split(':').next();
    (0..NAMES.len()).filter(move |other| member(*other) == member(who))
}

pub(super) fn place_of(wanted: SocketAddr) -> usize {
    let mut endpoints = NAMES.iter().take(PLACES);
    endpoints.position(|name| addr(name) == wanted).unwrap()
}

/// A server as the guard sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) phase: Option<Phase>,
    pub(super) addr: Option<SocketAddr>,
    pub(super) serves: bool,
    pub(super) dead: bool,
    pub(super) picked: bool,
}
