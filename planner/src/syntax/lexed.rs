//! A line of a configuration in, its words without the comment out. Pure.
//!
//! Source: HAProxy's Configuration Manual, section 2.2 "Quoting and escaping".

/// A `server-template` of more servers than this is one whose names are not told.
const MOST_NAMES: u32 = 10_000;

/// A line without its comment.
pub(crate) struct Lexed<'a> {
    /// Its words, right only where `plain`.
    pub(crate) words: Vec<&'a str>,
    /// Whether it has neither quote nor backslash, so that words are what is between blanks.
    plain: bool,
    raw: &'a str,
}

impl<'a> Lexed<'a> {
    /// Nothing where the line is blank or a comment.
    pub(crate) fn new(line: &'a str) -> Option<Self> {
        let quote = line.find(['"', '\'', '\\']).unwrap_or(line.len());
        let (before, _) = line.split_at(quote);
        let (raw, plain) = match before.split_once('#') {
            Some((text, _comment)) => (text, true),
            None => (line, quote == line.len()),
        };
        let raw = raw.trim_ascii();
        (!raw.is_empty()).then(|| Self {
            words: raw.split_ascii_whitespace().collect(),
            plain,
            raw,
        })
    }

    pub(crate) fn first(&self) -> &'a str {
        self.words.first().copied().unwrap_or_default()
    }

    pub(crate) fn word(&self, index: usize) -> Option<&'a str> {
        self.words.get(index).copied()
    }

    /// Whether its first word is not to be read as it stands: it may be any keyword.
    pub(crate) fn is_veiled(&self) -> bool {
        self.first().contains(['"', '\'', '\\'])
    }

    /// Whether it makes servers.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self.first(), "server" | "server-template")
    }

    /// The names of the servers it makes; `None` where they cannot be told.
    pub(crate) fn server_names(&self) -> Option<Vec<String>> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
        let name = self.word(1).filter(|word| word.bytes().all(plain))?;
        if self.first() == "server" {
            return Some(vec![name.to_owned()]);
        }
        let range = self.word(2)?;
        let (low, high) = range.split_once('-').unwrap_or(("1", range));
        let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
        let few = high.saturating_sub(low) < MOST_NAMES;
        few.then(|| {
            (low..=high)
                .map(|number| format!("{name}{number}"))
                .collect()
        })
    }

    /// Whether its words may go into a line of the Runtime API as they are.
    pub(crate) fn is_safe(&self) -> bool {
        self.words.iter().all(|word| is_plain_word(word))
    }

    /// The line as it is compared: one blank between its words, where they can be told.
    pub(crate) fn text(&self) -> String {
        if self.plain {
            self.words.join(" ")
        } else {
            self.raw.to_owned()
        }
    }

    /// The text, but of our own description without its stamp.
    pub(crate) fn global_text(&self) -> String {
        let ours = self.first() == "description" && {
            let rest = self
                .raw
                .trim_start_matches("description")
                .trim()
                .trim_matches(['"', '\'']);
            let mut words = rest.split_ascii_whitespace();
            words.next() == Some("serf-haproxy")
                && words
                    .next()
                    .is_none_or(|stamp| stamp.bytes().all(|b| b.is_ascii_hexdigit()))
                && words.next().is_none()
        };
        if ours {
            "description serf-haproxy".to_owned()
        } else {
            self.text()
        }
    }
}

/// Whether a word, without quotes and escapes, is the same to HAProxy's file, to its Runtime API, and to a template.
pub(crate) fn is_plain_word(word: &str) -> bool {
    let is_live = |b: u8| matches!(b, b'"' | b'\'' | b'\\' | b'$' | b'{' | b';' | b'<' | b'#');
    let mut bytes = word.bytes();
    !word.is_empty() && bytes.all(|b| b.is_ascii_graphic() && !is_live(b))
}
