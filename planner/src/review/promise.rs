//! Which promises a configuration breaks for our backends: its texts in, [`Breach`]es with their lines out. Pure.
//!
//! What counts is what is in force: a section's own last line, else that of the `defaults` it inherits from. Nothing is
//! held against a line inside `.if`, as it may be in force or not.
//!
//! Sources: HAProxy's Configuration Manual, section 4.2, of each keyword; what breaks was tried on 2.6, 3.0 and 3.2.

mod policy;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::model::BackendName;
use crate::syntax::lines::{Line, Lines, Section};
use crate::syntax::time;

pub use policy::{is_asked_for, unprinted};

/// The longest `timeout connect` with which a dead host was found to cost no request of an impatient client.
const CONNECT: Duration = Duration::from_secs(1);
/// Methods whose requests may be sent twice (RFC 9110, section 9.2.1 "Safe Methods").
const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];
/// HAProxy's own names for such a test (Configuration Manual, section 7.4 "Pre-defined ACLs").
const SAFE_ACLS: [&str; 4] = ["METH_GET", "METH_HEAD", "METH_OPTIONS", "METH_TRACE"];
/// What `retry-on` may name without a request being sent twice.
const BEFORE_THE_REQUEST: [&str; 3] = ["none", "conn-failure", "0rtt-rejected"];

/// A promise that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// Which of the texts it is in, from 0.
    pub text: usize,
    /// The line that breaks it, or the first of the section that lacks one; counted from 1.
    pub line: usize,
    /// The section that it does not hold in: `backend web`, `frontend main`, `global`.
    pub section: String,
    /// What is wrong there.
    pub cause: Cause,
}

/// Why a promise does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A request that may have had an effect is sent to a second server, by this line with `retry-on`.
    Repeats(String),
    /// A GET that a dying server had had is lost, by this line with `retry-on`; none where there is none.
    Loses(Option<String>),
    /// A dead host holds its requests up too long, by this line with `timeout connect`; none where there is none.
    Waits(Option<String>),
    /// A request stays with a server that cannot be reached, by this line with `option redispatch`; none where there is
    /// none.
    Stays(Option<String>),
    /// `retries 0`.
    GivesUp,
    /// `on-marked-down shutdown-sessions`.
    Shuts,
    /// A key of the config that says how a backend treats its traffic, and has no effect.
    Unprinted {
        /// The key.
        key: &'static str,
        /// What a template writes.
        instead: &'static str,
    },
    /// No `hard-stop-after`.
    NeverStops,
    /// No `option idle-close-on-response`.
    ClosesIdle,
    /// Idle clients stay with an old worker until it is ended by force.
    OutlastsStop {
        /// The keyword of the timeout.
        keyword: String,
        /// How long they may stay.
        time: String,
        /// The `hard-stop-after`.
        stop: String,
    },
}

/// Everything that a configuration breaks for these backends, in the order of its lines; a backend that it lacks breaks
/// nothing. Its texts are those of its files, in the order HAProxy reads them.
pub fn breaches<'a, 'b>(
    texts: impl IntoIterator<Item = &'a str>,
    backends: impl Iterator<Item = &'b BackendName>,
) -> Vec<Breach> {
    let lines = Lines::parse_all(texts);
    let mut found = BTreeSet::new();
    let mut fronts: Vec<&Section> = Vec::new();
    for name in backends {
        let sections = ["backend", "listen"].map(|kind| lines.named(kind, name.as_str()).next());
        let Some(section) = sections.into_iter().flatten().next() else {
            continue;
        };
        let leading = lines
            .sections()
            .filter(|front| leads(&lines, front, section));
        let leading: Vec<&Section> = leading.collect();
        let backend = Proxy {
            lines: &lines,
            section,
        };
        found.extend(backend.of_a_backend(&leading));
        fronts.extend(leading);
    }
    let stop = global(&lines, "hard-stop-after");
    for front in fronts {
        let front = Proxy {
            lines: &lines,
            section: front,
        };
        found.extend(front.of_a_front_end(stop));
    }
    if stop.is_none() {
        let title = lines.named("global", "").map(|global| &global.title).last();
        found.insert(Breach {
            text: title.map_or(0, |title| title.text),
            line: title.map_or(1, |title| title.number),
            section: "global".to_owned(),
            cause: Cause::NeverStops,
        });
    }
    found.into_iter().collect()
}

