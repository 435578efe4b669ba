//! What `check` says of a template before it runs: its text without and with one more member in, why that member's
//! join needs a reload out. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::{Input, ReloadReason, WantedAdmins, plan};
use crate::model::{
    AddedOptions, Admin, AgentCheck, BackendName, Check, RunningServer, RunningServers, ServerKey,
    ServerName, ServerStat, Version,
};
use crate::syntax::keywords::dynamic_since;
use crate::syntax::text::{ConfigText, Opaque, OpaqueCause, ServerLine};

/// Why a server of a backend cannot join or leave without a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// The first version that takes it.
        since: Option<Version>,
    },
    /// A file that no line before has HAProxy load.
    FileNotLoaded {
        /// The keyword that it stands behind.
        keyword: String,
        /// The file.
        file: String,
    },
    /// With the members more changes than their own lines.
    Changes {
        /// The section as its first line names it.
        section: String,
        /// The first such line of the text with the member, where the section is still there.
        line: Option<usize>,
    },
    /// Something else names this server.
    Referenced {
        /// The server.
        server: ServerName,
    },
    /// Anything else that the planner gives as a reason.
    Reload(ReloadReason),
}

impl Obstacle {
    /// The line of the text that it is about, where it is about one.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Opaque(opaque) => Some(opaque.line),
            Self::Changes { line, .. } => *line,
            _ => None,
        }
    }
}

/// A text of a template, and the same with one more member in one backend.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// The version that is to add it.
    pub version: Version,
    /// Without it.
    pub before: &'a ConfigText,
    /// With it.
    pub after: &'a ConfigText,
}

impl Join<'_> {
    /// What stands against the join at runtime, on a worker that has started with the text before: what the planner
    /// finds, who is asked nothing of HAProxy. Servers of members may have been added to it at runtime themselves.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let (servers, added) = running(self.before, self.version);
        let accepts_add = self.before.backends().map(|backend| {
            let takes = self.before.takes_servers(backend);
            let takes = takes.unwrap_or_else(|| static_balance(self.before, backend).is_none());
            (backend.clone(), takes)
        });
        let accepts_add: BTreeMap<BackendName, bool> = accepts_add.collect();
        let reasons = plan(&Input {
            version: self.version,
            running: Some(self.before),
            servers: &servers,
            added: &added,
            wanted: self.after,
            admins: &WantedAdmins::new(),
            accepts_add: &accepts_add,
            on_disk: Some(self.after),
            retired_max: usize::MAX,
        })
        .reload;
        let mut found = Vec::new();
        for obstacle in reasons.into_iter().flat_map(|reason| self.explain(reason)) {
            if !found.contains(&obstacle) {
                found.push(obstacle);
            }
        }
        found
    }

    /// The members' servers of a backend that something else in the text names, so that they leave by a reload.
    pub fn named(&self, backend: &BackendName) -> Vec<Obstacle> {
        let servers = self.before.servers(backend).map(|line| &line.name);
        let named = servers.filter(|server| self.before.references(backend, server));
        named
            .map(|server| Obstacle::Referenced {
                server: server.clone(),
            })
            .collect()
    }

    /// All that is behind a reason of the planner's, who gives the first that he finds.
    fn explain(&self, reason: ReloadReason) -> Vec<Obstacle> {
        match &reason {
            ReloadReason::SkeletonChanged { section } | ReloadReason::OpaqueChanged { section } => {
                vec![self.changed(section)]
            }
            ReloadReason::StaticBalance { backend } => {
                let balance = static_balance(self.after, backend).unwrap_or_default();
                let balance = balance.to_owned();
                vec![Obstacle::StaticBalance { balance }]
            }
            ReloadReason::KeywordNotDynamic {
                backend,
                server,
                keyword,
            } => {
                let line = self.after.server(backend, server).into_iter();
                let mut keywords: Vec<&str> = line
                    .flat_map(|line| line.options.not_dynamic(self.version))
                    .collect();
                if !keywords.contains(&keyword.as_str()) {
                    keywords.push(keyword);
                }
                let obstacle = |keyword: &str| Obstacle::KeywordNotDynamic {
                    keyword: keyword.to_owned(),
                    since: dynamic_since(keyword),
                };
                keywords.into_iter().map(obstacle).collect()
            }
            ReloadReason::FileNotLoaded {
                backend, server, ..
            } => {
                let line = self.after.server(backend, server).into_iter();
                let files = line.flat_map(|line| line.options.files());
                let files = files.filter(|(keyword, file)| !self.before.loads(keyword, file));
                files
                    .map(|(keyword, file)| Obstacle::FileNotLoaded {
                        keyword: keyword.to_owned(),
                        file: file.to_owned(),
                    })
                    .collect()
            }
            _ => vec![Obstacle::Reload(reason)],
        }
    }

    fn changed(&self, title: &str) -> Obstacle {
        let find = |text: &'_ ConfigText| text.sections.iter().position(|s| s.title == title);
        let section = find(self.after).and_then(|index| self.after.sections.get(index));
        if let Some(opaque) = section.and_then(|section| section.opaque()) {
            return Obstacle::Opaque(opaque.clone());
        }
        let before = find(self.before).and_then(|index| self.before.sections.get(index));
        let line = section.map(|section| match before {
            Some(before) => section.first_change(before),
            None => section.number,
        });
        Obstacle::Changes {
            section: title.to_owned(),
            line,
        }
    }
}

