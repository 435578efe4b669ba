//! The words of a `server` line: words in, the [`Keywords`] in force out, and which of them `add server` takes. Pure.
//!
//! Sources: HAProxy's Configuration Manual, section 5.2 "Server and default-server options"; which keyword a dynamic
//! server may have was tried one by one on HAProxy 2.6, 3.0 and 3.2 (Management Guide, `add server`).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Version;

/// From this version on servers are deleted at runtime, and added ones start with the usual defaults.
pub(crate) const V3_0: Version = Version { major: 3, minor: 0 };
pub(crate) const V3_2: Version = Version { major: 3, minor: 2 };
const V2_6: Version = Version { major: 2, minor: 6 };

/// Keywords whose argument is a file, which `add server` takes only if the worker has loaded it already.
const FILES: [&str; 3] = ["ca-file", "crl-file", "crt"];

/// Keywords that a server does not inherit although `default-server` takes them, on any version (HAProxy's
/// `srv_settings_cpy` leaves them out).
const NOT_INHERITED: [&str; 4] = ["check-proto", "client-sigalgs", "curves", "sigalgs"];

/// Whether `keyword` takes a file that must have been loaded already.
pub(crate) fn names_file(keyword: &str) -> bool {
    FILES.contains(&keyword)
}

#[derive(Clone, Copy)]
enum Words {
    None,
    One,
    /// `source <addr> [usesrc <addr>] [interface <name>]`.
    Source,
}

#[derive(Clone, Copy)]
enum Effect {
    Sets,
    /// Is in force instead of the keywords named.
    Replaces(&'static [&'static str]),
    /// Takes back the keyword named.
    Cancels(&'static str),
    /// Takes back `ssl`, or where it is not in force `ciphers`, as HAProxy does (`srv_parse_no_ssl`).
    NoSsl,
    /// Both `ssl-min-ver` and `ssl-max-ver`.
    Forces(&'static str),
    /// Adds to `proxy-v2-options`.
    ProxyOptions,
    /// `send-proxy-v2` with these `proxy-v2-options`.
    ProxyV2(&'static [&'static str]),
    /// Takes both back.
    NoProxyV2(&'static [&'static str]),
}

#[derive(Clone, Copy)]
struct Keyword {
    words: Words,
    effect: Effect,
    /// The first version whose `add server` takes it.
    dynamic: Option<Version>,
}

/// What is known of a keyword; `None` for one that this table lacks, whose arguments cannot be told from keywords.
fn keyword(word: &str) -> Option<Keyword> {
    let (name, _) = word.split_once('(').unwrap_or((word, ""));
    let (words, effect, dynamic) =
        match name {
            "agent-check" | "allow-0rtt" | "backup" | "check" | "check-send-proxy"
            | "check-via-socks4" | "disabled" | "no-ssl-reuse" | "no-sslv3" | "no-tlsv10"
            | "no-tlsv11" | "no-tlsv12" | "no-tlsv13" | "send-proxy" | "tfo" => {
                (Words::None, Effect::Sets, Some(V2_6))
            }
            "addr" | "agent-addr" | "agent-inter" | "agent-port" | "agent-send" | "alpn"
            | "ca-file" | "check-alpn" | "check-proto" | "check-sni" | "ciphers"
            | "ciphersuites" | "crl-file" | "crt" | "downinter" | "error-limit" | "fall"
            | "fastinter" | "id" | "inter" | "maxconn" | "maxqueue" | "minconn" | "npn"
            | "observe" | "on-error" | "on-marked-down" | "on-marked-up" | "pool-low-conn"
            | "pool-max-conn" | "pool-purge-delay" | "port" | "rise" | "slowstart" | "sni"
            | "ssl-max-ver" | "ssl-min-ver" | "track" | "verify" | "verifyhost" | "weight"
            | "ws" => (Words::One, Effect::Sets, Some(V2_6)),
            "proxy-v2-options" => (Words::One, Effect::ProxyOptions, Some(V2_6)),
            "source" => (Words::Source, Effect::Sets, Some(V2_6)),
            // 2.6 takes `proto` and does not heed it (fixed upstream in October 2023).
            "client-sigalgs"
            | "cookie"
            | "curves"
            | "guid"
            | "hash-key"
            | "pool-conn-name"
            | "proto"
            | "set-proxy-v2-tlv-fmt"
            | "shard"
            | "sigalgs" => (Words::One, Effect::Sets, Some(V3_0)),
            "check-pool-conn-name" | "idle-ping" | "init-state" => {
                (Words::One, Effect::Sets, Some(V3_2))
            }
            "check-reuse-pool" | "strict-maxconn" => (Words::None, Effect::Sets, Some(V3_2)),
            "init-addr" | "log-bufsize" | "log-proto" | "max-reuse" | "namespace" | "redir"
            | "resolve-net" | "resolve-opts" | "resolve-prefer" | "resolvers" | "socks4"
            | "tcp-ut" => (Words::One, Effect::Sets, None),
            "non-stick" => (Words::None, Effect::Sets, None),
            _ => {
                let effect = bare(name)?;
                let says = !matches!(effect, Effect::NoProxyV2(_));
                (Words::None, effect, says.then_some(V2_6))
            }
        };
    Some(Keyword {
        words,
        effect,
        dynamic,
    })
}

