//! The text of a configuration in, the backends and servers that a worker starts with out, or why it would not load.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::keyword::{Place, Settings, leading};
use crate::server::Server;
use crate::version::Version;

/// What a text says, as far as the Runtime API shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// `description` in `global`.
    pub(crate) description: Option<String>,
    /// What the first `stats socket` permits: `user`, `operator` or `admin`.
    pub(crate) level: Option<String>,
    /// In the order of the file.
    pub(crate) backends: Vec<Backend>,
    /// The servers that other lines name, as `backend/server`.
    pub(crate) named: BTreeSet<String>,
}

/// A `backend` or `listen` section.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) name: String,
    /// Whether its balance algorithm takes servers and weights at runtime.
    pub(crate) is_dynamic: bool,
    /// Whether its checks speak HTTP.
    pub(crate) checks_http: bool,
    pub(crate) servers: Vec<Server>,
}

impl Backend {
    /// Puts a server in at the lowest free id.
    pub(crate) fn insert(&mut self, mut server: Server) {
        let taken = |id: &u32| self.servers.iter().any(|server| server.id == *id);
        server.id = (1..).find(|id| !taken(id)).unwrap_or_default();
        self.servers.push(server);
    }
}

/// What a section hands down by `from`.
#[derive(Clone, Debug, Default)]
struct Inherited {
    balance: Vec<String>,
    hash_type: Vec<String>,
    checks_http: bool,
    server: Settings,
}

/// A section that is being read.
#[derive(Default)]
struct Section {
    kind: String,
    name: String,
    own: Inherited,
    servers: Vec<Server>,
}

struct Reader {
    version: Version,
    config: Config,
    /// By name; the unnamed is the last of any name.
    defaults: BTreeMap<String, Inherited>,
    last_defaults: Inherited,
    section: Section,
}

impl Config {
    /// Reads a text as this version would.
    ///
    /// # Errors
    /// The number of the first line that it does not load, and what it says of it.
    pub(crate) fn read(text: &str, version: Version) -> Result<Self, (usize, String)> {
        let mut reader = Reader {
            version,
            config: Self::default(),
            defaults: BTreeMap::new(),
            last_defaults: Inherited::default(),
            section: Section::default(),
        };
        // for each `.if` that is open, whether its lines are passed over: no condition holds
        let mut skipped: Vec<bool> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let words = words(line);
            match words.first().map(String::as_str) {
                None => {}
                Some(".if") => skipped.push(true),
                Some(".else") => {
                    if let Some(last) = skipped.last_mut() {
                        *last = false;
                    }
                }
                Some(".endif") => drop(skipped.pop()),
                Some(_) if skipped.contains(&true) => {}
                Some(_) => reader.line(&words).map_err(|error| (number, error))?,
            }
        }
        reader.end_section();
        Ok(reader.config)
    }
}

impl Reader {
    fn line(&mut self, words: &[String]) -> Result<(), String> {
        let Some((first, rest)) = words.split_first() else {
            return Ok(());
        };
        match first.as_str() {
            "global" | "defaults" | "frontend" | "backend" | "listen" | "peers" | "resolvers"
            | "userlist" | "cache" | "ring" | "http-errors" | "mailers" | "program"
            | "fcgi-app" | "log-forward" => self.begin_section(first, rest)?,
            "description" if self.section.kind == "global" => {
                self.config.description = Some(rest.join(" "));
            }
            "stats" if self.section.kind == "global" => self.stats(rest),
            "balance" => self.section.own.balance = rest.to_vec(),
            "hash-type" => self.section.own.hash_type = rest.to_vec(),
            "option" if rest.first().is_some_and(|option| option == "httpchk") => {
                self.section.own.checks_http = true;
            }
            "default-server" => {
                let settings = &mut self.section.own.server;
                settings.take(rest, self.version, Place::File)?;
            }
            "server" if self.is_proxy() => self.server(rest)?,
            "server-template" if self.is_proxy() => self.template(rest)?,
            "use-server" => self.name_server(rest.first().map_or("", String::as_str)),
            "nonsense" => {
                let kind = &self.section.kind;
                return Err(format!("unknown keyword '{first}' in '{kind}' section"));
            }
            _ => {}
        }
        for word in words {
            self.name_fetched(word);
        }
        Ok(())
    }

    fn is_proxy(&self) -> bool {
        matches!(self.section.kind.as_str(), "backend" | "listen")
    }

    fn begin_section(&mut self, kind: &str, rest: &[String]) -> Result<(), String> {
        self.end_section();
        let name = rest.first().cloned().unwrap_or_default();
        let from = rest.iter().skip_while(|word| *word != "from").nth(1);
        let own = match from {
            Some(from) => self.defaults.get(from).cloned().ok_or_else(|| {
                format!("defaults section '{from}' not found for proxy '{name}'.")
            })?,
            None if kind == "defaults" => Inherited::default(),
            None => self.last_defaults.clone(),
        };
        let backends = &self.config.backends;
        let is_proxy = matches!(kind, "backend" | "listen");
        if is_proxy && backends.iter().any(|backend| backend.name == name) {
            return Err(format!("{kind} '{name}' has the same name as another one"));
        }
        self.section = Section {
            kind: kind.to_owned(),
            name,
            own,
            servers: Vec::new(),
        };
        Ok(())
    }

