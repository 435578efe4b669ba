//! A configuration as text in, its servers apart from everything else ([`ConfigText`]) out. Pure.
//!
//! This is no second HAProxy parser. A *member's line* is a line of a `backend` or `listen` section of the config whose
//! first word is literally `server`, without quote, backslash, `$` or `{`, outside `.if`, with a name, an address and
//! numbers of our own types, that the template prints for a member ([`Scope`]). A section with any such line in another
//! form is [`Opaque`]: it is compared as a whole and its servers are never touched at runtime. All other lines are the
//! *skeleton*: their words, without comments and blank lines. Where in its section a member's line stands is no part of
//! the skeleton, else a backend's first server would change it; what its place means (the `default-server` lines above
//! it) is in its effective options. Of other files, what our sections inherit is read, and what they say of our servers.
//!
//! Sources: HAProxy's Configuration Manual, sections 2.2 "Quoting and escaping", 2.4 "Conditional blocks",
//! 4 "Proxies" (`from`), and `default-server`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::keywords::Keywords;
use super::options::Options;
use super::scope::Scope;
use crate::model::{BackendName, ServerName, Weight};

/// First words that open a section.
pub const SECTIONS: [&str; 19] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// A configuration, split into what can be changed at runtime and what cannot.
#[derive(Clone, Debug, Default)]
pub struct ConfigText {
    pub(crate) sections: Vec<Section>,
    pub(crate) backends: BTreeMap<BackendName, usize>,
    pub(crate) references: BTreeSet<(String, String)>,
    pub(crate) files: BTreeSet<(String, String)>,
    /// The fixed servers, and those of others.
    pub(crate) fixed: BTreeSet<(String, String)>,
}

/// A server as a line of the text has it, with all it inherits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLine {
    /// Its name.
    pub name: ServerName,
    /// Where it listens; the port is not 0.
    pub addr: SocketAddr,
    /// Its weight.
    pub weight: Weight,
    /// Its limit of concurrent connections; `None` is unlimited.
    pub maxconn: Option<u32>,
    /// Whether it starts in maint.
    pub disabled: bool,
    /// All other keywords in force.
    pub options: Options,
}

/// Why the servers of a section cannot be told from the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opaque {
    /// The line, from 1; the first such.
    pub line: usize,
    /// What is wrong with it.
    pub cause: OpaqueCause,
}

/// What makes a section [`Opaque`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpaqueCause {
    /// `server-template`.
    Template,
    /// A server, a `default-server` or a section inside `.if`.
    Conditional,
    /// A quote, a backslash, `$`, `{`, `;` or a byte that is not printable ASCII where servers are read.
    Character,
    /// A section or server whose name is none of ours.
    Name,
    /// A name used twice.
    Twice,
    /// An address that is not `IP:port`.
    Address,
    /// A value out of range, of this keyword.
    Value(&'static str),
    /// `from` names no section above, or one that is opaque itself.
    Defaults,
    /// It inherits from the last `defaults` above, which may be in a file that cannot be seen.
    Unseen,
}

#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Its first line.
    pub(crate) title: String,
    /// Where that is in its file, from 1.
    pub(crate) number: usize,
    pub(crate) owner: Owner,
    /// The index of the `defaults` section it inherits from.
    pub(crate) parent: Option<usize>,
    pub(crate) lines: Vec<Line>,
    /// What its `default-server` lines say, to its end.
    pub(crate) keywords: Keywords,
    /// What `global` has above to complete servers that speak TLS: `ssl-default-server-ciphers` and its like.
    pub(crate) tls_defaults: BTreeSet<String>,
    pub(crate) servers: BTreeMap<ServerName, ServerLine>,
    pub(crate) opaque: Option<Opaque>,
}

/// Whose a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A `backend` or `listen` that the config names: its members' lines are ours to change.
    Config,
    /// Of our file, compared as it is.
    Template,
    /// Of another file, not compared.
    Elsewhere,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Where it is in its file, from 1.
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) kind: LineKind,
}

/// What a line means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// A server line printed for a member.
    Member,
    /// Any other server line.
    Fixed,
    Other,
}