/// The line of a section `global` with this keyword.
fn global<'a>(lines: &'a Lines, keyword: &str) -> Option<&'a Line> {
    let mut all = lines.named("global", "").flat_map(|section| &section.lines);
    all.find(|line| line.word(0) == keyword)
}

/// Whether clients of `front` may come to `backend`; a name that is found out for each request may be any.
fn leads(lines: &Lines, front: &Section, backend: &Section) -> bool {
    if std::ptr::eq(front, backend) {
        return front.kind() == "listen";
    }
    if !matches!(front.kind(), "frontend" | "listen") {
        return false;
    }
    let names = |line: &Line| line.word(1) == backend.name() || line.word(1).contains(['%', '$']);
    let by_rule = |line: &Line| line.word(0) == "use_backend" && names(line);
    let by_default = lines.setting(front, &["default_backend"]);
    by_default.is_some_and(names) || front.lines.iter().any(by_rule)
}

/// A section with all that it inherits.
#[derive(Clone, Copy)]
struct Proxy<'a> {
    lines: &'a Lines,
    section: &'a Section,
}

impl<'a> Proxy<'a> {
    fn of_a_backend(self, fronts: &[&'a Section]) -> Vec<Breach> {
        let mut found = Vec::new();
        if self.is_http() {
            found.extend(self.repeats(fronts));
            found.extend(self.loses());
        }
        found.extend(self.waits());
        found.extend(self.stays());
        let retries = self.setting(&["retries"]);
        let none = retries.is_some_and(|line| line.word(1) == "0");
        found.extend(self.breach(none, retries, Cause::GivesUp));
        found.extend(self.shuts());
        found
    }

    fn of_a_front_end(self, stop: Option<&Line>) -> Vec<Breach> {
        let closes = |name| self.lines.option(self.section, name).is_some();
        if !self.is_http() || closes("httpclose") {
            return Vec::new();
        }
        let open = !closes("idle-close-on-response");
        let mut found: Vec<Breach> = self
            .breach(open, None, Cause::ClosesIdle)
            .into_iter()
            .collect();
        let idle = ["http-keep-alive", "http-request", "client"]
            .into_iter()
            .find_map(|keyword| self.setting(&["timeout", keyword]));
        if let (Some(idle), Some(stop)) = (idle, stop) {
            let outlasts = time::millis(idle.word(2))
                .zip(time::millis(stop.word(1)))
                .is_some_and(|(idle, stop)| idle > stop);
            let cause = Cause::OutlastsStop {
                keyword: idle.word(1).to_owned(),
                time: idle.word(2).to_owned(),
                stop: stop.word(1).to_owned(),
            };
            found.extend(self.breach(outlasts, Some(idle), cause));
        }
        found
    }

    /// Layer-7 retries that neither the backend nor all front ends that lead to it keep to safe methods.
    fn repeats(self, fronts: &[&'a Section]) -> Option<Breach> {
        let line = self.setting(&["retry-on"])?;
        let mut events = line.words.iter().skip(1);
        let only_before = events.all(|event| BEFORE_THE_REQUEST.contains(&event.as_str()));
        let by_front = |front: &&Section| {
            let front = Proxy {
                section: front,
                ..self
            };
            front.spares_unsafe_methods()
        };
        let spared =
            self.spares_unsafe_methods() || !fronts.is_empty() && fronts.iter().all(by_front);
        let text = line.words.join(" ");
        self.breach(!only_before && !spared, Some(line), Cause::Repeats(text))
    }

    fn loses(self) -> Option<Breach> {
        let line = self.setting(&["retry-on"]);
        let again = |line: &Line| {
            let mut events = line.words.iter().skip(1);
            events.any(|event| event == "empty-response" || event == "all-retryable-errors")
        };
        let text = line.map(|line| line.words.join(" "));
        self.breach(!line.is_some_and(again), line, Cause::Loses(text))
    }

    fn waits(self) -> Option<Breach> {
        let line = self.setting(&["timeout", "connect"]);
        let millis = |line: &Line| time::millis(line.word(2));
        let long = line.is_none_or(|line| millis(line) > Some(CONNECT.as_millis()));
        let time = line.map(|line| line.words.join(" "));
        self.breach(long, line, Cause::Waits(time))
    }

    fn stays(self) -> Option<Breach> {
        let line = self.lines.option(self.section, "redispatch");
        let late = line.is_none_or(|line| line.word(2) != "1");
        let text = line.map(|line| line.words.join(" "));
        self.breach(late, line, Cause::Stays(text))
    }

    fn shuts(self) -> Option<Breach> {
        let shuts = |line: &&Line| {
            let mut pairs = line.words.iter().zip(line.words.iter().skip(1));
            matches!(
                line.word(0),
                "server" | "default-server" | "server-template"
            ) && pairs.any(|(word, next)| word == "on-marked-down" && next == "shutdown-sessions")
        };
        let mut chain = self.lines.chain(self.section);
        let line = chain.find_map(|section| section.lines.iter().find(shuts))?;
        self.breach(true, Some(line), Cause::Shuts)
    }

    /// Whether its own rules take layer-7 retries from all requests but those with a safe method.
    fn spares_unsafe_methods(self) -> bool {
        // HAProxy lets no `defaults` with rules be inherited from by another.
        let parents = self.lines.chain(self.section).skip(1).take(1);
        let sections = parents.chain([self.section]);
        let rules = sections
            .flat_map(|section| &section.lines)
            .filter(|line| line.word(0) == "http-request");
        rules
            .take_while(|line| line.word(1) != "allow")
            .any(|line| line.word(1) == "disable-l7-retry" && self.is_for_unsafe_methods(line))
    }

    /// Whether what the condition of a rule leaves out are requests with a safe method only.
    fn is_for_unsafe_methods(self, rule: &Line) -> bool {
        let words = rule.words.iter().skip(3).map(String::as_str);
        let words: Vec<&str> = words
            .flat_map(|word| match word.strip_prefix('!') {
                Some(rest) => ["!", rest],
                None => ["", word],
            })
            .filter(|word| !word.is_empty())
            .collect();
        let mut cases = words.split(|word| matches!(*word, "or" | "||"));
        match rule.word(2) {
            "unless" => cases.all(|case| {
                let mut tests = tests(case);
                tests.any(|(positive, test)| positive && self.is_safe(test))
            }),
            "if" => cases.any(|case| {
                let mut tests = tests(case);
                let only = |(positive, test): (bool, &[&str])| !positive && self.is_safe(test);
                tests.next().is_some_and(only) && tests.next().is_none()
            }),
            _ => true,
        }
    }

    /// Whether a test is true for safe methods only.
    fn is_safe(self, test: &[&str]) -> bool {
        match test {
            ["{", criterion @ .., "}"] => is_safe_criterion(criterion),
            [name] if SAFE_ACLS.contains(name) => true,
            [name] => {
                let acls = || {
                    let of_the_name = |line: &&Line| line.begins(&["acl", name]);
                    self.section.lines.iter().filter(of_the_name)
                };
                let is_safe = |line: &Line| {
                    let criterion: Vec<&str> =
                        line.words.iter().skip(2).map(String::as_str).collect();
                    is_safe_criterion(&criterion)
                };
                acls().next().is_some() && acls().all(is_safe)
            }
            _ => false,
        }
    }

    fn is_http(self) -> bool {
        self.setting(&["mode"])
            .is_some_and(|line| line.word(1) == "http")
    }

    fn setting(self, begins: &[&str]) -> Option<&'a Line> {
        self.lines.setting(self.section, begins)
    }

    /// Where `broken`; what stands inside `.if` may not be in force.
    fn breach(self, broken: bool, line: Option<&Line>, cause: Cause) -> Option<Breach> {
        let title = &self.section.title;
        let line = line.unwrap_or(title);
        (broken && !line.conditional).then(|| Breach {
            text: line.text,
            line: line.number,
            section: format!("{} {}", title.word(0), title.word(1)),
            cause,
        })
    }
}

impl Cause {
    /// Whether it is a line that is not there.
    pub fn is_a_lack(&self) -> bool {
        matches!(
            self,
            Self::Loses(None)
                | Self::Waits(None)
                | Self::Stays(None)
                | Self::Unprinted { .. }
                | Self::NeverStops
                | Self::ClosesIdle
        )
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.section, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeats(retry_on) => write!(
                f,
                "`{retry_on}` sends a POST to a second server after the first has had it; add: http-request disable-l7-retry unless {{ method GET HEAD OPTIONS }}"
            ),
            Self::Loses(found) => write!(
                f,
                "{}: a GET whose server dies before it answers is lost; add: retry-on conn-failure empty-response",
                found_or(found.as_deref(), "no `retry-on`")
            ),
            Self::Waits(found) => write!(
                f,
                "{}: a dead host holds each of its requests up as long; write: timeout connect 500ms",
                found_or(found.as_deref(), "no `timeout connect`")
            ),
            Self::Stays(found) => write!(
                f,
                "{}: a request tries a server that cannot be reached again and again, not another one; write: option redispatch 1",
                found_or(found.as_deref(), "no `option redispatch`")
            ),
            Self::GivesUp => f.write_str(
                "`retries 0`: the requests of a server that cannot be reached fail; write: retries 8",
            ),
            Self::Shuts => f.write_str(
                "`on-marked-down shutdown-sessions` cuts the running requests of a server that fails its check, moves or goes to maintenance; take it out",
            ),
            Self::Unprinted { key, instead } => write!(
                f,
                "nothing is printed of the key {key}, which has no effect so; write: {instead}"
            ),
            Self::NeverStops => f.write_str(
                "no `hard-stop-after`: a worker that a reload replaced lives, with the servers of its time, as long as its clients like; add: hard-stop-after {{ hard_stop_after }}",
            ),
            Self::ClosesIdle => f.write_str(
                "no `option idle-close-on-response`: a reload cuts clients that send their next request just then; add that line",
            ),
            Self::OutlastsStop {
                keyword,
                time,
                stop,
            } => write!(
                f,
                "`timeout {keyword} {time}`, beyond `hard-stop-after {stop}`: after a reload idle clients are cut at that; write: timeout http-keep-alive 10s"
            ),
        }
    }
}

fn found_or(found: Option<&str>, none: &str) -> String {
    found.map_or_else(|| none.to_owned(), |found| format!("`{found}`"))
}

/// `method GET HEAD`, in any case.
fn is_safe_criterion(words: &[&str]) -> bool {
    let Some(("method", values)) = words.split_first().map(|(first, rest)| (*first, rest)) else {
        return false;
    };
    let mut methods = values.iter().filter(|word| !matches!(**word, "-i" | "--"));
    methods.all(|method| SAFE.contains(method))
}

/// The tests of one case of a condition, `{ … }` or a name, each with whether it is not negated.
fn tests<'a>(words: &'a [&'a str]) -> impl Iterator<Item = (bool, &'a [&'a str])> {
    let mut rest = words;
    std::iter::from_fn(move || {
        let (first, _) = rest.split_first()?;
        let mut positive = true;
        if *first == "!" {
            positive = false;
            rest = rest.get(1..)?;
        }
        let end = match rest.first() {
            Some(&"{") => rest.iter().position(|word| *word == "}")? + 1,
            _ => 1,
        };
        let (test, after) = rest.split_at_checked(end)?;
        rest = after;
        Some((positive, test))
    })
}

#[cfg(test)]
mod tests;
