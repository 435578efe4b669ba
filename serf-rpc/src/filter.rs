//! Which members to list: expressions in, refused here where the agent would hang up over them.

use std::collections::BTreeMap;

use crate::command::{Command, MembersFiltered};
use crate::error::CallError;

/// Which members to list: regular expressions, each of which must match the whole of its field.
///
/// The agent reads Go's RE2. What is the same there and in Rust's `regex` is accepted: write `\{`
/// for a literal brace, and do without `\Q…\E`.
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
            if let Err(error) = regex_syntax::parse(expression) {
                let message = match error {
                    regex_syntax::Error::Parse(error) => error.kind().to_string(),
                    regex_syntax::Error::Translate(error) => error.kind().to_string(),
                    other => other.to_string(),
                };
                return Err(CallError::Filter {
                    command: MembersFiltered::NAME,
                    field,
                    message,
                });
            }
        }
        Ok(())
    }
}
