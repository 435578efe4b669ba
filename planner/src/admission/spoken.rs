//! What HAProxy's check says on the wire: the keywords of a server line and the lines of its section in, a [`Spoken`] or
//! the word that nothing here knows out. Pure.
//!
//! HAProxy's Configuration Manual: `option httpchk`, `http-check send`, `http-check expect`, `option tcp-check` and its
//! like; section 5.2 for the server line. Whoever adds a keyword here says what it does to a check.

use std::time::Duration;

use crate::config::{CheckConfig, ProxyVersion, Request, StatusCodes};
use crate::syntax::Options;
use crate::syntax::time::millis;

/// Keywords of a server line that change nothing of what a check sends or wants. All that is neither here nor read
/// below may.
const SILENT: [&str; 56] = [
    "agent-addr",
    "agent-check",
    "agent-inter",
    "agent-port",
    "agent-send",
    "allow-0rtt",
    "alpn",
    "backup",
    "ca-file",
    "check",
    "cookie",
    "crl-file",
    "downinter",
    "error-limit",
    "fall",
    "fastinter",
    "guid",
    "hash-key",
    "id",
    "idle-ping",
    "init-addr",
    "init-state",
    "inter",
    "log-bufsize",
    "log-proto",
    "max-reuse",
    "maxqueue",
    "minconn",
    "no-ssl-reuse",
    "no-sslv3",
    "no-tls-tickets",
    "non-stick",
    "npn",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "pool-conn-name",
    "pool-low-conn",
    "pool-max-conn",
    "pool-purge-delay",
    "redir",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "rise",
    "shard",
    "slowstart",
    "sni",
    "strict-maxconn",
    "tcp-ut",
    "tfo",
    "verify",
    "verifyhost",
    "ws",
];

/// HAProxy's `inter` by default, and the longest that is reckoned with.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3600));

/// First words of lines that make a check; `option` stands before some.
const CHECKS: [&str; 10] = [
    "external-check",
    "httpchk",
    "ldap-check",
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "smtpchk",
    "spop-check",
    "ssl-hello-chk",
    "tcp-check",
];

/// What a check says and wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spoken {
    request: Option<Request>,
    /// Of the request: HTTP/1.1 rather than HTTP/1.0.
    http_1_1: bool,
    port: Option<u16>,
    tls: bool,
    sni: Option<String>,
    send_proxy: Option<ProxyVersion>,
}

/// The port of the check, where the line has one.
pub(super) fn port(options: &Options) -> Option<u16> {
    options
        .value("port")?
        .parse()
        .ok()
        .filter(|&port| port != 0)
}

/// How often HAProxy checks, 2 s by default; an hour at most.
pub(super) fn interval(options: &Options) -> Duration {
    let millis = options.value("inter").and_then(|time| millis(&time));
    let millis = millis.and_then(|millis| u64::try_from(millis).ok());
    millis
        .map_or(INTERVAL.0, Duration::from_millis)
        .min(INTERVAL.1)
}

impl Spoken {
    /// What HAProxy sends for this line in a section with these lines, its `defaults` first.
    ///
    /// # Errors
    /// The keyword or the line that is not read here.
    pub(super) fn by_line(options: &Options, sections: &[Vec<&str>]) -> Result<Self, String> {
        let mut spoken = Self {
            port: port(options),
            ..Self::default()
        };
        let mut proxy = None;
        for keyword in options.keywords() {
            match keyword {
                _ if SILENT.contains(&keyword) => {}
                "port" | "ssl" | "check-ssl" | "check-send-proxy" => {}
                "check-sni" => spoken.sni = options.value(keyword),
                "send-proxy" => proxy = proxy.or(Some(ProxyVersion::V1)),
                "send-proxy-v2" => proxy = Some(ProxyVersion::V2),
                other => return Err(format!("`{other}`")),
            }
        }
        let has = |keyword| options.value(keyword).is_some();
        // The own probe takes any certificate.
        if has("check-ssl")
            && options
                .value("verify")
                .is_none_or(|verify| verify != "none")
        {
            return Err("`verify required`".to_owned());
        }
        spoken.tls = has("check-ssl");
        spoken.send_proxy = has("check-send-proxy").then(|| proxy.unwrap_or(ProxyVersion::V1));
        spoken.read_sections(sections)?;
        Ok(spoken)
    }

    /// Takes the lines about the request.
    fn read_sections(&mut self, sections: &[Vec<&str>]) -> Result<(), String> {
        let mut kind = None;
        for line in sections.iter().flatten() {
            match option(line) {
                Some(("no", _)) => kind = None,
                Some((name, _)) if CHECKS.contains(&name) => kind = Some(*line),
                _ => {}
            }
        }
        let rules = |word: &str| -> Vec<Vec<&str>> {
            let starts = |line: &&str| line.split(' ').next() == Some(word);
            let all = sections.iter();
            let all = all.map(|lines| lines.iter().copied().filter(starts).collect());
            all.filter(|lines: &Vec<&str>| !lines.is_empty()).collect()
        };
        let Some(line) = kind else { return Ok(()) };
        match option(line) {
            Some(("httpchk", words)) => {
                self.httpchk(line, &words)?;
                let mut rules = rules("http-check");
                let lines = rules.pop().unwrap_or_default();
                if let Some(line) = rules.first().and_then(|lines| lines.first()) {
                    return Err(format!("`{line}` above more of its kind"));
                }
                lines.iter().try_for_each(|line| self.http_check(line))
            }
            // Without a rule it is a connection and no more.
            Some(("tcp-check", _)) => {
                match rules("tcp-check").first().and_then(|lines| lines.first()) {
                    None => Ok(()),
                    Some(rule) => Err(format!("`{rule}`")),
                }
            }
            _ => Err(format!("`{line}`")),
        }
    }

