//! A backend of a text in, whether HAProxy takes servers in it at runtime out. Pure.
//!
//! Source: HAProxy's Management Guide, section 9.3 "add server": "dynamic" load balancing is needed; Configuration
//! Manual, section 4.2, `balance` and `hash-type`.

use crate::model::BackendName;
use crate::syntax::text::ConfigText;

/// Lines that make a proxy balance by something else than `balance`.
const OTHER_WAYS: [&str; 4] = [
    "dispatch",
    "transparent",
    "option transparent",
    "option http_proxy",
];

impl ConfigText {
    /// Whether a worker that runs this text takes servers in this backend, and weights for them; `None` where the text
    /// does not say so for sure, and HAProxy has to be asked.
    pub(super) fn takes_servers(&self, backend: &BackendName) -> Option<bool> {
        let section = self.section(backend)?;
        let lines = self.chain(section).flat_map(|section| &section.lines);
        for line in lines {
            let first = line.text.split(' ').next().unwrap_or_default();
            let is_veiled = first.starts_with('.') || first.contains(['"', '\'', '\\', '$']);
            let starts =
                |way: &&str| line.text == **way || line.text.starts_with(&format!("{way} "));
            if is_veiled || OTHER_WAYS.iter().any(starts) {
                return None;
            }
        }
        let first = |keyword| {
            let words = self.setting(section, keyword)?;
            words.split([' ', '(']).next()
        };
        match first("balance") {
            None | Some("roundrobin" | "leastconn" | "first" | "random") => Some(true),
            Some("static-rr") => Some(false),
            Some("source" | "uri" | "url_param" | "hdr" | "hash") => match first("hash-type") {
                Some("consistent") => Some(true),
                None | Some("map-based") => Some(false),
                Some(_) => None,
            },
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(lines: &str) -> Option<bool> {
        let text = ConfigText::parse(&format!("global\n{lines}\n"));
        text.takes_servers(&BackendName::new("b").unwrap())
    }

    #[test]
    fn a_text_says_whether_its_backends_take_servers() {
        for (lines, expected) in [
            ("backend b", Some(true)),
            ("backend b\nbalance roundrobin", Some(true)),
            ("backend b\n\tbalance\tleastconn", Some(true)),
            ("backend b\nbalance random(3)", Some(true)),
            ("backend b\nbalance first", Some(true)),
            ("backend b\nbalance static-rr", Some(false)),
            ("backend b\nbalance uri depth 2", Some(false)),
            (
                "backend b\nbalance hdr(host)\nhash-type map-based",
                Some(false),
            ),
            (
                "backend b\nbalance source\nhash-type consistent sdbm",
                Some(true),
            ),
            ("defaults\nbalance static-rr\nbackend b", Some(false)),
            (
                "defaults\nbalance static-rr\nbackend b\nbalance first",
                Some(true),
            ),
            (
                "defaults\nhash-type consistent\nbackend b\nbalance uri",
                Some(true),
            ),
            ("backend b\nbalance rdp-cookie(x)", None),
            ("backend b\nbalance \"uri\"", None),
            ("backend b\n\"balance\" uri", None),
            ("backend b\n.if defined(X)\nbalance uri\n.endif", None),
            ("backend b\ndispatch 127.0.0.1:80", None),
            ("backend b\noption transparent", None),
            ("backend c", None),
        ] {
            assert_eq!(takes(lines), expected, "{lines}");
        }
    }
}
