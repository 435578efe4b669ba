//! `[services]`: what members may announce by tags, and what the backends have that come of it. Pure.
//!
//! What one service has that says nothing else is what `[services.defaults]` has: [`complete`] writes that into the table
//! of each `[services.of.NAME]`, key by key, before anything is read. So a service is read as any backend is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::BackendConfig;
use super::Config;
use super::error::{Diagnostic, Location};
use super::node::Node;
use super::section::{Section, section};
use super::value::{WEEK, not_empty, number, some, time};
use crate::model::BackendName;
use crate::route::HostPattern;
use crate::services::{DefaultHost, Names, Path};

section! {
    /// `[services]`: what members may announce.
    pub struct Services {
        /// The services that members may announce, at least one.
        pub allow: Vec<Names> = Vec::new(), names, "say which services members may announce, allow = [\"shop\", \"api-*\"]";
        /// The host of a service that names none; without one such a service has no route.
        pub default_host: Option<DefaultHost> = None, some(default_host);
        /// The hosts that a tag may claim.
        pub hosts: Vec<HostPattern> = Vec::new(), hosts;
        /// The paths that a tag may claim are these, and below them.
        pub paths: Vec<Path> = Vec::new(), paths;
        /// How long a service without members keeps its backend, at most a week.
        pub keep_empty: Duration = Duration::from_secs(600), time(Duration::ZERO..=WEEK);
        /// Services that there may be, 1 to 1000: those that come first are kept.
        // Whoever may announce `*` could make any number of backends.
        pub max: usize = 100, number(1..=1000);
        /// What the backend of a service is like that has no settings of its own.
        pub defaults: BackendConfig = BackendConfig::default(), BackendConfig::read;
        /// The backends of those that have, by name, with what they have of `defaults`.
        pub of: BTreeMap<BackendName, BackendConfig> = BTreeMap::new(), of;
    }
}

impl Services {
    /// Whether members may announce a service of this name.
    pub fn allows(&self, service: &BackendName) -> bool {
        self.allow.iter().any(|names| names.has(service.as_str()))
    }

    /// The backend of a service.
    pub fn backend(&self, service: &BackendName) -> BackendConfig {
        let backend = self.of.get(service).unwrap_or(&self.defaults);
        BackendConfig {
            name: service.clone(),
            is_service: true,
            ..backend.clone()
        }
    }
}

/// What a service may be told, and a backend may not leave out: who is in it is for its members to say.
const NAMED_BY_MEMBERS: [&str; 3] = ["name", "tags", "node"];

/// Ports that a service may be at where nothing else is said: those that need no rights to listen on.
const PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;

/// Writes what `[services.defaults]` has into each `[services.of.NAME]`, but for what stands there.
pub(super) fn complete(root: &mut DeTable<'_>) {
    let services = root.get_mut("services").map(Spanned::get_mut);
    let Some(DeValue::Table(services)) = services else {
        return;
    };
    let defaults = services
        .get("defaults")
        .map(|value| value.get_ref().clone());
    let of = services.get_mut("of").map(Spanned::get_mut);
    if let (Some(DeValue::Table(defaults)), Some(DeValue::Table(of))) = (defaults, of) {
        for (_, service) in of.iter_mut() {
            if let DeValue::Table(service) = service.get_mut() {
                fill(service, &defaults);
            }
        }
    }
}

/// What is wrong in `[services.defaults]` is wrong in each service, and said once.
pub(super) fn once(found: BTreeSet<Diagnostic>) -> Vec<Diagnostic> {
    let is_of_all = |it: &&Diagnostic| it.key.starts_with("services.defaults");
    let of_all = found.iter().filter(is_of_all);
    let of_all: BTreeSet<(Location, String)> = of_all
        .map(|it| (it.location.clone(), it.message.clone()))
        .collect();
    let is_said = |it: &Diagnostic| {
        it.key.starts_with("services.of.")
            && of_all.contains(&(it.location.clone(), it.message.clone()))
    };
    found.into_iter().filter(|it| !is_said(it)).collect()
}

fn fill<'a>(table: &mut DeTable<'a>, defaults: &DeTable<'a>) {
    for (key, value) in defaults {
        match (
            table.get_mut(&**key.get_ref()).map(Spanned::get_mut),
            value.get_ref(),
        ) {
            (None, _) => drop(table.insert(key.clone(), value.clone())),
            (Some(DeValue::Table(own)), DeValue::Table(all)) => fill(own, all),
            (Some(_), _) => {}
        }
    }
}

