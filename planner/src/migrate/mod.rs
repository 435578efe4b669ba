//! A file of somebody else's and the backends that members are to serve in, a template that keeps all the rest out. Pure.
//!
//! Every byte outside those backends is kept, and in them every line but those of servers that can be members'. The signs
//! that a template would take for its own are wrapped in `{% raw %}`. To `global` is added what serf-haproxy needs.

mod global;
mod proof;
mod section;
mod source;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serf_rpc::Member;

pub use global::Global;
pub use proof::{Difference, prove};
pub use section::{Present, ServerFate, Stays};
pub use words::WordMap;

use crate::model::here::Here;
use crate::model::{BackendName, Server, Servers};
use crate::render::FIRST_LINE;
use crate::stamp::Stamp;
use crate::syntax::listeners::listeners;
use section::Plan;
use source::Source;

/// Signs that begin something of the template's.
const SIGNS: [&str; 3] = ["{{", "{%", "{#"];

/// Why there is no template to be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    /// No backend of that name.
    #[error("there is no backend or listen section `{name}`; {}", found(.known))]
    NoBackend {
        /// The name.
        name: String,
        /// Those there are, with their server lines.
        known: Vec<(String, usize)>,
    },
    /// Two of one name.
    #[error(
        "`{name}` begins in line {first} and again in line {second}; rename one of them, HAProxy takes no two"
    )]
    Twice {
        /// The name.
        name: String,
        /// The line of the first.
        first: usize,
        /// The line of the second.
        second: usize,
    },
}

/// The backends there are, for those who have named none or another.
pub fn found(known: &[(String, usize)]) -> String {
    if known.is_empty() {
        return "the file has none".to_owned();
    }
    let shown: Vec<String> = known
        .iter()
        .map(|(name, servers)| format!("{name} ({servers})"))
        .collect();
    format!(
        "there are, each with its server lines: {}",
        shown.join(", ")
    )
}

/// Why there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Already {
    /// It was rendered from a template, and nobody has changed it.
    Ours,
    /// It was rendered from a template, and changed by hand.
    Edited,
    /// It is a template.
    Template,
}

/// What a file is already; none for one of somebody else's.
pub fn already(text: &str) -> Option<Already> {
    let is_template = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("description") && line.contains("{{ stamp }}")
    };
    if text.lines().any(is_template) {
        Some(Already::Template)
    } else if Stamp::genuine(text).is_some() {
        Some(Already::Ours)
    } else if text.lines().next().map(str::trim_end) == Some(FIRST_LINE) {
        Some(Already::Edited)
    } else {
        None
    }
}

/// The backends and `listen` sections of a file, each with its server lines.
pub fn backends(text: &str) -> Vec<(String, usize)> {
    let source = Source::new(text);
    let sections = source.lines().sections().filter(|it| it.has_servers());
    sections
        .map(|section| {
            let servers = section.lines.iter().filter(|line| line.is_server());
            (section.name().to_owned(), servers.count())
        })
        .collect()
}

/// What is known beside the file.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The members of the cluster; none where they are not known.
    pub members: Vec<Member>,
    /// The addresses of this host.
    pub addresses: BTreeSet<IpAddr>,
}

/// What becomes of a file.
#[derive(Clone, Debug)]
pub struct Migration {
    /// The template.
    pub template: String,
    /// What `global` has, and was given.
    pub global: Global,
    /// The lines whose signs were wrapped in raw.
    pub wrapped: Vec<usize>,
    /// The backends, as they were asked for.
    pub backends: Vec<Migrated>,
}

/// What becomes of a backend.
#[derive(Clone, Debug)]
pub struct Migrated {
    /// Its name.
    pub name: BackendName,
    /// The line that it begins in.
    pub line: usize,
    /// Its server lines.
    pub servers: Vec<ServerFate>,
    /// The line of its members, as the template has it.
    pub member_line: String,
    /// Words that some servers have otherwise than the rest.
    pub maps: Vec<WordMap>,
    /// Whether the weight is the member's tag.
    pub weighs: bool,
    /// `mode tcp` is in force.
    pub is_tcp: bool,
    /// Those that become members', as they are now.
    pub present: Vec<Present>,
}

