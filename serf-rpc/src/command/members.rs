//! `members` and `members-filtered`: which members to list in, the members as the agent lists them out.

use crate::error::CallErrorKind;
use crate::types::member::MemberDecoder;
use crate::types::{Member, MemberStatus};
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::protocol::ResponseShape;

use super::pattern::{Pattern, TagPatterns};
use super::{Command, Response};

/// `members`: all members the agent knows, itself included, in random order.
pub(crate) struct Members;

impl Command for Members {
    const NAME: &'static str = "members";
    type Response = Vec<Member>;

    fn write_body(&self, _: &mut Vec<u8>) {}
}

/// Which members to list: all of its [`Pattern`]s must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    name: Option<Pattern>,
    status: Option<Pattern>,
    tags: TagPatterns,
}

impl MemberFilter {
    /// A filter that every member passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Members whose name matches; an empty expression stands for any.
    #[must_use]
    pub fn name(mut self, pattern: impl Into<Pattern>) -> Self {
        self.name = Some(pattern.into()).filter(|pattern| !pattern.as_str().is_empty());
        self
    }

    /// Members of that name.
    #[must_use]
    pub fn name_is(self, name: impl AsRef<str>) -> Self {
        self.name(Pattern::exactly(name))
    }

    /// Members whose status (`alive`, `leaving`, `left`, `failed`) matches; an empty expression
    /// stands for any.
    #[must_use]
    pub fn status(mut self, pattern: impl Into<Pattern>) -> Self {
        self.status = Some(pattern.into()).filter(|pattern| !pattern.as_str().is_empty());
        self
    }

    /// Members of that status.
    #[must_use]
    pub fn status_is(self, status: MemberStatus) -> Self {
        self.status(status.as_str())
    }

    /// Members whose tag of that key matches; one that lacks it is taken to have an empty one.
    #[must_use]
    pub fn tag(mut self, key: impl AsRef<[u8]>, pattern: impl Into<Pattern>) -> Self {
        self.tags.insert(key, pattern);
        self
    }

    /// Members whose tag of that key has that value; of an empty one also those that lack it.
    #[must_use]
    pub fn tag_is(self, key: impl AsRef<[u8]>, value: impl AsRef<str>) -> Self {
        self.tag(key, Pattern::exactly(value))
    }

    /// The first expression that no agent can read: it would make the agent close the connection without a word.
    pub(crate) fn check(&self) -> Result<(), CallErrorKind> {
        for (field, pattern) in [("name", &self.name), ("status", &self.status)] {
            if let Some(pattern) = pattern {
                pattern.check_for(|| field.to_owned())?;
            }
        }
        self.tags.check()
    }
}

/// `members-filtered`: the agent puts `^` and `$` around each expression without a group, so they are sent grouped.
impl Command for MemberFilter {
    const NAME: &'static str = "members-filtered";
    type Response = Vec<Member>;

    fn write_body(&self, body: &mut Vec<u8>) {
        let named = [("Status", &self.status), ("Name", &self.name)];
        let named = named
            .into_iter()
            .filter_map(|(field, pattern)| Some((field, pattern.as_ref()?)));
        let mut writer = Writer::new(body);
        writer.map(1 + named.clone().count());
        writer.str("Tags").map(self.tags.len());
        for (tag, pattern) in self.tags.iter() {
            writer.str(tag).str(pattern.grouped());
        }
        for (field, pattern) in named {
            writer.str(field).str(pattern.grouped());
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
