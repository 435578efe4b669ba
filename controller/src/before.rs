//! What an earlier process has left: its book, or else its file, in; the services and a guard that knows their servers out.

use std::collections::BTreeMap;

use planner::config::Config;
use planner::guard::{Guard, Removal, SerfReport};
use planner::model::{Endpoint, ServerKey};
use planner::pipeline::LoadedConfig;
use planner::services::{Book, Service};
use planner::syntax::{ConfigText, Scope};

use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::state::PersistedState;

/// The services that there were: by the book of an earlier process, or, where that is lost, by the backends of its file. A
/// backend that is not known would be taken out of HAProxy before its members are heard.
pub(crate) fn services_before(
    config: &Config,
    saved: &PersistedState,
    on_disk: Option<&str>,
    anchor: &ClockAnchor,
) -> Book {
    let mut services = Book::default();
    for (name, service) in &saved.services {
        services.restore(name.clone(), service.service(anchor));
    }
    if *saved == PersistedState::default()
        && let Some(text) = on_disk
    {
        for name in Scope::default().read(text).backends() {
            services.restore(name.clone(), Service::new(clock::now()));
        }
    }
    services.keep_allowed(config);
    services
}

/// A guard that knows what an earlier process knew.
pub(crate) fn guard_before(
    loaded: &LoadedConfig,
    saved: &PersistedState,
    on_disk: Option<&ConfigText>,
    anchor: &ClockAnchor,
) -> Guard {
    let now = clock::now();
    let mut guard = Guard::new(loaded.rules());
    for (key, endpoint) in servers_before(&saved.in_rotation, on_disk) {
        guard.adopt(key, endpoint, now);
    }
    restore(&mut guard, saved, anchor);
    guard.forget(loaded.scope.fixed_servers());
    guard
}

/// Takes the removals that an earlier process made: they count, and the servers may come back. What Serf said then holds
/// since then.
fn restore(guard: &mut Guard, saved: &PersistedState, anchor: &ClockAnchor) {
    let now = clock::now();
    for (key, removed) in &saved.removals {
        let removal = Removal {
            endpoint: removed.endpoint,
            at: anchor.instant(removed.at),
            agreed: removed.agreed,
        };
        guard.restore(key.clone(), removal, now);
    }
    for (key, said) in &saved.words {
        let word = SerfReport {
            endpoint: said.endpoint,
            gossip: said.gossip,
            since: anchor.instant(said.since),
        };
        guard.remember(key.clone(), word, now);
    }
    for (key, addr) in &saved.owners {
        guard.own(key.clone(), *addr);
    }
}

/// The servers that had traffic when the controller was last there: by its own book, or else by its own file.
fn servers_before(
    book: &BTreeMap<ServerKey, Endpoint>,
    on_disk: Option<&ConfigText>,
) -> BTreeMap<ServerKey, Endpoint> {
    if !book.is_empty() {
        return book.clone();
    }
    let Some(text) = on_disk else {
        return BTreeMap::new();
    };
    let mut servers = BTreeMap::new();
    for backend in text.backends() {
        for line in text.servers(backend).filter(|line| !line.disabled) {
            let key = ServerKey::new(backend, &line.name);
            servers.insert(
                key,
                Endpoint {
                    addr: line.addr,
                    weight: line.weight,
                },
            );
        }
    }
    servers
}
