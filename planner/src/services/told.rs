//! What each member announces and what comes of it, for people: a Snapshot and what was made of it in, a line for each
//! announcement out.

use serf_rpc::Snapshot;

use super::{Announcement, Book, Unrouted};
use crate::model::{Model, SerfStatus, ServerKey};
use crate::pipeline::LoadedConfig;
use crate::select::{gossip, shown};

/// What the members announce that are alive.
pub fn told(
    snapshot: &Snapshot,
    model: &Model,
    services: &Book,
    loaded: &LoadedConfig,
) -> Vec<String> {
    let config = &loaded.written;
    let mut lines = Vec::new();
    if config.services.is_none() {
        return lines;
    }
    for entry in snapshot.entries() {
        let alive = gossip(entry) == SerfStatus::Alive;
        let Some(value) = entry.member.tag(&config.tags.services).filter(|_| alive) else {
            continue;
        };
        let member = shown(entry.member.name());
        let Some(server) = config.serf.names.server(entry.member.name()) else {
            lines.push(format!(
                "member {member}: announces services, and its name can be no server's"
            ));
            continue;
        };
        for announced in Announcement::list(value) {
            let (what, server) = match &announced {
                Ok(it) => {
                    let server = it
                        .port
                        .map_or_else(|| server.clone(), |port| server.at(it.addr, port));
                    (it.service.to_string(), server)
                }
                Err(text) => (shown(text), server.clone()),
            };
            let refused = model.refused.get(&format!("{what}/{server}"));
            let refused =
                refused.or_else(|| model.refused.get(&format!("{what}/{}", server.member())));
            let key = announced
                .ok()
                .map(|it| ServerKey::new(&it.service, &server));
            let outcome = match (key, refused) {
                (Some(key), _) if services.has(&key.backend) => {
                    of_server(&key, model, services, loaded)
                }
                (_, Some(why)) => format!("left out: {why}"),
                _ => "left out".to_owned(),
            };
            lines.push(format!("member {member}: {what}: {outcome}"));
        }
    }
    lines
}

fn of_server(key: &ServerKey, model: &Model, services: &Book, loaded: &LoadedConfig) -> String {
    let candidate = model
        .backends
        .get(&key.backend)
        .and_then(|it| it.get(&key.server));
    let endpoint = match candidate.map(|candidate| &candidate.attributes) {
        Some(Ok(attributes)) => attributes.endpoint,
        Some(Err(why)) => return format!("left out: {why}"),
        None => return "left out".to_owned(),
    };
    let route = match loaded.unrouted.get(&key.backend) {
        Some(why @ (Unrouted::Tcp | Unrouted::NoHost)) => {
            format!("no requests of a front end, as {why}")
        }
        Some(why) => format!("no requests, as {why}"),
        None => {
            let mut all = services.iter();
            let service = all.find(|(name, _)| **name == key.backend);
            service.map_or_else(String::new, |(_, it)| format!("requests of {it}"))
        }
    };
    format!("server {key} at {}, {route}", endpoint.addr)
}
