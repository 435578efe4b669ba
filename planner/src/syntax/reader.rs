//! The reading itself: the lines of the files of a configuration in, a [`ConfigText`] out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::keywords::names_file;
use super::lexed::Lexed;
use super::options::Settings;
use super::scope::Scope;
use super::text::SECTIONS;
use super::text::{ConfigText, Line, LineKind, Opaque, OpaqueCause, Owner, Section, ServerLine};
use crate::model::{BackendName, ServerName};

/// Reads one file after the other; ours is the last.
pub(crate) struct Reader<'a> {
    scope: &'a Scope,
    sections: Vec<Section>,
    backends: BTreeMap<BackendName, usize>,
    defaults: BTreeMap<String, usize>,
    last_defaults: Option<usize>,
    fixed: BTreeSet<(String, String)>,
    /// Whether the lines are of our file.
    own: bool,
    /// Whether a file that cannot be seen may have a `defaults` section after the last one.
    unseen: bool,
    /// How many `.if` are open.
    depth: usize,
    torn: Torn,
    number: usize,
}

/// Sections that HAProxy may see begin or not, as they begin inside `.if`.
#[derive(Default)]
struct Torn {
    /// Those, and the one before the first of them.
    sections: Vec<usize>,
    /// How many `.if` were open where the last of them began.
    depth: usize,
    /// Whether that branch is over: a line that comes now may belong to any of them.
    over: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(scope: &'a Scope) -> Self {
        Self {
            scope,
            sections: Vec::new(),
            backends: BTreeMap::new(),
            defaults: BTreeMap::new(),
            last_defaults: None,
            fixed: BTreeSet::new(),
            own: false,
            unseen: false,
            depth: 0,
            torn: Torn::default(),
            number: 0,
        }
    }

