//! A configuration as text in, its servers apart from everything else ([`ConfigText`]) out. Pure.
//!
//! This is no second HAProxy parser. A *server line* is a line of a `backend` or `listen` section whose first word is
//! literally `server`, without quote, backslash, `$` or `{`, outside `.if`, with a name, an address and numbers of our
//! own types. A section with any server in another form is [`Opaque`]: it is compared as a whole and its servers are
//! never touched at runtime. All other lines are the *skeleton*: their words, without comments and blank lines.
//! Where in its section a server line stands is no part of the skeleton, else a backend's first server would change
//! it; what its place means (the `default-server` lines above it) is in its effective options.
//!
//! Sources: HAProxy's Configuration Manual, sections 2.2 "Quoting and escaping", 2.4 "Conditional blocks",
//! 4 "Proxies" (`from`), and `default-server`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::keywords::{Keywords, Options, Settings, names_file};
use crate::model::{BackendName, ServerName, Weight};

/// First words that open a section.
pub(crate) const SECTIONS: [&str; 19] = [
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
    sections: Vec<Section>,
    backends: BTreeMap<BackendName, usize>,
    references: BTreeSet<(String, String)>,
    files: BTreeSet<(String, String)>,
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
}

#[derive(Clone, Debug)]
pub(super) struct Section {
    /// Its first line.
    pub(super) title: String,
    /// The index of the `defaults` section it inherits from.
    parent: Option<usize>,
    lines: Vec<Line>,
    /// What its `default-server` lines say, to its end.
    keywords: Keywords,
    servers: BTreeMap<ServerName, ServerLine>,
    opaque: Option<Opaque>,
}

#[derive(Clone, Debug)]
struct Line {
    text: String,
    server: bool,
}

impl ConfigText {
    /// Never fails: what cannot be read is compared as it is.
    ///
    /// A `description serf-haproxy <stamp>` in `global` reads the same with any stamp and without one.
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            reader.number = index + 1;
            if let Some(line) = Lexed::new(line) {
                reader.line(&line);
            }
        }
        reader.finish()
    }

    /// The backends (and `listen` sections) whose names are ours, opaque ones too, in name order.
    pub fn backends(&self) -> impl Iterator<Item = &BackendName> {
        self.backends.keys()
    }

    /// Whether the text has this backend, opaque or not.
    pub fn has_backend(&self, backend: &BackendName) -> bool {
        self.backends.contains_key(backend)
    }

    /// Why this backend's servers cannot be changed at runtime; `None` if they can, or if there is no such backend.
    pub fn opaque(&self, backend: &BackendName) -> Option<&Opaque> {
        self.section(backend)?.opaque.as_ref()
    }

    /// The servers of a backend in name order; of an opaque one those that could be read.
    pub fn servers(&self, backend: &BackendName) -> impl Iterator<Item = &ServerLine> {
        self.section(backend)
            .into_iter()
            .flat_map(|section| section.servers.values())
    }

    /// One server.
    pub fn server(&self, backend: &BackendName, server: &ServerName) -> Option<&ServerLine> {
        self.section(backend)?.servers.get(server)
    }

    /// All sections with the index each is known by, in the order of the text.
    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub(super) fn section(&self, backend: &BackendName) -> Option<&Section> {
        self.sections.get(*self.backends.get(backend)?)
    }

    /// The section and those it inherits from, nearest first.
    pub(super) fn chain<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a Section> {
        std::iter::successors(Some(section), |s| {
            s.parent.and_then(|parent| self.sections.get(parent))
        })
    }

    /// The words after `keyword` in the last line that starts with it, in the section or else what it inherits from.
    pub(super) fn setting<'a>(&'a self, section: &'a Section, keyword: &str) -> Option<&'a str> {
        self.chain(section).find_map(|s| {
            s.lines
                .iter()
                .rev()
                .find_map(|l| l.text.strip_prefix(keyword)?.strip_prefix(' '))
        })
    }

    /// Whether something in the text other than its own line names this server.
    pub(super) fn references(&self, backend: &BackendName, server: &ServerName) -> bool {
        self.references
            .contains(&(backend.as_str().to_owned(), server.as_str().to_owned()))
    }

    /// Whether a worker that runs this text has loaded `file` for `keyword`.
    pub(super) fn loads(&self, keyword: &str, file: &str) -> bool {
        self.files.contains(&(keyword.to_owned(), file.to_owned()))
    }
}

