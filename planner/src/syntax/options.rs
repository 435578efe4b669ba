//! The settings of a server: the [`Keywords`] in force in, canonical [`Options`] and the words for `add server` out. Pure.
//!
//! In a file HAProxy completes a line, at runtime it takes the words literally (`init_srv_check` in its `src/check.c`, the
//! same in 2.6, 3.0 and 3.2). Options are those of the completed line, and so are the words for `add server`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::keywords::{Keywords, V3_0, is_dynamic, names_file};
use crate::model::{Version, Weight};

/// HAProxy's defaults of the connection pool, which servers added below 3.0 do not get by themselves.
const POOL_DEFAULTS: [(&str, &str); 2] = [("pool-max-conn", "-1"), ("pool-purge-delay", "5s")];

/// Keywords about host names (Configuration Manual, section 5.3 "Server IP address resolution using DNS"): they mean
/// nothing to a server whose address is an IP address, and only such servers are read.
const ABOUT_HOST_NAMES: [&str; 5] = [
    "init-addr",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
];

/// A value in a `server` line that is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadValue {
    pub(crate) keyword: &'static str,
}

/// The effective settings of a server, apart from its name and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) weight: Weight,
    pub(crate) maxconn: Option<u32>,
    pub(crate) disabled: bool,
    pub(crate) options: Options,
}

impl Settings {
    /// The settings of a line of the file that says `own` below `default-server` lines that say `above`, with what HAProxy
    /// derives; `globals` are the keywords of `global` that start with `ssl-default-server-`.
    pub(crate) fn of_line<'a>(
        above: &Keywords,
        own: impl IntoIterator<Item = &'a str> + Clone,
        globals: &BTreeSet<String>,
    ) -> Result<Self, BadValue> {
        let mut keywords = above.inherited();
        keywords.apply(own.clone());
        if !globals.is_empty() {
            let mut alone = Keywords::default();
            alone.apply(own);
            let differing = globals
                .iter()
                .filter(|global| differs(global, &keywords, &alone));
            for global in differing.cloned().collect::<Vec<_>>() {
                keywords.set(&global, Vec::new());
            }
        }
        derive_check(&mut keywords);
        Self::new(keywords)
    }

    /// The settings a server was added with, from the words after its address.
    pub(crate) fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, BadValue> {
        let mut keywords = Keywords::default();
        keywords.apply(words);
        Self::new(keywords)
    }

    /// Splits what can be changed at runtime from what cannot.
    ///
    /// `maxconn` is what HAProxy makes of it: `minconn` lifts it, 0 is unlimited.
    fn new(mut keywords: Keywords) -> Result<Self, BadValue> {
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
        if let Some(words) = keywords.args("minconn") {
            let minconn: u32 = number(&words.join(" ")).ok_or(BadValue { keyword: "minconn" })?;
            maxconn = maxconn.max(minconn);
        }
        let disabled = keywords.take("disabled").is_some();
        for (keyword, default) in POOL_DEFAULTS {
            if keywords
                .args(keyword)
                .is_some_and(|args| args.iter().eq([default]))
            {
                keywords.take(keyword);
            }
        }
        keywords.settle_proxy_options();
        for keyword in ABOUT_HOST_NAMES {
            keywords.take(keyword);
        }
        Ok(Self {
            weight,
            maxconn: (maxconn > 0).then_some(maxconn),
            disabled,
            options: Options(keywords),
        })
    }
}