    /// Takes a file that HAProxy reads before ours; `None` where it cannot be seen.
    pub(crate) fn other_file(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.lines(text),
            None => self.unseen = true,
        }
    }

    pub(crate) fn own_file(&mut self, text: &str) {
        self.own = true;
        self.lines(text);
    }

    fn lines(&mut self, text: &str) {
        self.depth = 0;
        self.torn = Torn::default();
        self.number = 0;
        self.begin(String::new());
        for (index, line) in text.lines().enumerate() {
            self.number = index + 1;
            if let Some(line) = Lexed::new(line) {
                self.line(&line);
            }
        }
    }

    fn line(&mut self, line: &Lexed<'_>) {
        let first = line.first();
        match first {
            ".if" => self.depth += 1,
            ".else" | ".elif" => self.torn.over |= self.depth <= self.torn.depth,
            ".endif" => {
                self.depth = self.depth.saturating_sub(1);
                self.torn.over |= self.depth < self.torn.depth;
            }
            _ if SECTIONS.contains(&first) => return self.open(line),
            _ => self.stray(),
        }
        let Some(section) = self.sections.last() else {
            return;
        };
        let (owner, section_kind) = (section.owner, section.kind());
        let is_proxy = matches!(section_kind, "backend" | "listen");
        let takes_defaults = is_proxy || section_kind == "defaults";
        let fixed = owner != Owner::Config || self.scope.is_fixed(section.name(), line);
        let kind = match is_proxy && line.is_server() {
            true if fixed => LineKind::Fixed,
            true => LineKind::Member,
            false => LineKind::Other,
        };
        let text = if section_kind == "global" {
            line.global_text()
        } else {
            line.text()
        };
        if kind == LineKind::Fixed {
            let names = line.server_names().unwrap_or_default();
            let backend = section.name().to_owned();
            let names = names.into_iter().map(|name| (backend.clone(), name));
            self.fixed.extend(names);
        }
        if line.is_veiled() && !fixed || line.is_veiled() && section_kind == "defaults" {
            self.mark_opaque(OpaqueCause::Character);
        } else if kind == LineKind::Member {
            self.server(line);
        } else if first == "default-server" && takes_defaults {
            self.default_server(line);
        }
        let number = self.number;
        if let Some(section) = self.sections.last_mut() {
            section.lines.push(Line { number, text, kind });
        }
    }

    /// Marks the section being read as opaque; the first mark stays.
    fn mark_opaque(&mut self, cause: OpaqueCause) {
        let line = self.number;
        if let Some(section) = self.sections.last_mut() {
            section.opaque.get_or_insert(Opaque { line, cause });
        }
    }

    /// Takes it that a line may belong to any of the sections that began inside `.if`.
    fn stray(&mut self) {
        if !self.torn.over {
            return;
        }
        let (line, cause) = (self.number, OpaqueCause::Conditional);
        for index in std::mem::take(&mut self.torn.sections) {
            if let Some(section) = self.sections.get_mut(index) {
                let cause = cause.clone();
                section.opaque.get_or_insert(Opaque { line, cause });
            }
        }
    }

    fn begin(&mut self, title: String) {
        let owner = if self.own {
            Owner::Template
        } else {
            Owner::Elsewhere
        };
        self.sections.push(Section::new(title, self.number, owner));
    }

    fn open(&mut self, line: &Lexed<'_>) {
        let index = self.sections.len();
        self.torn.over = false;
        self.torn.depth = self.depth;
        if self.depth == 0 {
            self.torn.sections.clear();
        } else {
            if self.torn.sections.is_empty() {
                self.torn.sections.extend(index.checked_sub(1));
            }
            self.torn.sections.push(index);
        }
        self.begin(line.text());
        let kind = line.first();
        let is_ours = matches!(kind, "backend" | "listen")
            && self.own
            && self.scope.has(line.word(1).unwrap_or_default());
        if let Some(section) = self.sections.last_mut().filter(|_| is_ours) {
            section.owner = Owner::Config;
        }
        if self.depth > 0 {
            self.mark_opaque(OpaqueCause::Conditional);
        }
        let is_defaults = kind == "defaults";
        if !is_defaults && !matches!(kind, "backend" | "listen" | "frontend") {
            return;
        }
        if !line.is_safe() {
            self.mark_opaque(OpaqueCause::Character);
        }
        self.inherit(line, is_defaults);
        if is_defaults {
            self.last_defaults = Some(index);
            self.unseen = false;
            let name = line.word(1).filter(|word| *word != "from");
            self.defaults
                .extend(name.map(|name| (name.to_owned(), index)));
        } else if is_ours {
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
            self.mark_opaque(OpaqueCause::Defaults);
        }
        if explicit.is_none() && !is_defaults && self.unseen {
            self.mark_opaque(OpaqueCause::Unseen);
        }
        let keywords = parent
            .and_then(|index| self.sections.get(index))
            .map(|s| s.keywords.clone());
        let tls_defaults = self.tls_defaults();
        if let Some(section) = self.sections.last_mut() {
            section.tls_defaults = tls_defaults;
            section.parent = parent;
            section.keywords = keywords.unwrap_or_default();
        }
    }

    fn tls_defaults(&self) -> BTreeSet<String> {
        let globals = self.sections.iter().filter(|s| s.kind() == "global");
        let keywords = globals
            .flat_map(|s| &s.lines)
            .filter_map(|line| line.text.split(' ').next());
        keywords
            .filter(|keyword| keyword.starts_with("ssl-default-server-"))
            .map(str::to_owned)
            .collect()
    }

    fn name(&mut self, line: &Lexed<'_>, index: usize) {
        let Some(name) = line.word(1).and_then(BackendName::new) else {
            return self.mark_opaque(OpaqueCause::Name);
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
            self.mark_opaque(OpaqueCause::Twice);
        } else {
            self.backends.insert(name, index);
        }
    }

    fn default_server(&mut self, line: &Lexed<'_>) {
        if self.depth > 0 {
            self.mark_opaque(OpaqueCause::Conditional);
        }
        if !line.is_safe() {
            self.mark_opaque(OpaqueCause::Character);
        }
        if let Some(section) = self.sections.last_mut() {
            section.keywords.apply(line.words.iter().skip(1).copied());
        }
    }

    fn server(&mut self, line: &Lexed<'_>) {
        if self.depth > 0 {
            self.mark_opaque(OpaqueCause::Conditional);
        }
        let Some(section) = self.sections.last() else {
            return;
        };
        match server_line(line, section) {
            Ok(server) => {
                let servers = self.sections.last_mut().map(|section| &mut section.servers);
                let twice = servers
                    .is_some_and(|servers| servers.insert(server.name.clone(), server).is_some());
                if twice {
                    self.mark_opaque(OpaqueCause::Twice);
                }
            }
            Err(cause) => self.mark_opaque(cause),
        }
    }

    pub(crate) fn finish(mut self) -> ConfigText {
        for index in 0..self.sections.len() {
            let parent = self
                .sections
                .get(index)
                .and_then(|s| s.parent)
                .and_then(|p| self.sections.get(p));
            // A line of another file would be looked for in ours.
            let inherited = parent.and_then(|p| {
                let opaque = p.opaque.as_ref()?;
                Some((p.owner != Owner::Elsewhere).then_some(opaque.line))
            });
            if let (Some(line), Some(section)) = (inherited, self.sections.get_mut(index)) {
                section.opaque.get_or_insert(Opaque {
                    line: line.unwrap_or(section.number),
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
                    .filter(|(keyword, _)| names_file(keyword))
                    // of a `default-server` line HAProxy reads no certificate until a server of the file has it
                    .filter(|(keyword, _)| !(*keyword == "crt" && is_default(line)));
                files.extend(pairs.map(|(keyword, file)| (keyword.to_owned(), file.to_owned())));
            }
        }
        ConfigText {
            sections: self.sections,
            backends: self.backends,
            references,
            files,
            fixed: self.fixed,
        }
    }
}

fn is_default(line: &Line) -> bool {
    line.text.split(' ').next() == Some("default-server")
}

fn server_line(line: &Lexed<'_>, section: &Section) -> Result<ServerLine, OpaqueCause> {
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
    let Settings {
        weight,
        maxconn,
        disabled,
        options,
    } = Settings::of_line(
        &section.keywords,
        line.words.iter().skip(3).copied(),
        &section.tls_defaults,
    )
    .map_err(|bad| OpaqueCause::Value(bad.keyword))?;
    Ok(ServerLine {
        name,
        addr,
        weight,
        maxconn,
        disabled,
        options,
    })
}
