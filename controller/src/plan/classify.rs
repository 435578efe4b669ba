//! What `check` says of a text before it runs: the text and a version in, what needs a reload in each backend out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::keywords::V3_0;
use super::text::{ConfigText, Opaque, Section};
use crate::haproxy::Version;
use crate::model::{BackendName, ServerName};

/// Why servers of a backend cannot join, change or leave without a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "obstacle", rename_all = "kebab-case")]
pub enum Obstacle {
    /// Its servers cannot be told from the rest of the section.
    Opaque(Opaque),
    /// Its balance algorithm is static.
    StaticBalance {
        /// The words after `balance`.
        balance: String,
    },
    /// `add server` of this version refuses a keyword, or takes it without heeding it.
    KeywordNotDynamic {
        /// The keyword.
        keyword: String,
    },
    /// A file that nothing but the members' lines names: no worker has loaded it before one of them is in its file.
    FileNotLoaded {
        /// The file.
        file: String,
    },
    /// Something else names a server.
    Referenced {
        /// The server.
        server: ServerName,
    },
}

/// For every backend whose name is ours, what stands against changing its servers at runtime; nothing where it can.
///
/// Judges by the text alone: whether a running worker has a certificate loaded it cannot say.
pub fn classify(text: &ConfigText, version: Version) -> BTreeMap<BackendName, Vec<Obstacle>> {
    let obstacles = |name: &BackendName| {
        text.section(name)
            .map(|s| obstacles(text, name, s, version))
    };
    text.backends()
        .map(|name| (name.clone(), obstacles(name).unwrap_or_default()))
        .collect()
}

fn obstacles(
    text: &ConfigText,
    name: &BackendName,
    section: &Section,
    version: Version,
) -> Vec<Obstacle> {
    let mut found = Vec::new();
    found.extend(section.opaque().cloned().map(Obstacle::Opaque));
    if let Some(balance) = text.setting(section, "balance")
        && is_static(balance, text.setting(section, "hash-type"))
    {
        found.push(Obstacle::StaticBalance {
            balance: balance.to_owned(),
        });
    }
    let inherited = section.inherited().map(|settings| settings.options);
    let options = section
        .servers()
        .values()
        .map(|line| &line.options)
        .chain(&inherited);
    let mut keywords: Vec<String> = options
        .flat_map(|o| o.not_dynamic(version))
        .map(str::to_owned)
        .collect();
    let cookie = text.setting(section, "cookie").unwrap_or_default();
    if version < V3_0 && cookie.split(' ').any(|word| word == "dynamic") {
        keywords.push("dynamic-cookie-key".to_owned());
    }
    let tracks = section.servers().values().any(|line| {
        let target = line.options.track();
        target.is_some_and(|target| tracks_member(text, name, target))
    });
    keywords.extend(tracks.then(|| "track".to_owned()));
    keywords.sort();
    keywords.dedup();
    found.extend(
        keywords
            .into_iter()
            .map(|keyword| Obstacle::KeywordNotDynamic { keyword }),
    );
    let lines = section.servers().values();
    let files: BTreeSet<(&str, &str)> = lines.flat_map(|line| line.options.files()).collect();
    let files = files
        .into_iter()
        .filter(|(keyword, file)| !names_beside_servers(text, keyword, file));
    found.extend(files.map(|(_, file)| Obstacle::FileNotLoaded {
        file: file.to_owned(),
    }));
    let named = section
        .servers()
        .keys()
        .filter(|server| text.references(name, server));
    found.extend(named.map(|server| Obstacle::Referenced {
        server: server.clone(),
    }));
    found
}

/// Whether a tracked server is a member's: it may have been added at runtime itself, and cannot be tracked then.
fn tracks_member(text: &ConfigText, own: &BackendName, target: (Option<&str>, &str)) -> bool {
    let (backend, server) = target;
    let backend = backend.map_or_else(|| Some(own.clone()), BackendName::new);
    let target = backend.zip(ServerName::new(server));
    target.is_some_and(|(backend, server)| text.server(&backend, &server).is_some())
}

/// Whether a line that is no member's names this file.
fn names_beside_servers(text: &ConfigText, keyword: &str, file: &str) -> bool {
    let mut lines = text.sections.iter().flat_map(Section::skeleton);
    lines.any(|line| {
        let words = || line.split(' ');
        words()
            .zip(words().skip(1))
            .any(|pair| pair == (keyword, file))
    })
}

/// Whether HAProxy computes the map of servers once, at start (Configuration Manual, `balance` and `hash-type`).
fn is_static(balance: &str, hash_type: Option<&str>) -> bool {
    let algorithm = balance.split([' ', '(']).next().unwrap_or_default();
    let consistent = hash_type.is_some_and(|words| words.split(' ').next() == Some("consistent"));
    match algorithm {
        "roundrobin" | "leastconn" | "first" | "random" => false,
        "static-rr" => true,
        _ => !consistent,
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opaque(opaque) => write!(f, "servers are not plain lines ({opaque})"),
            Self::StaticBalance { balance } => write!(f, "`balance {balance}` is static"),
            Self::KeywordNotDynamic { keyword } => {
                write!(f, "`{keyword}` cannot be had by a server added at runtime")
            }
            Self::FileNotLoaded { file } => {
                write!(
                    f,
                    "{file} is loaded with the first server that names it, by a reload; a `default-server` line loads it before"
                )
            }
            Self::Referenced { server } => {
                write!(f, "{server} is named outside its own line and cannot leave")
            }
        }
    }
}
