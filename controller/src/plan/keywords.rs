//! The words of a `server` line: words in, canonical [`Options`] out, and which of them `add server` takes. Pure.
//!
//! Sources: HAProxy's Configuration Manual, section 5.2 "Server and default-server options"; which keyword a dynamic
//! server may have was tried one by one on HAProxy 2.6, 3.0 and 3.2 (Management Guide, `add server`).

use std::collections::BTreeMap;

use crate::haproxy::Version;
use crate::model::Weight;

/// From this version on servers are deleted at runtime, and added ones start with the usual defaults.
pub(super) const V3_0: Version = Version { major: 3, minor: 0 };
const V3_2: Version = Version { major: 3, minor: 2 };

/// HAProxy's defaults of the connection pool, which servers added below 3.0 do not get by themselves.
const POOL_DEFAULTS: [(&str, &str); 2] = [("pool-max-conn", "-1"), ("pool-purge-delay", "5s")];

/// Keywords whose argument is a file, which `add server` takes only if the worker has loaded it already.
const FILES: [&str; 3] = ["ca-file", "crl-file", "crt"];

/// Whether `keyword` takes a file that must have been loaded already.
pub(super) fn names_file(keyword: &str) -> bool {
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
    /// Adds to a comma-separated list.
    Extends,
    /// Takes back the keyword named.
    Cancels(&'static str),
}

#[derive(Clone, Copy)]
struct Keyword {
    words: Words,
    effect: Effect,
    /// The first version whose `add server` takes it.
    dynamic: Option<Version>,
}

const V2_6: Version = Version { major: 2, minor: 6 };

/// What is known of a keyword; `None` for one that this table lacks, whose arguments cannot be told from keywords.
fn keyword(word: &str) -> Option<Keyword> {
    let (name, _) = word.split_once('(').unwrap_or((word, ""));
    let (words, effect, dynamic) =
        match name {
            "agent-check"
            | "allow-0rtt"
            | "backup"
            | "check"
            | "check-send-proxy"
            | "check-ssl"
            | "check-via-socks4"
            | "disabled"
            | "force-sslv3"
            | "force-tlsv10"
            | "force-tlsv11"
            | "force-tlsv12"
            | "force-tlsv13"
            | "no-ssl-reuse"
            | "no-sslv3"
            | "no-tls-tickets"
            | "no-tlsv10"
            | "no-tlsv11"
            | "no-tlsv12"
            | "no-tlsv13"
            | "send-proxy"
            | "send-proxy-v2"
            | "send-proxy-v2-ssl"
            | "send-proxy-v2-ssl-cn"
            | "ssl"
            | "tfo" => (Words::None, Effect::Sets, Some(V2_6)),
            "addr" | "agent-addr" | "agent-inter" | "agent-port" | "agent-send" | "alpn"
            | "ca-file" | "check-alpn" | "check-proto" | "check-sni" | "ciphers"
            | "ciphersuites" | "crl-file" | "crt" | "downinter" | "error-limit" | "fall"
            | "fastinter" | "id" | "inter" | "maxconn" | "maxqueue" | "minconn" | "npn"
            | "observe" | "on-error" | "on-marked-down" | "on-marked-up" | "pool-low-conn"
            | "pool-max-conn" | "pool-purge-delay" | "port" | "rise" | "slowstart" | "sni"
            | "ssl-max-ver" | "ssl-min-ver" | "track" | "verify" | "verifyhost" | "weight"
            | "ws" => (Words::One, Effect::Sets, Some(V2_6)),
            "proxy-v2-options" => (Words::One, Effect::Extends, Some(V2_6)),
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
            _ => (Words::None, Effect::Cancels(cancelled_by(name)?), None),
        };
    Some(Keyword {
        words,
        effect,
        dynamic,
    })
}

/// The keyword that a word takes back.
fn cancelled_by(word: &str) -> Option<&'static str> {
    Some(match word {
        "enabled" => "disabled",
        "no-agent-check" => "agent-check",
        "no-backup" => "backup",
        "no-check" => "check",
        "no-check-reuse-pool" => "check-reuse-pool",
        "no-check-send-proxy" => "check-send-proxy",
        "no-check-ssl" => "check-ssl",
        "no-send-proxy" => "send-proxy",
        "no-send-proxy-v2" => "send-proxy-v2",
        "no-send-proxy-v2-ssl" => "send-proxy-v2-ssl",
        "no-send-proxy-v2-ssl-cn" => "send-proxy-v2-ssl-cn",
        "no-ssl" => "ssl",
        "no-tfo" => "tfo",
        "ssl-reuse" => "no-ssl-reuse",
        "stick" => "non-stick",
        "tls-tickets" => "no-tls-tickets",
        _ => return None,
    })
}