impl ConfigText {
    /// Reads a text in which every backend is ours and every server a member's, without other files.
    ///
    /// Never fails; see [`Scope::read`].
    pub fn parse(text: &str) -> Self {
        Scope::default().read(text)
    }

    /// The backends (and `listen` sections) of the config, opaque ones too, in name order.
    pub fn backends(&self) -> impl Iterator<Item = &BackendName> {
        self.backends.keys()
    }

    /// Why this backend's servers cannot be changed at runtime; `None` if they can, or if there is no such backend.
    pub(crate) fn opaque(&self, backend: &BackendName) -> Option<&Opaque> {
        self.section(backend)?.opaque.as_ref()
    }

    /// The members' servers of a backend in name order; of an opaque one those that could be read.
    pub fn servers(&self, backend: &BackendName) -> impl Iterator<Item = &ServerLine> {
        self.section(backend)
            .into_iter()
            .flat_map(|section| section.servers.values())
    }

    /// One server.
    pub fn server(&self, backend: &BackendName, server: &ServerName) -> Option<&ServerLine> {
        self.section(backend)?.servers.get(server)
    }

    /// How many server lines of a backend are no member's.
    pub fn fixed_lines(&self, backend: &BackendName) -> usize {
        let lines = self.section(backend).map(|section| section.lines.iter());
        let fixed = lines.into_iter().flatten();
        fixed.filter(|line| line.kind == LineKind::Fixed).count()
    }

    /// The `backend` and `listen` sections of our file that the config does not name, as their first lines name them.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        let others = self.own_sections().filter(|section| {
            section.owner == Owner::Template && matches!(section.kind(), "backend" | "listen")
        });
        others.map(|section| section.title.as_str())
    }

    /// The sections of our file, in its order.
    pub(crate) fn own_sections(&self) -> impl Iterator<Item = &Section> {
        let sections = self.sections.iter();
        sections.filter(|section| section.owner != Owner::Elsewhere)
    }

    /// Whether a worker that runs this text has started with this server, and it is none of ours.
    pub(crate) fn has_fixed(&self, backend: &BackendName, server: &ServerName) -> bool {
        self.fixed
            .contains(&(backend.as_str().to_owned(), server.as_str().to_owned()))
    }

    /// The lines that hold for a backend, servers aside: those of each section it inherits from, farthest first, then
    /// its own.
    pub fn lines(&self, backend: &BackendName) -> Vec<Vec<&str>> {
        let chain = self.section(backend).into_iter();
        let chain = chain.flat_map(|section| self.chain(section));
        let mut sections: Vec<Vec<&str>> = chain.map(Section::settings).collect();
        sections.reverse();
        sections
    }

    pub(crate) fn section(&self, backend: &BackendName) -> Option<&Section> {
        self.sections.get(*self.backends.get(backend)?)
    }

    /// The section and those it inherits from, nearest first.
    pub(crate) fn chain<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a Section> {
        std::iter::successors(Some(section), |s| {
            s.parent.and_then(|parent| self.sections.get(parent))
        })
    }

    /// The words after `keyword` in the last line that starts with it, in the section or else what it inherits from.
    pub(crate) fn setting<'a>(&'a self, section: &'a Section, keyword: &str) -> Option<&'a str> {
        self.chain(section).find_map(|s| {
            s.lines
                .iter()
                .rev()
                .find_map(|l| l.text.strip_prefix(keyword)?.strip_prefix(' '))
        })
    }

    /// Whether something in the text other than its own line names this server.
    pub(crate) fn references(&self, backend: &BackendName, server: &ServerName) -> bool {
        self.references
            .contains(&(backend.as_str().to_owned(), server.as_str().to_owned()))
    }

    /// Whether a worker that runs this text has loaded `file` for `keyword`.
    pub(crate) fn loads(&self, keyword: &str, file: &str) -> bool {
        self.files.contains(&(keyword.to_owned(), file.to_owned()))
    }
}

impl Section {
    /// Why its members' servers cannot be told from the rest; no section but those of the config's backends has any.
    pub(crate) fn opaque(&self) -> Option<&Opaque> {
        self.opaque.as_ref().filter(|_| self.owner == Owner::Config)
    }

