//! Names and tags of the network in, text that a terminal shows and does not obey out.
//!
//! Any node of a cluster chooses its own name and tags, and they may be any bytes. A newline in them
//! forges a row, an escape sequence moves the cursor or worse. Text is escaped wherever it goes, not on a
//! terminal alone: behind a pipe there is often a terminal again (`| head`, `ssh host serfctl members`).

use std::{
    borrow::Cow,
    env,
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use serf_rpc::MemberStatus;

/// The bytes as text: what is printable stays, control characters become `\n`, `\t`, `\r` or `\u{1b}`, bytes
/// that are not UTF-8 become `\xff`.
///
/// A backslash stays as it is, so that ordinary values read as they were set.
pub(crate) fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes)
        && !text.contains(is_unsafe)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_unsafe(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").unwrap_or_default();
        }
    }
    Cow::Owned(out)
}

/// The bytes as text for a machine, as Go's `encoding/json` does it: each byte that is not UTF-8 becomes U+FFFD.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(out)
}

/// Whether a terminal may obey the character, or show a line in another order than it has: controls (C0, DEL,
/// C1), line and paragraph separators, the embeddings, overrides and isolates of bidirectional text.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether output is painted: on a terminal only, and not where `NO_COLOR` is set to anything
/// (<https://no-color.org>) or the terminal is a dumb one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colours: bool,
    redraws: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let redraws = io::stdout().is_terminal() && !is_dumb();
        Self {
            colours: redraws && !set("NO_COLOR"),
            redraws,
        }
    }

    /// A member's status, or a text that stands for it.
    pub(crate) fn status(self, status: MemberStatus, text: &str) -> String {
        self.painted(
            match status {
                MemberStatus::Alive => "32",
                MemberStatus::Leaving => "33",
                MemberStatus::Failed => "31",
                _ => "2",
            },
            text,
        )
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.painted("1", text)
    }

    /// What stands between two drawings of one thing; nothing before the first but on a terminal.
    pub(crate) fn clear_or_blank(self, first: bool) -> &'static str {
        match (self.redraws, first) {
            (true, _) => "\x1b[H\x1b[2J",
            (false, true) => "",
            (false, false) => "\n",
        }
    }

    fn painted(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Whether the terminal obeys no escape sequences.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
impl Style {
    pub(crate) fn plain() -> Self {
        Self {
            colours: false,
            redraws: false,
        }
    }

    pub(crate) fn coloured() -> Self {
        Self {
            colours: true,
            redraws: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_borrowed_as_it_is() {
        assert!(matches!(
            escape("wéb-1 \\ <ä>".as_bytes()),
            Cow::Borrowed("wéb-1 \\ <ä>")
        ));
    }

    #[test]
    fn escape_sequences_newlines_and_foreign_bytes_become_visible() {
        assert_eq!(
            escape(b"a\x1b[31m\n\xff\xe2\x82z"),
            "a\\u{1b}[31m\\n\\xff\\xe2\\x82z"
        );
        assert_eq!(escape("\u{9b}2J\u{202e}".as_bytes()), "\\u{9b}2J\\u{202e}");
    }

    #[test]
    fn each_foreign_byte_is_replaced_by_one_character_as_go_does() {
        assert_eq!(lossy(b"a\xff\xe2\x82z"), "a\u{fffd}\u{fffd}\u{fffd}z");
        assert_eq!(lossy(b"\xed\xa0\x80"), "\u{fffd}\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn nothing_escaped_can_be_obeyed(bytes: Vec<u8>) {
            prop_assert!(!escape(&bytes).contains(is_unsafe));
        }

        #[test]
        fn printable_text_survives(text in "[ -~äöü→]*") {
            prop_assert_eq!(escape(text.as_bytes()), &*text);
            prop_assert_eq!(lossy(text.as_bytes()), &*text);
        }
    }
}
