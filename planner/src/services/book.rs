//! Which services there are: what members announce, who serves and the time in; the backends that are to be there, where
//! their requests come from, and since when out.
//!
//! A service is there from its first member that is alive and may announce it, and until nobody has served it for
//! `keep_empty`: so a member that comes back, or another in its place, finds its backend and needs no reload. Whoever
//! may announce services cannot make more of them than `max`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Instant;

use super::gather::{Found, Gathered, Proto, Wish};
use super::vote::{Dispute, elect};
use super::{Names, Path};
use crate::config::{BackendConfig, Config, Mode, Observe, Services};
use crate::model::{BackendName, Quarantine, SerfStatus};
use crate::route::Host;

/// Whose requests a service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Those for this host.
    Of(Host),
    /// Those for any.
    Any,
    /// Nobody's: no host is said of it.
    #[default]
    Nobody,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(host) => f.pad(host.as_str()),
            Self::Any => f.pad("*"),
            Self::Nobody => f.pad("none"),
        }
    }
}

/// A service as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Since when it has been there.
    pub since: Instant,
    /// Whose requests it gets.
    pub whose: Whose,
    /// Below which path.
    pub path: Path,
    /// Since when it gets those.
    pub placed: Instant,
    /// What it speaks; none is what the config says.
    pub proto: Option<Proto>,
    /// Since when nobody has served it, and nobody alive has announced it.
    pub empty: Option<Instant>,
    /// What its members disagree about.
    pub disputes: Vec<Dispute>,
    /// Whether a member that is alive announces it.
    announced: bool,
}

impl Service {
    /// One that is new.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            whose: Whose::default(),
            path: Path::root(),
            placed: now,
            proto: None,
            empty: None,
            disputes: Vec::new(),
            announced: false,
        }
    }

    /// One that no member has announced, as it would be.
    fn expected(name: &BackendName, services: &Services, now: Instant) -> Self {
        Self {
            whose: default(name, services),
            ..Self::new(now)
        }
    }

    /// Takes what its members want; where none of them is there it stays as it is.
    fn revise(
        &mut self,
        name: &BackendName,
        services: &Services,
        found: Option<&Found>,
        now: Instant,
    ) {
        let wishes = found.map(|found| &found.wishes);
        let all = || {
            wishes
                .into_iter()
                .flatten()
                .map(|(member, wish)| (member.as_str(), wish))
        };
        self.announced = all().next().is_some();
        self.disputes.clear();
        let default = default(name, services);
        let whose = |wish: &Wish| wish.host.clone().map_or_else(|| default.clone(), Whose::Of);
        let path = |wish: &Wish| wish.path.clone().unwrap_or_else(Path::root);
        let host = elect("host", all().map(|(member, wish)| (member, whose(wish))));
        let path = elect("path", all().map(|(member, wish)| (member, path(wish))));
        if let (Some((whose, dispute)), Some((path, other))) = (host, path) {
            self.disputes.extend(dispute.into_iter().chain(other));
            if (&whose, &path) != (&self.whose, &self.path) {
                (self.whose, self.path, self.placed) = (whose, path, now);
            }
        }
        let proto = elect(
            "proto",
            all().map(|(member, wish)| (member, Spoken(wish.proto))),
        );
        if let Some((Spoken(proto), dispute)) = proto {
            self.disputes.extend(dispute);
            self.proto = proto;
        }
    }

    /// Its backend.
    fn backend(&self, name: &BackendName, services: &Services) -> BackendConfig {
        let mut backend = services.backend(name);
        match self.proto {
            None => {}
            Some(Proto::Http) => backend.mode = Mode::Http,
            Some(Proto::H2) => {
                backend.mode = Mode::Http;
                if !backend.server_options.iter().any(|word| word == "proto") {
                    backend
                        .server_options
                        .extend(["proto", "h2"].map(str::to_owned));
                }
            }
            Some(Proto::Tcp) => {
                backend.mode = Mode::Tcp;
                // Of answers that are no HTTP's nothing is known.
                backend.observe = backend.observe.map(|_| Observe::Layer4);
            }
        }
        backend
    }
}

/// Whose requests a service gets that names no host.
fn default(name: &BackendName, services: &Services) -> Whose {
    let host = services.default_host.as_ref();
    match host.and_then(|host| host.of(name.as_str())) {
        None => Whose::Nobody,
        Some(None) => Whose::Any,
        Some(Some(host)) => Whose::Of(host),
    }
}

