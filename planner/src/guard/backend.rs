//! The servers of one backend: what is decided about each with regard to the others. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::model::{
    Admin, BackendName, Candidate, Endpoint, RunningServer, SerfStatus, ServerName, WantedAdmin,
    Weight,
};

use super::budget::{Budget, Ledger, Removal};
use super::damping::{Damper, Times};
use super::decision::{BudgetView, Held, Origin};
use super::server::{Around, Phase, RemovalCause, ServerState};
use super::{Rules, SerfReport, Target};

mod admit;
mod claim;
mod handover;
mod hold;
mod leave;
mod rest;

use claim::Owners;
use rest::Rest;

/// What is decided settles after two or three passes; more would be a fault, and no reason to hang.
const MOST_PASSES: usize = 8;

/// A backend as the guard knows it.
#[derive(Clone, Debug)]
pub(super) struct BackendState {
    name: BackendName,
    pub(super) rules: Rules,
    /// Those about whom something may have to be decided.
    pub(super) servers: BTreeMap<ServerName, ServerState>,
    /// All others.
    pub(super) rest: Rest,
    /// Those that are known no more, and that the prober has been told to ask.
    gone: Vec<ServerName>,
    pub(super) ledger: Ledger,
    damper: Damper,
    owners: Owners,
    /// Since when gossip has been split: `hold` does not run meanwhile.
    split: Option<Instant>,
}

impl BackendState {
    pub(super) fn new(name: BackendName, rules: Rules) -> Self {
        Self {
            name,
            rules,
            servers: BTreeMap::new(),
            rest: Rest::default(),
            gone: Vec::new(),
            ledger: Ledger::default(),
            damper: Damper::default(),
            owners: Owners::default(),
            split: None,
        }
    }

    fn server(
        &mut self,
        name: ServerName,
        endpoint: Endpoint,
        origin: Origin,
        now: Instant,
    ) -> &mut ServerState {
        self.wake(&name);
        self.servers
            .entry(name)
            .or_insert_with(|| ServerState::new(endpoint, origin, now))
    }

    pub(super) fn adopt(&mut self, name: ServerName, endpoint: Endpoint, now: Instant) {
        let server = self.server(name, endpoint, Origin::Before, now);
        server.enter(Phase::In, now);
    }

    pub(super) fn restore(&mut self, name: ServerName, removal: Removal, now: Instant) {
        self.server(name.clone(), removal.endpoint, Origin::Before, now)
            .restore();
        self.ledger.insert(name, removal);
    }

    /// Takes that a server was there first, when an earlier process was last there.
    pub(super) fn own(&mut self, name: ServerName, addr: SocketAddr) {
        self.owners.restore(addr, name);
    }

    /// Those who were there first and are not in rotation: the others show it.
    pub(super) fn absent_owners(&self) -> impl Iterator<Item = (&ServerName, SocketAddr)> {
        let is_in = |name: &ServerName, addr| {
            let server = self.servers.get(name);
            server.is_some_and(|server| server.phase == Phase::In && server.endpoint.addr == addr)
        };
        let owners = self.owners.iter().map(|(addr, name)| (name, addr));
        owners.filter(move |(name, addr)| !is_in(name, *addr))
    }

    pub(super) fn remember(&mut self, name: ServerName, word: SerfReport, now: Instant) {
        self.server(name, word.endpoint, Origin::Before, now)
            .remember(word.gossip, word.since);
    }

    /// Of whom gossip has said that they failed or leave, and since when.
    pub(super) fn words(&self, now: Instant) -> impl Iterator<Item = (&ServerName, SerfReport)> {
        let split = self.split.unwrap_or(now);
        let served = self
            .servers
            .iter()
            .filter(|(_, server)| server.has_served());
        served.filter_map(move |(name, server)| {
            let since = match server.gossip {
                // In whole minutes, as it is written down whenever it changes.
                SerfStatus::Failed => {
                    let minutes = now.saturating_duration_since(split).as_secs() / 60;
                    server.hold_from.min(split) + Duration::from_secs(minutes * 60)
                }
                SerfStatus::Leaving => server.hold_from,
                SerfStatus::Alive | SerfStatus::Left | SerfStatus::Absent => return None,
            };
            let (endpoint, gossip) = (server.endpoint, server.gossip);
            let word = SerfReport {
                endpoint,
                gossip,
                since,
            };
            Some((name, word))
        })
    }

