//! Any text in, the same as one line that any terminal and log takes as text out. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with all that would move a cursor, end a line or turn its direction written as escapes: control characters,
/// bidirectional marks, and whatever else has no shape of its own.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_debug());
        }
    }
    Cow::Owned(escaped)
}

/// The same for a line of JSON, whose only characters of that kind stand in strings: it says the same as before.
pub fn printable_json(line: &str) -> Cow<'_, str> {
    if line.chars().all(is_plain) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if is_plain(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    Cow::Owned(escaped)
}

fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') || !c.is_ascii() && c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a terminal or a reader of lines would take for more than text.
    fn is_harmful(c: char) -> bool {
        let bidi = ['\u{200e}', '\u{200f}', '\u{061c}'];
        c.is_control()
            || bidi.contains(&c)
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
            || ('\u{2028}'..='\u{2029}').contains(&c)
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in ["s1: ready \"yes\" 'no' \\", "büro → 東京", ""] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(printable("a\x1b[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left_and_json_says_the_same(text in any::<String>()) {
            prop_assert!(!printable(&text).contains(is_harmful));
            let json = serde_json::to_string(&text).unwrap();
            let line = printable_json(&json);
            prop_assert!(!line.contains(is_harmful));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
