//! A key that is given, with its place: its value out, and complaints about it into the source. Pure.
//!
//! What gives `None` has complained, but for `get` and `as_boolean`.

use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{LISTS, NO_KEY, Source};

/// What is given at a key, or an element of it.
#[derive(Clone)]
pub struct Node<'a> {
    source: &'a Source<'a>,
    /// `section.key`, as people are told.
    path: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Node<'a> {
    /// The root of all keys.
    pub fn new(source: &'a Source<'a>, value: &'a Spanned<DeValue<'a>>) -> Self {
        let path = String::new();
        Self {
            source,
            path,
            value,
        }
    }

    fn part(&self, value: &'a Spanned<DeValue<'a>>, key: &str) -> Self {
        let path = join(&self.path, key);
        Self {
            source: self.source,
            path,
            value,
        }
    }

    /// What is given for `keys`, a path below this one, `section.key`.
    pub fn get(&self, keys: &str) -> Option<Self> {
        let mut value = self.value;
        for key in keys.split('.') {
            value = value.get_ref().as_table()?.get(key)?;
        }
        Some(self.part(value, keys))
    }

    /// What is given for one name, which may have any characters in it.
    pub(super) fn part_named(&self, name: &str) -> Option<Self> {
        let value = self.value().as_table()?.get(name)?;
        Some(self.part(value, name))
    }

    /// Whether `keys` are given, by file or environment.
    pub fn has(&self, keys: &str) -> bool {
        self.get(keys).is_some()
    }

    /// The tables of `[[key]]`.
    pub fn elements(&self, key: &str) -> Vec<Self> {
        self.get(key).map_or_else(Vec::new, |list| list.parts())
    }

    /// The elements of a list. A table is called by its name, or its number from 1.
    pub(super) fn parts(&self) -> Vec<Self> {
        let array = self.value().as_array();
        let named = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| {
            let text = |key: &&str| value.get_ref().get(*key)?.get_ref().as_str();
            let mut names = ["name", "path"].iter().filter_map(text);
            let name = names.find(|name| !name.is_empty());
            let name = name.map_or_else(|| (index + 1).to_string(), str::to_owned);
            let is_table = value.get_ref().is_table();
            self.part(value, if is_table { &name } else { "" })
        };
        array.into_iter().flatten().enumerate().map(named).collect()
    }

    /// Says what is wrong at `keys`; where they are not given, at what is above them.
    pub fn complain(&self, keys: &str, message: impl Into<String>) {
        let ends = keys.match_indices('.').map(|(end, _)| end);
        let ends: Vec<usize> = ends.chain([keys.len()]).collect();
        let given = ends
            .iter()
            .rev()
            .find_map(|end| self.get(keys.get(..*end)?));
        let at = given.as_ref().unwrap_or(self).at();
        let path = join(&self.path, keys);
        self.source.complain(at, &path, message.into());
    }

    /// Says what is wrong with this value.
    pub fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.source.complain(self.at(), &self.path, message.into());
        None
    }

    /// Says what is expected, and what was found instead.
    pub fn expected<T>(&self, what: &str) -> Option<T> {
        self.refuse(format!("expected {what}, found {}", self.found()))
    }

    /// The same, and which header makes a section of it.
    pub fn expected_header<T>(&self, what: &str) -> Option<T> {
        let path = &self.path;
        let header = if LISTS.contains(&path.as_str()) {
            format!("[[{path}]]")
        } else {
            format!("[{path}]")
        };
        self.refuse(format!(
            "expected {what}, found {}; write {header}",
            self.found()
        ))
    }

    fn found(&self) -> String {
        match self.value() {
            DeValue::String(text) => format!("{text:?}"),
            other => other.type_str().to_owned(),
        }
    }

    /// The value, as TOML has it.
    pub fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// A string; `what` says for people what is expected.
    pub fn text(&self, what: &str) -> Option<&'a str> {
        let text = self.value().as_str();
        text.or_else(|| self.expected(what))
    }

    /// A string that `parse` makes something of.
    pub fn parse<T>(&self, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let parsed = parse(self.text(what)?);
        parsed.or_else(|| self.refuse(format!("expected {what}")))
    }

    /// An integer of this range.
    pub fn integer(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match self.value().as_integer() {
            Some(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            None => Some(self.spelled().or_else(|| self.expected(&what))?),
        };
        let number = number.filter(|number| range.contains(number));
        number.or_else(|| self.refuse(format!("expected {what}")))
    }

    /// `true` or `false`, if it is one of them.
    pub fn as_boolean(&self) -> Option<bool> {
        self.value().as_bool().or_else(|| self.spelled())
    }

    /// The number or boolean that the text of a variable stands for.
    fn spelled<T: FromStr>(&self) -> Option<T> {
        self.source.variable(self.at())?;
        self.value().as_str()?.parse().ok()
    }

    /// The elements of a list; a value that is no list stands for a list of one.
    pub fn list<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Option<Vec<T>> {
        if !self.value().is_array() {
            return Some(vec![read(self)?]);
        }
        let read: Vec<Option<T>> = self.parts().iter().map(read).collect();
        read.into_iter().collect()
    }

    /// The names and values of a table in which any names may stand.
    pub fn names(&self, what: &str) -> Option<Vec<(&'a str, Self)>> {
        let table = self.value().as_table();
        let table = table.or_else(|| self.expected(what))?;
        let named = table
            .iter()
            .map(|(name, value)| (name.get_ref().as_ref(), self.part(value, "")));
        Some(named.collect())
    }

    /// The keys of a section.
    pub fn keys(&self) -> Option<Keys<'_>> {
        let table = self.value().as_table();
        Some(Keys {
            node: self,
            table: table.or_else(|| self.expected_header("a table"))?,
            known: Vec::new(),
        })
    }

    /// The line that it stands in, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.source.line(self.at())
    }

    /// The byte at which it stands.
    fn at(&self) -> usize {
        self.value.span().start
    }
}

fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", key) => key.to_owned(),
        (path, "") => path.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

/// A section that is taken key by key.
pub struct Keys<'a> {
    node: &'a Node<'a>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl Keys<'_> {
    /// The value of a key; `default` if it is not given, or cannot be taken. One with a hint must be given.
    pub fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Node<'_>) -> Option<T>,
        hint: Option<&str>,
    ) -> T {
        self.known.push(key);
        let given = self.node.get(key);
        if let (None, Some(hint)) = (&given, hint) {
            self.node.complain(key, format!("is missing; {hint}"));
        }
        given.and_then(|node| read(&node)).unwrap_or(default)
    }

    /// Complains about all other keys, and variables that would set them.
    pub fn finish(self) {
        let Self { node, table, known } = self;
        let source = node.source;
        for (key, value) in table {
            let (at, name): (_, &str) = (key.span().start, key.get_ref());
            if known.contains(&name) {
                continue;
            }
            let meant = suggest(name, &known);
            if source.variable(at).is_none() {
                let message = match meant {
                    Some(meant) => format!("unknown key; did you mean `{meant}`?"),
                    None => format!("unknown key; known here: {}", known.join(", ")),
                };
                source.complain(at, &join(&node.path, name), message);
            }
            let below = value.get_ref().as_table().into_iter().flatten();
            let places = below.map(|(key, _)| key.span().start).chain([at]);
            for (at, variable) in places.filter_map(|at| Some((at, source.variable(at)?))) {
                let meant = meant.filter(|meant| !LISTS.contains(meant)).map(|meant| {
                    let meant = variable.replacen(&name.to_uppercase(), &meant.to_uppercase(), 1);
                    format!("; did you mean {meant}?")
                });
                source.complain(at, "", format!("{NO_KEY}{}", meant.unwrap_or_default()));
            }
        }
    }
}

/// The closest of `known`, if it is close enough to be meant.
fn suggest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, known)| *distance <= known.chars().count().max(3) / 3)
        .min()
        .map(|(_, known)| known)
}
