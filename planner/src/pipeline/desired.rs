//! What HAProxy is to run: members, evidence and the time in, decisions and a text out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use serf_rpc::{Entry, Presence, Snapshot};

use super::LoadedConfig;
use crate::config::Config;
use crate::debounce::Debouncer;
use crate::guard::{Approval, Decisions, Guard, Probed, Target};
use crate::model::here::Listener;
use crate::model::{
    BackendName, Details, Endpoint, Model, Quarantine, RunningServers, ServerKey, Servers,
};
use crate::render::{RenderError, Rendered};
use crate::select::select;
use crate::services::{Book, Gathered, gather};
use crate::stamp::Stamp;
use crate::syntax::listeners::{Listeners, listeners};
use crate::syntax::{ConfigText, Scope};

/// A text with its stamp, read once.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its stamp; empty where another hand has changed it.
    pub stamp: Stamp,
    /// What it says.
    pub text: Arc<str>,
    /// Its servers and everything else.
    pub parsed: Arc<ConfigText>,
}

impl Text {
    /// Whether it is as we have written it: a text of ours that another hand has changed has no stamp.
    pub fn is_ours(&self) -> bool {
        !self.stamp.0.is_empty()
    }
}

/// The text as it is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The servers that it lists.
    pub servers: Servers,
    /// The text.
    pub text: Text,
    /// For the way back from a line of the text to one of the template.
    pub rendered: Rendered,
}

impl Wanted {
    /// Renders the text that lists these servers.
    ///
    /// # Errors
    /// Those of the template.
    pub fn render(
        loaded: &LoadedConfig,
        scope: &Scope,
        servers: Servers,
    ) -> Result<Self, RenderError> {
        let rendered = loaded.renderer.render(&loaded.config, &servers)?;
        let text = Text {
            stamp: rendered.stamp.clone(),
            text: rendered.text.as_str().into(),
            parsed: Arc::new(scope.read(&rendered.text)),
        };
        Ok(Self {
            servers,
            text,
            rendered,
        })
    }
}

/// A server that a file is invalid with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffendingServer {
    /// The endpoint that it offends with; with another it has another chance.
    pub endpoint: Endpoint,
    /// As it stood in the last valid file, if it did.
    pub before: Option<Endpoint>,
    /// What the check command says of it.
    pub reason: String,
}

/// More members than may be: their list is not taken, and that of before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the agent lists {listed} members, more than max_members = {most}: its list is not taken, and that of before \
     stays in force"
)]
pub struct TooManyMembers {
    /// So many are listed.
    pub listed: usize,
    /// So many may be.
    pub most: usize,
}

/// Everything that decides what HAProxy is to run.
#[derive(Debug)]
pub struct Desired {
    loaded: LoadedConfig,
    /// The config's, beside what HAProxy has read of other files.
    scope: Scope,
    snapshot: Arc<Snapshot>,
    /// Of this host.
    addresses: BTreeSet<IpAddr>,
    /// Of the text on the disk.
    on_disk: Listeners,
    /// Of the other files of the configuration.
    elsewhere: Vec<Listener>,
    model: Model,
    guard: Guard,
    decisions: Decisions,
    /// The services that there are.
    services: Book,
    /// What the lines of servers have beside address and weight, as it was last known.
    details: BTreeMap<ServerKey, Arc<Details>>,
    additions: Debouncer<ServerKey, Endpoint>,
    offenders: BTreeMap<ServerKey, OffendingServer>,
    wanted: Option<Wanted>,
}

impl Desired {
    /// Begins with what is known of the members and their servers; nothing is picked before [`Desired::select`].
    ///
    /// `loaded` has the backends of `services`, which an earlier process has left.
    pub fn new(
        loaded: LoadedConfig,
        scope: Scope,
        snapshot: Arc<Snapshot>,
        guard: Guard,
        services: Book,
    ) -> Self {
        let mut desired = Self {
            services,
            details: BTreeMap::new(),
            additions: Debouncer::eager(loaded.quiet()),
            scope: Scope::default(),
            loaded,
            snapshot,
            addresses: BTreeSet::new(),
            on_disk: Listeners::default(),
            elsewhere: Vec::new(),
            model: Model::default(),
            guard,
            decisions: Decisions::default(),
            offenders: BTreeMap::new(),
            wanted: None,
        };
        desired.guard.forget(scope.fixed_servers());
        desired.set_scope(scope);
        desired
    }

    /// Takes another config with its templates; the members have to be picked anew.
    pub fn set_loaded(&mut self, loaded: LoadedConfig) -> LoadedConfig {
        self.services.keep_allowed(&loaded.config);
        let services = self.services.effect(&loaded.written);
        let loaded = loaded.with_services(services, self.scope.files());
        self.guard.set_rules(loaded.rules());
        self.guard.forget(loaded.scope.fixed_servers());
        self.additions.set_quiet(loaded.quiet());
        self.wanted = None;
        self.offenders.clear();
        std::mem::replace(&mut self.loaded, loaded)
    }

