//! File and environment as one tree: their text in, values that know where they stand and complaints out. Pure.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Diagnostic, Fault, Location};

/// What every variable that sets a key starts with.
pub(super) const PREFIX: &str = "SERF_HAPROXY_";

/// Variables of the command line itself, which are no keys of the config.
const COMMAND_LINE: [&str; 3] = ["CONFIG", "LOG_FORMAT", "LOG_LEVEL"];

/// All that was given, and all that is wrong with it so far.
pub(super) struct Source<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    variables: BTreeMap<String, String>,
    asked: RefCell<BTreeSet<String>>,
    diagnostics: RefCell<Vec<Diagnostic>>,
}

impl<'a> Source<'a> {
    /// `env` may hold any variables; those that start with [`PREFIX`] count.
    pub(super) fn new(
        text: &'a str,
        table: &'a DeTable<'a>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let variables = env
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)))
            .filter(|(name, _)| !COMMAND_LINE.contains(&name.as_str()))
            .collect();
        Self {
            text,
            table,
            variables,
            asked: RefCell::default(),
            diagnostics: RefCell::default(),
        }
    }

    /// The whole file.
    pub(super) fn root(&'a self) -> Section<'a> {
        Section {
            source: self,
            name: String::new(),
            variable: Some(String::new()),
            table: Some(self.table),
            span: 0..0,
            asked: RefCell::default(),
        }
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.diagnostics.borrow().is_empty()
    }

    /// Complains about the variables that nobody asked for, and hands over all complaints, ordered by place.
    pub(super) fn finish(&self) -> Vec<Diagnostic> {
        let asked = self.asked.borrow();
        let mut diagnostics = self.diagnostics.borrow().clone();
        for name in self.variables.keys().filter(|name| !asked.contains(*name)) {
            let meant = suggest(name, asked.iter().map(String::as_str))
                .map_or_else(String::new, |meant| {
                    format!("; did you mean {PREFIX}{meant}?")
                });
            let message = format!(
                "this variable sets no key, lists and tables are set in the file only{meant}"
            );
            diagnostics.push(Diagnostic {
                location: Location::Variable(format!("{PREFIX}{name}")),
                key: String::new(),
                message,
            });
        }
        diagnostics.sort();
        diagnostics.dedup();
        diagnostics
    }

    fn location(&self, span: &Range<usize>) -> Location {
        location(self.text, span.start)
    }
}

/// Line and column of a byte of the text.
pub(super) fn location(text: &str, offset: usize) -> Location {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Location::File {
        line: before.matches('\n').count() + 1,
        column: before.get(start..).unwrap_or_default().chars().count() + 1,
    }
}

