//! The stamp that tells a text by its content: a text in, the stamp it carries and whether that is its own out. Pure.
//!
//! A text of ours says `description "serf-haproxy <stamp>"` in its section `global`, and `show info` gives that back:
//! so the worker names the text it started with. The stamp is the hash of the text without the stamp, by which a
//! text that another hand has changed is told from the one that was written.

use std::fmt;

use sha2::{Digest, Sha256};

/// The first 16 hex digits of the SHA-256 of a text rendered with an empty stamp.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub String);

impl Stamp {
    /// The stamp of a text that was rendered with an empty one.
    pub fn of_blank(blank: &str) -> Self {
        Self(digest([blank], 8))
    }

    /// Takes the `description` that a file of ours carries, `serf-haproxy 0123456789abcdef`; none for any other.
    pub(crate) fn from_description(description: &str) -> Option<Self> {
        let stamp = description.trim().strip_prefix("serf-haproxy ")?;
        let fits = stamp.len() == 16
            && stamp
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| Self(stamp.to_owned()))
    }

    /// The stamp that a line of a configuration prints, in quotes or not; none for any other line.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        if words.next() != Some("description") {
            return None;
        }
        let words: Vec<&str> = words
            .take_while(|word| !word.starts_with('#'))
            .map(|word| word.trim_matches(['"', '\'']))
            .collect();
        Self::from_description(&words.join(" "))
    }

    /// The text without this stamp, wherever it stands in it: as it was rendered with an empty one.
    pub fn blank(&self, text: &str) -> String {
        text.replace(&self.0, "")
    }

    /// The stamp of a text that is as we have written it; none where it carries no stamp, or another than its content
    /// has: then another hand has written it.
    pub fn genuine(text: &str) -> Option<Self> {
        let mut stamps = text.lines().filter_map(Self::from_line);
        stamps.find(|stamp| Self::of_blank(&stamp.blank(text)) == *stamp)
    }
}

/// The hex digits of the first `bytes` of the SHA-256 of these texts, one after the other.
pub fn digest(texts: impl IntoIterator<Item = impl AsRef<[u8]>>, bytes: usize) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text);
    }
    let digest = hash.finalize();
    let first = digest.iter().take(bytes);
    first.map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: &str = "0123456789abcdef";

    fn stamped(before: &str, after: &str) -> String {
        let text = |stamp| format!("{before}description \"serf-haproxy {stamp}\"\n{after}");
        text(&Stamp::of_blank(&text("")).0)
    }

    #[test]
    fn a_stamp_is_sixteen_hex_digits_after_our_name() {
        assert_eq!(
            Stamp::from_description(&format!("serf-haproxy {STAMP}")),
            Some(Stamp(STAMP.into()))
        );
        for odd in [
            "",
            "serf-haproxy",
            "serf-haproxy ",
            "serf-haproxy 0123",
            "other 0123456789abcdef",
            "serf-haproxy 0123456789ABCDEF",
        ] {
            assert_eq!(Stamp::from_description(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_stamp_is_read_from_a_line_however_it_is_quoted() {
        for line in [
            "    description \"serf-haproxy 0123456789abcdef\"",
            "description serf-haproxy 0123456789abcdef",
            "\tdescription\t'serf-haproxy 0123456789abcdef'  # ours",
        ] {
            let stamp = Stamp::from_line(line);
            assert_eq!(stamp, Some(Stamp(STAMP.into())), "{line}");
        }
        for line in [
            "# description \"serf-haproxy 0123456789abcdef\"",
            "description \"edge serf-haproxy 0123456789abcdef\"",
            "description \"serf-haproxy 0123456789abcdef edge\"",
            "descriptions \"serf-haproxy 0123456789abcdef\"",
            "description",
            "",
        ] {
            assert_eq!(Stamp::from_line(line), None, "{line}");
        }
    }

    #[test]
    fn another_description_does_not_hide_ours() {
        let text = stamped(
            "global\n  description \"edge\"\n  description \"serf-haproxy 0123456789abcdef\"\n  ",
            "frontend f\n  description \"door\"\n",
        );
        assert!(Stamp::genuine(&text).is_some(), "{text}");
    }

    proptest! {
        #[test]
        fn a_text_is_genuine_until_any_byte_of_it_is_another(
            before in "[a-z#\"\n ]{0,40}", after in "[a-z#\"\n ]{0,40}", at in any::<prop::sample::Index>()
        ) {
            let text = stamped(&format!("{before}\n"), &after);
            let stamp = Stamp::genuine(&text);
            prop_assert!(stamp.is_some(), "{text}");
            let mut edited = text.clone().into_bytes();
            let at = at.index(edited.len());
            edited[at] = if edited[at] == b'z' { b'y' } else { b'z' };
            prop_assert_eq!(Stamp::genuine(&String::from_utf8(edited).unwrap()), None);
            prop_assert_ne!(Stamp::genuine(&format!("{text}#")), stamp);
        }
    }
}
