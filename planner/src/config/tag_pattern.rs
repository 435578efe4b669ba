//! What the tag of a member has to be for a backend to pick the member: a value of the config in, a pattern out. Pure.

use bstr::{BStr, ByteSlice};

use super::node::Node;
use super::section::{Section, section};
use super::value::{NodePattern, node_pattern, not_empty, some};

/// What the tag of a member has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagPattern {
    /// One of these values.
    OneOf(Vec<String>),
    /// A list that has this value in it: `backend,app`, separated by commas, with blanks around them or not.
    Contains(String),
    /// A value that this expression matches as a whole.
    Matches(NodePattern),
}

impl TagPattern {
    /// Whether a tag of this value is meant. One that is no UTF-8 matches no expression.
    pub fn fits(&self, value: &BStr) -> bool {
        match self {
            Self::OneOf(values) => values.iter().any(|wanted| value == wanted.as_bytes()),
            Self::Contains(wanted) => {
                let mut values = value.split_str(",").map(ByteSlice::trim);
                values.any(|value| value == wanted.as_bytes())
            }
            Self::Matches(pattern) => value.to_str().is_ok_and(|value| pattern.is_match(value)),
        }
    }

    /// `role=backend|app`, `role contains app`, `role matches web-.*`: what is said of a tag with this name.
    pub fn of(&self, tag: &str) -> String {
        match self {
            Self::OneOf(values) => format!("{tag}={}", values.join("|")),
            Self::Contains(value) => format!("{tag} contains {value}"),
            Self::Matches(pattern) => format!("{tag} matches {}", pattern.source()),
        }
    }
}

section! {
    /// A pattern that is a table: one of its keys.
    struct Keys {
        contains: Option<String> = None, some(element);
        matches: Option<NodePattern> = None, some(node_pattern);
    }
}

const WANTED: &str = "a string, a list of strings, { contains = \"…\" } or { matches = \"…\" }";

/// Takes `"backend"`, `["a", "b"]`, `{ contains = "backend" }` or `{ matches = "web-.*" }`.
pub(super) fn tag_pattern(tag: &str, node: &Node<'_>) -> Option<TagPattern> {
    if node.value().is_table() {
        return table(node);
    }
    let value = |node: &Node<'_>| node.text(WANTED).map(str::to_owned);
    let empty = format!("no value for tag `{tag}`; list at least one");
    not_empty(node, value, &empty).map(TagPattern::OneOf)
}

fn table(node: &Node<'_>) -> Option<TagPattern> {
    let keys = Keys::read(node)?;
    match (keys.contains, keys.matches) {
        (Some(value), None) => Some(TagPattern::Contains(value)),
        (None, Some(pattern)) => Some(TagPattern::Matches(pattern)),
        (None, None) if node.has("contains") || node.has("matches") => None,
        _ => node.expected("one key, `contains` or `matches`"),
    }
}

/// A value that a list may have in it.
fn element(node: &Node<'_>) -> Option<String> {
    node.parse("a value without commas and blanks around it", |text| {
        let fits = !text.is_empty() && !text.contains(',') && text.trim() == text;
        fits.then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(value: &str) -> TagPattern {
        TagPattern::Contains(value.to_owned())
    }

    #[test]
    fn a_list_has_its_values_with_blanks_around_them_or_not() {
        for list in ["backend", "backend,app", "app, backend", " app ,\tbackend "] {
            assert!(contains("backend").fits(list.into()), "{list}");
        }
        for list in ["", "backends", "app", "back,end", "backend;app"] {
            assert!(!contains("backend").fits(list.into()), "{list}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_fit_or_do_not(value in prop::collection::vec(any::<u8>(), 0..80), wanted in "[a-z]{1,8}") {
            let value = BStr::new(&value);
            let in_it = value.split(|byte| *byte == b',').any(|part| part.trim() == wanted.as_bytes());
            prop_assert_eq!(contains(&wanted).fits(value), in_it);
            let same = TagPattern::OneOf(vec![wanted.clone()]);
            prop_assert!(!same.fits(value) || contains(&wanted).fits(value));
        }
    }
}