    pub(crate) fn servers(&self) -> &BTreeMap<ServerName, ServerLine> {
        &self.servers
    }

    /// The lines below its first one, servers aside.
    fn settings(&self) -> Vec<&str> {
        let lines = self
            .lines
            .iter()
            .filter(|line| line.kind == LineKind::Other);
        lines.map(|line| line.text.as_str()).collect()
    }

    /// Its first line and all that is no member's line; every line where it is opaque.
    pub(crate) fn skeleton(&self) -> impl Iterator<Item = &str> {
        let lines = self.skeleton_lines().map(|line| line.text.as_str());
        std::iter::once(self.title.as_str()).chain(lines)
    }

    fn skeleton_lines(&self) -> impl Iterator<Item = &Line> {
        let all = self.opaque.is_some();
        let lines = self.lines.iter();
        lines.filter(move |line| all || line.kind != LineKind::Member)
    }

    /// The line of the first that this skeleton has and another has not at its place; its last where it only lacks some.
    pub(crate) fn first_change(&self, other: &Self) -> usize {
        if self.title != other.title {
            return self.number;
        }
        let mut others = other.skeleton_lines();
        let changed = |line: &&Line| others.next().is_none_or(|other| other.text != line.text);
        let line = self.skeleton_lines().find(changed);
        line.or(self.skeleton_lines().last())
            .map_or(self.number, |line| line.number)
    }
}

impl Section {
    pub(crate) fn new(title: String, number: usize, owner: Owner) -> Self {
        Self {
            title,
            number,
            owner,
            parent: None,
            lines: Vec::new(),
            keywords: Keywords::default(),
            tls_defaults: BTreeSet::new(),
            servers: BTreeMap::new(),
            opaque: None,
        }
    }

    pub(crate) fn kind(&self) -> &str {
        self.title.split(' ').next().unwrap_or_default()
    }

    /// The word after its kind, its name where it has one.
    pub(crate) fn name(&self) -> &str {
        self.title.split(' ').nth(1).unwrap_or_default()
    }

    /// The servers its lines name: `use-server s`, `track [b/]s`, and fetches like `srv_is_up([b/]s)`.
    pub(crate) fn collect_references(&self, references: &mut BTreeSet<(String, String)>) {
        let own = self.name();
        let mut refer = |target: &str| {
            let (backend, server) = target.split_once('/').unwrap_or((own, target));
            references.insert((backend.to_owned(), server.to_owned()));
        };
        for line in &self.lines {
            if let Some(rest) = line.text.strip_prefix("use-server ") {
                rest.split(' ').take(1).for_each(&mut refer);
            }
            if line.kind != LineKind::Other || line.text.starts_with("default-server ") {
                line.text
                    .split(' ')
                    .skip_while(|word| *word != "track")
                    .skip(1)
                    .take(1)
                    .for_each(&mut refer);
            }
            for fetch in line.text.split("srv_").skip(1) {
                if let Some((name, args)) = fetch.split_once('(')
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                {
                    args.split([')', ',']).take(1).for_each(&mut refer);
                }
            }
        }
    }
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.cause)
    }
}

impl fmt::Display for OpaqueCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template => f.write_str("`server-template`"),
            Self::Conditional => f.write_str("inside `.if`"),
            Self::Character => f.write_str(
                "a quote, backslash, `$`, `{`, `;`, `<` or a byte that is not printable ASCII",
            ),
            Self::Name => f.write_str(
                "a name other than 1 to 64 of A-Z a-z 0-9 _ . - after a letter or digit",
            ),
            Self::Twice => f.write_str("a name used twice"),
            Self::Address => f.write_str("an address that is not IP:port"),
            Self::Value(keyword) => write!(f, "`{keyword}` out of range"),
            Self::Defaults => {
                f.write_str("inherits from a `defaults` section that is missing or not plain")
            }
            Self::Unseen => f.write_str(
                "inherits from a `defaults` section that may be in a file which cannot be seen",
            ),
        }
    }
}