/// A table of the file with the variables that belong to it.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    name: String,
    variable: Option<String>,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The value of a key, if it is given and can be taken; what is wrong with it is kept as a complaint.
    pub(super) fn get<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&Value<'_>) -> Result<T, Fault>,
    ) -> Option<T> {
        self.ask(key);
        let value = self.value(key)?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(fault) => {
                let location = match (fault.span, &value) {
                    (Some(span), Value::File(_)) => self.source.location(&span),
                    _ => self.location(key),
                };
                self.push(location, key, fault.message);
                None
            }
        }
    }

    /// The same, for a key that must be there.
    pub(super) fn require<T>(
        &self,
        key: &'static str,
        hint: &str,
        parse: impl FnOnce(&Value<'_>) -> Result<T, Fault>,
    ) -> Option<T> {
        if !self.has(key) {
            self.complain(key, format!("is missing; {hint}"));
        }
        self.get(key, parse)
    }

    /// Whether the key is given, by file or environment.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the file gives a table for the key.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.entry(key)
            .is_some_and(|value| value.get_ref().is_table())
    }

    /// Whether the section stands in the file, or a variable sets a key of it.
    pub(super) fn is_given(&self) -> bool {
        let set = |prefix: &String| {
            let prefix = format!("{prefix}_");
            self.source
                .variables
                .keys()
                .any(|name| name.starts_with(&prefix))
        };
        self.table.is_some() || self.variable.as_ref().is_some_and(set)
    }

    /// A table below this one; an empty one if it is not there.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let entry = self.entry(key);
        let table = entry.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (entry, table) {
            let found = value.get_ref().type_str();
            self.complain(
                key,
                format!(
                    "expected a table, found {found}; write [{}]",
                    self.path(key)
                ),
            );
        }
        self.ask(key);
        let join = |prefix: &String| {
            let key = key.to_uppercase();
            if prefix.is_empty() {
                key
            } else {
                format!("{prefix}_{key}")
            }
        };
        Section {
            source: self.source,
            name: self.path(key),
            variable: self.variable.as_ref().map(join),
            table,
            span: entry.map_or_else(|| self.span.clone(), Spanned::span),
            asked: RefCell::default(),
        }
    }

    /// The tables of an array `[[key]]`, each called by its key `called`, or its number from 1.
    pub(super) fn sections(&self, key: &'static str, called: &str) -> Vec<Section<'a>> {
        self.ask(key);
        let Some(value) = self.entry(key) else {
            return Vec::new();
        };
        let tables: Option<Vec<_>> = value.get_ref().as_array().map(|array| {
            array
                .iter()
                .filter_map(|v| Some((v.get_ref().as_table()?, v.span())))
                .collect()
        });
        let Some(tables) = tables else {
            let found = value.get_ref().type_str();
            self.complain(
                key,
                format!(
                    "expected tables, found {found}; write [[{}]]",
                    self.path(key)
                ),
            );
            return Vec::new();
        };
        let named = |(index, (table, span)): (usize, (&'a DeTable<'a>, Range<usize>))| {
            let own = table.get(called).and_then(|value| value.get_ref().as_str());
            let own = own.map_or_else(|| (index + 1).to_string(), str::to_owned);
            Section {
                source: self.source,
                name: format!("{}.{own}", self.path(key)),
                variable: None,
                table: Some(table),
                span,
                asked: RefCell::default(),
            }
        };
        tables.into_iter().enumerate().map(named).collect()
    }

    /// Says what is wrong at a key of this section; at the section if the key is not there.
    pub(super) fn complain(&self, key: &str, message: impl Into<String>) {
        self.push(self.location(key), key, message.into());
    }

    /// Complains about the keys of the file that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if asked.contains(&name) {
                continue;
            }
            let message = match suggest(name, asked.iter().copied()) {
                Some(meant) => format!("unknown key; did you mean `{meant}`?"),
                None => format!("unknown key; known here: {}", asked.join(", ")),
            };
            self.push(self.source.location(&key.span()), name, message);
        }
    }

    fn push(&self, location: Location, key: &str, message: String) {
        let key = self.path(key);
        self.source.diagnostics.borrow_mut().push(Diagnostic {
            location,
            key,
            message,
        });
    }

    fn path(&self, key: &str) -> String {
        match (self.name.as_str(), key) {
            ("", key) => key.to_owned(),
            (name, "") => name.to_owned(),
            (name, key) => format!("{name}.{key}"),
        }
    }

    fn location(&self, key: &str) -> Location {
        if let Some((name, _)) = self.variable(key) {
            return Location::Variable(format!("{PREFIX}{name}"));
        }
        let span = self
            .entry(key)
            .map_or_else(|| self.span.clone(), Spanned::span);
        self.source.location(&span)
    }

    fn ask(&self, key: &'static str) {
        self.asked.borrow_mut().push(key);
        if let Some(name) = self.variable_name(key) {
            self.source.asked.borrow_mut().insert(name);
        }
    }

    fn entry(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn value(&self, key: &str) -> Option<Value<'a>> {
        let variable = self.variable(key).map(|(_, text)| Value::Variable(text));
        variable.or_else(|| self.entry(key).map(Value::File))
    }

    fn variable(&self, key: &str) -> Option<(&'a String, &'a str)> {
        let (name, text) = self
            .source
            .variables
            .get_key_value(&self.variable_name(key)?)?;
        Some((name, text.as_str()))
    }

    fn variable_name(&self, key: &str) -> Option<String> {
        let prefix = self.variable.as_ref().filter(|prefix| !prefix.is_empty())?;
        Some(format!("{prefix}_{}", key.to_uppercase()))
    }
}

/// The closest of `known`, if it is close enough to be meant.
fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.chars().count().max(3) / 3)
        .min()
        .map(|(_, known)| known)
}

/// A value as it was given.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// In the file.
    File(&'a Spanned<DeValue<'a>>),
    /// In a variable, which holds text only.
    Variable(&'a str),
}

impl<'a> Value<'a> {
    /// A fault of this very value.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        let span = match self {
            Self::File(value) => Some(value.span()),
            Self::Variable(_) => None,
        };
        Fault {
            message: message.into(),
            span,
        }
    }

    /// A string; `what` says for people what is expected.
    pub(super) fn text(&self, what: &str) -> Result<&'a str, Fault> {
        match self {
            Self::File(value) => value.get_ref().as_str().ok_or_else(|| self.expected(what)),
            Self::Variable(text) => Ok(text),
        }
    }

    /// An integer of this range.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, Fault> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match self {
            Self::File(value) => {
                let integer = value
                    .get_ref()
                    .as_integer()
                    .ok_or_else(|| self.expected(&what))?;
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            Self::Variable(text) => text.parse().ok(),
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.fault(format!("expected {what}")))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        let found = match self {
            Self::File(value) => value.get_ref().as_bool(),
            Self::Variable(text) => text.parse().ok(),
        };
        found.ok_or_else(|| self.expected("true or false"))
    }

    /// The elements of a list; a value that is no list stands for a list of one.
    pub(super) fn list(&self) -> Vec<Value<'a>> {
        match self {
            Self::File(value) => match value.get_ref().as_array() {
                Some(array) => array.iter().map(Value::File).collect(),
                None => vec![*self],
            },
            Self::Variable(_) => vec![*self],
        }
    }

    /// The keys and values of a table.
    pub(super) fn table(&self, what: &str) -> Result<Vec<(&'a str, Value<'a>)>, Fault> {
        match self {
            Self::File(value) => {
                let table = value
                    .get_ref()
                    .as_table()
                    .ok_or_else(|| self.expected(what))?;
                Ok(table
                    .iter()
                    .map(|(key, value)| (key.get_ref().as_ref(), Value::File(value)))
                    .collect())
            }
            Self::Variable(_) => Err(self.expected(what)),
        }
    }

    /// A fault that says what was expected and what was found.
    pub(super) fn expected(&self, what: &str) -> Fault {
        match self {
            Self::File(value) => self.fault(format!(
                "expected {what}, found {}",
                value.get_ref().type_str()
            )),
            Self::Variable(text) => self.fault(format!("expected {what}, found {text:?}")),
        }
    }
}