/// The keywords in force at some line: what `default-server` lines said so far, or those of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keywords(BTreeMap<String, Vec<String>>);

impl Keywords {
    /// Lets `words` override what is in force. A word that is not known takes all words after it with it.
    pub(super) fn apply<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let Some(known) = keyword(word) else {
                self.0
                    .insert(word.to_owned(), words.map(str::to_owned).collect());
                return;
            };
            let mut args: Vec<String> = Vec::new();
            if !matches!(known.words, Words::None) {
                args.extend(words.next().map(str::to_owned));
            }
            if matches!(known.words, Words::Source) {
                while let Some(part) = words.next_if(|w| matches!(*w, "usesrc" | "interface")) {
                    args.push(part.to_owned());
                    args.extend(words.next().map(str::to_owned));
                }
            }
            match known.effect {
                Effect::Sets => {
                    self.0.insert(word.to_owned(), args);
                }
                Effect::Extends => {
                    let list = self.0.entry(word.to_owned()).or_default();
                    list.extend(args);
                    *list = vec![list.join(",")];
                }
                Effect::Cancels(keyword) => {
                    self.0.remove(keyword);
                }
            }
        }
    }

    fn take(&mut self, keyword: &str) -> Option<String> {
        self.0.remove(keyword).map(|args| args.join(" "))
    }
}

/// A value in a `server` line that is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadValue {
    pub(super) keyword: &'static str,
}

/// The effective settings of a server, apart from its name and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) weight: Weight,
    pub(super) maxconn: Option<u32>,
    pub(super) disabled: bool,
    pub(super) options: Options,
}

impl Settings {
    /// Splits what can be changed at runtime from what cannot.
    ///
    /// `maxconn` is what HAProxy makes of it: `minconn` lifts it, 0 is unlimited.
    pub(super) fn new(mut keywords: Keywords) -> Result<Self, BadValue> {
        let weight = match keywords.take("weight") {
            None => Weight::DEFAULT,
            Some(word) => number(&word)
                .and_then(Weight::new)
                .ok_or(BadValue { keyword: "weight" })?,
        };
        let mut maxconn = 0;
        if let Some(word) = keywords.take("maxconn") {
            maxconn = number(&word).ok_or(BadValue { keyword: "maxconn" })?;
        }
        if let Some(words) = keywords.0.get("minconn") {
            let minconn: u32 = number(&words.join(" ")).ok_or(BadValue { keyword: "minconn" })?;
            maxconn = maxconn.max(minconn);
        }
        let disabled = keywords.take("disabled").is_some();
        for (keyword, default) in POOL_DEFAULTS {
            if keywords
                .0
                .get(keyword)
                .is_some_and(|args| args.iter().eq([default]))
            {
                keywords.0.remove(keyword);
            }
        }
        Ok(Self {
            weight,
            maxconn: (maxconn > 0).then_some(maxconn),
            disabled,
            options: Options(keywords.0),
        })
    }

    /// The settings a server was added with, from the words after its address.
    pub(super) fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, BadValue> {
        let mut keywords = Keywords::default();
        keywords.apply(words);
        Self::new(keywords)
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Option<T> {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        word.parse().ok()
    } else {
        None
    }
}

/// The keywords of a server that a reload only can change, in canonical form: equal settings are equal values,
/// whatever the order of the words and wherever they were inherited from.
///
/// Not among them: the address, `weight`, `maxconn` and `disabled`, and what says the same as HAProxy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, Vec<String>>);

impl Options {
    /// Whether HAProxy checks the server (`check`, not taken back by `no-check`).
    pub fn check(&self) -> bool {
        self.0.contains_key("check")
    }

    /// What stands after a keyword, joined by blanks; `None` where the keyword is not in force.
    pub fn value(&self, keyword: &str) -> Option<String> {
        self.0.get(keyword).map(|args| args.join(" "))
    }

    /// The keywords in force, sorted.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The words as they stand in a `server` line, sorted by keyword.
    pub fn words(&self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|(keyword, args)| std::iter::once(keyword).chain(args))
            .cloned()
            .collect()
    }

    /// The words for `add server`, pool options included where this version needs them (below 3.0).
    pub(super) fn words_to_add(
        &self,
        version: Version,
        weight: Weight,
        maxconn: Option<u32>,
    ) -> Vec<String> {
        let mut words = self.words();
        if version < V3_0 {
            for (keyword, default) in POOL_DEFAULTS
                .iter()
                .filter(|(keyword, _)| !self.0.contains_key(*keyword))
            {
                words.extend([(*keyword).to_owned(), (*default).to_owned()]);
            }
        }
        if weight != Weight::DEFAULT {
            words.extend(["weight".to_owned(), weight.get().to_string()]);
        }
        if let Some(maxconn) = maxconn {
            words.extend(["maxconn".to_owned(), maxconn.to_string()]);
        }
        words
    }