/// The servers of a worker that has started with this text, and the words they would have been added with.
fn running(text: &ConfigText, version: Version) -> (RunningServers, AddedOptions) {
    let (mut servers, mut added) = (RunningServers::new(), AddedOptions::new());
    for backend in text.backends() {
        let lines: Vec<&ServerLine> = text.servers(backend).collect();
        let of = |line: &&ServerLine| (line.name.to_string(), as_started(line));
        servers.insert(backend.to_string(), lines.iter().map(of).collect());
        added.extend(lines.iter().map(|line| {
            let words = line
                .options
                .words_to_add(version, line.weight, line.maxconn);
            (ServerKey::new(backend, &line.name), words)
        }));
    }
    (servers, added)
}

fn as_started(line: &ServerLine) -> RunningServer {
    let agent = AgentCheck {
        asked: true,
        initial_weight: line.weight.get(),
        by_file: line.disabled,
        down: false,
    };
    RunningServer {
        addr: Some(line.addr),
        weight: line.weight.get(),
        admin: if line.disabled {
            Admin::Maint
        } else {
            Admin::Ready
        },
        agent: line.options.agent_check().then_some(agent),
        stat: Some(ServerStat {
            check: Check::None,
            said: None,
            in_flight: 0,
            maxconn: line.maxconn,
            total: 0,
            cookie: None,
        }),
    }
}

/// The words after `balance` where HAProxy computes the map of servers once, at start (Configuration Manual, `balance`
/// and `hash-type`).
fn static_balance<'a>(text: &'a ConfigText, backend: &BackendName) -> Option<&'a str> {
    let section = text.section(backend)?;
    let balance = text.setting(section, "balance")?;
    let algorithm = balance.split([' ', '(']).next().unwrap_or_default();
    let is_static = match algorithm {
        "roundrobin" | "leastconn" | "first" | "random" => false,
        "static-rr" => true,
        _ => {
            let hash_type = text.setting(section, "hash-type").unwrap_or_default();
            hash_type.split(' ').next() != Some("consistent")
        }
    };
    is_static.then_some(balance)
}

/// What is in the way, and the way out.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opaque(opaque) => write!(
                f,
                "servers are not plain lines ({}); {}",
                opaque.cause,
                way_out(&opaque.cause)
            ),
            Self::StaticBalance { balance } => {
                let better = match balance.as_str() {
                    "static-rr" => "write: balance roundrobin",
                    _ => "add: hash-type consistent",
                };
                write!(f, "`balance {balance}` is static; {better}")
            }
            Self::KeywordNotDynamic { keyword, since } => {
                write!(
                    f,
                    "`{keyword}` cannot be had by a server added at runtime; "
                )?;
                match since {
                    Some(since) => write!(f, "HAProxy {since} can do it, or do without it"),
                    None => f.write_str("do without it"),
                }
            }
            Self::FileNotLoaded { keyword, file } if keyword == "crt" => write!(
                f,
                "{file} is loaded with the first server that names it, by a reload; a server line of yours loads it before: \
                 server loader 127.0.0.1:9 ssl verify none crt {file} disabled"
            ),
            Self::FileNotLoaded { keyword, file } => write!(
                f,
                "{file} is loaded with the first server that names it, by a reload; a line above loads it before: \
                 default-server {keyword} {file}"
            ),
            Self::Changes { section, .. } => write!(
                f,
                "with the members more changes in `{section}` than their server lines; print nothing else by them"
            ),
            Self::Referenced { server } => write!(
                f,
                "{server} is named outside its own line and leaves by a reload; use what asks of a backend, such as \
                 nbsrv or connslots"
            ),
            Self::Reload(reason) => write!(f, "{reason}; let a server's words depend on no other"),
        }
    }
}

/// How a member's line is written so that it can be read.
fn way_out(cause: &OpaqueCause) -> &'static str {
    match cause {
        OpaqueCause::Template => "print a `server` line for each member",
        OpaqueCause::Conditional => "take it out of `.if`",
        OpaqueCause::Character => "write it without",
        OpaqueCause::Name | OpaqueCause::Twice => "rename it",
        OpaqueCause::Address => "print {{ server.addr }}",
        OpaqueCause::Value(_) => "correct it",
        OpaqueCause::Defaults => "write that section without quotes, variables and `.if`",
        OpaqueCause::Unseen => "let it be read, or put a `defaults` into this file",
    }
}
