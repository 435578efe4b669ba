//! A section of the file in, what becomes of each of its server lines out: a member's, or one that stays. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::Serialize;
use serf_rpc::{Member, MemberStatus};

use super::source::Source;
use super::words::{Common, Spelled, WordMap};
use crate::model::here::{Here, What};
use crate::model::{Naming, ServerName, Weight};
use crate::syntax::keywords::settings;
use crate::syntax::lexed::is_plain_word;
use crate::syntax::lines::{Line, Section};

/// Keywords that say something of a server's own place or state, which another that comes has no use for.
const NOT_COMMON: [&str; 9] = [
    "backup",
    "disabled",
    "init-addr",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "track",
    "weight",
];

/// Balance algorithms that look at the ids of servers.
const BY_ID: [&str; 7] = [
    "first",
    "hash",
    "hdr",
    "rdp-cookie",
    "source",
    "uri",
    "url_param",
];

/// A server line, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerFate {
    /// Where it stands, from 1.
    pub line: usize,
    /// What it is called.
    pub name: String,
    /// Its address, as it stands there.
    pub address: String,
    /// Why it stays as it is; nothing where it becomes a member's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stays: Option<Stays>,
    /// The members at its address; none where they were not asked for, or nobody is there.
    pub members: Vec<String>,
    /// A comment behind it, which goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Why a server line stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Stays {
    /// A host's name, which HAProxy resolves.
    HostName,
    /// An address that is not IP and port.
    Address,
    /// It waits for the others to be down.
    Backup,
    /// Somebody wants no traffic there.
    Disabled,
    /// HAProxy may see it or not.
    Conditional,
    /// It makes servers by number.
    Template,
    /// A variable, or a word that holds what a template cannot pass on.
    Unreadable,
    /// No member can be called so.
    Name,
    /// Another line has its name.
    Twice,
    /// Another server's state is its own.
    Tracks,
    /// HAProxy itself listens there.
    Here {
        /// The line that has it listen.
        listener: String,
    },
    /// It is named outside its own line.
    Named {
        /// Where.
        line: usize,
        /// What names it.
        word: String,
    },
    /// Other defaults hold for it than for the lines before.
    Defaults {
        /// The `default-server` between them.
        line: usize,
    },
}

/// What becomes of a section's servers.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) fates: Vec<ServerFate>,
    /// The numbers of the lines that go.
    pub(super) gone: BTreeSet<usize>,
    /// Before which line those of the members go.
    pub(super) before: usize,
    /// Blanks before the line.
    pub(super) indentation: String,
    /// Its words behind the address, as they stand in the template.
    pub(super) words: String,
    pub(super) maps: Vec<WordMap>,
    pub(super) weighs: bool,
    /// Those that become members', as they are now.
    pub(super) present: Vec<Present>,
}

/// A server that becomes a member's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its name.
    pub name: ServerName,
    /// Its address.
    pub addr: SocketAddr,
    /// Its weight, by its own line.
    pub weight: Weight,
    /// What the member at its address is called, where that is something else.
    pub alias: Option<String>,
}

/// A server line that could be read.
struct Readable<'a> {
    line: &'a Line,
    name: ServerName,
    addr: SocketAddr,
    /// What its member is called, where that is something else.
    alias: Option<&'a str>,
}