    pub(super) fn adopt_running(
        &mut self,
        name: ServerName,
        running: &RunningServer,
        now: Instant,
    ) {
        let weight = running
            .agent
            .map_or(running.weight, |agent| agent.initial_weight);
        let (Some(addr), Some(weight)) = (running.addr, Weight::new(weight)) else {
            return;
        };
        let endpoint = Endpoint { addr, weight };
        match running.admin {
            // an agent that is asked has said so, and is asked of a server in rotation only
            Admin::Drain if running.is_asked() => self
                .server(name, endpoint, Origin::Worker, now)
                .adopt(endpoint, now),
            Admin::Ready => self
                .server(name, endpoint, Origin::Worker, now)
                .adopt(endpoint, now),
            Admin::Drain => self
                .server(name, endpoint, Origin::Worker, now)
                .adopt_draining(now),
            Admin::Maint => {}
        }
    }

    pub(super) fn observe_members(
        &mut self,
        candidates: &BTreeMap<ServerName, Candidate>,
        known: &BTreeMap<ServerName, SerfStatus>,
        now: Instant,
    ) {
        self.wake_the_changed(candidates);
        for (name, server) in &mut self.servers {
            match candidates.get(name) {
                Some(candidate) => server.observe_candidate(candidate, now),
                None => server.observe_unpicked(known.get(name.member()).copied(), now),
            }
        }
        for (name, candidate) in candidates {
            let Ok(attributes) = &candidate.attributes else {
                continue;
            };
            if candidate.gossip == SerfStatus::Alive && !self.knows(name) {
                self.server(name.clone(), attributes.endpoint, Origin::Member, now)
                    .observe_candidate(candidate, now);
            }
        }
        self.owners.observe_known(known);
    }

    pub(super) fn observe_running(
        &mut self,
        running: Option<&BTreeMap<String, RunningServer>>,
        now: Instant,
    ) {
        self.wake_the_running(running);
        for (name, server) in &mut self.servers {
            server.observe_running(running.and_then(|servers| servers.get(name.as_str())), now);
        }
        self.forget_the_gone();
    }

    /// Takes that somebody wants these out who are held; says who was.
    pub(super) fn approve(&mut self, wanted: impl Fn(&ServerName) -> bool) -> Vec<ServerName> {
        let mut approved = Vec::new();
        for (name, server) in self.servers.iter_mut().filter(|(name, _)| wanted(name)) {
            let suspect = server.is_suspected() && server.is_dead(&self.rules);
            if server.phase == Phase::In && (!server.is_wanted() || suspect) {
                server.approved = true;
                approved.push(name.clone());
            }
        }
        approved
    }

    /// Decides about every server, until nothing follows any more: what is decided about one changes what the others
    /// may do.
    pub(super) fn decide(&mut self, now: Instant) {
        self.wake_the_neighbours();
        for _ in 0..MOST_PASSES {
            let phase = |server: &ServerState| (server.phase, server.entered);
            let before: Vec<_> = self.servers.values().map(phase).collect();
            self.pass(now);
            let (servers, rest, rules) = (&self.servers, &self.rest, &self.rules);
            let others = self
                .owners
                .revise(servers, rest, |server| server.serves(rules));
            if !others && self.servers.values().map(phase).eq(before) {
                break;
            }
        }
        let (servers, rest) = (&self.servers, &self.rest);
        let knows = |name: &ServerName| servers.contains_key(name) || rest.get(name).is_some();
        self.damper.forget(knows, self.times(), now);
        self.lay_to_rest(now);
    }

    fn pass(&mut self, now: Instant) {
        self.observe_presence(now);
        self.revise_ledger(now);
        self.move_the_proven(now);
        self.step_each(now);
        self.observe_presence(now);
        self.release_the_approved(now);
        self.cut_the_dead(now);
        self.part_doubles(now);
        self.hand_over(now);
        self.let_the_leaving_go(now);
        self.remove_suspects(now);
        self.remove_deselected(now);
        self.end_holds(now);
        self.let_in(now);
        self.recall(now);
        self.revise_ledger(now);
        self.forget_the_gone();
    }

    fn knows(&self, name: &ServerName) -> bool {
        self.servers.contains_key(name) || self.rest.get(name).is_some()
    }

    fn forget_the_gone(&mut self) {
        self.servers.retain(|name, server| {
            let gone = server.phase == Phase::Gone;
            if gone && server.told.is_some() {
                self.gone.push(name.clone());
            }
            !gone
        });
    }

    /// Forgets a server that is nobody's to decide about any more.
    pub(super) fn forget(&mut self, name: &ServerName) {
        self.wake(name);
        let server = self.servers.remove(name);
        if server.is_some_and(|server| server.told.is_some()) {
            self.gone.push(name.clone());
        }
        self.ledger.revise(|other, _| other != name);
    }

    /// The probes that are to run from now on otherwise than was told last, and those that are not to any more.
    pub(super) fn probe_news(&mut self, now: Instant) -> Vec<(ServerName, Option<Target>)> {
        let mut news: Vec<_> = self.gone.drain(..).map(|name| (name, None)).collect();
        let rules = &self.rules;
        let mut tell = |name: &ServerName, server: &mut ServerState| {
            let target = server.target(rules, now);
            if server.told != target {
                server.told = target;
                news.push((name.clone(), target));
            }
        };
        for (name, server) in &mut self.servers {
            tell(name, server);
        }
        for name in std::mem::take(&mut self.rest.untold) {
            if let Some(server) = self.rest.get_mut(&name) {
                tell(&name, server);
            }
        }
        news
    }