/// The services' backends that something is said of, each with the table that says it.
pub(super) fn backends<'a, 'b>(
    config: &'b Config,
    root: &Node<'a>,
) -> Vec<(&'b BackendConfig, Node<'a>)> {
    let Some(services) = &config.services else {
        return Vec::new();
    };
    let defaults = root.get("services.defaults");
    let defaults = defaults.map(|node| (&services.defaults, node));
    let of = root.get("services.of");
    let of = services.of.iter().filter_map(|(name, backend)| {
        let node = of.as_ref()?.part_named(name.as_str())?;
        Some((backend, node))
    });
    defaults.into_iter().chain(of).collect()
}

/// Sets what is not given, but follows from what is; `backend` does what is done for every backend.
pub(super) fn derive(
    config: &mut Config,
    root: &Node<'_>,
    backend: impl Fn(&mut BackendConfig, &Node<'_>, &Config),
) {
    let Some(mut services) = config.services.take() else {
        return;
    };
    let finish = |service: &mut BackendConfig, node: Option<Node<'_>>| {
        if let Some(node) = node {
            backend(service, &node, config);
        } else {
            service.guard = config.guard.clone();
            service.drain = config.drain.clone();
        }
        if service.ports.is_empty() {
            service.ports.push(PORTS);
        }
    };
    finish(&mut services.defaults, root.get("services.defaults"));
    let of = root.get("services.of");
    for (name, service) in &mut services.of {
        let node = of.as_ref().and_then(|of| of.part_named(name.as_str()));
        finish(service, node);
    }
    config.services = Some(services);
}

/// Complains about what does not fit together.
pub(super) fn check(config: &Config, root: &Node<'_>) {
    let Some(services) = &config.services else {
        return;
    };
    for (_, node) in backends(config, root) {
        for key in NAMED_BY_MEMBERS {
            if node.has(key) {
                node.complain(key, "members announce a service by its name; leave it out");
            }
        }
    }
    let taken = |name: &str| {
        config
            .backends
            .iter()
            .any(|backend| backend.name.as_str() == name)
    };
    let allowed = root.get("services.allow");
    for names in services.allow.iter().filter_map(Names::literal) {
        if taken(names)
            && let Some(node) = &allowed
        {
            node.complain(
                "",
                format!("{names} is a [[backend]]; leave it out, or call one of them otherwise"),
            );
        }
    }
    let of = root.get("services.of");
    for name in services.of.keys() {
        let Some(of) = &of else { break };
        if taken(name.as_str()) {
            of.complain(
                name.as_str(),
                "a [[backend]] has this name; call one of them otherwise",
            );
        } else if !services.allows(name) {
            of.complain(
                name.as_str(),
                "no member may announce it; add it to services.allow",
            );
        }
    }
}

fn names(node: &Node<'_>) -> Option<Vec<Names>> {
    let names =
        |node: &Node<'_>| node.parse("names of services, \"shop\" or \"api-*\"", Names::new);
    not_empty(
        node,
        names,
        "an empty list lets nobody announce anything; leave [services] out",
    )
}

fn default_host(node: &Node<'_>) -> Option<DefaultHost> {
    node.parse(
        "a host, \"{service}.example.com\", or \"*\" for any",
        DefaultHost::new,
    )
}

fn hosts(node: &Node<'_>) -> Option<Vec<HostPattern>> {
    node.list(|node| {
        node.parse(
            "a host, \"shop.example.com\" or \"*.example.com\"",
            HostPattern::parse,
        )
    })
}

fn paths(node: &Node<'_>) -> Option<Vec<Path>> {
    node.list(|node| {
        node.parse(
            "a path, \"/\" or \"/shops\", of letters, digits, `-`, `.`, `_` and `~`",
            Path::new,
        )
    })
}

/// `[services.of.NAME]`.
fn of(node: &Node<'_>) -> Option<BTreeMap<BackendName, BackendConfig>> {
    let what = "tables, [services.of.shop]";
    let mut services = BTreeMap::new();
    for (name, _) in node.names(what)? {
        let part = node.part_named(name)?;
        let Some(service) = BackendName::new(name) else {
            part.refuse::<()>("not a name; use 1 to 64 of letters, digits, `_`, `.` and `-`, beginning with a letter or digit");
            continue;
        };
        if let Some(backend) = BackendConfig::read(&part) {
            let backend = BackendConfig {
                name: service.clone(),
                ..backend
            };
            services.insert(service, backend);
        }
    }
    Some(services)
}
