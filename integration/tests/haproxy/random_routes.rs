//! Random routes and requests, of so few hosts, paths and headers that they often meet.

use std::fmt::Write as _;

use fastrand::Rng;

const HOSTS: [&str; 8] = [
    "a.test",
    "b.a.test",
    "*.a.test",
    "*.test",
    "c.test",
    "*.b.a.test",
    "d-1.test",
    "A.TEST.",
];
const PATHS: [&str; 14] = [
    "/", "/a", "/a/b", "/ab", "=/a", "=/a/b", "=/a/", "/a/b/c", "=/", "/A", "/a.b", "/~x/y:z",
    "/a+b", "=/a/b/c",
];
const VALUES: [&str; 6] = ["1", "2", "*", "it's 100%", "a,b", ""];

/// Hosts as they may be sent; the empty one is no header at all.
const SENT_HOSTS: [&str; 20] = [
    "a.test",
    "a.test",
    "A.Test",
    "a.test:80",
    "b.a.test",
    "b.a.test",
    "x.a.test",
    "x.b.a.test",
    "c.test",
    "a.test.",
    "a.test.:8080",
    "y.x.b.a.test",
    "x.c.test",
    "test",
    ".test",
    "[::1]:80",
    "a_b.test",
    "*.a.test",
    "d-1.test",
    "",
];
const SENT_PATHS: [&str; 36] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/",
    "/a/b/c",
    "/a/b/c/d",
    "/ab",
    "/abc",
    "/A",
    "/x",
    "//a",
    "//a///b",
    "/%61/b",
    "/a%2fb",
    "/a%2Fb%2F",
    "/%2e%2e/a",
    "/a/./b",
    "/a/..",
    "/a/%2E",
    "/a%00",
    "/a%zz",
    "/a%",
    "/a.b",
    "/a%2eb",
    "/a/..b",
    "/~x/y:z/1",
    "/%7Ex/y%3Az",
    "/a+b",
    "/a%20b",
    "/a%2bb",
    "/a%3Fb",
    "/*",
    "/a/..%0a",
    "/%C3%A9",
    "/a;b",
];

/// A request, as it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: &'static str,
    /// Of the header; none is no header.
    pub host: Option<&'static str>,
    pub path: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    /// Whether the whole URL stands in the first line.
    pub absolute: bool,
}

impl Sent {
    pub fn random(rng: &mut Rng) -> Self {
        // every third is an odd one
        let pick = |rng: &mut Rng, all: &'static [&'static str], plain: usize| {
            let odd = rng.u8(..3) == 0;
            all[rng.usize(..if odd { all.len() } else { plain })]
        };
        let host = pick(rng, &SENT_HOSTS, 9);
        let host = (!host.is_empty()).then_some(host);
        let mut headers = Vec::new();
        for name in ["X-A", "x-b"] {
            // the second of a name does not count
            for _ in 0..rng.usize(..3) {
                let value = ["1", "2", "3", "it's 100%", "a,b", "", " 1 "][rng.usize(..7)];
                headers.push((name, value));
            }
        }
        Self {
            method: ["GET", "GET", "POST", "PUT", "DELETE"][rng.usize(..5)],
            host,
            path: pick(rng, &SENT_PATHS, 9),
            headers,
            absolute: host.is_some_and(|host| host.starts_with(['a', 'b'])) && rng.u8(..8) == 0,
        }
    }

    /// As it goes over a connection that stays open unless it is the last.
    pub fn text(&self, is_last: bool) -> String {
        let version = if self.host.is_some() { "1.1" } else { "1.0" };
        let query = if self.path.len().is_multiple_of(2) {
            "?q=/a"
        } else {
            ""
        };
        let authority = match self.host {
            Some(host) if self.absolute => format!("http://{host}"),
            _ => String::new(),
        };
        let mut text = format!(
            "{} {authority}{}{query} HTTP/{version}\r\n",
            self.method, self.path
        );
        if let Some(host) = self.host {
            let _ = write!(text, "host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let connection = if is_last { "close" } else { "keep-alive" };
        text + &format!("content-length: 0\r\nconnection: {connection}\r\n\r\n")
    }
}

fn some<'a>(rng: &mut Rng, of: &[&'a str], most: usize) -> Vec<&'a str> {
    let count = rng.usize(1..=most);
    let mut picked: Vec<&str> = (0..count).map(|_| of[rng.usize(..of.len())]).collect();
    picked.sort_unstable();
    picked.dedup_by_key(|text| text.trim_end_matches('.').to_ascii_lowercase());
    picked
}

/// A `[[route]]`.
pub fn route(rng: &mut Rng) -> String {
    let mut text = String::from("[[route]]\n");
    if rng.u8(..6) > 0 {
        let _ = writeln!(text, "host = {:?}", some(rng, &HOSTS, 3));
    }
    let path = PATHS[rng.usize(..PATHS.len())];
    let _ = writeln!(text, "path = {path:?}");
    if rng.u8(..4) == 0 {
        let _ = writeln!(
            text,
            "methods = {:?}",
            some(rng, &["GET", "POST", "PUT"], 2)
        );
    }
    if rng.u8(..3) == 0 {
        let names = some(rng, &["X-A", "X-B"], 2);
        let headers: Vec<String> = names
            .iter()
            .map(|name| format!("{name} = {:?}", VALUES[rng.usize(..VALUES.len())]))
            .collect();
        let _ = writeln!(text, "headers = {{ {} }}", headers.join(", "));
    }
    if rng.u8(..12) == 0 {
        let network = ["127.0.0.0/8", "10.0.0.0/8"][rng.usize(..2)];
        let _ = writeln!(text, "allow_from = {network:?}");
    }
    let number = rng.u8(1..10);
    let _ = match rng.u8(..12) {
        0 => writeln!(text, "redirect = \"https://r{number}.test/a%20b\""),
        1 => writeln!(text, "respond = {{ status = {} }}", 410 + u16::from(number)),
        2 if !path.starts_with('=') && path != "/" => {
            writeln!(text, "strip_prefix = true\nbackend = \"b{number}\"")
        }
        _ => writeln!(text, "backend = \"b{number}\""),
    };
    text
}
