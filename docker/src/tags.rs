//! What the tags say: instances in; the words of the tags, within what a node may have, and who found no room, out. Pure.
//!
//! `svc=shop:32768,32769,api:4000@172.18.0.5`: what an entry leaves out is as in the one before it. A bare `32769` is
//! another port of that service, at the member's own address; a bare `@172.18.0.6` the same service and port at that one; and
//! of an address that differs from the one before in its last number only that one stands, `@.6`.
//!
//! Which tags are ours is seen by the tags themselves, so that nothing has to be remembered: the one with the services, and
//! whatever says something of a service that it lists, as `host.shop` or `weight.shop:32768`. All others are somebody else's.

mod room;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use planner::model::BackendName;
use serf_rpc::TagChange;

pub use room::{LIMIT, size};
pub use words::{read, write};

use crate::instances::{Instance, Place, Reason, Seen};
use crate::labels::Key;

/// What the tags are called; balancers have to call them the same (`[tags]` there).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The one with the services.
    pub services: String,
    /// What is said of one of them, each with `.SERVICE` behind it.
    pub details: BTreeMap<Key, String>,
}

/// Tags of a node, any bytes.
pub type Tags = BTreeMap<Vec<u8>, Vec<u8>>;

/// What holds for a whole service.
const OF_SERVICES: [Key; 3] = [Key::Host, Key::Path, Key::Proto];
/// What holds for one server of it.
const OF_SERVERS: [(Key, &str); 3] = [
    (Key::Weight, "1"),
    (Key::State, "ready"),
    (Key::Backup, "0"),
];

/// What is to be written, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Our tags.
    pub tags: Tags,
    /// Who is in them.
    pub places: BTreeSet<Place>,
    /// What all tags of the node come to, encoded.
    pub bytes: usize,
}

/// Chooses who is in the tags of a node that has these others. Who is in them already stays; beyond these, who was made
/// first goes first. `seen` is told who has no place, and why.
pub fn choose(seen: &mut [Seen], before: &BTreeSet<Place>, others: &Tags, names: &Names) -> Chosen {
    claimed(seen);
    not_ready(seen);
    let all: Vec<&Instance> = instances(seen).collect();
    let fits = |chosen: &[&Instance]| {
        let tags = tags(chosen, names);
        let bytes = size(others.iter().chain(&tags));
        (tags, bytes)
    };
    let (mut ours, mut bytes) = fits(&all);
    let mut chosen = all;
    if bytes > LIMIT {
        let mut waiting = std::mem::take(&mut chosen);
        waiting.sort_by_key(|it| (!before.contains(&it.place), &it.age, &it.place));
        (ours, bytes) = fits(&chosen);
        for instance in waiting {
            chosen.push(instance);
            let (with, more) = fits(&chosen);
            if more <= LIMIT {
                (ours, bytes) = (with, more);
            } else {
                chosen.pop();
            }
        }
    }
    let places: BTreeSet<Place> = chosen.iter().map(|it| it.place.clone()).collect();
    for (_, it) in seen.iter_mut().flat_map(|it| &mut it.services) {
        if it.as_ref().is_ok_and(|it| !places.contains(&it.place)) {
            *it = Err(Reason::NoRoom);
        }
    }
    Chosen {
        tags: ours,
        places,
        bytes,
    }
}

fn instances(seen: &[Seen]) -> impl Iterator<Item = &Instance> {
    let services = seen.iter().flat_map(|it| &it.services);
    services.filter_map(|(_, it)| it.as_ref().ok())
}

/// Leaves out who claims the host and path of another service that was there first.
fn claimed(seen: &mut [Seen]) {
    type Claim = (String, String);
    let claim = |it: &Instance| {
        let host = it.details.get(&Key::Host)?.clone();
        let path = it.details.get(&Key::Path).cloned();
        Some((host, path.unwrap_or_default()))
    };
    let mut first: BTreeMap<Claim, (&(i64, String), &BackendName)> = BTreeMap::new();
    for it in instances(seen) {
        if let Some(claimed) = claim(it) {
            let (age, service) = first.entry(claimed).or_insert((&it.age, &it.place.service));
            if (&it.age, &it.place.service) < (*age, *service) {
                (*age, *service) = (&it.age, &it.place.service);
            }
        }
    }
    let owners: BTreeMap<Claim, BackendName> = first
        .into_iter()
        .map(|(claim, (_, service))| (claim, service.clone()))
        .collect();
    for (_, entry) in seen.iter_mut().flat_map(|it| &mut it.services) {
        if let Ok(it) = entry
            && let Some(owner) = claim(it).and_then(|claim| owners.get(&claim))
            && *owner != it.place.service
        {
            *entry = Err(Reason::Claimed(owner.clone()));
        }
    }
}

/// Leaves out who is not to be ready while others of its service are.
fn not_ready(seen: &mut [Seen]) {
    let is_ready = |it: &Instance| !it.details.contains_key(&Key::State);
    let ready = instances(seen).filter(|it| is_ready(it));
    let ready: BTreeSet<BackendName> = ready.map(|it| it.place.service.clone()).collect();
    for (_, entry) in seen.iter_mut().flat_map(|it| &mut it.services) {
        if let Ok(it) = entry
            && !is_ready(it)
            && ready.contains(&it.place.service)
        {
            *entry = Err(Reason::NotReady);
        }
    }
}

