//! Whether a configuration opens the Runtime API where `[haproxy] stats_socket` looks for it: its texts in, what is
//! wrong with it out. Pure.
//!
//! Source: HAProxy's Configuration Manual, section 3.1 "Process management and security", `stats socket`, and 5.1 "Bind
//! options", `level`.

use std::path::Path;

use planner::syntax::lines::{Line, Lines};

use super::finding::Severity;

/// What to write.
const RIGHT: &str =
    "stats socket {{ haproxy.stats_socket }} mode 600 level admin expose-fd listeners";

/// What is wrong, and in which line of which text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) severity: Severity,
    /// The text, from 0, and the line in it, from 1; where one is missing, that of `global`.
    pub(super) place: Option<(usize, usize)>,
    pub(super) said: String,
}

/// Looks for the socket; `is_same` says whether two paths are one. Where `unseen`, a text is missing that may have it.
pub(super) fn remark<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    wanted: &Path,
    unseen: bool,
    is_same: impl Fn(&Path, &Path) -> bool,
) -> Option<Remark> {
    let lines = Lines::parse_all(texts);
    let globals: Vec<_> = lines.named("global", "").collect();
    let all = globals.iter().flat_map(|section| &section.lines);
    let sockets: Vec<&Line> = all
        .filter(|line| line.begins(&["stats", "socket"]))
        .collect();
    let found = |severity, line: Option<&Line>, said: String| {
        let place = line.map(|line| (line.text, line.number));
        Some(Remark {
            severity,
            place,
            said,
        })
    };
    let path = |line: &Line| {
        let word = line.word(2);
        word.strip_prefix("unix@").unwrap_or(word).to_owned()
    };
    let is_it = |line: &&&Line| is_same(Path::new(&path(line)), wanted);
    let ours: Vec<&&Line> = sockets.iter().filter(is_it).collect();
    let shown = wanted.display();
    let is_admin = |line: &&&&Line| level(line) == Some("admin");
    if let Some(line) = ours.iter().find(is_admin).or(ours.first()) {
        let (severity, said) = rights(line)?;
        return found(
            severity,
            Some(line),
            format!("`stats socket {shown}` {said}"),
        );
    }
    if let Some(line) = sockets.iter().find(|line| path(line).contains('$')) {
        let said = format!(
            "`stats socket {}` is known to HAProxy's environment alone; see that it is {shown}, or write: {RIGHT}",
            path(line)
        );
        return found(Severity::Warning, Some(line), said);
    }
    if unseen {
        return None;
    }
    match sockets.first() {
        Some(line) => {
            let said = format!(
                "`stats socket {}` is not the one of `[haproxy] stats_socket`, {shown}: after a reload nothing could be changed; \
                 correct the key, or write: {RIGHT}",
                path(line)
            );
            found(Severity::Error, Some(line), said)
        }
        None => {
            let title = globals.last().map(|section| &section.title);
            let said = format!(
                "no `stats socket`: after a reload nothing could be changed; add to global: {RIGHT}"
            );
            found(Severity::Error, title, said)
        }
    }
}

/// What is wrong with the socket's own line, whose path is right.
fn rights(line: &Line) -> Option<(Severity, String)> {
    Some(match level(line) {
        Some("admin") if line.conditional => (
            Severity::Warning,
            "is inside `.if`, and may not be in force; take it out of it".into(),
        ),
        Some("admin") => return None,
        None => (
            Severity::Error,
            "has no level: servers could not be changed there; add: level admin".into(),
        ),
        Some(level) => (
            Severity::Error,
            format!("has `level {level}`: servers could not be changed there; write: level admin"),
        ),
    })
}

fn level(line: &Line) -> Option<&str> {
    let mut words = line.words.iter().skip(3);
    words.find(|word| *word == "level")?;
    words.next().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &str) -> Option<(Severity, Option<usize>, String)> {
        let text = format!("global\n{lines}");
        let same = |a: &Path, b: &Path| a == b;
        let remark = remark([text.as_str()], Path::new("/run/a.sock"), false, same)?;
        let line = remark.place.map(|(_, line)| line);
        Some((remark.severity, line, remark.said))
    }

    #[test]
    fn a_socket_where_it_is_looked_for_with_all_rights_is_right() {
        for lines in [
            "stats socket /run/a.sock level admin\n",
            "\tstats\tsocket\t\"/run/a.sock\"\tmode 600\tlevel\tadmin expose-fd listeners # here\n",
            "stats socket unix@/run/a.sock level admin\n",
            "stats socket /run/b.sock level user\nstats socket /run/a.sock level admin\n",
            "stats socket ${X} level admin\nstats socket /run/a.sock level admin\n",
        ] {
            assert_eq!(found(lines), None, "{lines}");
        }
    }

    #[test]
    fn a_socket_elsewhere_below_admin_or_missing_is_an_error_and_a_variable_a_warning() {
        use Severity::{Error, Warning};
        for (lines, severity, line, said) in [
            ("", Error, 1, "no `stats socket`"),
            ("stats timeout 1m\n", Error, 1, "no `stats socket`"),
            (
                "stats socket /run/b.sock level admin\n",
                Error,
                2,
                "`stats socket /run/b.sock` is not the one",
            ),
            (
                "stats socket ipv4@127.0.0.1:9 level admin\n",
                Error,
                2,
                "`stats socket ipv4@127.0.0.1:9` is not",
            ),
            ("stats socket /run/a.sock\n", Error, 2, "has no level"),
            (
                "stats socket /run/a.sock level operator\n",
                Error,
                2,
                "has `level operator`",
            ),
            (
                "stats socket \"${S}\" level admin\n",
                Warning,
                2,
                "HAProxy's environment alone",
            ),
            (
                ".if defined(X)\nstats socket /run/a.sock level admin\n.endif\n",
                Warning,
                3,
                "inside `.if`",
            ),
        ] {
            let (found_severity, found_line, found_said) = found(lines).unwrap();
            assert_eq!(
                (found_severity, found_line),
                (severity, Some(line)),
                "{lines}"
            );
            assert!(found_said.contains(said), "{lines}: {found_said}");
        }
    }

    #[test]
    fn another_file_may_open_it_and_one_that_cannot_be_seen_too() {
        let same = |a: &Path, b: &Path| a == b;
        let wanted = Path::new("/run/a.sock");
        let ours = "global\n description x\n";
        let base = "global\n stats socket /run/a.sock level admin\n";
        assert_eq!(remark([base, ours], wanted, false, same), None);
        assert_eq!(remark([ours], wanted, true, same), None);
        let low = base.replace(" level admin", "");
        let remark = remark([low.as_str(), ours], wanted, true, same).unwrap();
        assert_eq!(remark.place, Some((0, 2)));
    }
}