    /// The keywords that `add server` of this version refuses, or takes without heeding them.
    pub(super) fn not_dynamic(&self, version: Version) -> impl Iterator<Item = &str> {
        self.0
            .keys()
            .filter(move |word| {
                keyword(word)
                    .and_then(|k| k.dynamic)
                    .is_none_or(|since| version < since)
            })
            .map(String::as_str)
    }

    /// The files that must have been loaded by the worker's own file, with their keywords.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(|(keyword, _)| names_file(keyword))
            .flat_map(|(keyword, args)| {
                args.iter()
                    .map(move |file| (keyword.as_str(), file.as_str()))
            })
            .filter(|(_, file)| !file.starts_with('@'))
    }

    /// The server this one tracks: its backend, if named, and its name.
    pub(super) fn track(&self) -> Option<(Option<&str>, &str)> {
        let target = self.0.get("track")?.first()?;
        Some(
            target
                .split_once('/')
                .map_or((None, target.as_str()), |(backend, server)| {
                    (Some(backend), server)
                }),
        )
    }

    /// The first keyword that is not the same in `other`.
    pub(super) fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let one_sided =
            |a: &'a Self, b: &'a Self| a.0.iter().find(|(k, args)| b.0.get(*k) != Some(args));
        one_sided(self, other)
            .or_else(|| one_sided(other, self))
            .map(|(keyword, _)| keyword.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Settings::of_words(line.split(' ')).unwrap().options
    }

    #[test]
    fn later_words_override_earlier_ones_and_order_is_no_difference() {
        assert_eq!(
            options("inter 1s check inter 2s"),
            options("check inter 2s")
        );
        assert_eq!(options("check no-check").words(), Vec::<String>::new());
        assert_eq!(options("no-check check"), options("check"));
        assert_eq!(
            options("no-ssl-reuse ssl-reuse tfo no-tfo"),
            Options::default()
        );
    }

    #[test]
    fn pool_defaults_said_aloud_are_no_difference() {
        assert_eq!(
            options("check pool-max-conn -1 pool-purge-delay 5s"),
            options("check")
        );
        assert_ne!(options("pool-max-conn 5"), Options::default());
    }

    #[test]
    fn source_takes_its_own_parts_along() {
        let words = options("source 10.0.0.1 usesrc client interface eth0 check").words();
        assert_eq!(
            words.join(" "),
            "check source 10.0.0.1 usesrc client interface eth0"
        );
    }

    #[test]
    fn proxy_v2_options_add_up() {
        assert_eq!(
            options("proxy-v2-options ssl proxy-v2-options crc32c")
                .words()
                .join(" "),
            "proxy-v2-options ssl,crc32c"
        );
    }

    #[test]
    fn an_unknown_keyword_takes_the_rest_and_is_not_dynamic() {
        let options = options("check frobnicate check-ssl 3");
        assert_eq!(
            options.not_dynamic(V3_2).collect::<Vec<_>>(),
            ["frobnicate"]
        );
        assert_eq!(options.words().join(" "), "check frobnicate check-ssl 3");
    }

    #[test]
    fn keywords_are_dynamic_by_version() {
        let options =
            options("cookie a init-state up resolvers r check set-proxy-v2-tlv-fmt(0x20) x");
        let refused = |version| options.not_dynamic(version).collect::<Vec<_>>().join(" ");
        assert_eq!(
            refused(V2_6),
            "cookie init-state resolvers set-proxy-v2-tlv-fmt(0x20)"
        );
        assert_eq!(refused(V3_0), "init-state resolvers");
        assert_eq!(refused(V3_2), "resolvers");
    }

    #[test]
    fn minconn_lifts_maxconn_as_haproxy_does() {
        assert_eq!(
            Settings::of_words(["maxconn", "4", "minconn", "11"])
                .unwrap()
                .maxconn,
            Some(11)
        );
        assert_eq!(Settings::of_words(["maxconn", "0"]).unwrap().maxconn, None);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (words, keyword) in [
            (["weight", "257"], "weight"),
            (["weight", "+1"], "weight"),
            (["maxconn", "x"], "maxconn"),
        ] {
            assert_eq!(Settings::of_words(words), Err(BadValue { keyword }));
        }
    }
}