/// What a member says that a service speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spoken(Option<Proto>);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.map_or("nothing", Proto::as_str))
    }
}

/// The services that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    services: BTreeMap<BackendName, Service>,
}

impl Book {
    /// Takes a service that was there when an earlier process was.
    pub fn restore(&mut self, name: BackendName, service: Service) {
        self.services.insert(name, service);
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&BackendName, &Service)> {
        self.services.iter()
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &BackendName) -> bool {
        self.services.contains_key(name)
    }

    /// Leaves those that the config allows.
    pub fn keep_allowed(&mut self, config: &Config) {
        let services = config.services.as_ref();
        let is_taken = |name: &BackendName| {
            let mut backends = config.backends.iter();
            backends.any(|backend| !backend.is_service && backend.name == *name)
        };
        self.services
            .retain(|name, _| services.is_some_and(|it| it.allows(name)) && !is_taken(name));
    }

    /// Takes what members announce: services come, those that were empty for long enough go. With `heard` false no agent has
    /// answered yet, and none goes. What is no service, as there are too many, is refused in `gathered`.
    pub fn revise(&mut self, gathered: &mut Gathered, config: &Config, heard: bool, now: Instant) {
        self.keep_allowed(config);
        let Some(services) = &config.services else {
            return;
        };
        let announced = |gathered: &Gathered, name: &BackendName| {
            let found = gathered.services.get(name);
            found.is_some_and(|found| !found.wishes.is_empty())
        };
        self.services.retain(|name, service| {
            let over = service
                .empty
                .is_some_and(|at| now >= at + services.keep_empty);
            !(heard && over) || announced(gathered, name)
        });
        let mut refused = Vec::new();
        for (name, found) in &gathered.services {
            let count = self.services.len();
            match self.services.entry(name.clone()) {
                Entry::Occupied(_) => {}
                Entry::Vacant(entry) if !found.wishes.is_empty() && count < services.max => {
                    entry.insert(Service::new(now));
                }
                Entry::Vacant(_) => refused.push(name.clone()),
            }
        }
        for name in refused {
            let Some(found) = gathered.services.remove(&name) else {
                continue;
            };
            for (server, candidate) in found.servers {
                if candidate.gossip == SerfStatus::Alive {
                    let too_many = Quarantine::TooManyServices(services.max);
                    let why = candidate.attributes.err().unwrap_or(too_many);
                    gathered.refused.insert(format!("{name}/{server}"), why);
                }
            }
        }
        for (name, service) in &mut self.services {
            service.revise(name, services, gathered.services.get(name), now);
        }
    }

    /// These, and those that may come: the ones that the config names, or one of any name that is allowed.
    #[must_use]
    pub fn with_expected(&self, config: &Config, now: Instant) -> Self {
        let mut expected = self.clone();
        let Some(services) = &config.services else {
            return expected;
        };
        let allowed = services.allow.iter().filter_map(Names::literal);
        let allowed = allowed.filter_map(BackendName::new);
        let mut named: Vec<BackendName> = services.of.keys().cloned().chain(allowed).collect();
        let any = services
            .allow
            .iter()
            .map(|names| names.to_string().replace('*', "x"));
        if named.is_empty() && self.services.is_empty() {
            named.extend(any.filter_map(BackendName::new).take(1));
        }
        for name in named {
            let service = || Service::expected(&name, services, now);
            expected
                .services
                .entry(name.clone())
                .or_insert_with(service);
        }
        expected.keep_allowed(config);
        expected
    }

    /// Takes which of them somebody serves.
    pub fn observe_serving(&mut self, serves: impl Fn(&BackendName) -> bool, now: Instant) {
        for (name, service) in &mut self.services {
            if service.announced || serves(name) {
                service.empty = None;
            } else {
                service.empty.get_or_insert(now);
            }
        }
    }

    /// When the next of them has been empty for long enough.
    pub fn deadline(&self, config: &Config) -> Option<Instant> {
        let keep = config.services.as_ref()?.keep_empty;
        let empty = self.services.values().filter_map(|service| service.empty);
        empty.min().map(|at| at + keep)
    }

    /// Their backends, by name.
    pub(super) fn backends(&self, config: &Config) -> Vec<BackendConfig> {
        let Some(services) = &config.services else {
            return Vec::new();
        };
        let all = self.services.iter();
        all.map(|(name, service)| service.backend(name, services))
            .collect()
    }
}
