//! File and environment as one tree: their text in, nodes that know where they stand and complaints out. Pure.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Diagnostic, Location};
use super::node::Node;
use super::services;

/// The variables of a program's environment that set keys of its config.
#[derive(Clone, Copy, Debug)]
pub struct Variables {
    /// What each starts with.
    pub prefix: &'static str,
    /// Names without it that are the command line's, and no keys.
    pub command_line: &'static [&'static str],
}

/// Those of serf-haproxy.
pub(super) const SERF_HAPROXY: Variables = Variables {
    prefix: "SERF_HAPROXY_",
    command_line: &["CONFIG", "LOG_FORMAT", "LOG_LEVEL"],
};

/// Keys that hold tables, each written below its `[[key]]`.
pub(super) const LISTS: [&str; 3] = ["backend", "file", "route"];

/// All that was given, and all that is wrong with it so far.
pub struct Source<'a> {
    text: &'a str,
    /// Where each of its lines ends.
    newlines: Vec<usize>,
    /// The value of the nth counts as the nth byte behind the text: so a place is a number for both.
    variables: Vec<String>,
    root: Spanned<DeValue<'a>>,
    diagnostics: RefCell<BTreeSet<Diagnostic>>,
}

impl<'a> Source<'a> {
    /// `env` may hold any variables; those that are named so count, and go before the file.
    pub(super) fn new(
        text: &'a str,
        mut table: DeTable<'a>,
        named: Variables,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        services::complete(&mut table);
        let is_key = |name: &str| !named.command_line.contains(&name);
        let mut variables = Vec::new();
        let mut astray = Vec::new();
        for (variable, value) in env {
            let Some(name) = variable
                .strip_prefix(named.prefix)
                .filter(|name| is_key(name))
            else {
                continue;
            };
            let at = text.len() + variables.len();
            if !set(&mut table, name, value, at) {
                astray.push(at);
            }
            variables.push(variable);
        }
        let newlines = text.match_indices('\n').map(|(at, _)| at);
        let source = Self {
            text,
            newlines: newlines.collect(),
            variables,
            root: Spanned::new(0..0, DeValue::Table(table)),
            diagnostics: RefCell::default(),
        };
        for at in astray {
            source.complain(at, "", NO_KEY.to_owned());
        }
        source
    }

    /// The whole file with the variables over it.
    pub fn root(&self) -> Node<'_> {
        Node::new(self, &self.root)
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.diagnostics.borrow().is_empty()
    }

    /// What is wrong, ordered by place.
    pub(super) fn finish(&self) -> Vec<Diagnostic> {
        services::once(self.diagnostics.take())
    }

    /// Says what is wrong at this byte, with the key of this path.
    pub(super) fn complain(&self, at: usize, path: &str, message: String) {
        let variable = self.variable(at).cloned().map(Location::Variable);
        self.diagnostics.borrow_mut().insert(Diagnostic {
            location: variable.unwrap_or_else(|| location(self.text, at)),
            key: path.to_owned(),
            message,
        });
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < at) + 1
    }

    /// The variable whose value stands there.
    pub(super) fn variable(&self, at: usize) -> Option<&String> {
        self.variables.get(at.checked_sub(self.text.len())?)
    }
}

/// What is said of a variable that is no key's.
pub(super) const NO_KEY: &str =
    "this variable sets no key, lists and tables are set in the file only";

/// Line and column of a byte of the text.
pub(super) fn location(text: &str, offset: usize) -> Location {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Location::File {
        line: before.matches('\n').count() + 1,
        column: before.get(start..).unwrap_or_default().chars().count() + 1,
    }
}

/// Puts the value of a variable into the table, of `GUARD_WINDOW` at `guard.window`. `false` where no key has such a name.
fn set(table: &mut DeTable<'_>, name: &str, value: String, at: usize) -> bool {
    let lower = name.to_ascii_lowercase();
    let keys = lower.split_once('_');
    let keys = keys.filter(|(section, _)| !LISTS.contains(section));
    let Some((section, key)) = keys.filter(|_| name.to_ascii_uppercase() == name) else {
        return false;
    };
    let named = |key: &str| Spanned::new(at..at, key.to_owned().into());
    let empty = || Spanned::new(at..at, DeValue::Table(DeTable::new()));
    let section = table.entry(named(section)).or_insert_with(empty);
    if section.get_ref().is_array() {
        return false;
    }
    if let DeValue::Table(section) = section.get_mut() {
        section.remove(key);
        let value = DeValue::String(value.into());
        section.insert(named(key), Spanned::new(at..at, value));
    }
    true
}