    /// Takes what HAProxy has read of other files: what stands there is nobody's to change, and is listened on. Says
    /// whether it is otherwise than before; then each text has to be read anew.
    pub fn set_scope(&mut self, scope: Scope) -> bool {
        if scope == self.scope {
            return false;
        }
        self.elsewhere = scope.other_texts().flat_map(listeners).collect();
        self.scope = scope;
        if let Some(Wanted { text, .. }) = &mut self.wanted {
            text.parsed = Arc::new(self.scope.read(&text.text));
        }
        true
    }

    /// Takes this host's addresses.
    pub fn set_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.addresses = addresses;
    }

    /// Takes the text on the disk, whose listeners no member may claim.
    pub fn set_on_disk(&mut self, text: &Arc<str>) {
        self.on_disk.read(text);
    }

    /// Takes the members; says whether they are others than before, so that they have to be picked anew.
    ///
    /// # Errors
    /// More than `max_members` are not taken: whoever can make so many may make any.
    pub fn set_members(&mut self, snapshot: &Arc<Snapshot>) -> Result<bool, TooManyMembers> {
        let most = self.loaded.config.serf.max_members;
        let is_listed = |entry: &&Entry| entry.presence == Presence::Listed;
        let listed = snapshot.entries().iter().filter(is_listed).count();
        if listed > most {
            self.snapshot = Arc::new(self.snapshot.with_agent(snapshot.agent().clone()));
            return Err(TooManyMembers { listed, most });
        }
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        Ok(before.revision() != snapshot.revision() || before.local() != snapshot.local())
    }

    /// Picks the members of each backend; says whether other services are there than before, or otherwise.
    pub fn select(&mut self, now: Instant) -> bool {
        let own = [self.on_disk.of_text(), &self.elsewhere].concat();
        let defaults = self.loaded.defaults(&self.snapshot, &self.addresses, &own);
        let written = Arc::clone(&self.loaded.written);
        self.model = select(&self.snapshot, &written.backends, &defaults);
        let mut gathered = gather(&self.snapshot, &written, &defaults);
        let heard = self.snapshot.read_at().is_some();
        self.services.revise(&mut gathered, &written, heard, now);
        let others = self.revise_services(&written);
        self.announce(gathered);
        self.guard.observe_members(&self.model, now);
        self.keep_details();
        others
    }

    /// Brings the backends of services into force, where they are others than before.
    fn revise_services(&mut self, written: &Config) -> bool {
        let services = self.services.effect(written);
        if self.loaded.has(&services) {
            return false;
        }
        self.loaded = self.loaded.with_services(services, self.scope.files());
        self.guard.set_rules(self.loaded.rules());
        self.guard.forget(self.loaded.scope.fixed_servers());
        self.wanted = None;
        let scope = self.loaded.scope.with_files(self.scope.files());
        self.set_scope(scope);
        true
    }

    /// Puts the servers of services beside those that are picked.
    fn announce(&mut self, gathered: Gathered) {
        let model = &mut self.model;
        for (name, _) in self.services.iter() {
            model.backends.entry(name.clone()).or_default();
        }
        for (name, found) in gathered.services {
            model.backends.insert(name, found.servers);
            model.details.extend(found.details);
        }
        model.refused = gathered.refused;
        for name in gathered.unnameable {
            model.unnameable.insert(name, Quarantine::Name);
        }
    }

    /// A server of which nothing can be used any more keeps its line as it is.
    fn keep_details(&mut self) {
        let Model {
            backends, details, ..
        } = &mut self.model;
        self.details.retain(|key, _| {
            let candidate = backends
                .get(&key.backend)
                .and_then(|it| it.get(&key.server));
            candidate.is_none_or(|candidate| candidate.attributes.is_err())
        });
        let known = std::mem::take(details).into_iter();
        self.details
            .extend(known.map(|(key, details)| (key, Arc::new(details))));
    }

    /// The servers that are to be listed now, each with all that its line has.
    pub fn lines(&self, in_force: &Decisions) -> Servers {
        let mut servers = in_force.lines();
        if self.details.is_empty() {
            return servers;
        }
        for (backend, servers) in &mut servers {
            for server in servers {
                let key = ServerKey::new(backend, &server.name);
                if let Some(details) = self.details.get(&key) {
                    server.details = Arc::clone(details);
                }
            }
        }
        servers
    }

    /// The services that there are.
    pub fn services(&self) -> &Book {
        &self.services
    }

    /// When a service has been empty for so long that it goes: its members have to be picked anew then.
    pub fn services_due(&self) -> Option<Instant> {
        // Before an agent has answered none goes.
        self.snapshot.read_at()?;
        self.services.deadline(&self.loaded.config)
    }

    /// Takes the servers as HAProxy runs them.
    pub fn observe_running(&mut self, servers: &RunningServers, now: Instant) {
        self.guard.observe_running(servers, now);
    }

    /// Takes that the agent suspects a member; says whether anything may follow from it.
    pub fn observe_suspicion(&mut self, member: &[u8], now: Instant) -> bool {
        let naming = self.loaded.config.serf.names;
        let server = naming.server(member);
        server.is_some_and(|server| self.guard.observe_suspicion(server.member(), now))
    }

    /// Takes what a probe found; says whether anything may follow from it.
    pub fn observe_probe(&mut self, key: &ServerKey, addr: SocketAddr, probed: Probed) -> bool {
        self.guard.observe_probe(key, addr, probed)
    }

    /// The probes that are to run otherwise than when this was asked last; see [`Guard::probe_news`].
    pub fn probe_news(&mut self, now: Instant) -> Vec<(ServerKey, Option<Target>)> {
        self.guard.probe_news(now)
    }

    /// Takes the servers of a member as ones that answer, which nobody has asked.
    pub fn assume_answering(&mut self, member: &[u8]) {
        let Some(name) = self.loaded.config.serf.names.server(member) else {
            return;
        };
        for (key, candidate) in self.model.candidates() {
            if key.server.member() == name.member()
                && let Ok(attributes) = &candidate.attributes
            {
                let addr = attributes.endpoint.addr;
                self.guard.observe_probe(&key, addr, Probed::Good);
            }
        }
    }

    /// Takes servers that a file is invalid with: they stay out of it, or as they were in the last valid one.
    pub fn blame(&mut self, found: impl IntoIterator<Item = (ServerKey, OffendingServer)>) {
        self.offenders.extend(found);
    }

    /// Approves the removal of held servers; returns them.
    pub fn approve(&mut self, approval: &Approval) -> Vec<ServerKey> {
        self.guard.approve(approval)
    }

    /// Decides about every server; returns the decisions of before.
    pub fn decide(&mut self, now: Instant) -> Decisions {
        let mut decisions = self.guard.decide(now);
        if self.snapshot.read_at().is_none() {
            decisions.before_gossip();
        }
        let budgets = &decisions.budgets;
        let serves = |name: &BackendName| budgets.get(name).is_some_and(|it| it.answering > 0);
        self.services.observe_serving(serves, now);
        self.details.retain(|key, _| {
            let known = self.model.backends.get(&key.backend);
            known.is_some_and(|it| it.contains_key(&key.server)) || decisions.get(key).is_some()
        });
        std::mem::replace(&mut self.decisions, decisions)
    }

    /// The config and its templates.
    pub fn loaded(&self) -> &LoadedConfig {
        &self.loaded
    }

    /// Which server lines of a text are the members', beside what HAProxy has read of other files.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The members that were taken last.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The members as the rules pick them.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What is known of every server.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What was decided last.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// The servers that a file was invalid with.
    pub fn offenders(&self) -> &BTreeMap<ServerKey, OffendingServer> {
        &self.offenders
    }

    /// The text that was rendered last.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// When time alone changes something: a decision, or which additions are in force.
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let additions = self.additions.deadline();
        let deadlines = [self.decisions.deadline, additions, self.services_due()];
        deadlines.into_iter().flatten()
    }

    /// Whether additions gather that are not in force yet.
    pub fn gathers(&self) -> bool {
        self.additions.deadline().is_some()
    }

    /// The decisions that may be in force now: additions gather, everything else is immediate. Offenders are left out, or
    /// as they were; who has changed since gets another chance.
    pub fn in_force(&mut self, now: Instant) -> Decisions {
        let mut in_force = in_force(&self.decisions, &mut self.additions, now);
        let decided = &self.decisions;
        self.offenders.retain(|key, offender| {
            let decision = decided.get(key);
            decision.is_some_and(|decision| decision.endpoint == offender.endpoint)
        });
        for (key, offender) in &self.offenders {
            match (in_force.servers.get_mut(key), offender.before) {
                (Some(decision), Some(before)) => decision.endpoint = before,
                _ => drop(in_force.servers.remove(key)),
            }
        }
        in_force
    }

    /// Renders the text that lists these servers; says whether it did, as the one there is may list them.
    ///
    /// # Errors
    /// Those of the template; the text of before stays.
    pub fn render(&mut self, servers: Servers) -> Result<bool, RenderError> {
        let wanted = self.wanted.as_ref();
        if wanted.is_some_and(|wanted| wanted.servers == servers) {
            return Ok(false);
        }
        self.wanted = Some(Wanted::render(&self.loaded, &self.scope, servers)?);
        Ok(true)
    }
}

/// The decisions that may be in force now: additions gather, everything else is immediate.
fn in_force(
    decisions: &Decisions,
    additions: &mut Debouncer<ServerKey, Endpoint>,
    now: Instant,
) -> Decisions {
    let listed = decisions.servers.iter();
    let listed = listed.filter(|(_, decision)| decision.line.is_some());
    let wanted = listed.map(|(key, decision)| (key.clone(), decision.endpoint));
    let endpoints = additions.update(&wanted.collect(), now);
    let mut in_force = decisions.clone();
    in_force.servers.retain(|key, decision| {
        if decision.line.is_none() {
            return true;
        }
        let Some(endpoint) = endpoints.get(key) else {
            return false;
        };
        decision.endpoint = *endpoint;
        true
    });
    in_force
}