impl Migration {
    /// Makes a template of a file.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub fn of(text: &str, backends: &[BackendName], around: &Around) -> Result<Self, MigrateError> {
        let source = Source::new(text);
        let here = Here {
            addresses: around.addresses.clone(),
            listeners: listeners(text),
        };
        let mut draft = Draft::new(&source);
        let mut migrated = Vec::new();
        for name in backends {
            let mut sections = source.proxies(name.as_str());
            let section = sections.next().ok_or_else(|| MigrateError::NoBackend {
                name: name.to_string(),
                known: self::backends(text),
            })?;
            if let Some(second) = sections.next() {
                return Err(MigrateError::Twice {
                    name: name.to_string(),
                    first: section.title.number,
                    second: second.title.number,
                });
            }
            let plan = Plan::of(&source, section, &around.members, &here);
            let mode = source.lines().setting(section, &["mode"]);
            let member_line = draft.put_loop(name, &plan);
            migrated.push(Migrated {
                name: name.clone(),
                line: section.title.number,
                servers: plan.fates,
                member_line,
                maps: plan.maps,
                weighs: plan.weighs,
                is_tcp: mode.is_some_and(|line| line.word(1) == "tcp"),
                present: plan.present,
            });
        }
        let global = Global::of(&source);
        draft.put_before(global.before, &global.added);
        Ok(Self {
            template: draft.template(),
            global,
            wrapped: draft.wrapped(),
            backends: migrated,
        })
    }

    /// The servers of now that become members', ready.
    pub fn present(&self) -> Servers {
        let of = |backend: &Migrated| {
            let mut servers: Vec<Server> = backend
                .present
                .iter()
                .map(|present| Server {
                    name: present.name.clone(),
                    addr: present.addr,
                    weight: present.weight,
                    ready: true,
                    details: std::sync::Arc::default(),
                })
                .collect();
            servers.sort_by(|a, b| a.name.cmp(&b.name));
            (backend.name.clone(), servers)
        };
        self.backends.iter().map(of).collect()
    }
}

/// The template as it is put together.
struct Draft<'a> {
    source: &'a Source<'a>,
    /// Lines of the file that it does not have.
    gone: BTreeSet<usize>,
    /// What goes before a line of the file.
    put: BTreeMap<usize, String>,
}

impl<'a> Draft<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            gone: BTreeSet::new(),
            put: BTreeMap::new(),
        }
    }

    /// Puts the loop of a backend's members; says what their line is.
    fn put_loop(&mut self, backend: &BackendName, plan: &Plan) -> String {
        self.gone.extend(&plan.gone);
        let end = self.source.line_break();
        let mut text = String::new();
        for map in &plan.maps {
            let words = map.words.iter();
            let words: Vec<String> = words
                .map(|(name, words)| format!("\"{name}\": \"{words}\""))
                .collect();
            text += &format!(
                "{{% set {} = {{{}}} %}}{end}",
                map.variable,
                words.join(", ")
            );
        }
        let line = format!(
            "server {{{{ server.name }}}} {{{{ server.addr }}}}{}{{% if not server.ready %}} disabled{{% endif +%}}",
            plan.words
        );
        text += &format!(
            "{{% for backend in backends if backend.name == \"{backend}\" %}}{end}\
             {{% for server in backend.servers %}}{end}{}{line}{end}{{% endfor %}}{end}{{% endfor %}}{end}",
            plan.indentation
        );
        self.put_before(plan.before, &text);
        line
    }

    fn put_before(&mut self, line: usize, text: &str) {
        *self.put.entry(line).or_default() += text;
    }

    /// The lines that have signs of a template's and stay.
    fn wrapped(&self) -> Vec<usize> {
        let lines = 1..=self.source.len();
        lines
            .filter(|line| !self.gone.contains(line) && has_sign(self.source.raw(*line)))
            .collect()
    }

    fn template(&self) -> String {
        let end = self.source.line_break();
        let mut text = String::new();
        let mut is_raw = false;
        for number in 1..=self.source.len() + 1 {
            let put = self.put.get(&number);
            let raw = self.source.raw(number);
            let stays = !self.gone.contains(&number) && !raw.is_empty();
            let wants_raw = stays && has_sign(raw) && !ends_raw(raw);
            if is_raw && (put.is_some() || stays && !wants_raw || raw.is_empty()) {
                text += &format!("{{% endraw %}}{end}");
                is_raw = false;
            }
            text += put.map_or("", String::as_str);
            if !stays {
                continue;
            }
            if wants_raw && !is_raw {
                text += &format!("{{% raw %}}{end}");
                is_raw = true;
            }
            if ends_raw(raw) {
                text += &spelled(raw);
            } else {
                text += raw;
            }
            if !raw.ends_with('\n') {
                text += end;
            }
        }
        text
    }
}

fn has_sign(line: &str) -> bool {
    SIGNS.iter().any(|sign| line.contains(sign))
}

/// Whether a line would end a raw block by itself.
fn ends_raw(line: &str) -> bool {
    has_sign(line) && line.contains("endraw")
}

/// A line whose signs are printed one by one.
fn spelled(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    let sign = |rest: &str| {
        let all = SIGNS.iter().filter_map(|sign| rest.find(sign));
        all.min()
    };
    while let Some(at) = sign(rest) {
        let (before, after) = rest.split_at(at);
        let (sign, after) = after.split_at(1);
        text += &format!("{before}{{{{ \"{sign}\" }}}}");
        rest = after;
    }
    text + rest
}
