//! `members` and `members-filtered`: which members to list in, the members as the agent lists them out.

use std::collections::BTreeMap;

use crate::types::Member;
use crate::types::member::MemberDecoder;
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::protocol::ResponseShape;

use super::{Command, Response, re2};

/// `members`: all members the agent knows, itself included, in random order.
pub(crate) struct Members;

impl Command for Members {
    const NAME: &'static str = "members";
    type Response = Vec<Member>;

    fn write_body(&self, _: &mut Vec<u8>) {}
}

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

    /// Whether agents can read all expressions; else the first that none can, which would make the agent close the
    /// connection without a word.
    pub(crate) fn check(&self) -> Result<(), MalformedExpression> {
        let name = self
            .name
            .iter()
            .map(|expression| ("name".to_owned(), expression));
        let status = self
            .status
            .iter()
            .map(|expression| ("status".to_owned(), expression));
        let tags = self
            .tags
            .iter()
            .map(|(key, expression)| (format!("tag {key}"), expression));
        for (field, expression) in name.chain(status).chain(tags) {
            re2::check(expression).map_err(|cause| MalformedExpression { field, cause })?;
        }
        Ok(())
    }
}

/// An expression that no agent can read.
#[derive(Debug)]
pub(crate) struct MalformedExpression {
    /// What it was to match.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) cause: re2::Malformed,
}

/// `members-filtered`: the agent puts `^` and `$` around each expression without a group, so they are sent grouped.
impl Command for MemberFilter {
    const NAME: &'static str = "members-filtered";
    type Response = Vec<Member>;

    fn write_body(&self, body: &mut Vec<u8>) {
        let grouped = |expression: &str| format!("(?:{expression})");
        let named = [
            ("Status", self.status.as_ref()),
            ("Name", self.name.as_ref()),
        ];
        let named = named
            .into_iter()
            .filter_map(|(field, expression)| Some((field, expression?)));
        let mut writer = Writer::new(body);
        writer.map(1 + named.clone().count());
        writer.str("Tags").map(self.tags.len());
        for (tag, expression) in &self.tags {
            writer.str(tag).str(grouped(expression));
        }
        for (field, expression) in named {
            writer.str(field).str(grouped(expression));
        }
    }
}

/// The members, in random order.
impl Response for Vec<Member> {
    const SHAPE: ResponseShape = ResponseShape::Body;

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut members = Self::new();
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Members" => members = MemberDecoder::members(value)?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        Ok(members)
    }
}