    /// `option httpchk [METHOD] [PATH] [VERSION]`.
    fn httpchk(&mut self, line: &str, words: &[&str]) -> Result<(), String> {
        let (method, path, version) = match words {
            [] => ("OPTIONS", "/", "HTTP/1.0"),
            [path] => ("OPTIONS", *path, "HTTP/1.0"),
            [method, path] => (*method, *path, "HTTP/1.0"),
            [method, path, version] => (*method, *path, *version),
            _ => return Err(format!("`{line}`")),
        };
        self.request = Some(Request {
            method: plain(method, line)?,
            path: plain(path, line)?,
            host: None,
            status: StatusCodes::default(),
        });
        self.version(version, line)
    }

    fn version(&mut self, version: &str, line: &str) -> Result<(), String> {
        self.http_1_1 = match version {
            "HTTP/1.0" => false,
            "HTTP/1.1" => true,
            _ => return Err(format!("`{line}`")),
        };
        Ok(())
    }

    /// `http-check send` and `http-check expect status`; all others do more than a request.
    fn http_check(&mut self, line: &str) -> Result<(), String> {
        let odd = || format!("`{line}`");
        let mut words = line.split(' ').skip(1);
        let Some(mut request) = self.request.take() else {
            return Err(odd());
        };
        match words.next() {
            Some("send") => {
                while let Some(word) = words.next() {
                    let value = words.next().ok_or_else(odd)?;
                    match word {
                        "meth" => request.method = plain(value, line)?,
                        "uri" => request.path = plain(value, line)?,
                        "ver" => self.version(value, line)?,
                        "hdr" if value.eq_ignore_ascii_case("host") && request.host.is_none() => {
                            request.host = Some(plain(words.next().ok_or_else(odd)?, line)?);
                        }
                        _ => return Err(odd()),
                    }
                }
            }
            Some("expect") => {
                let (Some("status"), Some(codes), None) =
                    (words.next(), words.next(), words.next())
                else {
                    return Err(odd());
                };
                request.status = StatusCodes::parse(codes).ok_or_else(odd)?;
            }
            _ => return Err(odd()),
        }
        self.request = Some(request);
        Ok(())
    }

    /// As a config would say it.
    pub(super) fn config(&self) -> CheckConfig {
        CheckConfig {
            request: self.request.clone(),
            port: self.port,
            tls: self.tls,
            sni: self.sni.clone(),
            send_proxy: self.send_proxy,
            ..CheckConfig::default()
        }
    }

    /// The first part of it that is not what the config says.
    pub(super) fn difference(&self, config: &CheckConfig) -> Option<String> {
        if self.request != config.request || self.http_1_1 != is_http_1_1(config) {
            return Some(match &self.request {
                Some(request) => self.words_of(request),
                None => "a connection and no request".to_owned(),
            });
        }
        let part = |word: &str, there: bool| {
            let not = if there { "" } else { "no " };
            Some(format!("{not}`{word}`"))
        };
        if self.port != config.port {
            return match self.port {
                Some(port) => Some(format!("`port {port}`")),
                None => part("port", false),
            };
        }
        if self.tls != config.tls {
            return part("ssl", self.tls);
        }
        if self.sni != config.sni {
            return part("check-sni", self.sni.is_some());
        }
        if self.send_proxy != config.send_proxy {
            return match self.send_proxy {
                Some(ProxyVersion::V1) => part("send-proxy", true),
                Some(ProxyVersion::V2) => part("send-proxy-v2", true),
                None => part("send-proxy", false),
            };
        }
        None
    }

    fn words_of(&self, request: &Request) -> String {
        let Request {
            method,
            path,
            host,
            status,
        } = request;
        let version = if self.http_1_1 {
            "HTTP/1.1"
        } else {
            "HTTP/1.0"
        };
        let host = host
            .as_ref()
            .map_or_else(String::new, |host| format!(" to {host}"));
        format!("`{method} {path} {version}`{host}, answered with {status}")
    }
}

fn is_http_1_1(config: &CheckConfig) -> bool {
    let request = config.request.as_ref();
    request.is_some_and(|request| request.host.is_some())
}

/// The name and the words of an `option` line; `no` where it takes a check back.
fn option(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut words = line.split(' ');
    match words.next()? {
        "option" => {}
        "no" => {
            words.next().filter(|word| *word == "option")?;
            return words
                .next()
                .filter(|name| CHECKS.contains(name))
                .map(|_| ("no", Vec::new()));
        }
        _ => return None,
    }
    Some((words.next()?, words.collect()))
}

/// A word without quotes and the like, which HAProxy would read otherwise than it stands there.
fn plain(word: &str, line: &str) -> Result<String, String> {
    if word.contains(['"', '\'', '\\', '$']) {
        return Err(format!("`{line}`"));
    }
    Ok(word.to_owned())
}