impl Plan {
    /// Decides on every server line of a section.
    pub(super) fn of<'a>(
        source: &'a Source<'_>,
        section: &'a Section,
        members: &'a [Member],
        here: &Here,
    ) -> Self {
        let references = References::of(source, section.name());
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for line in section.lines.iter().filter(|line| line.is_server()) {
            *times.entry(line.word(1)).or_default() += 1;
        }
        let mut fates = Vec::new();
        let mut readable: Vec<Readable<'a>> = Vec::new();
        let mut known: BTreeSet<&str> = times.keys().copied().collect();
        let mut defaults = None;
        for line in &section.lines {
            if line.word(0) == "default-server" && !readable.is_empty() {
                defaults = Some(line.number);
            }
            if !line.is_server() {
                continue;
            }
            let twice = times.get(line.word(1)) > Some(&1);
            let read = read(line, twice, &references)
                .and_then(|read| listens(here, read.1).map_or(Ok(read), Err))
                .and_then(|read| match defaults {
                    Some(line) => Err(Stays::Defaults { line }),
                    None => Ok(read),
                });
            let address = address(line.word(2));
            let found = at(members, address.ok().map(|addr| addr.ip()));
            let kept = read.as_ref().err().cloned();
            let named = found.iter().map(|member| printed(member));
            fates.push(ServerFate {
                line: line.number,
                name: line.word(1).to_owned(),
                address: line.word(2).to_owned(),
                members: named.collect(),
                comment: comment(source.raw(line.number)).filter(|_| kept.is_none()),
                stays: kept,
            });
            readable.extend(read.ok().map(|(name, addr)| Readable {
                alias: alias(&found, &name, addr.port(), &mut known),
                line,
                name,
                addr,
            }));
        }
        let mut plan = Self::loop_of(source, section, &readable);
        plan.fates = fates;
        plan.spell(source, section, &readable);
        plan
    }

    /// Where the loop goes, with no words in it yet.
    fn loop_of(source: &Source<'_>, section: &Section, readable: &[Readable<'_>]) -> Self {
        let first = readable.first().map(|server| server.line);
        let last = section.lines.iter().rev().find(|line| line.is_server());
        let before = first.map_or_else(
            || {
                let last = last.filter(|line| !line.conditional);
                last.map_or_else(|| source.end(section), |line| line.number) + 1
            },
            |line| line.number,
        );
        let indentation = match first.or(last) {
            Some(line) => source.indentation_of(line),
            None => source.indentation(section),
        };
        Self {
            fates: Vec::new(),
            gone: readable.iter().map(|server| server.line.number).collect(),
            before,
            indentation: indentation.to_owned(),
            words: String::new(),
            maps: Vec::new(),
            weighs: false,
            present: readable.iter().map(Readable::present).collect(),
        }
    }

    /// Finds the words of the members' line.
    fn spell(&mut self, source: &Source<'_>, section: &Section, readable: &[Readable<'_>]) {
        let mut lines = source.lines().chain(section).flat_map(|above| &above.lines);
        let weight_is_inherited = lines.any(|line| {
            line.word(0) == "default-server" && line.words.iter().any(|word| word == "weight")
        });
        let servers: Vec<Spelled<'_>> = readable.iter().map(Readable::spelled).collect();
        let mut common = Common::of(&servers, weight_is_inherited);
        if servers.is_empty() {
            common.words = words_of_others(section) + &common.words;
        }
        let says_id = servers
            .iter()
            .any(|server| settings(server.words.iter().copied()).any(|(word, _)| word == "id"));
        if !says_id && goes_by_id(source, section) {
            let all = self.fates.iter().enumerate();
            let ids = all.filter(|(_, fate)| fate.stays.is_none());
            let named = ids.zip(readable).flat_map(|((index, _), server)| {
                let names = [Some(server.name.as_str()), server.alias];
                let names = names.into_iter().flatten();
                names.map(move |name| (name.to_owned(), index + 1))
            });
            common.keep_ids(named);
        }
        self.words = common.words;
        self.maps = common.maps;
        self.weighs = common.weighs;
    }
}

impl<'a> Readable<'a> {
    fn spelled(&self) -> Spelled<'_> {
        let words = self.line.words.iter().skip(3).map(String::as_str);
        Spelled {
            name: self.name.as_str(),
            alias: self.alias,
            addr: self.addr,
            words: words.collect(),
        }
    }

    fn present(&self) -> Present {
        let own = settings(self.line.words.iter().skip(3).map(String::as_str));
        let weights = own.filter(|(word, _)| *word == "weight");
        let weight = weights
            .last()
            .and_then(|(_, args)| Weight::new(args.first()?.parse().ok()?));
        Present {
            name: self.name.clone(),
            addr: self.addr,
            weight: weight.unwrap_or(Weight::DEFAULT),
            alias: self.alias.map(str::to_owned),
        }
    }
}