    fn end_section(&mut self) {
        let section = std::mem::take(&mut self.section);
        match section.kind.as_str() {
            "defaults" => {
                self.last_defaults = section.own.clone();
                self.defaults.insert(section.name, section.own);
            }
            "backend" | "listen" => {
                let mut backend = Backend {
                    is_dynamic: section.own.is_dynamic(),
                    checks_http: section.own.checks_http,
                    name: section.name,
                    servers: Vec::new(),
                };
                for server in section.servers {
                    backend.insert(server);
                }
                self.config.backends.push(backend);
            }
            _ => {}
        }
    }

    /// `stats socket PATH … level LEVEL`: `operator` where no level is given.
    fn stats(&mut self, rest: &[String]) {
        if rest.first().is_some_and(|word| word == "socket") && self.config.level.is_none() {
            let level = rest.iter().skip_while(|word| *word != "level").nth(1);
            self.config.level = Some(level.map_or("operator", String::as_str).to_owned());
        }
    }

    fn server(&mut self, rest: &[String]) -> Result<(), String> {
        let [name, addr, options @ ..] = rest else {
            return Err("'server' expects <name> and <addr>[:<port>] as arguments.".to_owned());
        };
        let mut settings = self.section.own.server.clone();
        settings.take(options, self.version, Place::File)?;
        settings.finish(name)?;
        if let Some(tracked) = &settings.track {
            self.name_server(&tracked.clone());
        }
        let servers = &mut self.section.servers;
        if servers.iter().any(|server| server.name == *name) {
            return Err(format!(
                "'server {name}' : another server has the same name"
            ));
        }
        servers.push(Server::of_file(name, address(addr)?, settings));
        Ok(())
    }

    fn template(&mut self, rest: &[String]) -> Result<(), String> {
        let [prefix, range, rest @ ..] = rest else {
            return Err("'server-template' expects <prefix> <nb | range> and <addr>".to_owned());
        };
        let (first, last) = range.split_once('-').unwrap_or(("1", range));
        for number in leading::<u32>(first)..=leading::<u32>(last).min(999) {
            let name = [format!("{prefix}{number}")];
            self.server(&[&name, rest].concat())?;
        }
        Ok(())
    }

    /// `srv_is_up(b/s)` and its like.
    fn name_fetched(&mut self, word: &str) {
        for fetch in word.split("srv_").skip(1) {
            if let Some((_, arguments)) = fetch.split_once('(') {
                let end = arguments.find([')', ',']).unwrap_or(arguments.len());
                self.name_server(arguments.get(..end).unwrap_or_default());
            }
        }
    }

    fn name_server(&mut self, name: &str) {
        let named = match name.split_once('/') {
            Some(_) => name.to_owned(),
            None => format!("{}/{name}", self.section.name),
        };
        self.config.named.insert(named);
    }
}

impl Inherited {
    /// Algorithms that build their table once take no servers later on.
    fn is_dynamic(&self) -> bool {
        let consistent = self
            .hash_type
            .first()
            .is_some_and(|word| word == "consistent");
        let balance = self.balance.first().map_or("roundrobin", String::as_str);
        let name = balance.split('(').next().unwrap_or_default();
        match name {
            "roundrobin" | "leastconn" | "first" | "random" => true,
            "static-rr" | "rdp-cookie" => false,
            _ => consistent,
        }
    }
}

/// `IP:port` or `[IP]:port`; of anything else, what it is called is resolved by nobody.
///
/// # Errors
/// When the port is none.
pub(crate) fn address(text: &str) -> Result<(Option<IpAddr>, u16), String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    let port = match port.parse::<u16>() {
        Ok(port) => port,
        Err(_) if text.starts_with("unix@") || text.starts_with('/') => 0,
        Err(_) => return Err(format!("invalid port '{port}'")),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.parse().ok(), port))
}

/// The words of a line: quotes hold them together, `\` takes the next character as it is, `#` starts a comment.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().extend(chars.next());
            }
            (None, '#') => break,
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_inherits_stands_above_it() {
        let text = "defaults base\ndefault-server check inter 1s\n\
            backend a from base # comment\nserver s1 10.0.0.1:80 weight 3\ndefault-server no-check\n\
            server \"s2\" [::1]:81 disabled#x\nserver-template t 1-2 host.example:80\n.if defined(X)\nserver s3 10.0.0.3:80\n.endif\n";
        let config = Config::read(text, Version::V3_0).unwrap();
        let servers = config.backends[0].servers.iter().map(|server| {
            let Server {
                name,
                id,
                ip,
                port,
                settings,
                ..
            } = server;
            let addr = ip.map_or("-".to_owned(), |ip| ip.to_string());
            let (weight, check, disabled) = (settings.weight, settings.check, settings.disabled);
            format!("{id} {name} {addr} {port} {weight} {check} {disabled}")
        });
        let servers: Vec<String> = servers.collect();
        let expected = [
            "1 s1 10.0.0.1 80 3 true false",
            "2 s2 ::1 81 1 false true",
            "3 t1 - 80 1 false false",
            "4 t2 - 80 1 false false",
        ];
        assert_eq!(servers, expected);
    }

    #[test]
    fn a_text_that_haproxy_would_not_load_is_refused_with_its_line() {
        for (line, error) in [
            ("server s1 10.0.0.1:99999", "invalid port '99999'"),
            ("server s1 10.0.0.1:80 bogus", "unknown keyword 'bogus'."),
            (
                "nonsense",
                "unknown keyword 'nonsense' in 'backend' section",
            ),
        ] {
            let refused = Config::read(&format!("backend a\n{line}\n"), Version::V2_6);
            assert_eq!(refused.unwrap_err(), (2, error.to_owned()), "{line}");
        }
    }
}
