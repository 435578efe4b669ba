//! Random server lines, over all keywords that `add server` of a version takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use fastrand::Rng;
use integration::TestEnv;
use planner::model::Version;

const V2_6: Version = Version { major: 2, minor: 6 };
const V3_0: Version = Version { major: 3, minor: 0 };
const V3_2: Version = Version { major: 3, minor: 2 };

/// A keyword: since when it is there at runtime, how often of 100, whether `default-server` takes it, and the words
/// after it, of which one is picked. `{…}` is filled in.
type Entry = (Version, u8, bool, &'static str, &'static [&'static str]);

const NOTHING: &[&str] = &[""];
const CURVES: &[&str] = &["P-256", "X25519:P-384"];
const SIGALGS: &[&str] = &["RSA+SHA256:ECDSA+SHA256", "RSA-PSS+SHA384"];
const CIPHERS: &[&str] = &[
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-SHA256:ECDHE-RSA-AES256-GCM-SHA384",
];
const EXPRESSIONS: &[&str] = &["str(a.example)", "req.hdr(host)", "req.hdr(host),lower"];
const TLS: &[&str] = &["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
const ALPN: &[&str] = &["h2", "http/1.1", "h2,http/1.1"];

#[rustfmt::skip]
const ENTRIES: &[Entry] = &[
    (V2_6, 80, true, "check", NOTHING),
    (V2_6, 8, true, "no-check", NOTHING),
    (V2_6, 10, true, "addr", &["{other}", "{other}:{port}", "{other}:{check}", "0.0.0.0"]),
    (V2_6, 10, true, "port", &["{check}", "{port}", "0"]),
    (V2_6, 35, true, "ssl", NOTHING),
    (V2_6, 6, true, "no-ssl", NOTHING),
    (V2_6, 10, true, "check-ssl", NOTHING),
    (V2_6, 8, true, "no-check-ssl", NOTHING),
    (V2_6, 8, true, "verify", &["none", "required ca-file @system-ca", "required ca-file {ca}", "required ca-file {ca} verifyhost a.example"]),
    (V2_6, 6, true, "crt", &["{ca}"]),
    (V2_6, 20, true, "sni", EXPRESSIONS),
    (V2_6, 15, true, "check-sni", &["b.example", "c.example"]),
    (V2_6, 15, true, "alpn", ALPN),
    (V2_6, 15, true, "check-alpn", ALPN),
    (V2_6, 5, true, "npn", &["http/1.1"]),
    (V2_6, 10, true, "ciphers", CIPHERS),
    (V2_6, 10, true, "ciphersuites", &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"]),
    (V2_6, 8, true, "ssl-min-ver", TLS),
    (V2_6, 8, true, "ssl-max-ver", TLS),
    (V2_6, 3, true, "force-tlsv11", NOTHING),
    (V2_6, 3, true, "force-tlsv12", NOTHING),
    (V2_6, 3, true, "force-tlsv13", NOTHING),
    (V2_6, 3, false, "no-sslv3", NOTHING),
    (V2_6, 3, false, "no-tlsv10", NOTHING),
    (V2_6, 3, false, "no-tlsv11", NOTHING),
    (V2_6, 3, false, "no-tlsv12", NOTHING),
    (V2_6, 3, false, "no-tlsv13", NOTHING),
    (V2_6, 6, true, "no-ssl-reuse", NOTHING),
    (V2_6, 4, true, "ssl-reuse", NOTHING),
    (V2_6, 6, true, "no-tls-tickets", NOTHING),
    (V2_6, 4, true, "tls-tickets", NOTHING),
    (V2_6, 5, true, "allow-0rtt", NOTHING),
    (V3_0, 10, true, "curves", CURVES),
    (V3_0, 8, true, "sigalgs", SIGALGS),
    (V3_0, 4, true, "client-sigalgs", SIGALGS),
    (V2_6, 12, true, "send-proxy", NOTHING),
    (V2_6, 5, true, "no-send-proxy", NOTHING),
    (V2_6, 12, true, "send-proxy-v2", NOTHING),
    (V2_6, 5, true, "no-send-proxy-v2", NOTHING),
    (V2_6, 5, true, "send-proxy-v2-ssl", NOTHING),
    (V2_6, 3, true, "no-send-proxy-v2-ssl", NOTHING),
    (V2_6, 5, true, "send-proxy-v2-ssl-cn", NOTHING),
    (V2_6, 3, true, "no-send-proxy-v2-ssl-cn", NOTHING),
    (V2_6, 8, true, "check-send-proxy", NOTHING),
    (V2_6, 5, true, "no-check-send-proxy", NOTHING),
    (V2_6, 10, true, "proxy-v2-options", &["ssl", "cert-cn", "ssl,crc32c", "unique-id,authority", "cert-key,cert-sig", "ssl-cipher"]),
    (V3_0, 5, false, "set-proxy-v2-tlv-fmt(0xE1)", &["a", "%[src]"]),
    (V3_0, 12, true, "proto", &["h1", "h2"]),
    (V2_6, 8, true, "check-proto", &["h1", "h2", "none"]),
    (V2_6, 5, true, "ws", &["h1", "h2", "auto"]),
    (V2_6, 3, true, "check-via-socks4", NOTHING),
    (V2_6, 20, true, "weight", &["0", "1", "7", "256"]),
    (V2_6, 15, true, "maxconn", &["0", "5", "100"]),
    (V2_6, 10, true, "minconn", &["3", "50"]),
    (V2_6, 8, true, "maxqueue", &["0", "9"]),
    (V2_6, 8, true, "backup", NOTHING),
    (V2_6, 4, true, "no-backup", NOTHING),
    (V2_6, 15, true, "rise", &["1", "4"]),
    (V2_6, 15, true, "fall", &["30", "60"]),
    (V2_6, 8, true, "fastinter", &["400ms"]),
    (V2_6, 8, true, "downinter", &["500ms"]),
    (V2_6, 8, true, "observe", &["layer4", "layer7"]),
    (V2_6, 8, true, "error-limit", &["5", "20"]),
    (V2_6, 6, true, "on-error", &["fastinter", "fail-check", "mark-down"]),
    (V2_6, 6, true, "on-marked-down", &["shutdown-sessions"]),
    (V2_6, 6, true, "on-marked-up", &["shutdown-backup-sessions"]),
    (V2_6, 8, true, "slowstart", &["5s"]),
    (V2_6, 8, true, "pool-max-conn", &["-1", "0", "9"]),
    (V2_6, 8, true, "pool-low-conn", &["3"]),
    (V2_6, 8, true, "pool-purge-delay", &["5s", "1s"]),
    (V3_0, 6, true, "pool-conn-name", EXPRESSIONS),
    (V2_6, 10, true, "source", &["{source}", "{source} interface lo"]),
    (V2_6, 5, true, "tfo", NOTHING),
    (V2_6, 3, true, "no-tfo", NOTHING),
    (V2_6, 12, true, "agent-check", &["agent-port {agent}"]),
    (V2_6, 4, true, "no-agent-check", NOTHING),
    (V2_6, 6, true, "agent-addr", &["{other}"]),
    (V2_6, 6, true, "agent-send", &["hello"]),
    (V2_6, 6, false, "id", &["{id}"]),
    (V2_6, 4, false, "track", &["fixed/f no-check"]),
    (V3_0, 8, true, "cookie", &["c{id}"]),
    (V3_0, 6, false, "guid", &["g{id}"]),
    (V3_0, 6, true, "hash-key", &["id", "addr-port"]),
    (V3_0, 3, true, "shard", &["1"]),
    (V3_2, 8, true, "init-state", &["up", "down", "fully-up", "fully-down"]),
    (V3_2, 5, true, "strict-maxconn", NOTHING),
    (V3_2, 5, true, "idle-ping", &["1s"]),
    (V3_2, 5, true, "check-reuse-pool", NOTHING),
    (V3_2, 3, true, "no-check-reuse-pool", NOTHING),
    (V3_2, 5, true, "check-pool-conn-name", &["d.example"]),
    // mean nothing to an IP address
    (V2_6, 10, true, "init-addr", &["last,libc,none", "none"]),
    (V2_6, 10, true, "resolvers", &["dns"]),
    (V2_6, 4, true, "resolve-prefer", &["ipv4"]),
    (V2_6, 4, true, "resolve-net", &["10.0.0.0/8"]),
    (V2_6, 4, true, "resolve-opts", &["allow-dup-ip"]),
];

/// A server, in a backend of its own.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: u16,
    /// The words of `default-server` lines in its `defaults` and in its backend.
    above: [String; 2],
    words: String,
    httpchk: bool,
    names: Vec<&'static str>,
}

impl Line {
    pub(crate) fn random(lab: &TestEnv, rng: &mut Rng, version: Version, number: u16) -> Self {
        let mut line = Self {
            number,
            above: [
                "inter 300ms fall 50 agent-inter 300ms verify none".to_owned(),
                String::new(),
            ],
            words: String::new(),
            httpchk: rng.bool(),
            names: Vec::new(),
        };
        let mut entries: Vec<&Entry> = ENTRIES
            .iter()
            .filter(|(since, ..)| version >= *since)
            .collect();
        rng.shuffle(&mut entries);
        let scale = rng.u8(30..140);
        for (_, often, inherits, keyword, args) in entries {
            if u16::from(rng.u8(..100)) * 100 >= u16::from(*often) * u16::from(scale) {
                continue;
            }
            let args = line.filled(lab, args[rng.usize(..args.len())]);
            let [defaults, backend] = &mut line.above;
            let place = match rng.u8(..10) {
                0..2 if *inherits => defaults,
                2..4 if *inherits => backend,
                _ => &mut line.words,
            };
            let _ = write!(place, " {keyword} {args}");
            line.names.push(keyword);
        }
        line
    }

    fn filled(&self, lab: &TestEnv, args: &str) -> String {
        let [_, _, check, agent] = self.places(lab).map(|addr| addr.port().to_string());
        args.replace("{other}", &lab.net().ip(51).to_string())
            .replace("{source}", &lab.net().ip(9).to_string())
            .replace("{port}", &self.addr(lab).port().to_string())
            .replace("{check}", &check)
            .replace("{agent}", &agent)
            .replace("{ca}", &lab.path("ca.pem").display().to_string())
            .replace("{id}", &(self.number + 100).to_string())
    }

    pub(crate) fn addr(&self, lab: &TestEnv) -> SocketAddr {
        lab.net().addr(50, 3000 + self.number)
    }

    /// Wherever something may be said to it: its address, its port elsewhere, its check's port, its agent's.
    pub(crate) fn places(&self, lab: &TestEnv) -> [SocketAddr; 4] {
        let (net, number) = (lab.net(), self.number);
        [
            net.addr(50, 3000 + number),
            net.addr(51, 3000 + number),
            net.addr(50, 6000 + number),
            net.addr(50, 9000 + number),
        ]
    }

    /// The same ports at the other address.
    pub(crate) fn more_places(&self, lab: &TestEnv) -> [SocketAddr; 2] {
        [6000, 9000].map(|port| lab.net().addr(51, port + self.number))
    }

    pub(crate) fn text(&self, lab: &TestEnv, with_server: bool) -> String {
        let [defaults, backend] = &self.above;
        let (number, words) = (self.number, &self.words);
        let times = "timeout connect 500ms\n    timeout client 3s\n    timeout server 1s";
        let mut text = format!(
            "defaults d{number}\n    mode http\n    retries 0\n    option persist\n    {times}\n    default-server {defaults}\n\
             backend b{number} from d{number}\n    balance roundrobin\n    cookie c insert\n    use-server %[str(s)] if TRUE\n"
        );
        if self.httpchk {
            text.push_str(
                "    option httpchk HEAD /\n    http-check send hdr Host check.example\n",
            );
        }
        if !backend.is_empty() {
            let _ = writeln!(text, "    default-server{backend}");
        }
        if with_server {
            let _ = writeln!(text, "    server s {}{words}", self.addr(lab));
        }
        text
    }
}

/// How often each keyword took part.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    pub(crate) fn add(&mut self, line: &Line) {
        for name in &line.names {
            *self.0.entry(name).or_default() += 1;
        }
    }

    /// Every keyword of the version that never took part.
    pub(crate) fn missing(&self, version: Version) -> Vec<&'static str> {
        let entries = ENTRIES.iter().filter(|(since, ..)| version >= *since);
        let names = entries.map(|(.., name, _)| *name);
        names.filter(|name| !self.0.contains_key(name)).collect()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        write!(f, "{} keywords: {}", words.len(), words.join(", "))
    }
}
