//! docs/reference/config.md: the sample says what a key is for, and the readers themselves what it may be. A test.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Config, Diagnostic};

const SAMPLE: &str = include_str!("../../../controller/config.sample.toml");

/// A key that nobody means, and a value that no key takes.
const NO_KEY: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
const NO_VALUE: &str = "0.5";

/// A part of the sample: its header, what stands above that, and its keys.
struct Section<'a> {
    name: &'a str,
    is_list: bool,
    about: String,
    keys: Vec<Key<'a>>,
}

struct Key<'a> {
    name: &'a str,
    line: &'a str,
    value: &'a str,
    about: String,
}

/// A line without what takes it out of force.
fn taken_in(line: &str) -> &str {
    line.strip_prefix("# ").unwrap_or(line)
}

/// The key of a line, its value, and what is said of it.
fn key(line: &str) -> Option<Key<'_>> {
    let (name, rest) = taken_in(line).split_once(" = ")?;
    let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let (value, about) = rest.split_once(" # ").unwrap_or((rest, ""));
    is_name.then(|| Key {
        name,
        line,
        value: value.trim(),
        about: about.trim().to_owned(),
    })
}

fn sections(sample: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut above: Vec<String> = Vec::new();
    for line in sample.lines() {
        let bare = taken_in(line);
        if let Some((name, about)) = bare.strip_prefix('[').and_then(|it| it.split_once(']')) {
            above.extend(
                about
                    .split_once("# ")
                    .map(|(_, about)| format!("({about})")),
            );
            sections.push(Section {
                name: name.trim_start_matches('['),
                is_list: bare.starts_with("[["),
                about: std::mem::take(&mut above).join(" "),
                keys: Vec::new(),
            });
        } else if let (Some(key), Some(section)) = (key(line), sections.last_mut()) {
            section.keys.push(key);
        } else if let Some(more) = line.trim_start().strip_prefix("# ") {
            let key = sections.last_mut().and_then(|it| it.keys.last_mut());
            match key.filter(|_| line.starts_with(' ')) {
                Some(key) => write!(key.about, " {more}").unwrap(),
                None => above.push(more.to_owned()),
            }
        } else {
            above.clear();
        }
    }
    sections
}

fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    Config::parse(text, [])
}

/// What has to be in a file, and in a `[[file]]`.
const NEEDED: [(&str, &str); 5] = [
    ("frontend", "[frontend]\nbind = [\"*:80\"]\n"),
    (
        "backend",
        "[[backend]]\nname = \"nodes\"\ntags = { role = \"backend\" }\nport = 3000\n",
    ),
    ("services", "[services]\nallow = [\"shop\", \"api-*\"]\n"),
    ("route", "[[route]]\nbackend = \"nodes\"\n"),
    ("file", "[[file]]\ntemplate = \"/t\"\npath = \"/p\"\n"),
];

/// A small file with this section, these lines in it, and without the `but` that it has otherwise.
fn file(section: &Section<'_>, lines: &str, but: &str) -> String {
    let is_needed = |(name, _): &(&str, &str)| {
        !matches!(*name, "file" | "route" | "services") || section.name == *name
    };
    let mut text = String::new();
    for (name, needed) in NEEDED.into_iter().filter(is_needed) {
        let others = needed
            .lines()
            .filter(|line| key(line).is_none_or(|key| key.name != but));
        text.extend(others.map(|line| format!("{line}\n")));
        if name == section.name {
            text.push_str(lines);
        }
    }
    if section.name == "backend.overload" {
        text.push_str("max_conn = 200\n");
    }
    if NEEDED.iter().all(|(name, _)| *name != section.name) {
        write!(text, "[{}]\n{lines}", section.name).unwrap();
    }
    text
}

/// What is said of a key set to this value.
fn said(section: &Section<'_>, key: &str, value: &str) -> Option<String> {
    let found = parse(&file(section, &format!("{key} = {value}\n"), key)).err()?;
    let of_key = |it: &Diagnostic| it.key.rsplit('.').next() == Some(key);
    found.into_iter().find(of_key).map(|it| it.message)
}

/// The keys that a section may have.
fn known(section: &Section<'_>) -> BTreeSet<String> {
    let said = said(section, NO_KEY, "1").unwrap();
    let (_, known) = said.split_once("known here: ").unwrap();
    known.split(", ").map(str::to_owned).collect()
}

/// What a key may be, as its reader says it of values that it does not take.
fn may_be(section: &Section<'_>, key: &str) -> String {
    let expected = |value: &str| {
        let said = said(section, key, value)?;
        let (what, _) = said
            .strip_prefix("expected ")?
            .rsplit_once(", found float")?;
        Some(what.to_owned())
    };
    let what = expected(NO_VALUE).unwrap();
    let what = match said(section, key, "\"99999y\"") {
        Some(said) if what.starts_with("a time span") => {
            let (_, range) = said.split_once("give ").unwrap();
            format!("a time span from {range}")
                .replace("1day", "24h")
                .replace("days", " days")
        }
        _ => what,
    };
    match expected(&format!("[{NO_VALUE}]")) {
        Some(_) if !what.starts_with("a list") => format!("{what}; or a list of such"),
        _ => what,
    }
}

