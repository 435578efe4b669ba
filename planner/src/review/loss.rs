//! What goes when a file of somebody else's is taken over: its text and the one that takes its place in, the lines and
//! listeners that are no more out. Pure.
//!
//! Compared by the words of sections, so that form and order of what is kept do not matter.
//!
//! Source: HAProxy's Configuration Manual, section 4 "Proxies".

use std::collections::BTreeSet;
use std::fmt;

use super::taken_over::rights_lost;
use crate::syntax::lines::{Line, Lines, Section};

/// Losses that are told; of more it is said how many there are.
const MOST: usize = 200;

/// Keywords that may stand several times, each for itself.
const REPEATED: [&str; 22] = [
    "acl",
    "bind",
    "capture",
    "cpu-map",
    "crt-list",
    "declare",
    "filter",
    "http-after-response",
    "http-request",
    "http-response",
    "log",
    "lua-load",
    "monitor",
    "nameserver",
    "peer",
    "redirect",
    "set-var",
    "setenv",
    "stick",
    "tcp-request",
    "tcp-response",
    "use_backend",
];

/// Keywords of which the second word says what they set.
const PAIRS: [&str; 6] = [
    "compression",
    "errorfile",
    "no",
    "option",
    "stats",
    "timeout",
];

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// In the order of the text.
    lost: Vec<Lost>,
    /// Which of `user`, `group` and `chroot` nothing limits any more.
    pub rights: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lost {
    /// Counted from 1.
    line: usize,
    section: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A section with so many lines, and what nothing binds any more.
    Section { lines: usize, binds: Vec<String> },
    /// So many server lines.
    Servers(usize),
    /// A line, and the one that says it otherwise.
    Line {
        text: String,
        becomes: Option<String>,
    },
}

impl Loss {
    /// What `wanted` has not of `theirs`.
    pub fn of(theirs: &str, wanted: &str) -> Self {
        let (theirs, wanted) = (Lines::parse(theirs), Lines::parse(wanted));
        let new = Wanted::of(&wanted);
        let lost = theirs
            .sections()
            .flat_map(|section| new.lost_of(section))
            .collect();
        Self {
            lost,
            rights: rights_lost(&theirs, &wanted),
        }
    }

    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.rights.is_empty()
    }

    /// How many lines and sections go.
    pub fn len(&self) -> usize {
        self.lost.len()
    }
}

/// The text that takes the place.
struct Wanted<'a> {
    lines: &'a Lines,
    /// What it binds.
    binds: BTreeSet<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(lines: &'a Lines) -> Self {
        let all = lines.sections().flat_map(|section| &section.lines);
        let binds = all.filter(|line| line.word(0) == "bind");
        Self {
            lines,
            binds: binds.map(|line| line.word(1)).collect(),
        }
    }

    fn lost_of(&self, section: &Section) -> Vec<Lost> {
        let name = [section.kind(), section.name()].join(" ");
        let name = name.trim_end();
        let lost = |line, what| Lost {
            line,
            section: name.to_owned(),
            what,
        };
        let same: Vec<&Section> = match section.kind() {
            "" if section.lines.is_empty() => return Vec::new(),
            "defaults" => {
                let proxies = ["defaults", "frontend", "backend", "listen"];
                let kind = |section: &&Section| proxies.contains(&section.kind());
                self.lines.sections().filter(kind).collect()
            }
            kind => self.lines.named(kind, section.name()).collect(),
        };
        if same.is_empty() {
            let binds = section.lines.iter().filter(|line| self.is_unbound(line));
            let what = What::Section {
                lines: section.lines.len(),
                binds: binds.map(|line| line.word(1).to_owned()).collect(),
            };
            return vec![lost(section.title.number, what)];
        }
        let kept = |line: &Line| {
            let mut lines = same.iter().flat_map(|section| &section.lines);
            !line.conditional && lines.any(|wanted| wanted.words == line.words)
        };
        let gone: Vec<&Line> = section.lines.iter().filter(|line| !kept(line)).collect();
        let (servers, gone): (Vec<&Line>, Vec<&Line>) =
            gone.into_iter().partition(|line| line.is_server());
        let mut found: Vec<Lost> = gone
            .into_iter()
            .map(|line| lost(line.number, line_of(line, &same)))
            .collect();
        if let Some(first) = servers.first() {
            found.push(lost(first.number, What::Servers(servers.len())));
        }
        found
    }

    fn is_unbound(&self, line: &Line) -> bool {
        line.word(0) == "bind" && !self.binds.contains(line.word(1))
    }
}

/// A line with the one that says the same thing otherwise, if there is one.
fn line_of(line: &Line, same: &[&Section]) -> What {
    let key = key(line);
    let mut others = same.iter().flat_map(|section| &section.lines);
    let becomes = key.and_then(|key| others.find(|other| self::key(other) == Some(key)));
    What::Line {
        text: line.words.join(" "),
        becomes: becomes.map(|line| line.words.join(" ")),
    }
}