/// What a line says of a member's server, or why it stays.
fn read(
    line: &Line,
    twice: bool,
    references: &References,
) -> Result<(ServerName, SocketAddr), Stays> {
    if line.conditional {
        return Err(Stays::Conditional);
    }
    if line.word(0) != "server" {
        return Err(Stays::Template);
    }
    if !line.words.iter().all(|word| is_plain_word(word)) {
        return Err(Stays::Unreadable);
    }
    let name = Naming::Quarantine.server(line.word(1)).ok_or(Stays::Name)?;
    if twice {
        return Err(Stays::Twice);
    }
    let addr = address(line.word(2))?;
    let says = |keyword: &str| {
        let own = settings(line.words.iter().skip(3).map(String::as_str));
        let mut words = own.map(|(word, _)| word);
        words.any(|word| word == keyword)
    };
    for (keyword, stays) in [
        ("backup", Stays::Backup),
        ("disabled", Stays::Disabled),
        ("track", Stays::Tracks),
    ] {
        if says(keyword) {
            return Err(stays);
        }
    }
    match references.of_server(name.as_str()) {
        Some((line, word)) => Err(Stays::Named { line, word }),
        None => Ok((name, addr)),
    }
}

/// Why no member may be at an address of this host.
fn listens(here: &Here, addr: SocketAddr) -> Option<Stays> {
    let listener = here.listener(addr)?;
    let What::Haproxy(listener) = listener.what.clone() else {
        return None;
    };
    Some(Stays::Here { listener })
}

/// Reads an address and a port as HAProxy does: of IPv6 the last part is the port, in brackets or not.
fn address(word: &str) -> Result<SocketAddr, Stays> {
    let (host, port) = word.rsplit_once(':').unwrap_or((word, ""));
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ip: Option<IpAddr> = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => host.parse().ok(),
    };
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|port| is_number && *port != 0);
    match (ip, port) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        (None, _) if is_host(host) => Err(Stays::HostName),
        _ => Err(Stays::Address),
    }
}

fn is_host(host: &str) -> bool {
    let letters = host.bytes().any(|b| b.is_ascii_alphabetic());
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    letters && host.bytes().all(plain)
}

/// The members at an address, those that are alive first.
fn at(members: &[Member], ip: Option<IpAddr>) -> Vec<&Member> {
    let Some(ip) = ip else {
        return Vec::new();
    };
    let is_there = |member: &&Member| {
        member
            .addr()
            .is_some_and(|addr| addr.to_canonical() == ip.to_canonical())
    };
    let mut found: Vec<&Member> = members.iter().filter(is_there).collect();
    found.sort_by_key(|member| member.status() != MemberStatus::Alive);
    found
}

/// Which of the members at the address of a server is its own, where none is called as it is: one that no other server
/// is called as, rather one that names its port.
fn alias<'a>(
    members: &[&'a Member],
    server: &ServerName,
    port: u16,
    known: &mut BTreeSet<&'a str>,
) -> Option<&'a str> {
    let name = |member: &&'a Member| {
        let name = str::from_utf8(member.name()).ok()?;
        Naming::Quarantine.server(name).map(|_| name)
    };
    if members
        .iter()
        .any(|member| member.name() == server.as_str())
    {
        return None;
    }
    let port = port.to_string();
    let mut others: Vec<&&Member> = members.iter().collect();
    others.sort_by_key(|member| member.tag("port").is_none_or(|tag| tag != port.as_str()));
    let mut names = others.into_iter().filter_map(name);
    names.find(|name| known.insert(name))
}

fn printed(member: &Member) -> String {
    crate::select::shown(member.name())
}

/// What stands behind the words of a line.
fn comment(raw: &str) -> Option<String> {
    let (_, comment) = raw.split_once('#')?;
    let comment = comment.trim();
    (!comment.is_empty()).then(|| comment.to_owned())
}