/// Whether a setting of `global` completes this server otherwise in a file than at runtime, where it takes effect with
/// `ssl` and `check-ssl`. In a file it does so where they are written: a server that inherits them inherits no curves and
/// no signature algorithms with them, what stands before them is overridden, and `no-check-ssl` takes back the rest.
///
/// Such a setting becomes an option of the server, one that no version takes at runtime.
fn differs(global: &str, keywords: &Keywords, own: &Keywords) -> bool {
    let speaks_tls = |keywords: &Keywords| keywords.has("ssl") || keywords.has("check-ssl");
    let taken_back = keywords.has("no-check-ssl");
    speaks_tls(keywords)
        && match global.trim_start_matches("ssl-default-server-") {
            "ciphers" => taken_back || keywords.has("no-ssl"),
            "options" => taken_back || keywords.has("tls-tickets"),
            "curves" | "sigalgs" | "client-sigalgs" => !speaks_tls(own),
            _ => false,
        }
}

/// A check that has no port and no address of its own speaks as the traffic does: `ssl` gives `check-ssl` (but for
/// `no-check-ssl`), and every form of `send-proxy` gives `check-send-proxy`, which `no-check-send-proxy` does not prevent.
fn derive_check(keywords: &mut Keywords) {
    let forbidden = keywords.take("no-check-ssl").is_some();
    keywords.take("no-ssl");
    let is_place = |args: &[String]| {
        let word = args.first().map_or("", String::as_str);
        let unset = word.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) || word == "0";
        !unset
    };
    let elsewhere = ["addr", "port"]
        .iter()
        .any(|keyword| keywords.args(keyword).is_some_and(is_place));
    if !keywords.has("check") || elsewhere {
        return;
    }
    if keywords.has("ssl") && !forbidden {
        keywords.set("check-ssl", Vec::new());
    }
    if ["proxy-v2-options", "send-proxy", "send-proxy-v2"]
        .iter()
        .any(|keyword| keywords.has(keyword))
    {
        keywords.set("check-send-proxy", Vec::new());
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
/// whatever the order of the words and wherever they were inherited or derived from.
///
/// Not among them: the address, `weight`, `maxconn` and `disabled`, what says the same as HAProxy's default, and what
/// means nothing to a server with an IP address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Keywords);

impl Options {
    /// Whether HAProxy checks the server (`check`, not taken back by `no-check`).
    pub fn check(&self) -> bool {
        self.0.has("check")
    }

    /// Whether HAProxy asks the server's agent (`agent-check`).
    pub fn agent_check(&self) -> bool {
        self.0.has("agent-check")
    }

    /// What stands after a keyword, joined by blanks; `None` where the keyword is not in force.
    pub fn value(&self, keyword: &str) -> Option<String> {
        self.0.args(keyword).map(|args| args.join(" "))
    }

    /// The keywords in force, sorted.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(keyword, _)| keyword)
    }

    /// The words as they stand in a `server` line, sorted by keyword.
    pub fn words(&self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|(keyword, args)| {
                std::iter::once(keyword.to_owned()).chain(args.iter().cloned())
            })
            .collect()
    }

    /// The words for `add server`, pool options included where this version needs them (below 3.0).
    pub(crate) fn words_to_add(
        &self,
        version: Version,
        weight: Weight,
        maxconn: Option<u32>,
    ) -> Vec<String> {
        let mut words = self.words();
        if version < V3_0 {
            for (keyword, default) in POOL_DEFAULTS
                .iter()
                .filter(|(keyword, _)| !self.0.has(keyword))
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
    pub(crate) fn not_dynamic(&self, version: Version) -> impl Iterator<Item = &str> {
        let keywords = self.0.iter().map(|(keyword, _)| keyword);
        keywords.filter(move |keyword| !is_dynamic(keyword, version))
    }

    /// The files that must have been loaded by the worker's own file, with their keywords.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(|(keyword, _)| names_file(keyword))
            .flat_map(|(keyword, args)| args.iter().map(move |file| (keyword, file.as_str())))
            .filter(|(_, file)| !file.starts_with('@'))
    }

    /// The server this one tracks: its backend, if named, and its name.
    pub(crate) fn track(&self) -> Option<(Option<&str>, &str)> {
        let target = self.0.args("track")?.first()?;
        Some(
            target
                .split_once('/')
                .map_or((None, target.as_str()), |(backend, server)| {
                    (Some(backend), server)
                }),
        )
    }

    /// The same without a keyword.
    pub(crate) fn without(mut self, keyword: &str) -> Self {
        self.0.take(keyword);
        self
    }

    /// The first keyword that is not the same in `other`.
    pub(crate) fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let one_sided =
            |a: &'a Self, b: &'a Self| a.0.iter().find(|(k, args)| b.0.args(k) != Some(args));
        one_sided(self, other)
            .or_else(|| one_sided(other, self))
            .map(|(keyword, _)| keyword)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::keywords::V3_2;

    const V2_6: Version = Version { major: 2, minor: 6 };

    fn options(line: &str) -> Options {
        Settings::of_words(line.split_ascii_whitespace())
            .unwrap()
            .options
    }

    /// The words of a server line below a `default-server` line, as `add server` gets them.
    fn completed(default_server: &str, line: &str) -> String {
        let mut above = Keywords::default();
        above.apply(default_server.split_ascii_whitespace());
        let own = line.split_ascii_whitespace();
        let options = Settings::of_line(&above, own, &BTreeSet::new())
            .unwrap()
            .options;
        let words = options.words();
        assert_eq!(self::options(&words.join(" ")), options, "{words:?}");
        words.join(" ")
    }

    #[test]
    fn a_check_speaks_as_the_traffic_does_unless_it_goes_elsewhere() {
        for (line, words) in [
            ("check ssl", "check check-ssl ssl"),
            ("check ssl no-check-ssl", "check ssl"),
            ("check ssl no-check-ssl check-ssl", "check check-ssl ssl"),
            ("check ssl no-ssl", "check"),
            ("ssl", "ssl"),
            ("check ssl port 81", "check port 81 ssl"),
            ("check ssl port 0", "check check-ssl port 0 ssl"),
            ("check ssl addr 10.0.0.9", "addr 10.0.0.9 check ssl"),
            ("check ssl check-ssl port 81", "check check-ssl port 81 ssl"),
            ("check send-proxy", "check check-send-proxy send-proxy"),
            (
                "check send-proxy no-check-send-proxy",
                "check check-send-proxy send-proxy",
            ),
            ("check send-proxy port 81", "check port 81 send-proxy"),
            (
                "check send-proxy-v2",
                "check check-send-proxy send-proxy-v2",
            ),
            (
                "check proxy-v2-options crc32c",
                "check check-send-proxy proxy-v2-options crc32c",
            ),
            ("check send-proxy no-send-proxy", "check"),
        ] {
            assert_eq!(completed("", line), words, "{line}");
        }
        assert_eq!(completed("ssl check", ""), "check check-ssl ssl");
        assert_eq!(completed("no-check-ssl", "ssl check"), "check ssl");
        assert_eq!(completed("port 81", "ssl check"), "check port 81 ssl");
    }

    #[test]
    fn what_says_the_same_in_other_words_is_no_difference() {
        for (line, same) in [
            ("force-tlsv12", "ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2"),
            ("ssl-min-ver TLSv1.3 force-tlsv12", "force-tlsv12"),
            ("send-proxy-v2-ssl", "send-proxy-v2 proxy-v2-options ssl"),
            (
                "send-proxy-v2-ssl-cn",
                "proxy-v2-options cert-cn send-proxy-v2",
            ),
            ("send-proxy-v2-ssl no-send-proxy-v2-ssl", ""),
            ("send-proxy-v2 no-send-proxy-v2-ssl-cn", ""),
            (
                "send-proxy-v2-ssl-cn no-send-proxy-v2-ssl send-proxy-v2",
                "send-proxy-v2",
            ),
            ("tls-tickets no-tls-tickets", "no-tls-tickets"),
            (
                "proxy-v2-options unique-id,ssl",
                "proxy-v2-options ssl,unique-id",
            ),
        ] {
            assert_eq!(completed("", line), completed("", same), "{line}");
        }
    }

    #[test]
    fn what_is_about_host_names_means_nothing() {
        let line = "check init-addr last,libc,none resolvers dns resolve-prefer ipv4 resolve-net 10.0.0.0/8 \
                    resolve-opts ignore-weight";
        assert_eq!(completed("", line), "check");
        assert_eq!(completed(line, ""), "check");
    }

    #[test]
    fn a_server_does_not_inherit_what_haproxy_does_not_copy() {
        let default_server =
            "check-proto h2 curves P-256 sigalgs RSA+SHA256 client-sigalgs RSA+SHA256 alpn h2";
        assert_eq!(completed(default_server, ""), "alpn h2");
        assert_eq!(completed("", "curves P-256"), "curves P-256");
    }

    #[test]
    fn what_global_completes_in_a_file_only_is_not_had_at_runtime() {
        let refused = |global: &str, default_server: &str, line: &str| {
            let mut above = Keywords::default();
            above.apply(default_server.split_ascii_whitespace());
            let globals = [format!("ssl-default-server-{global}")].into();
            let settings = Settings::of_line(&above, line.split_ascii_whitespace(), &globals);
            let options = settings.unwrap().options;
            options.not_dynamic(V3_2).count() > 0
        };
        for (global, default_server, line, expected) in [
            ("curves", "ssl", "", true),
            ("curves", "ssl", "ssl", false),
            ("sigalgs", "check-ssl", "check", true),
            ("sigalgs", "", "proxy-v2-options ssl", false),
            ("ciphers", "ssl", "", false),
            ("ciphers", "ssl", "no-check-ssl", true),
            ("ciphers", "check-ssl", "no-ssl", true),
            ("ciphers", "", "no-ssl check-ssl", false),
            ("options", "ssl", "", false),
            ("options", "", "tls-tickets ssl", true),
        ] {
            assert_eq!(
                refused(global, default_server, line),
                expected,
                "{global}, {default_server}, {line}"
            );
        }
    }

    #[test]
    fn what_is_left_of_a_proxy_header_that_was_taken_back_is_not_had_at_runtime() {
        let refused = |line: &str| {
            let own = line.split_ascii_whitespace();
            let settings = Settings::of_line(&Keywords::default(), own, &BTreeSet::new());
            settings.unwrap().options.not_dynamic(V3_2).count() > 0
        };
        assert!(refused("proxy-v2-options cert-key no-send-proxy-v2-ssl"));
        assert!(!refused("send-proxy-v2-ssl no-send-proxy-v2-ssl"));
        assert!(!refused(
            "proxy-v2-options cert-key no-send-proxy-v2-ssl send-proxy-v2"
        ));
    }

    #[test]
    fn without_a_check_over_tls_the_ciphers_are_forgotten_too() {
        assert_eq!(completed("ciphers AES256-SHA", "ssl no-check-ssl"), "ssl");
        assert_eq!(
            completed("", "ssl no-check-ssl ciphers AES256-SHA"),
            "ciphers AES256-SHA ssl"
        );
        assert_eq!(
            completed("ciphers AES256-SHA", "no-ssl check-ssl"),
            "check-ssl"
        );
        assert_eq!(
            completed("ssl ciphers AES256-SHA", "no-ssl check-ssl"),
            "check-ssl ciphers AES256-SHA"
        );
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
            "proxy-v2-options crc32c,ssl"
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
            options("cookie a init-state up namespace n check set-proxy-v2-tlv-fmt(0x20) x");
        let refused = |version| options.not_dynamic(version).collect::<Vec<_>>().join(" ");
        assert_eq!(
            refused(V2_6),
            "cookie init-state namespace set-proxy-v2-tlv-fmt(0x20)"
        );
        assert_eq!(refused(V3_0), "init-state namespace");
        assert_eq!(refused(V3_2), "namespace");
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