impl Section {
    /// Why its servers cannot be told from the rest; only asked of `backend` and `listen`.
    pub(super) fn opaque(&self) -> Option<&Opaque> {
        self.opaque
            .as_ref()
            .filter(|_| matches!(self.kind(), "backend" | "listen"))
    }

    pub(super) fn servers(&self) -> &BTreeMap<ServerName, ServerLine> {
        &self.servers
    }

    /// What a server without words of its own would get at the section's end.
    pub(super) fn inherited(&self) -> Option<Settings> {
        Settings::new(self.keywords.clone()).ok()
    }

    /// Its first line and all that is no server line; every line where it is opaque.
    pub(super) fn skeleton(&self) -> impl Iterator<Item = &str> {
        let all = self.opaque.is_some();
        let lines = self.lines.iter().filter(move |line| all || !line.server);
        std::iter::once(self.title.as_str()).chain(lines.map(|line| line.text.as_str()))
    }
}

/// A line without its comment.
struct Lexed<'a> {
    /// Its words, right only where `plain`.
    words: Vec<&'a str>,
    /// Whether it has neither quote nor backslash, so that words are what is between blanks.
    plain: bool,
    raw: &'a str,
}

impl<'a> Lexed<'a> {
    fn new(line: &'a str) -> Option<Self> {
        let quote = line.find(['"', '\'', '\\']).unwrap_or(line.len());
        let (before, _) = line.split_at(quote);
        let (raw, plain) = match before.split_once('#') {
            Some((text, _comment)) => (text, true),
            None => (line, quote == line.len()),
        };
        let raw = raw.trim_ascii();
        (!raw.is_empty()).then(|| Self {
            words: raw.split_ascii_whitespace().collect(),
            plain,
            raw,
        })
    }

    fn first(&self) -> &'a str {
        self.words.first().copied().unwrap_or_default()
    }

    fn word(&self, index: usize) -> Option<&'a str> {
        self.words.get(index).copied()
    }

    /// Whether its words may go into a line of the Runtime API as they are.
    fn is_safe(&self) -> bool {
        let unsafe_byte = |b: u8| matches!(b, b'"' | b'\'' | b'\\' | b'$' | b'{' | b';' | b'<');
        self.words.iter().all(|word| {
            word.bytes()
                .all(|b| b.is_ascii_graphic() && !unsafe_byte(b))
        })
    }

    fn text(&self) -> String {
        if self.plain {
            self.words.join(" ")
        } else {
            self.raw.to_owned()
        }
    }

    /// The text, but of our own description without its stamp.
    fn global_text(&self) -> String {
        let ours = self.first() == "description" && {
            let rest = self
                .raw
                .trim_start_matches("description")
                .trim()
                .trim_matches(['"', '\'']);
            let mut words = rest.split_ascii_whitespace();
            words.next() == Some("serf-haproxy")
                && words
                    .next()
                    .is_none_or(|stamp| stamp.bytes().all(|b| b.is_ascii_hexdigit()))
                && words.next().is_none()
        };
        if ours {
            "description serf-haproxy".to_owned()
        } else {
            self.text()
        }
    }
}

#[derive(Default)]
struct Reader {
    sections: Vec<Section>,
    backends: BTreeMap<BackendName, usize>,
    defaults: BTreeMap<String, usize>,
    last_defaults: Option<usize>,
    /// How many `.if` are open.
    depth: usize,
    number: usize,
}