/// The tags that say this.
pub fn tags(instances: &[&Instance], names: &Names) -> Tags {
    let mut tags = Tags::new();
    let mut services: BTreeMap<&BackendName, Vec<&Instance>> = BTreeMap::new();
    for it in instances {
        services.entry(&it.place.service).or_default().push(it);
    }
    if services.is_empty() {
        return tags;
    }
    let places: BTreeSet<&Place> = instances.iter().map(|it| &it.place).collect();
    tags.insert(names.services.clone().into(), write(places).into());
    for (service, instances) in services {
        let mut say = |key: Key, of: String, value: &str| {
            if let Some(name) = names.details.get(&key) {
                tags.insert(format!("{name}.{of}").into(), value.into());
            }
        };
        for key in OF_SERVICES {
            if let Some(value) = elect(&instances, key, "") {
                say(key, service.to_string(), value);
            }
        }
        for (key, default) in OF_SERVERS {
            let mut ports: BTreeMap<u16, Vec<&Instance>> = BTreeMap::new();
            for it in &instances {
                ports.entry(it.place.port).or_default().push(it);
            }
            let common = elect(&instances, key, default).unwrap_or(default);
            if common != default {
                say(key, service.to_string(), common);
            }
            for (port, instances) in ports {
                let value = elect(&instances, key, default).unwrap_or(default);
                if value != common {
                    say(key, format!("{service}:{port}"), value);
                }
            }
        }
    }
    tags
}

/// What most of them say, of such the one whose container is the oldest; none where that is nothing.
fn elect<'a>(instances: &[&'a Instance], key: Key, default: &'a str) -> Option<&'a str> {
    let mut said: BTreeMap<&str, (usize, &(i64, String))> = BTreeMap::new();
    for it in instances {
        let value = it.details.get(&key).map_or(default, String::as_str);
        let (count, age) = said.entry(value).or_insert((0, &it.age));
        *count += 1;
        *age = (&it.age).min(age);
    }
    let most = said
        .into_iter()
        .min_by_key(|(_, (count, age))| (std::cmp::Reverse(*count), *age));
    most.map(|(value, _)| value)
        .filter(|value| !value.is_empty())
}

/// In what its service's tags differ from what an instance says.
pub fn overruled(instance: &Instance, ours: &Tags, names: &Names) -> Vec<Key> {
    let Place { service, port, .. } = &instance.place;
    let keys = OF_SERVICES
        .map(|key| (key, ""))
        .into_iter()
        .chain(OF_SERVERS);
    let differs = |(key, default): &(Key, &str)| {
        let Some(name) = names.details.get(key) else {
            return false;
        };
        let of = [
            format!("{name}.{service}:{port}"),
            format!("{name}.{service}"),
        ];
        let written = of.iter().find_map(|tag| ours.get(tag.as_bytes()));
        let written = written.map_or(default.as_bytes(), |value| value);
        written
            != instance
                .details
                .get(key)
                .map_or(*default, String::as_str)
                .as_bytes()
    };
    keys.filter(differs).map(|(key, _)| key).collect()
}

/// Which of a node's tags are ours: those names, in order.
pub fn ours(tags: &Tags, names: &Names) -> BTreeSet<Vec<u8>> {
    let services = names.services.as_bytes();
    let listed: BTreeSet<String> = places(tags, names)
        .into_iter()
        .map(|place| place.service.to_string())
        .collect();
    let is_ours = |tag: &&Vec<u8>| {
        if tag.as_slice() == services {
            return true;
        }
        let Ok(tag) = str::from_utf8(tag) else {
            return false;
        };
        let mut of = names
            .details
            .values()
            .filter_map(|name| tag.strip_prefix(name.as_str())?.strip_prefix('.'));
        of.any(|of| {
            let without_port = of.rsplit_once(':').map_or(of, |(service, _)| service);
            listed.contains(of) || listed.contains(without_port)
        })
    };
    tags.keys().filter(is_ours).cloned().collect()
}

/// Who is in a node's tags.
pub fn places(tags: &Tags, names: &Names) -> BTreeSet<Place> {
    let value = tags.get(names.services.as_bytes());
    let value = value.and_then(|value| str::from_utf8(value).ok());
    value.map(read).unwrap_or_default()
}

/// The tags of a node that are not ours.
pub fn others(tags: &Tags, names: &Names) -> Tags {
    let ours = ours(tags, names);
    let others = tags.iter().filter(|(tag, _)| !ours.contains(*tag));
    others
        .map(|(tag, value)| (tag.clone(), value.clone()))
        .collect()
}

/// What has to be changed in a node's tags, so that ours are these; none where nothing has.
pub fn change(node: &Tags, wanted: &Tags, names: &Names) -> Option<TagChange> {
    let differ = wanted
        .iter()
        .filter(|(tag, value)| node.get(*tag) != Some(*value));
    let gone: Vec<_> = ours(node, names)
        .into_iter()
        .filter(|tag| !wanted.contains_key(tag))
        .collect();
    let mut differ = differ.peekable();
    if differ.peek().is_none() && gone.is_empty() {
        return None;
    }
    let change = differ.fold(TagChange::new(), |change, (tag, value)| {
        change.set(tag, value)
    });
    Some(
        gone.into_iter()
            .fold(change, |change, tag| change.delete(tag)),
    )
}

#[cfg(test)]
pub(crate) mod tests;
