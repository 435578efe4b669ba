//! Certificates in force: the files that are wanted and what HAProxy shows of its own in, commands of the Runtime API out;
//! their replies in, what went wrong out. Pure.
//!
//! A path is that of a file as the configuration names it. HAProxy keeps what it has read of it: a command puts another text in
//! its place, in memory. It has one transaction at a time, for all certificates together (Management Guide, section 9.3,
//! `set ssl cert`, `commit ssl cert`, `add ssl crt-list`).

use std::collections::BTreeSet;

/// What a command with a certificate may have, with its words: HAProxy takes no more than `tune.bufsize`, 16,384 bytes, at
/// once. Measured on 2.6, 3.0 and 3.2: 16,306 bytes pass, 18,168 do not.
pub const MOST_BYTES: usize = 15_000;

/// The SHA-1 of a certificate, by which HAProxy shows which one it has.
pub type Fingerprint = [u8; 20];

/// What HAProxy shows of its certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Those of one list; none where it knows no such list.
    pub listed: Option<BTreeSet<String>>,
    /// All that it has.
    pub known: BTreeSet<String>,
    /// The one that a transaction is about which has not come to its end.
    pub open: Option<String>,
}

impl Shown {
    /// The commands that show it.
    pub fn commands(list: &str) -> [String; 2] {
        [
            format!("show ssl crt-list {list}"),
            "show ssl cert".to_owned(),
        ]
    }

    /// Reads their replies.
    pub fn read(listed: &str, known: &str) -> Self {
        let is_list = listed.starts_with("# ");
        // an entry may be followed by options and names
        let entry = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let entries = listed.lines().skip(1).map(entry);
        let named = |line: &&str| line.starts_with('/');
        let open = known.lines().find_map(|line| line.strip_prefix('*'));
        Self {
            listed: is_list.then(|| entries.filter(|it| !it.is_empty()).collect()),
            known: known.lines().filter(named).map(str::to_owned).collect(),
            open: open.map(str::to_owned),
        }
    }
}

/// Asks which certificate HAProxy has under a path.
pub fn show(path: &str) -> String {
    format!("show ssl cert {path}")
}

/// Reads its reply; none where there is no certificate.
pub fn fingerprint(reply: &str) -> Option<Fingerprint> {
    let text = reply
        .lines()
        .find_map(|line| line.strip_prefix("SHA1 FingerPrint: "))?;
    let mut fingerprint = Fingerprint::default();
    let text = text.trim();
    if text.len() != 2 * fingerprint.len() || !text.is_ascii() {
        return None;
    }
    for (index, byte) in fingerprint.iter_mut().enumerate() {
        let digits = text.get(2 * index..2 * index + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(fingerprint)
}

/// Something to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another text for what HAProxy has.
    Replace(String),
    /// One that it has not, or that is not in its list.
    Add(String),
    /// One that is wanted no more.
    Remove(String),
}

/// What is to be changed: `default` is there always and in no list, the `others` are in it. `stands` says whether HAProxy has
/// the wanted text under a path, and what begins with `ours` is ours to remove.
pub fn changes(
    shown: &Shown,
    default: &str,
    others: &BTreeSet<String>,
    ours: &str,
    stands: impl Fn(&str) -> bool,
) -> Vec<Change> {
    let Some(listed) = &shown.listed else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    for path in others {
        let there = shown.known.contains(path);
        if there && listed.contains(path) {
            if !stands(path) {
                changes.push(Change::Replace(path.clone()));
            }
        } else {
            changes.push(Change::Add(path.clone()));
        }
    }
    if shown.known.contains(default) && !stands(default) {
        changes.push(Change::Replace(default.to_owned()));
    }
    // whoever goes does so once the others are there
    let is_ours = |path: &&String| path.starts_with(ours) && !others.contains(*path);
    let gone: BTreeSet<&String> = listed
        .iter()
        .chain(&shown.known)
        .filter(|path| path.as_str() != default)
        .filter(is_ours)
        .collect();
    changes.extend(gone.into_iter().cloned().map(Change::Remove));
    changes
}

/// A command and what has to be in its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// A line, for a certificate with the lines of its text.
    pub text: String,
    done: String,
    /// What is as good.
    or: &'static str,
}

impl Words {
    fn new(text: String, done: impl Into<String>, or: &'static str) -> Self {
        let done = done.into();
        Self { text, done, or }
    }

    /// Whether it was done.
    ///
    /// # Errors
    /// What HAProxy says instead.
    pub fn judge(&self, reply: &str) -> Result<(), String> {
        if reply.contains(&self.done) || (!self.or.is_empty() && reply.contains(self.or)) {
            return Ok(());
        }
        // 2.6 and 3.0 prompt for every line of a certificate
        let said = reply.trim_start_matches("+ ").trim();
        let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        Err(match lines.is_empty() {
            true => "HAProxy does not take it, and does not say why".to_owned(),
            false => lines.join("; "),
        })
    }
}

