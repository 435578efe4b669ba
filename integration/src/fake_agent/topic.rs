//! Who is sent what: filters and levels as clients spell them in, a yes or no for a record out.

use bstr::BString;
use bytes::Bytes;
use serf_rpc::MemberEventKind;

/// From the most to the least talkative.
const LEVELS: [&str; 5] = ["TRACE", "DEBUG", "INFO", "WARN", "ERR"];
const PLAIN_FILTERS: [&[u8]; 4] = [b"", b"*", b"user", b"query"];

/// How grave a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(usize);

impl Level {
    /// The level of that word, whatever its case.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let at = LEVELS
            .iter()
            .position(|level| level.eq_ignore_ascii_case(word));
        at.map(Self)
    }
}

/// Something to send to all who asked for it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) topic: Topic,
    pub(super) body: Bytes,
}

/// What a record is about.
#[derive(Clone, Debug)]
pub(super) enum Topic {
    /// A line of the log.
    Line(Level),
    /// Members.
    Member(MemberEventKind),
    /// A user event of that name.
    User(BString),
}

/// What a stream or a monitor asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Lines of at least this level.
    Lines(Level),
    /// Events that pass one of these filters.
    Events(Vec<BString>),
}

impl Interest {
    /// Reads the filters of a stream; none where one of them is not Serf's.
    pub(super) fn events(filters: &[u8]) -> Option<Self> {
        let filters: Vec<BString> = filters
            .split(|byte| *byte == b',')
            .map(BString::from)
            .collect();
        let known = |filter: &BString| {
            let plain = PLAIN_FILTERS.contains(&filter.as_slice());
            plain
                || is_member_event(filter)
                || filter.starts_with(b"user:")
                || filter.starts_with(b"query:")
        };
        filters.iter().all(known).then_some(Self::Events(filters))
    }

    pub(super) fn wants(&self, topic: &Topic) -> bool {
        match (self, topic) {
            (Self::Lines(least), Topic::Line(level)) => level >= least,
            (Self::Events(filters), Topic::Member(kind)) => filters
                .iter()
                .any(|filter| is_all(filter) || filter == kind.as_str()),
            (Self::Events(filters), Topic::User(name)) => filters.iter().any(|filter| {
                let wanted = filter.strip_prefix(b"user:");
                is_all(filter)
                    || filter == "user"
                    || wanted.is_some_and(|wanted| wanted.is_empty() || wanted == name.as_slice())
            }),
            _ => false,
        }
    }
}

fn is_all(filter: &BString) -> bool {
    filter.is_empty() || filter == "*"
}

fn is_member_event(filter: &BString) -> bool {
    use MemberEventKind::{Failed, Join, Leave, Reap, Update};
    [Join, Leave, Failed, Update, Reap]
        .iter()
        .any(|kind| filter == kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_levels_are_read_as_serf_reads_them() {
        for wrong in ["nope", "user, query", "member", "user,member-joined"] {
            assert_eq!(Interest::events(wrong.as_bytes()), None, "{wrong}");
        }
        let deploy = Topic::User("deploy".into());
        let join = Topic::Member(MemberEventKind::Join);
        for (filter, user, member) in [
            ("", true, true),
            ("*", true, true),
            ("user", true, false),
            ("user:", true, false),
            ("user:deploy", true, false),
            ("user:other,query:deploy", false, false),
            ("member-leave,member-join", false, true),
        ] {
            let interest = Interest::events(filter.as_bytes()).unwrap();
            assert_eq!(interest.wants(&deploy), user, "{filter}");
            assert_eq!(interest.wants(&join), member, "{filter}");
        }
        let level = |word| Level::parse(word).unwrap();
        assert!(Interest::Lines(level("info")).wants(&Topic::Line(level("ERR"))));
        assert!(!Interest::Lines(level("INFO")).wants(&Topic::Line(level("DEBUG"))));
        assert_eq!(Level::parse("error"), None);
    }
}