    fn times(&self) -> Times {
        Times {
            window: self.rules.guard.window,
            max_penalty: self.rules.max_penalty,
        }
    }

    fn observe_presence(&mut self, now: Instant) {
        let times = self.times();
        for (name, server) in &self.servers {
            let present = server.is_wanted() || server.may_come_in(&self.rules, false);
            self.damper
                .observe(name, present, server.phase == Phase::In, times, now);
        }
    }

    /// A removal counts until the server is back or has left, or `window` after a second witness agreed.
    fn revise_ledger(&mut self, now: Instant) {
        let (servers, rules) = (&self.servers, &self.rules);
        self.ledger.revise(|name, removal| {
            let server = servers.get(name);
            let dead = |server: &ServerState| !server.is_wanted() && server.is_dead(rules);
            removal.agreed |= server.is_none_or(dead);
            let back = server.is_some_and(|server| server.phase == Phase::In);
            let left = server.is_some_and(|server| server.gossip == SerfStatus::Left);
            let old = removal.agreed && now >= removal.at + rules.guard.window;
            !(back || left || old)
        });
    }

    /// Moves the servers whose new place has answered, but for those whose new place is that of one that stays. Two
    /// may change places.
    fn move_the_proven(&mut self, now: Instant) {
        let mut movers: BTreeMap<SocketAddr, (ServerName, Endpoint)> = BTreeMap::new();
        for (name, server) in &self.servers {
            if let Some(endpoint) = server.proven_move() {
                movers
                    .entry(endpoint.addr)
                    .or_insert((name.clone(), endpoint));
            }
        }
        while !movers.is_empty() {
            let moves = |name: &ServerName| movers.values().any(|(mover, _)| mover == name);
            let stays = |(name, server): &(&ServerName, &ServerState)| {
                server.phase == Phase::In && server.is_wanted() && !moves(name)
            };
            let staying = self.servers.iter().filter(stays);
            let stay: BTreeSet<SocketAddr> =
                staying.map(|(_, server)| server.endpoint.addr).collect();
            let before = movers.len();
            movers.retain(|addr, _| !stay.contains(addr));
            if movers.len() == before {
                break;
            }
        }
        for (name, endpoint) in movers.into_values() {
            if let Some(server) = self.servers.get_mut(&name) {
                server.move_to(endpoint, now);
            }
        }
    }

    fn step_each(&mut self, now: Instant) {
        let left = self.servers.values().filter(|server| !server.is_wanted());
        let left: BTreeSet<SocketAddr> = left.map(|server| server.endpoint.addr).collect();
        let there =
            |server: &&ServerState| server.is_wanted() && left.contains(&server.endpoint.addr);
        let living = self.servers.values().filter(there);
        let living: BTreeSet<SocketAddr> = living.map(|server| server.endpoint.addr).collect();
        for (name, server) in &mut self.servers {
            server.held = None;
            let around = Around {
                taken_over: living.contains(&server.endpoint.addr),
                counts: self.ledger.contains(name),
            };
            server.step(&self.rules, around, now);
        }
    }

    /// Takes out whoever was held and approved: first, so that the rest is decided without them.
    fn release_the_approved(&mut self, now: Instant) {
        for server in self.servers.values_mut() {
            if server.phase != Phase::In || !server.approved {
                continue;
            }
            let dead = server.is_dead(&self.rules);
            // Nobody takes over from it and nothing takes it back.
            server.heir = None;
            if !server.is_wanted() && !dead {
                server.removal_cause = Some(RemovalCause::Approval);
                server.drain(now);
            } else if server.is_given_up() {
                let admin = WantedAdmin::Cut;
                server.enter(Phase::Out { admin }, now);
            } else if !server.is_wanted() {
                server.removal_cause = Some(RemovalCause::Approval);
                server.enter(Phase::Leaving { shut: true }, now);
            } else if server.is_suspected() && dead {
                let admin = WantedAdmin::Maint;
                server.enter(Phase::Out { admin }, now);
            }
        }
    }

    /// Cuts whom gossip has given up, or no rule picks, and another witness calls dead, down to the floor: the last line of
    /// a backend stays, dead or not. Where HAProxy checks, dead lines up to `min_servers` stay too, as they take no traffic.
    fn cut_the_dead(&mut self, now: Instant) {
        let floor = if self.rules.checked { self.floor() } else { 1 };
        let mut lines = self.in_rotation().count();
        for (name, server) in &mut self.servers {
            let kept = !server.is_wanted() && !server.is_leaving();
            if server.phase != Phase::In || !kept || !server.is_dead(&self.rules) {
                continue;
            }
            if lines <= floor {
                server.held = Some(Held::Floor);
                continue;
            }
            lines -= 1;
            server.heir = None;
            self.ledger.note(name, server.endpoint, true, now);
            let admin = WantedAdmin::Cut;
            server.enter(Phase::Out { admin }, now);
        }
    }