/// Words as they stand in a line, each keyword with its arguments. A word that is not known takes all words after it with
/// it.
pub(crate) fn settings<'a>(
    words: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = (&'a str, Vec<&'a str>)> {
    let mut words = words.into_iter().peekable();
    std::iter::from_fn(move || {
        let word = words.next()?;
        let Some(known) = keyword(word) else {
            return Some((word, words.by_ref().collect()));
        };
        let mut args = Vec::new();
        if !matches!(known.words, Words::None) {
            args.extend(words.next());
        }
        if matches!(known.words, Words::Source) {
            while let Some(part) = words.next_if(|word| matches!(*word, "usesrc" | "interface")) {
                args.push(part);
                args.extend(words.next());
            }
        }
        Some((word, args))
    })
}

/// What a word without arguments does that is more than to be in force. Each but those that take `send-proxy-v2` back
/// ends in keywords that every version takes at runtime, or in none.
fn bare(word: &str) -> Option<Effect> {
    const SSL_CN: &[&str] = &["cert-cn", "ssl"];
    Some(match word {
        "ssl" => Effect::Replaces(&["no-ssl"]),
        "check-ssl" => Effect::Replaces(&["no-check-ssl", "no-ssl"]),
        // HAProxy forgets the ciphers with it (`srv_parse_no_check_ssl`), those of the traffic too
        "no-check-ssl" => Effect::Replaces(&["check-ssl", "ciphers"]),
        "no-tls-tickets" => Effect::Replaces(&["tls-tickets"]),
        "tls-tickets" => Effect::Replaces(&["no-tls-tickets"]),
        "force-sslv3" => Effect::Forces("SSLv3"),
        "force-tlsv10" => Effect::Forces("TLSv1.0"),
        "force-tlsv11" => Effect::Forces("TLSv1.1"),
        "force-tlsv12" => Effect::Forces("TLSv1.2"),
        "force-tlsv13" => Effect::Forces("TLSv1.3"),
        "send-proxy-v2" => Effect::ProxyV2(&[]),
        "send-proxy-v2-ssl" => Effect::ProxyV2(&["ssl"]),
        "send-proxy-v2-ssl-cn" => Effect::ProxyV2(SSL_CN),
        "no-send-proxy-v2" => Effect::NoProxyV2(&[]),
        "no-send-proxy-v2-ssl" => Effect::NoProxyV2(&["ssl"]),
        "no-send-proxy-v2-ssl-cn" => Effect::NoProxyV2(SSL_CN),
        "enabled" => Effect::Cancels("disabled"),
        "no-agent-check" => Effect::Cancels("agent-check"),
        "no-backup" => Effect::Cancels("backup"),
        "no-check" => Effect::Cancels("check"),
        "no-check-reuse-pool" => Effect::Cancels("check-reuse-pool"),
        "no-check-send-proxy" => Effect::Cancels("check-send-proxy"),
        "no-send-proxy" => Effect::Cancels("send-proxy"),
        "no-ssl" => Effect::NoSsl,
        "no-tfo" => Effect::Cancels("tfo"),
        "ssl-reuse" => Effect::Cancels("no-ssl-reuse"),
        "stick" => Effect::Cancels("non-stick"),
        _ => return None,
    })
}

/// The keywords in force at some line: what `default-server` lines said so far, or those of one server.
///
/// What one keyword says for several stands here as those: `force-tlsv12` as `ssl-min-ver` and `ssl-max-ver`,
/// `send-proxy-v2-ssl` as `send-proxy-v2` and `proxy-v2-options ssl`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keywords(BTreeMap<String, Vec<String>>);

impl Keywords {
    /// What a server line starts with, below `default-server` lines that say these.
    pub(crate) fn inherited(&self) -> Self {
        let mut keywords = self.clone();
        for keyword in NOT_INHERITED {
            keywords.0.remove(keyword);
        }
        keywords
    }