impl Change {
    /// The path that it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Replace(path) | Self::Add(path) | Self::Remove(path) => path,
        }
    }

    /// The commands that carry it out, in order; where one fails, the rest is not to be sent but [`abort`]. `pem` is the text, of
    /// which no line is empty.
    pub fn commands(&self, list: &str, pem: &str) -> Vec<Words> {
        let path = self.path();
        let set = || {
            let text = format!("set ssl cert {path} <<\n{}\n", pem.trim_end());
            Words::new(text, format!("for certificate {path}!"), "")
        };
        let commit = || Words::new(format!("commit ssl cert {path}"), "Success!", "");
        match self {
            Self::Replace(_) => vec![set(), commit()],
            Self::Add(_) => vec![
                Words::new(
                    format!("new ssl cert {path}"),
                    "New empty certificate store",
                    "already exists",
                ),
                set(),
                commit(),
                Words::new(format!("add ssl crt-list {list} {path}"), "Success!", ""),
            ],
            Self::Remove(_) => vec![
                Words::new(
                    format!("del ssl crt-list {list} {path}"),
                    "deleted in crtlist",
                    "does not exist",
                ),
                Words::new(format!("del ssl cert {path}"), "deleted!", "doesn't exist"),
            ],
        }
    }
}

/// Ends a transaction without a change.
pub fn abort(path: &str) -> String {
    format!("abort ssl cert {path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "# /s/crt-list\n/s/c/a.pem\n/s/c/b.pem [alpn h2] a.example\n";
    const KNOWN: &str = "# transaction\n*/s/c/a.pem\n\n# filename\n/s/c/a.pem\n/s/c/b.pem\n/s/default.pem\n/site.pem\n";

    fn paths(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_shown_is_read() {
        let shown = Shown::read(LISTED, KNOWN);
        assert_eq!(shown.listed, Some(paths(&["/s/c/a.pem", "/s/c/b.pem"])));
        let known = ["/s/c/a.pem", "/s/c/b.pem", "/s/default.pem", "/site.pem"];
        assert_eq!(shown.known, paths(&known));
        assert_eq!(shown.open.as_deref(), Some("/s/c/a.pem"));
        let unknown = "didn't find the specified filename";
        assert_eq!(Shown::read(unknown, KNOWN).listed, None);
        let reply = "Serial: 55\nSHA1 FingerPrint: 337F3057C65C327E426B921E7188D5C35E3A8A99\nSubject: /CN=a\n";
        assert_eq!(fingerprint(reply).unwrap()[..3], [0x33, 0x7f, 0x30]);
        for reply in [
            "",
            "SHA1 FingerPrint: 33\n",
            "SHA1 FingerPrint: é7F3057C65C327E426B921E7188D5C35E3A8A99\n",
        ] {
            assert_eq!(fingerprint(reply), None);
        }
    }

    #[test]
    fn what_is_otherwise_is_changed_and_nothing_that_is_not_ours() {
        let shown = Shown::read(LISTED, KNOWN);
        let plan = |others: &[&str], stands: &[&str]| {
            let stands = paths(stands);
            changes(&shown, "/s/default.pem", &paths(others), "/s/", |path| {
                stands.contains(path)
            })
        };
        let all = ["/s/c/a.pem", "/s/c/b.pem", "/s/default.pem"];
        assert_eq!(plan(&["/s/c/a.pem", "/s/c/b.pem"], &all), []);
        assert_eq!(
            plan(&["/s/c/a.pem", "/s/c/c.pem"], &["/s/default.pem"]),
            [
                Change::Replace("/s/c/a.pem".to_owned()),
                Change::Add("/s/c/c.pem".to_owned()),
                Change::Remove("/s/c/b.pem".to_owned()),
            ]
        );
        assert_eq!(
            plan(&["/s/c/a.pem", "/s/c/b.pem"], &all[..2]),
            [Change::Replace("/s/default.pem".to_owned())]
        );
        let other = Shown::read("no", KNOWN);
        assert_eq!(
            changes(&other, "/s/default.pem", &paths(&[]), "/s/", |_| false),
            []
        );
    }

    #[test]
    fn replies_of_each_version_say_whether_it_was_done() {
        let change = Change::Replace("/a.pem".to_owned());
        let [set, commit] = &change.commands("/l", "A\nB\n")[..] else {
            panic!("two commands")
        };
        assert_eq!(set.text, "set ssl cert /a.pem <<\nA\nB\n");
        for reply in [
            "+ + + Transaction created for certificate /a.pem!",
            "Transaction updated for certificate /a.pem!",
        ] {
            assert_eq!(set.judge(reply), Ok(()));
        }
        // 2.6 says so where another hand has a transaction
        let other = "Transaction updated for certificate /other.pem!";
        assert_eq!(set.judge(other), Err(other.to_owned()));
        assert_eq!(commit.judge("Committing /a.pem.\nSuccess!"), Ok(()));
        let said = "+ + inconsistencies between private key and certificate loaded '/a.pem'.\nCan't commit /a.pem!";
        let said = commit.judge(said).unwrap_err();
        assert_eq!(
            said,
            "inconsistencies between private key and certificate loaded '/a.pem'.; Can't commit /a.pem!"
        );
        assert!(set.judge("").is_err());
    }
}