/// What servers that cannot be members' have in common, for those that will be.
fn words_of_others(section: &Section) -> String {
    let lines = section.lines.iter().filter(|line| {
        line.word(0) == "server" && line.words.iter().all(|word| is_plain_word(word))
    });
    let spelled = |line: &'_ Line| {
        let own = settings(line.words.iter().skip(3).map(String::as_str));
        let own = own.filter(|(word, _)| !NOT_COMMON.contains(word));
        let words = own.flat_map(|(word, args)| std::iter::once(word).chain(args));
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    let all: Vec<(&str, Vec<String>)> = lines.map(|line| (line.word(1), spelled(line))).collect();
    let servers = all.iter().map(|(name, words)| Spelled {
        name,
        alias: None,
        addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        words: words.iter().map(String::as_str).collect(),
    });
    let servers: Vec<Spelled<'_>> = servers.collect();
    if servers.is_empty() {
        return " check".to_owned();
    }
    Common::of_all(&servers)
}

fn goes_by_id(source: &Source<'_>, section: &Section) -> bool {
    let balance = source.lines().setting(section, &["balance"]);
    let algorithm = balance.and_then(|line| line.word(1).split('(').next());
    algorithm.is_some_and(|algorithm| BY_ID.contains(&algorithm))
}

/// What is said of a backend's servers outside their own lines.
struct References(Vec<(usize, String, String)>);

impl References {
    fn of(source: &Source<'_>, backend: &str) -> Self {
        let mut found = Vec::new();
        for section in source.lines().sections() {
            let own = section.name() == backend;
            for line in &section.lines {
                for (target, word) in targets(line) {
                    let (of, server) = target.split_once('/').unwrap_or(("", target));
                    if of == backend || of.is_empty() && own {
                        found.push((line.number, server.to_owned(), word));
                    }
                }
            }
        }
        Self(found)
    }

    fn of_server(&self, name: &str) -> Option<(usize, String)> {
        let mut all = self.0.iter();
        let (line, _, word) = all.find(|(_, server, _)| server == name)?;
        Some((*line, word.clone()))
    }
}

/// The servers that a line names, each with the word that does.
fn targets(line: &Line) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    if line.word(0) == "use-server" {
        found.push((line.word(1), "use-server".to_owned()));
    }
    if line.is_server() || line.word(0) == "default-server" {
        let at = line.words.iter().position(|word| word == "track");
        let target = at.and_then(|at| line.words.get(at + 1));
        found.extend(target.map(|target| (target.as_str(), "track".to_owned())));
    }
    for word in &line.words {
        for fetch in word.split("srv_").skip(1) {
            let Some((name, args)) = fetch.split_once('(') else {
                continue;
            };
            if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                let target = args.split([')', ',']).next().unwrap_or_default();
                found.push((target, format!("srv_{name}")));
            }
        }
    }
    found
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostName => f.write_str(
                "a host name; a member is known by its IP address: take the line out once that host is a member",
            ),
            Self::Address => f.write_str("its address is not IP:port, and a member's is"),
            Self::Backup => f.write_str("`backup`: it serves when no member does"),
            Self::Disabled => f.write_str("`disabled`: somebody wants no traffic there"),
            Self::Conditional => f.write_str("inside `.if`"),
            Self::Template => f.write_str("`server-template` makes servers by number, not by member"),
            Self::Unreadable => f.write_str(
                "a variable, or a quote, backslash, `$`, `{`, `;` or `<` in one of its words",
            ),
            Self::Name => f.write_str(
                "no member is called so: 1 to 64 of A-Z a-z 0-9 _ . - after a letter or digit",
            ),
            Self::Twice => f.write_str("another line has its name"),
            Self::Here { listener } => write!(
                f,
                "HAProxy itself listens there (`{listener}`), and no member is let in there"
            ),
            Self::Tracks => f.write_str("`track`: its state is another server's"),
            Self::Named { line, word } => write!(
                f,
                "line {line} names it (`{word}`), and HAProxy would not start without it"
            ),
            Self::Defaults { line } => write!(
                f,
                "other defaults hold for it than for those before: `default-server` in line {line}"
            ),
        }
    }
}