    /// Takes out who is suspected and fails the controller's probes, while gossip still says alive: one witness and a
    /// half, so within the budget. If too many fail at once, the fault is likely the controller's own.
    fn remove_suspects(&mut self, now: Instant) {
        let rules = &self.rules;
        let is_suspect = |server: &ServerState| {
            server.is_wanted() && server.is_suspected() && server.is_judged_by_probe(rules)
        };
        let is_dead_suspect = |server: &ServerState| {
            server.phase == Phase::In && is_suspect(server) && server.is_dead(rules)
        };
        if !self.servers.values().any(is_dead_suspect) {
            return;
        }
        // Those that are out already count too, and so do those whose probes have not come back yet.
        let silent = |server: &&ServerState| is_suspect(server) && server.proof.good == 0;
        let silent = self.servers.values().filter(silent).count();
        let (budget, floor, answering) = (self.budget(), self.floor(), self.answering());
        let mut spare = budget.spare();
        let (used, limit) = (budget.used, budget.limit);
        for (name, server) in &mut self.servers {
            if !is_dead_suspect(server) {
                continue;
            }
            server.held = if silent > limit {
                Some(Held::OwnProbes { silent, limit })
            } else if spare == 0 {
                Some(Held::Budget { used, limit })
            } else if answering < floor {
                Some(Held::Floor)
            } else {
                None
            };
            if server.held.is_none() {
                spare -= 1;
                self.ledger.note(name, server.endpoint, false, now);
                let admin = WantedAdmin::Maint;
                server.enter(Phase::Out { admin }, now);
            }
        }
    }

    fn in_rotation(&self) -> impl Iterator<Item = &ServerState> {
        self.servers
            .values()
            .filter(|server| server.phase == Phase::In)
    }

    /// Servers in rotation that nobody calls dead.
    fn answering(&self) -> usize {
        let answering = self.in_rotation();
        answering
            .filter(|server| server.weighs() && server.answers(&self.rules))
            .count()
    }

    /// Where a web server takes requests now, under whatever names.
    fn serving(&self) -> BTreeSet<SocketAddr> {
        let serving = self
            .servers
            .values()
            .filter(|server| server.serves(&self.rules));
        serving.map(|server| server.endpoint.addr).collect()
    }

    fn floor(&self) -> usize {
        self.rules.guard.min_servers.max(1)
    }

    /// How many may still go on the word of one witness.
    fn room(&self) -> Room {
        let budget = self.budget();
        Room {
            budget,
            spare: budget.spare(),
            floor: self.floor(),
            serving: self.serving(),
        }
    }

    fn budget(&self) -> Budget {
        let in_rotation = self.in_rotation().filter(|server| server.weighs()).count();
        Budget::new(in_rotation, self.ledger.used(), &self.rules.guard)
    }

    pub(super) fn budget_view(&self) -> BudgetView {
        let budget = self.budget();
        BudgetView {
            in_rotation: self.in_rotation().count(),
            answering: self.answering(),
            used: budget.used,
            limit: budget.limit,
        }
    }
}

/// What is left of the budget, and who serves, while servers that answer are taken out one by one.
struct Room {
    budget: Budget,
    spare: usize,
    floor: usize,
    serving: BTreeSet<SocketAddr>,
}

/// Why a server that answers may not go.
enum Full {
    /// The budget is used up.
    Budget,
    /// Too few others would serve.
    Floor,
}

impl Room {
    /// Takes the place of one that goes, if there is one.
    fn take(&mut self, server: &ServerState) -> Result<(), Full> {
        if self.spare == 0 {
            return Err(Full::Budget);
        }
        if others(&self.serving, server) < self.floor {
            return Err(Full::Floor);
        }
        self.spare -= 1;
        self.serving.remove(&server.endpoint.addr);
        Ok(())
    }
}

impl Ledger {
    /// Drains a server that answers, and counts it.
    fn dismiss(
        &mut self,
        name: &ServerName,
        server: &mut ServerState,
        why: RemovalCause,
        now: Instant,
    ) {
        self.note(name, server.endpoint, false, now);
        server.removal_cause = Some(why);
        server.drain(now);
    }
}

/// How many web servers take requests beside this one.
fn others(serving: &BTreeSet<SocketAddr>, server: &ServerState) -> usize {
    serving.len() - usize::from(serving.contains(&server.endpoint.addr))
}
