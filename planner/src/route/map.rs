//! The map of routes: the file that HAProxy loads, what is changed at runtime, what `show map` says. Pure.
//!
//! A key is `HOST/PATH/`, or `=HOST/PATH` where the path is exact; the host is a name, `*.` and a name, or `*`. Its value is
//! `RANK/BACKEND`. HAProxy's Management Guide, section 9.3: `add map`, `set map`, `del map`, `show map`, `prepare map`,
//! `commit map`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{HostPattern, PathPattern, Rank, Routes};

/// The first line of the file.
pub const FIRST_LINE: &str = "# written by serf-haproxy; changes are overwritten";

/// What is in the map, by key.
pub type Entries = BTreeMap<String, String>;

/// One change of the map in a running HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `add map`: the key is not there.
    Add(String, String),
    /// `set map`: it has another value.
    Set(String, String),
    /// `del map`.
    Delete(String),
}

/// The entries of all routes that are no rules.
pub fn entries(routes: &Routes) -> Entries {
    let mut entries = Entries::new();
    for route in routes.iter() {
        let Some(backend) = route.entry() else {
            continue;
        };
        for host in &route.hosts {
            let value = format!("{}/{backend}", Rank::of(host, route));
            entries.insert(key(host, &route.path), value);
        }
    }
    entries
}

/// The key of a host and a path.
pub fn key(host: &HostPattern, path: &PathPattern) -> String {
    match path {
        PathPattern::Any => format!("{host}/"),
        PathPattern::Prefix(path) => format!("{host}{path}/"),
        PathPattern::Exact(path) => format!("={host}{path}"),
    }
}

/// The text of the file.
pub fn text(entries: &Entries) -> String {
    let lines = entries
        .iter()
        .map(|(key, value)| format!("{key} {value}\n"));
    std::iter::once(format!("{FIRST_LINE}\n"))
        .chain(lines)
        .collect()
}

/// What makes the map of a worker the wanted one; first what adds, then what takes away.
///
/// A key that is there twice, which only another hand can have brought about, goes and comes anew.
pub fn changes(running: &[(String, String)], wanted: &Entries) -> Vec<Change> {
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, value) in running {
        values.entry(key).or_default().push(value);
    }
    let mut changes = Vec::new();
    for (key, value) in wanted {
        match values.remove(key.as_str()).as_deref() {
            None => changes.push(Change::Add(key.clone(), value.clone())),
            Some([one]) if one == value => {}
            Some([_]) => changes.push(Change::Set(key.clone(), value.clone())),
            Some(_) => {
                changes.push(Change::Delete(key.clone()));
                changes.push(Change::Add(key.clone(), value.clone()));
            }
        }
    }
    changes.extend(values.into_keys().map(|key| Change::Delete(key.to_owned())));
    changes
}

/// The entries of a reply to `show map`, `ADDRESS KEY VALUE` a line; none where HAProxy does not know the map.
pub fn shown(reply: &str) -> Option<Vec<(String, String)>> {
    let mut entries = Vec::new();
    for line in reply.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.splitn(3, ' ');
        let address = words.next()?;
        let key = words.next()?;
        if !address.starts_with("0x") {
            return None;
        }
        entries.push((key.to_owned(), words.next().unwrap_or_default().to_owned()));
    }
    Some(entries)
}

impl Change {
    /// The command that does it to the map of this file.
    pub fn command(&self, file: &Path) -> String {
        let file = file.display();
        match self {
            Self::Add(key, value) => format!("add map {file} {key} {value}"),
            Self::Set(key, value) => format!("set map {file} {key} {value}"),
            Self::Delete(key) => format!("del map {file} {key}"),
        }
    }
}