    /// Lets `words` override what is in force. A word that is not known takes all words after it with it.
    pub(crate) fn apply<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        for (word, args) in settings(words) {
            let args = args.into_iter().map(str::to_owned).collect();
            match keyword(word) {
                Some(known) => self.take_effect(word, args, known.effect),
                None => self.set(word, args),
            }
        }
    }

    fn take_effect(&mut self, word: &str, args: Vec<String>, effect: Effect) {
        match effect {
            Effect::Sets => self.set(word, args),
            Effect::Replaces(others) => {
                for other in others {
                    self.0.remove(*other);
                }
                self.set(word, args);
            }
            Effect::Cancels(keyword) => drop(self.0.remove(keyword)),
            Effect::NoSsl => {
                if self.0.remove("ssl").is_none() {
                    self.0.remove("ciphers");
                    self.set("no-ssl", Vec::new());
                }
            }
            Effect::Forces(version) => {
                self.set("ssl-min-ver", vec![version.to_owned()]);
                self.set("ssl-max-ver", vec![version.to_owned()]);
            }
            Effect::ProxyOptions => self.change_proxy_options(|options| {
                let words = args.iter().flat_map(|list| list.split(','));
                options.extend(words.map(str::to_owned));
                if options.iter().any(|option| is_about_tls(option)) {
                    options.insert("ssl".to_owned());
                }
            }),
            Effect::ProxyV2(more) => {
                self.set("send-proxy-v2", Vec::new());
                self.change_proxy_options(|options| {
                    options.extend(more.iter().map(|word| (*word).to_owned()));
                });
            }
            Effect::NoProxyV2(less) => {
                self.0.remove("send-proxy-v2");
                self.change_proxy_options(|options| {
                    options.retain(|option| !less.contains(&option.as_str()));
                });
            }
        }
    }

    fn change_proxy_options(&mut self, change: impl FnOnce(&mut BTreeSet<String>)) {
        let keyword = "proxy-v2-options";
        let list = self.take(keyword).unwrap_or_default();
        let words = list.split(',').filter(|word| !word.is_empty());
        let mut options: BTreeSet<String> = words.map(str::to_owned).collect();
        change(&mut options);
        if !options.is_empty() {
            let list: Vec<String> = options.into_iter().collect();
            self.set(keyword, vec![list.join(",")]);
        }
    }

    /// Leaves out what says nothing without `ssl`. Where nothing else is left, HAProxy 2.6 sends a PROXY header for it, and
    /// no words that `add server` takes have the same effect.
    pub(crate) fn settle_proxy_options(&mut self) {
        let speaks = self.has("send-proxy") || self.has("send-proxy-v2");
        let before = self.has("proxy-v2-options");
        self.change_proxy_options(|options| {
            if !options.contains("ssl") {
                options.retain(|option| !is_about_tls(option));
            }
        });
        if before && !self.has("proxy-v2-options") && !speaks {
            self.set("no-send-proxy-v2-ssl", Vec::new());
        }
    }

    pub(crate) fn set(&mut self, keyword: &str, args: Vec<String>) {
        self.0.insert(keyword.to_owned(), args);
    }

    pub(crate) fn take(&mut self, keyword: &str) -> Option<String> {
        self.0.remove(keyword).map(|args| args.join(" "))
    }

    pub(crate) fn args(&self, keyword: &str) -> Option<&[String]> {
        self.0.get(keyword).map(Vec::as_slice)
    }

    pub(crate) fn has(&self, keyword: &str) -> bool {
        self.0.contains_key(keyword)
    }

    /// Every keyword with its arguments, in the order of the alphabet.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        let entries = self.0.iter();
        entries.map(|(keyword, args)| (keyword.as_str(), args.as_slice()))
    }
}

/// Whether one of the `proxy-v2-options` says something of a certificate or cipher: it sets `ssl` too, and nothing without it.
fn is_about_tls(option: &str) -> bool {
    option.starts_with("cert-") || option == "ssl-cipher"
}

/// Whether `add server` of this version takes the keyword, and heeds it.
pub(crate) fn is_dynamic(word: &str, version: Version) -> bool {
    let dynamic = keyword(word).and_then(|known| known.dynamic);
    dynamic.is_some_and(|since| version >= since)
}

/// The first version in which a server added at runtime may have this; none where no version lets it.
pub(crate) fn dynamic_since(word: &str) -> Option<Version> {
    match word {
        // what the planner calls a backend's `cookie … dynamic`
        "dynamic-cookie-key" => Some(V3_0),
        // taken at runtime, but for a server that was itself added
        "track" => None,
        word => keyword(word).and_then(|known| known.dynamic),
    }
}