/// What a key is when it is left out, as the code has it: a value, or that it may not be.
fn default(section: &Section<'_>, key: &Key<'_>) -> Option<String> {
    let without = parse(&file(section, "", key.name));
    let missing = without.as_ref().err().is_some_and(|found| {
        let missing = |it: &Diagnostic| it.message.starts_with("is missing");
        found
            .iter()
            .any(|it| missing(it) && it.key.ends_with(&format!(".{}", key.name)))
    });
    let with = parse(&file(
        section,
        &format!("{}\n", taken_in(key.line)),
        key.name,
    ));
    match missing {
        true => Some("must be given".to_owned()),
        false => (with.is_ok() && without == with).then(|| format!("`{}`", key.value)),
    }
}

/// Whether a part of what is said of a key is the range that its reader has, `1s to 1h`; another range is a mistake.
fn is_range(part: &str, may_be: &str) -> bool {
    let (from, to) = match part.strip_prefix("up to ") {
        Some(to) => (None, to),
        None => match part.split_once(" to ") {
            Some((from, to)) => (Some(from), to),
            None => return false,
        },
    };
    let is_bound = |it: &str| it.starts_with(|c: char| c.is_ascii_digit());
    if !is_bound(to) || from.is_some_and(|from| !is_bound(from)) {
        return false;
    }
    assert!(may_be.ends_with(&format!(" to {to}")), "{part}: {may_be}");
    assert!(
        from.is_none_or(|from| may_be.contains(&format!(" from {from} to"))),
        "{part}: {may_be}"
    );
    true
}

fn row(section: &Section<'_>, key: &Key<'_>) -> [String; 4] {
    let mut may_be = may_be(section, key.name);
    let (about, mark) = match key
        .about
        .strip_suffix("restart)")
        .and_then(|it| it.rsplit_once('('))
    {
        Some((about, case)) => (about.trim_end(), format!(" ({case}restart)")),
        None => (key.about.as_str(), String::new()),
    };
    let said_default = about
        .split("; ")
        .find_map(|part| part.strip_prefix("left out: "));
    let told = |part: &&str| {
        !part.starts_with("left out: ") && *part != "no default" && !is_range(part, &may_be)
    };
    let about = about
        .split("; ")
        .filter(told)
        .collect::<Vec<_>>()
        .join("; ");
    let default = match said_default {
        Some(said) => said.to_owned(),
        None => default(section, key).unwrap_or_else(|| "none".to_owned()),
    };
    let is_shown =
        default.starts_with('`') || may_be == "true or false" || may_be.contains(key.value);
    if !is_shown {
        write!(may_be, ": `{}`", key.value).unwrap();
    }
    [
        format!("`{}`", key.name),
        default,
        may_be,
        format!("{about}{mark}"),
    ]
}

/// A section for the page. A part of a backend that has the keys of another section is told with that one.
fn told(section: &Section<'_>, all: &[Section<'_>]) -> String {
    let brackets = if section.is_list {
        ("[[", "]]")
    } else {
        ("[", "]")
    };
    let mut text = format!("## {}{}{}\n\n", brackets.0, section.name, brackets.1);
    if !section.about.is_empty() {
        writeln!(text, "{}\n", section.about).unwrap();
    }
    if let Some(part) = section.name.strip_prefix("services.") {
        let backend = all.iter().find(|it| it.name == "backend").unwrap();
        assert_eq!(known(section), known(backend));
        let of = match part {
            "defaults" => "Its keys are those of [[backend]], but for `name`, `tags` and `node`.",
            _ => {
                "Of any name: its keys are the same, and those left out are those of [services.defaults], table by table."
            }
        };
        writeln!(text, "{of}\n").unwrap();
        return text;
    }
    let (_, bare) = section.name.split_once('.').unwrap_or_default();
    let is_same = |it: &Section<'_>| it.name == bare && known(section) == known(it);
    if all.iter().any(is_same) {
        writeln!(
            text,
            "Its keys, and their defaults, are those of [{bare}].\n"
        )
        .unwrap();
        return text;
    }
    let parts = all.iter().filter_map(|it| it.name.split_once('.'));
    let parts = parts.filter(|(list, _)| *list == section.name);
    let parts = parts.map(|(_, part)| part.split('.').next().unwrap().to_owned());
    let keys = section.keys.iter().map(|it| it.name.to_owned());
    let documented: BTreeSet<String> = keys.chain(parts).collect();
    assert_eq!(documented, known(section), "keys of {}", section.name);
    let rows = section.keys.iter().map(|key| row(section, key));
    let head = ["key", "left out", "what it may be", "what it does"];
    writeln!(text, "{}", reference::table(head, rows)).unwrap();
    text
}

/// `docs/reference/config.md`.
#[test]
fn every_key_is_documented_and_nothing_else() {
    let sections = sections(SAMPLE);
    let text: String = sections
        .iter()
        .map(|section| told(section, &sections))
        .collect();
    let top = sections
        .iter()
        .map(|it| it.name)
        .filter(|name| !name.contains('.'));
    let top: BTreeSet<String> = top.map(str::to_owned).collect();
    let found = parse(&format!("{NO_KEY} = 1\n")).unwrap_err();
    let known = found
        .iter()
        .find_map(|it| it.message.split_once("known here: "));
    let known = known.unwrap().1.split(", ").map(str::to_owned).collect();
    assert_eq!(top, known);
    reference::hold("config.md", &format!("{}\n", text.trim_end()));
}
