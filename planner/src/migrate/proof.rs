//! Whether HAProxy reads in the new text what it reads in the old one: both in, what differs out. Pure.
//!
//! The new one is the template with the servers of now as members. Its other lines have to be those of the old one, byte
//! by byte, and every server has to have the same address, weight, limit and words in force.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::source::Source;
use super::{Migrated, Migration};
use crate::model::BackendName;
use crate::render::Rendered;
use crate::syntax::{ConfigText, Scope, ServerLine};

/// Something that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// A line of the file is missing, or not where it was.
    Line {
        /// Where it stood.
        line: usize,
        /// What it says.
        text: String,
    },
    /// A server is not read as it was.
    Server {
        /// The backend.
        backend: BackendName,
        /// The server.
        server: String,
        /// What about it.
        what: String,
    },
}

/// Compares; empty where HAProxy reads the same. `bare` is the template without any member, `full` the one with the servers
/// of now.
pub fn prove(
    old: &str,
    migration: &Migration,
    bare: &Rendered,
    full: &Rendered,
) -> Vec<Difference> {
    let mut found = Vec::new();
    found.extend(lines(old, migration, &full.text));
    let names = migration.backends.iter().map(|backend| &backend.name);
    let scope = Scope::new(names, &bare.text);
    let before = scope.read(&respelled(old, migration));
    let after = scope.read(&full.text);
    for backend in &migration.backends {
        found.extend(servers(backend, &before, &after));
    }
    found
}

/// The first line of the old text that the new one has not at its place, next to members' lines and those that were added.
fn lines(old: &str, migration: &Migration, new: &str) -> Option<Difference> {
    let source = Source::new(old);
    let backends = migration.backends.iter();
    let gone: std::collections::BTreeSet<usize> = backends
        .flat_map(|backend| &backend.servers)
        .filter(|fate| fate.stays.is_none())
        .map(|fate| fate.line)
        .collect();
    let mut new = new.split_inclusive('\n');
    for number in (1..=source.len()).filter(|number| !gone.contains(number)) {
        let raw = source.raw(number);
        let is_it = |line: &str| line == raw || line.trim_end_matches(['\r', '\n']) == raw;
        // what comes before it is what was put there
        if !new.any(is_it) {
            return Some(Difference::Line {
                line: number,
                text: raw.trim().to_owned(),
            });
        }
    }
    None
}

/// The old text with its members' lines without quotes and escapes, which is how a template prints them.
fn respelled(old: &str, migration: &Migration) -> String {
    let source = Source::new(old);
    let backends = migration.backends.iter();
    let moved: BTreeMap<usize, ()> = backends
        .flat_map(|backend| &backend.servers)
        .filter(|fate| fate.stays.is_none())
        .map(|fate| (fate.line, ()))
        .collect();
    let words = source.lines().sections().flat_map(|section| &section.lines);
    let words: BTreeMap<usize, String> = words
        .filter(|line| line.is_server() && moved.contains_key(&line.number))
        .map(|line| {
            let mut words = line.words.clone();
            if let Some(addr) = words
                .get_mut(2)
                .filter(|word| word.parse::<std::net::SocketAddr>().is_err())
            {
                let (host, port) = addr.rsplit_once(':').unwrap_or((addr, ""));
                *addr = format!("[{host}]:{port}");
            }
            (line.number, words.join(" ") + "\n")
        })
        .collect();
    (1..=source.len())
        .map(|number| {
            words
                .get(&number)
                .map_or(source.raw(number), String::as_str)
        })
        .collect()
}

fn servers(backend: &Migrated, before: &ConfigText, after: &ConfigText) -> Vec<Difference> {
    let name = &backend.name;
    let read = |text: &ConfigText| -> BTreeMap<String, ServerLine> {
        let servers = text.servers(name);
        servers
            .map(|line| (line.name.to_string(), line.clone()))
            .collect()
    };
    let (old, new) = (read(before), read(after));
    let differs = |server: &str, what: String| Difference::Server {
        backend: name.clone(),
        server: server.to_owned(),
        what,
    };
    let mut found = Vec::new();
    for present in &backend.present {
        let server = present.name.as_str();
        match (old.get(server), new.get(server)) {
            (Some(old), Some(new)) => {
                found.extend(difference(old, new).map(|what| differs(server, what)));
            }
            (None, _) => found.push(differs(server, "it could not be read before".to_owned())),
            (_, None) => found.push(differs(server, "it is not there any more".to_owned())),
        }
    }
    let new_ones = new.keys().filter(|server| !old.contains_key(*server));
    found.extend(new_ones.map(|server| differs(server, "it was not there before".to_owned())));
    found
}

fn difference(old: &ServerLine, new: &ServerLine) -> Option<String> {
    if old.addr != new.addr {
        return Some(format!("its address was {}, is {}", old.addr, new.addr));
    }
    if old.weight != new.weight {
        let (old, new) = (old.weight.get(), new.weight.get());
        return Some(format!("its weight was {old}, is {new}"));
    }
    if old.maxconn != new.maxconn || old.disabled != new.disabled {
        return Some("its `maxconn` or `disabled` differs".to_owned());
    }
    // an id that it had by its place is written out
    let placed = old.options.value("id").is_none();
    let new = new.options.clone();
    let new = if placed { new.without("id") } else { new };
    let keyword = old.options.difference(&new)?;
    let shown =
        |value: Option<String>| value.map_or_else(|| "not there".to_owned(), |v| format!("`{v}`"));
    let (was, is) = (old.options.value(keyword), new.value(keyword));
    Some(format!("`{keyword}` was {}, is {}", shown(was), shown(is)))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, text } => write!(f, "line {line} is not where it was: {text}"),
            Self::Server {
                backend,
                server,
                what,
            } => write!(f, "{backend}/{server}: {what}"),
        }
    }
}
