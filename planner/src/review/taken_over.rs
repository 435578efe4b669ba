//! What a file of somebody else's goes on with under us: its text in, the lines of `global` out that say as whom HAProxy
//! runs, where it is locked up, and where it logs. Pure.
//!
//! They are printed with a mark into the file that takes its place, and found there again by that: the file that HAProxy
//! needs anyway is what remembers them, whatever else is lost. Lines of ours without the mark come from the config.
//!
//! Source: HAProxy's Configuration Manual, section 3.1 "Process management and security".

use crate::syntax::lines::{Line, Lines};

/// What stands behind a line that was taken over.
pub(crate) const MARK: &str = "# taken over";

/// Keywords that say with which rights HAProxy runs; a file that gives one up may run it with more than it had.
pub const RIGHTS: [(&str, &[&str]); 3] = [
    ("user", &["user", "uid"]),
    ("group", &["group", "gid"]),
    ("chroot", &["chroot"]),
];

/// Lines of `global`, each with its mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver(Vec<TakenLine>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct TakenLine {
    keyword: String,
    line: String,
}

impl TakenOver {
    /// The lines of a text; of one that begins with our first line those with the mark.
    pub fn of(text: &str, first_line: &str) -> Self {
        let ours = text.lines().next().map(str::trim_end) == Some(first_line);
        let raw: Vec<&str> = text.lines().collect();
        let lines = Lines::parse(text);
        let global = lines.named("global", "").flat_map(|global| &global.lines);
        let taken = global.filter(|line| !line.conditional && is_taken(line.word(0)));
        let taken = taken.filter_map(|line| {
            let text = raw.get(line.number.checked_sub(1)?)?.trim();
            let marked = text.ends_with(MARK);
            let line = TakenLine {
                keyword: line.word(0).to_owned(),
                line: if marked {
                    text.to_owned()
                } else {
                    format!("{text}  {MARK}")
                },
            };
            (marked || !ours).then_some(line)
        });
        Self(taken.collect())
    }

    /// Those that the config does not say itself, by the keys that it has.
    pub fn beside<'a, 'b>(
        &'a self,
        given: &'b [(&'static str, bool)],
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, 'b> {
        let said = move |keyword: &str| {
            given
                .iter()
                .any(|(name, given)| *given && *name == of(keyword))
        };
        let lines = self.0.iter().filter(move |line| !said(&line.keyword));
        lines.map(|line| (line.keyword.as_str(), line.line.as_str()))
    }
}

fn is_taken(keyword: &str) -> bool {
    keyword == "log" || of(keyword) != keyword || RIGHTS.iter().any(|(name, _)| *name == keyword)
}

/// The key that says the same: `uid` is another way to say `user`.
fn of(keyword: &str) -> &str {
    let known = RIGHTS.iter().find(|(_, words)| words.contains(&keyword));
    known.map_or(keyword, |(name, _)| *name)
}

/// The rights that a text limits in its `global`, inside `.if` too, and another does not.
pub(crate) fn rights_lost(theirs: &Lines, wanted: &Lines) -> Vec<&'static str> {
    let says = |lines: &Lines, words: &[&str]| {
        let global = lines.named("global", "").flat_map(|global| &global.lines);
        let found: Vec<&Line> = global
            .filter(|line| words.contains(&line.word(0)))
            .collect();
        !found.is_empty()
    };
    let lost = RIGHTS.iter();
    lost.filter(|(_, words)| says(theirs, words) && !says(wanted, words))
        .map(|(name, _)| *name)
        .collect()
}

/// Whether a text names the user that HAProxy is to become.
pub fn names_user(text: &str) -> bool {
    let lines = Lines::parse(text);
    let mut global = lines.named("global", "").flat_map(|global| &global.lines);
    global.any(|line| of(line.word(0)) == "user")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "# ours";

    fn taken(text: &str, given: &[(&'static str, bool)]) -> Vec<String> {
        let taken = TakenOver::of(text, OURS);
        let lines = taken.beside(given).map(|(_, line)| line.to_owned());
        lines.collect()
    }

    #[test]
    fn account_chroot_and_logs_of_a_file_of_somebody_elses_are_taken_over() {
        let text = "global\n\tlog /dev/log\tlocal0\n  log \"/dev/log\" local1 notice # b\n  chroot /var/lib/haproxy\n\
                    user haproxy\n gid 99\n maxconn 9\n daemon\ndefaults\n log global\n user nobody\n";
        assert_eq!(
            taken(text, &[]),
            [
                "log /dev/log\tlocal0  # taken over",
                "log \"/dev/log\" local1 notice # b  # taken over",
                "chroot /var/lib/haproxy  # taken over",
                "user haproxy  # taken over",
                "gid 99  # taken over"
            ]
        );
        let given = [
            ("user", true),
            ("group", true),
            ("chroot", false),
            ("log", true),
        ];
        assert_eq!(
            taken(text, &given),
            ["chroot /var/lib/haproxy  # taken over"]
        );
    }

    #[test]
    fn of_a_file_of_ours_the_marked_lines_are_as_often_as_it_is_written() {
        let text = format!(
            "{OURS}\nglobal\n    user haproxy  {MARK}\n    group admin\n    log /dev/log local0\n"
        );
        assert_eq!(taken(&text, &[]), [format!("user haproxy  {MARK}")]);
        // Without our first line it is somebody else's, who has written all of it.
        assert_eq!(taken(&text.replace(OURS, "# mine"), &[]).len(), 3);
    }

    #[test]
    fn what_stands_inside_if_is_not_taken_and_counts_as_a_right() {
        let theirs = "global\n.if defined(X)\n user haproxy\n.endif\n chroot /var/empty\n";
        assert_eq!(taken(theirs, &[]), ["chroot /var/empty  # taken over"]);
        let lost = |wanted| rights_lost(&Lines::parse(theirs), &Lines::parse(wanted));
        assert_eq!(lost("global\n chroot /var/empty\n"), ["user"]);
        assert_eq!(lost("global\n uid 99\n chroot /\n"), [""; 0]);
        assert_eq!(lost("defaults\n user haproxy\n"), ["user", "chroot"]);
    }

    #[test]
    fn a_user_is_named_in_global_by_name_or_number() {
        assert!(names_user("global\n  daemon\n  user haproxy\n"));
        assert!(names_user("defaults\nglobal\n\tuid\t99\n"));
        assert!(!names_user(
            "global\n  # user haproxy\nuserlist a\n  user root\n"
        ));
    }
}