/// The words of a line that say what it sets; none for one of a kind that is repeated.
fn key(line: &Line) -> Option<&[String]> {
    let first = line.word(0);
    let words = match first {
        word if REPEATED.contains(&word) => return None,
        "stats" if line.word(1) == "socket" => 3,
        word if PAIRS.contains(&word) => 2,
        _ => 1,
    };
    line.words.get(..words)
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for right in &self.rights {
            writeln!(
                f,
                "  global: no `{right}` any more: HAProxy would have the rights of whoever starts it"
            )?;
        }
        for lost in self.lost.iter().take(MOST) {
            writeln!(f, "  {lost}")?;
        }
        match self.lost.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            section,
            what,
        } = self;
        let section = if section.is_empty() {
            "above all sections"
        } else {
            section
        };
        write!(f, "line {line}, {section}: ")?;
        match what {
            What::Section { lines, binds } if binds.is_empty() => {
                write!(f, "the whole section, {lines} lines")
            }
            What::Section { lines, binds } => {
                let binds = binds.join(", ");
                write!(
                    f,
                    "the whole section, {lines} lines; nothing listens on {binds} any more"
                )
            }
            What::Servers(count) => write!(
                f,
                "{count} servers; members of the cluster take their place, others go"
            ),
            What::Line {
                text,
                becomes: None,
            } => write!(f, "{text}"),
            What::Line {
                text,
                becomes: Some(becomes),
            } => write!(f, "{text} (becomes: {becomes})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(theirs: &str, wanted: &str) -> Vec<String> {
        let loss = Loss::of(theirs, wanted).to_string();
        loss.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn every_line_section_and_listener_that_goes_is_told() {
        let theirs = "global\n\tlog /dev/log local0\n\tstats socket /run/a.sock mode 660 level admin\n\tuser haproxy\n\
            \tssl-default-bind-options ssl-min-ver TLSv1.2\n\
            defaults\n mode http\n timeout client 50000\n errorfile 503 /etc/503.http\n option httplog\n\
            frontend www\n bind *:80\n bind :::443 ssl crt /a.pem\n acl api path_beg /api\n default_backend nodes\n\
            listen stats\n bind *:80\n\
            backend nodes\n balance roundrobin\n cookie SRV insert\n server a 192.0.2.1:80\n server b 192.0.2.2:80\n\
            userlist admins\n user root\n";
        let wanted = "global\n user  haproxy\n stats socket /run/a.sock mode 600 level admin\n\
            defaults\n mode http\n timeout client 30s\n\
            frontend main\n bind *:80\n option httplog\n\
            backend nodes\n balance roundrobin\n";
        let expected = [
            "line 2, global: log /dev/log local0",
            "line 3, global: stats socket /run/a.sock mode 660 level admin (becomes: stats socket /run/a.sock mode 600 \
             level admin)",
            "line 5, global: ssl-default-bind-options ssl-min-ver TLSv1.2",
            "line 8, defaults: timeout client 50000 (becomes: timeout client 30s)",
            "line 9, defaults: errorfile 503 /etc/503.http",
            "line 11, frontend www: the whole section, 4 lines; nothing listens on :::443 any more",
            "line 16, listen stats: the whole section, 1 lines",
            "line 20, backend nodes: cookie SRV insert",
            "line 21, backend nodes: 2 servers; members of the cluster take their place, others go",
            "line 23, userlist admins: the whole section, 1 lines",
        ];
        assert_eq!(told(theirs, wanted), expected);
    }

    #[test]
    fn a_right_that_nothing_limits_any_more_comes_first() {
        let theirs = "global\n.if defined(X)\n user haproxy\n.endif\n";
        assert_eq!(Loss::of(theirs, "global\n").rights, ["user"]);
        let told = told(theirs, "global\n");
        assert!(
            told[0].starts_with("global: no `user` any more"),
            "{told:?}"
        );
    }

    #[test]
    fn of_very_much_so_much_is_told_and_the_rest_counted() {
        let theirs = format!("global\n{}", " lua-load /a.lua\n".repeat(1000));
        let told = told(&theirs, "global\n");
        assert_eq!(
            (told.len(), told[MOST].as_str()),
            (MOST + 1, "and 800 more")
        );
    }

    proptest! {
        #[test]
        fn a_text_loses_nothing_to_itself_in_another_form_and_all_to_nothing(
            lines in proptest::collection::vec("(global|defaults|backend [a-c]|listen x|[a-z]{1,5}( [a-z0-9:*.]{1,4}){0,3})", 0..30)
        ) {
            let text = lines.join("\n");
            let spread: String = lines.iter().map(|line| format!("  {}  # so\n", line.replace(' ', "\t"))).collect();
            prop_assert!(Loss::of(&text, &spread).is_empty(), "{}", Loss::of(&text, &spread));
            let sections = Lines::parse(&text);
            let nothing = sections.sections().all(|section| section.kind().is_empty() && section.lines.is_empty());
            prop_assert_eq!(Loss::of(&text, "").is_empty(), nothing);
        }
    }
}
