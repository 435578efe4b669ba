//! What serf-haproxy needs of `global`: a file in, what it has, and the lines that it lacks, out. Pure.
//!
//! Source: HAProxy's Configuration Manual, section 3.1 "Process management and security".

use serde::Serialize;

use super::source::Source;
use crate::syntax::lines::{Line, Section};
use crate::syntax::time;

/// What the template has to say so that a text is known by it.
const DESCRIPTION: &str = "description \"serf-haproxy {{ stamp }}\"";

/// Where the Runtime API is looked for by default, and where it goes if something else is there.
const SOCKETS: [&str; 2] = ["/run/haproxy/admin.sock", "/run/haproxy/serf-haproxy.sock"];

/// What `global` has, and what it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Global {
    /// The Runtime API, level admin.
    pub stats_socket: String,
    /// Whether the file had it.
    pub has_socket: bool,
    /// Its own `hard-stop-after`, in milliseconds.
    pub hard_stop: Option<u64>,
    /// A `description` of its own, which is not seen any more.
    pub hidden: Option<String>,
    /// It loads the state of its servers from a file when it starts.
    pub loads_state: bool,
    /// The lines that are added.
    #[serde(skip)]
    pub(super) added: String,
    /// Before which line of the file.
    #[serde(skip)]
    pub(super) before: usize,
    /// Those lines, one by one.
    #[serde(rename = "added")]
    pub lines: Vec<String>,
}

impl Global {
    pub(super) fn of(source: &Source<'_>) -> Self {
        let sections: Vec<&Section> = source.lines().named("global", "").collect();
        let lines = || sections.iter().flat_map(|section| &section.lines);
        let says = |words: &[&str]| {
            let mut lines = lines().filter(|line| !line.conditional);
            lines.any(|line| line.begins(words))
        };
        let socket = lines().find_map(admin_socket);
        let mut added = Vec::new();
        if socket.is_none() {
            added.push(
                "stats socket {{ haproxy.stats_socket }} mode 600 level admin expose-fd listeners"
                    .to_owned(),
            );
        }
        if !says(&["stats", "maxconn"]) {
            added.push("stats maxconn 100".to_owned());
        }
        if !says(&["hard-stop-after"]) {
            added.push("hard-stop-after {{ hard_stop_after }}".to_owned());
        }
        // the last one that HAProxy reads is the one that it shows
        added.push(DESCRIPTION.to_owned());
        let taken = |path: &str| lines().any(|line| line.begins(&["stats", "socket", path]));
        let free = SOCKETS.into_iter().find(|path| !taken(path));
        let hard_stop = lines().find(|line| line.word(0) == "hard-stop-after");
        let hard_stop = hard_stop.and_then(|line| time::millis(line.word(1)));
        let hidden = lines().rfind(|line| line.word(0) == "description");
        let loads_state = source.lines().sections().any(|section| {
            let mut lines = section.lines.iter();
            lines
                .any(|line| line.word(0) == "load-server-state-from-file" && line.word(1) != "none")
        });
        let mut global = Self {
            has_socket: socket.is_some(),
            stats_socket: socket.unwrap_or_else(|| free.unwrap_or(SOCKETS[0]).to_owned()),
            hard_stop: hard_stop.and_then(|millis| u64::try_from(millis).ok()),
            hidden: hidden.map(|line| line.words.get(1..).unwrap_or_default().join(" ")),
            loads_state,
            added: String::new(),
            before: 1,
            lines: added,
        };
        global.place(source, sections.last().copied());
        global
    }

    /// Finds the place of the lines: the end of the last `global`, or one of their own above everything.
    fn place(&mut self, source: &Source<'_>, last: Option<&Section>) {
        let end = source.line_break();
        let indentation = last.map_or("    ", |section| source.indentation(section));
        let lines = self.lines.iter();
        let lines: String = lines
            .map(|line| format!("{indentation}{line}{end}"))
            .collect();
        match last {
            Some(section) => {
                self.before = source.end(section) + 1;
                self.added = lines;
            }
            None => self.added = format!("global{end}{lines}{end}"),
        }
    }
}

/// The path of a stats socket that may do everything.
fn admin_socket(line: &Line) -> Option<String> {
    let is_socket = line.begins(&["stats", "socket"]) && !line.conditional;
    let mut words = line.words.iter().skip(3);
    words.find(|word| *word == "level").filter(|_| is_socket)?;
    words.next().filter(|level| *level == "admin")?;
    let path = line.word(2);
    let path = path.strip_prefix("unix@").unwrap_or(path);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_.-".contains(&b);
    let is_plain = path.starts_with('/') && path.bytes().all(plain);
    is_plain.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(text: &str) -> Global {
        Global::of(&Source::new(text))
    }

    #[test]
    fn what_is_there_stays_and_what_is_missing_is_added_behind_it() {
        let full = "global\n stats socket /run/a.sock mode 660 level admin\n stats maxconn 20\n hard-stop-after 5s\n\
                    description mine\n\ndefaults\n";
        let found = global(full);
        assert_eq!(
            (found.stats_socket.as_str(), found.has_socket),
            ("/run/a.sock", true)
        );
        assert_eq!(found.lines, [DESCRIPTION]);
        assert_eq!((found.before, found.hard_stop), (6, Some(5000)));
        assert_eq!(found.hidden.as_deref(), Some("mine"));
        let bare = global("global\n\tdaemon\ndefaults\n");
        assert_eq!(bare.lines.len(), 4);
        assert_eq!((bare.before, bare.has_socket), (3, false));
        assert!(
            bare.added.starts_with("\tstats socket {{ "),
            "{}",
            bare.added
        );
        let none = global("defaults\n");
        assert_eq!(none.before, 1);
        assert!(
            none.added.starts_with("global\n    stats"),
            "{}",
            none.added
        );
    }

    #[test]
    fn a_socket_below_admin_elsewhere_or_in_doubt_is_none() {
        for line in [
            "stats socket /run/haproxy/admin.sock mode 600",
            "stats socket /run/haproxy/admin.sock level operator",
            "stats socket ipv4@127.0.0.1:9 level admin",
            "stats socket \"$S\" level admin",
            ".if defined(X)\n stats socket /run/a.sock level admin\n.endif",
        ] {
            let found = global(&format!("global\n {line}\n"));
            assert!(!found.has_socket, "{line}");
            let other = line.contains("/run/haproxy/admin.sock");
            assert_eq!(found.stats_socket, SOCKETS[usize::from(other)], "{line}");
        }
    }
}
