//! Which members to list: expressions in, refused here where the agent would hang up over them.

use std::collections::BTreeMap;

use crate::command::{Command, MembersFiltered};
use crate::error::CallError;
use crate::re2;

/// Which members to list: regular expressions, each of which must match the whole of its field.
///
/// The agent reads Go's syntax ([`regexp/syntax`](https://pkg.go.dev/regexp/syntax)) and closes the
/// connection over what it cannot read. What no version of Go reads is refused before it is sent;
/// what only some read is left to the agent: the names in `\p{…}`, groups named `(?<name>…)`, and
/// expressions that are huge or nested a thousand levels deep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    name: Option<String>,
    status: Option<String>,
    tags: BTreeMap<String, String>,
}

impl MemberFilter {
    /// A filter that every member passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Members whose name matches; an empty expression stands for any.
    #[must_use]
    pub fn name(mut self, expression: impl Into<String>) -> Self {
        self.name = Some(expression.into()).filter(|expression| !expression.is_empty());
        self
    }

    /// Members whose status (`alive`, `leaving`, `left`, `failed`) matches; an empty expression
    /// stands for any.
    #[must_use]
    pub fn status(mut self, expression: impl Into<String>) -> Self {
        self.status = Some(expression.into()).filter(|expression| !expression.is_empty());
        self
    }

    /// Members whose tag of that key matches; one that lacks it is taken to have an empty one.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, expression: impl Into<String>) -> Self {
        self.tags.insert(key.into(), expression.into());
        self
    }

    pub(crate) fn command(&self) -> MembersFiltered<'_> {
        MembersFiltered {
            name: self.name.as_deref(),
            status: self.status.as_deref(),
            tags: &self.tags,
        }
    }

    /// Refuses what would make the agent close the connection without a word.
    pub(crate) fn check(&self) -> Result<(), CallError> {
        let tags = self
            .tags
            .iter()
            .map(|(key, expression)| (format!("tag {key}"), expression));
        let name = self
            .name
            .iter()
            .map(|expression| ("name".to_owned(), expression));
        let status = self
            .status
            .iter()
            .map(|expression| ("status".to_owned(), expression));
        for (field, expression) in name.chain(status).chain(tags) {
            re2::check(expression).map_err(|malformed| CallError::Filter {
                command: MembersFiltered::NAME,
                field,
                message: malformed.to_string(),
            })?;
        }
        Ok(())
    }
}