impl Reader {
    fn line(&mut self, line: &Lexed<'_>) {
        let first = line.first();
        match first {
            ".if" => self.depth += 1,
            ".endif" => self.depth = self.depth.saturating_sub(1),
            _ if SECTIONS.contains(&first) => return self.open(line),
            _ if first.contains(['"', '\'', '\\']) => self.blur(OpaqueCause::Character),
            _ => {}
        }
        let kind = self.sections.last().map_or("", Section::kind);
        let is_proxy = matches!(kind, "backend" | "listen");
        let server = is_proxy && matches!(first, "server" | "server-template");
        let text = if kind == "global" {
            line.global_text()
        } else {
            line.text()
        };
        if server {
            self.server(line);
        } else if first == "default-server" && (is_proxy || kind == "defaults") {
            self.default_server(line);
        }
        if self.sections.is_empty() {
            self.sections.push(Section::new(String::new()));
        }
        if let Some(section) = self.sections.last_mut() {
            section.lines.push(Line { text, server });
        }
    }

    /// Marks the section being read as opaque; the first mark stays.
    fn blur(&mut self, cause: OpaqueCause) {
        let line = self.number;
        if let Some(section) = self.sections.last_mut() {
            section.opaque.get_or_insert(Opaque { line, cause });
        }
    }

    fn open(&mut self, line: &Lexed<'_>) {
        if self.depth > 0 {
            self.blur(OpaqueCause::Conditional);
        }
        let index = self.sections.len();
        self.sections.push(Section::new(line.text()));
        if self.depth > 0 {
            self.blur(OpaqueCause::Conditional);
        }
        let kind = line.first();
        let is_defaults = kind == "defaults";
        if !is_defaults && !matches!(kind, "backend" | "listen" | "frontend") {
            return;
        }
        if !line.is_safe() {
            self.blur(OpaqueCause::Character);
        }
        self.inherit(line, is_defaults);
        if is_defaults {
            self.last_defaults = Some(index);
            let name = line.word(1).filter(|word| *word != "from");
            self.defaults
                .extend(name.map(|name| (name.to_owned(), index)));
        } else if kind != "frontend" {
            self.name(line, index);
        }
    }

    fn inherit(&mut self, line: &Lexed<'_>, is_defaults: bool) {
        let explicit = if is_defaults && line.word(1) == Some("from") {
            line.word(2)
        } else {
            line.word(2)
                .filter(|word| *word == "from")
                .and_then(|_| line.word(3))
        };
        let parent = match explicit {
            Some(name) => self.defaults.get(name).copied(),
            None if is_defaults => None,
            None => self.last_defaults,
        };
        if explicit.is_some() && parent.is_none() {
            self.blur(OpaqueCause::Defaults);
        }
        let keywords = parent
            .and_then(|index| self.sections.get(index))
            .map(|s| s.keywords.clone());
        if let Some(section) = self.sections.last_mut() {
            section.parent = parent;
            section.keywords = keywords.unwrap_or_default();
        }
    }

    fn name(&mut self, line: &Lexed<'_>, index: usize) {
        let Some(name) = line.word(1).and_then(BackendName::new) else {
            return self.blur(OpaqueCause::Name);
        };
        let number = self.number;
        if let Some(section) = self
            .backends
            .get(&name)
            .and_then(|first| self.sections.get_mut(*first))
        {
            section.opaque.get_or_insert(Opaque {
                line: number,
                cause: OpaqueCause::Twice,
            });
            self.blur(OpaqueCause::Twice);
        } else {
            self.backends.insert(name, index);
        }
    }

    fn default_server(&mut self, line: &Lexed<'_>) {
        if self.depth > 0 {
            self.blur(OpaqueCause::Conditional);
        }
        if !line.is_safe() {
            self.blur(OpaqueCause::Character);
        }
        if let Some(section) = self.sections.last_mut() {
            section.keywords.apply(line.words.iter().skip(1).copied());
        }
    }

    fn server(&mut self, line: &Lexed<'_>) {
        if self.depth > 0 {
            self.blur(OpaqueCause::Conditional);
        }
        let Some(keywords) = self.sections.last().map(|section| section.keywords.clone()) else {
            return;
        };
        match server_line(line, keywords) {
            Ok(server) => {
                let servers = self.sections.last_mut().map(|section| &mut section.servers);
                let twice = servers
                    .is_some_and(|servers| servers.insert(server.name.clone(), server).is_some());
                if twice {
                    self.blur(OpaqueCause::Twice);
                }
            }
            Err(cause) => self.blur(cause),
        }
    }

    fn finish(mut self) -> ConfigText {
        for index in 0..self.sections.len() {
            let parent = self
                .sections
                .get(index)
                .and_then(|s| s.parent)
                .and_then(|p| self.sections.get(p));
            let inherited = parent
                .and_then(|p| p.opaque.as_ref())
                .map(|opaque| opaque.line);
            if let (Some(line), Some(section)) = (inherited, self.sections.get_mut(index)) {
                section.opaque.get_or_insert(Opaque {
                    line,
                    cause: OpaqueCause::Defaults,
                });
            }
        }
        let mut references = BTreeSet::new();
        let mut files = BTreeSet::new();
        for section in &self.sections {
            section.collect_references(&mut references);
            for line in &section.lines {
                let words = || line.text.split(' ');
                let pairs = words()
                    .zip(words().skip(1))
                    .filter(|(keyword, _)| names_file(keyword));
                files.extend(pairs.map(|(keyword, file)| (keyword.to_owned(), file.to_owned())));
            }
        }
        ConfigText {
            sections: self.sections,
            backends: self.backends,
            references,
            files,
        }
    }
}

fn server_line(line: &Lexed<'_>, mut keywords: Keywords) -> Result<ServerLine, OpaqueCause> {
    if line.first() != "server" {
        return Err(OpaqueCause::Template);
    }
    if !line.is_safe() {
        return Err(OpaqueCause::Character);
    }
    let name = line
        .word(1)
        .and_then(ServerName::new)
        .ok_or(OpaqueCause::Name)?;
    let addr: Option<SocketAddr> = line.word(2).and_then(|word| word.parse().ok());
    let addr = addr
        .filter(|addr| addr.port() != 0)
        .ok_or(OpaqueCause::Address)?;
    keywords.apply(line.words.iter().skip(3).copied());
    let Settings {
        weight,
        maxconn,
        disabled,
        options,
    } = Settings::new(keywords).map_err(|bad| OpaqueCause::Value(bad.keyword))?;
    Ok(ServerLine {
        name,
        addr,
        weight,
        maxconn,
        disabled,
        options,
    })
}

impl Section {
    fn new(title: String) -> Self {
        Self {
            title,
            parent: None,
            lines: Vec::new(),
            keywords: Keywords::default(),
            servers: BTreeMap::new(),
            opaque: None,
        }
    }

    fn kind(&self) -> &str {
        self.title.split(' ').next().unwrap_or_default()
    }

    /// The servers its lines name: `use-server s`, `track [b/]s`, and fetches like `srv_is_up([b/]s)`.
    fn collect_references(&self, references: &mut BTreeSet<(String, String)>) {
        let own = self.title.split(' ').nth(1).unwrap_or_default();
        let mut refer = |target: &str| {
            let (backend, server) = target.split_once('/').unwrap_or((own, target));
            references.insert((backend.to_owned(), server.to_owned()));
        };
        for line in &self.lines {
            if let Some(rest) = line.text.strip_prefix("use-server ") {
                rest.split(' ').take(1).for_each(&mut refer);
            }
            if line.server || line.text.starts_with("default-server ") {
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
        }
    }
}
