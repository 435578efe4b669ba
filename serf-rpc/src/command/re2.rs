//! Whether the agent can read a regular expression: an expression in, what is wrong with it out.
//!
//! The agent reads Go's syntax (`regexp/syntax`, the dialect of RE2), which differs from that of other
//! engines in both directions, and closes the connection over what it cannot read. This follows Go's
//! parser step by step and builds nothing.

/// Why the agent cannot read an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("missing closing )")]
    OpenGroup,
    #[error("unexpected )")]
    UnexpectedParen,
    #[error("nothing to repeat")]
    NothingToRepeat,
    #[error("a repetition is repeated")]
    RepeatedRepetition,
    #[error("a repeat count is above 1000, alone or multiplied, or below its minimum")]
    RepeatCount,
    #[error("unsupported group or flag")]
    Group,
    #[error("the name of a group is no word")]
    GroupName,
    #[error("backslash at the end")]
    TrailingBackslash,
    #[error("unsupported escape sequence")]
    Escape,
    /// Go has no need of it, but what the agent appends would be quoted too.
    #[error("missing closing \\E")]
    OpenQuote,
    #[error("missing closing ]")]
    OpenClass,
    #[error("a range of characters is in the wrong order")]
    Range,
    #[error("unknown class of characters")]
    UnknownClass,
}

/// The highest repeat count, and the highest product of nested ones.
const MAX_REPEAT: u32 = 1000;

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Refuses what Go's parser certainly refuses.
///
/// What depends on Go's version passes: the names in `\p{…}`, groups named `(?<name>…)` (since Go
/// 1.22), and the limits on size and depth, which start at a thousand levels.
pub(crate) fn check(expression: &str) -> Result<(), Malformed> {
    let mut parser = Parser {
        rest: expression,
        groups: Vec::new(),
        group: Group::default(),
    };
    let mut repeated = false;
    while let Some(next) = parser.next() {
        repeated = parser.term(next, repeated)?;
    }
    if parser.groups.is_empty() {
        Ok(())
    } else {
        Err(Malformed::OpenGroup)
    }
}

struct Parser<'a> {
    rest: &'a str,
    /// The groups around the current one, the outermost first.
    groups: Vec<Group>,
    group: Group,
}

/// How often the things in a group are repeated at most, as the product of nested counts.
#[derive(Clone, Copy, Default)]
struct Group {
    /// All but the last.
    before: u32,
    /// The last one, which a repetition would repeat; none at the start of an alternative.
    last: Option<u32>,
}

impl Group {
    fn push(&mut self, repeats: u32) {
        self.before = self.all();
        self.last = Some(repeats);
    }

    fn end_alternative(&mut self) {
        self.before = self.all();
        self.last = None;
    }

    fn all(&self) -> u32 {
        self.before.max(self.last.unwrap_or(1))
    }
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn eat(&mut self, start: &str) -> bool {
        match self.rest.strip_prefix(start) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// One term that begins with this character, and whether it was a repetition.
    fn term(&mut self, first: char, repeated: bool) -> Result<bool, Malformed> {
        match first {
            '(' if self.eat("?") => self.special_group()?,
            '(' => self.open(),
            ')' => {
                let outer = self.groups.pop().ok_or(Malformed::UnexpectedParen)?;
                let inner = std::mem::replace(&mut self.group, outer);
                self.group.push(inner.all());
            }
            '|' => self.group.end_alternative(),
            '*' | '+' | '?' => return self.repeat(None, repeated),
            '{' => match self.counts() {
                Some(counts) => return self.repeat(Some(counts), repeated),
                None => self.group.push(1),
            },
            '[' => {
                self.class()?;
                self.group.push(1);
            }
            '\\' if self.eat("Q") => {
                let (text, rest) = self.rest.split_once("\\E").ok_or(Malformed::OpenQuote)?;
                if !text.is_empty() {
                    self.group.push(1);
                }
                self.rest = rest;
            }
            '\\' => {
                let anchor = ["A", "b", "B", "z"].into_iter().any(|name| self.eat(name));
                if !anchor && !self.class_escape()? {
                    self.escape()?;
                }
                self.group.push(1);
            }
            _ => self.group.push(1),
        }
        Ok(false)
    }

    fn open(&mut self) {
        self.groups.push(std::mem::take(&mut self.group));
    }

    /// A group that begins with `(?`: named, or with flags for itself or for the rest of this one.
    fn special_group(&mut self) -> Result<(), Malformed> {
        if self.eat("P<") || self.eat("<") {
            let (name, rest) = self.rest.split_once('>').ok_or(Malformed::GroupName)?;
            let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(word) {
                return Err(Malformed::GroupName);
            }
            self.rest = rest;
            self.open();
            return Ok(());
        }
        let (mut negative, mut empty) = (false, true);
        loop {
            match self.next() {
                Some('i' | 'm' | 's' | 'U') => empty = false,
                Some('-') if !negative => (negative, empty) = (true, true),
                Some(':') if !(negative && empty) => {
                    self.open();
                    return Ok(());
                }
                Some(')') if !(negative && empty) => return Ok(()),
                _ => return Err(Malformed::Group),
            }
        }
    }

    /// The rest of `{min}`, `{min,}` or `{min,max}`. Anything else is no repetition, and the brace
    /// stands for itself.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let (inside, rest) = self.rest.split_once('}')?;
        let counts = match inside.split_once(',') {
            None => (count(inside)?, Some(count(inside)?)),
            Some((min, "")) => (count(min)?, None),
            Some((min, max)) => (count(min)?, Some(count(max)?)),
        };
        self.rest = rest;
        Some(counts)
    }

    /// A repetition, with these counts or any, of what comes before it.
    fn repeat(
        &mut self,
        counts: Option<(u32, Option<u32>)>,
        repeated: bool,
    ) -> Result<bool, Malformed> {
        // It may be told not to be greedy.
        self.eat("?");
        if repeated {
            return Err(Malformed::RepeatedRepetition);
        }
        let inner = self.group.last.ok_or(Malformed::NothingToRepeat)?;
        let times = match counts {
            None => 1,
            // Whatever is repeated no times at all counts no further.
            Some((0, Some(0))) => {
                self.group.last = Some(1);
                return Ok(true);
            }
            Some((min, max)) => {
                let most = max.unwrap_or(min);
                if min > MAX_REPEAT || most > MAX_REPEAT || min > most {
                    return Err(Malformed::RepeatCount);
                }
                most.max(1)
            }
        };
        let repeats = inner.saturating_mul(times);
        if times > 1 && repeats > MAX_REPEAT {
            return Err(Malformed::RepeatCount);
        }
        self.group.last = Some(repeats);
        Ok(true)
    }

    /// The rest of a class in brackets.
    fn class(&mut self) -> Result<(), Malformed> {
        self.eat("^");
        // A bracket stands for itself in the first place.
        let mut first = true;
        while first || !self.eat("]") {
            first = false;
            if self.posix_class()? {
                continue;
            }
            if self.rest.starts_with('\\') {
                let before = self.rest;
                self.eat("\\");
                if self.class_escape()? {
                    continue;
                }
                self.rest = before;
            }
            let low = self.class_char()?;
            if self.rest.len() > 1 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.eat("-");
                if self.class_char()? < low {
                    return Err(Malformed::Range);
                }
            }
        }
        Ok(())
    }

    /// `[:name:]` inside a class; false if there is none.
    fn posix_class(&mut self) -> Result<bool, Malformed> {
        let Some((name, rest)) = self
            .rest
            .strip_prefix("[:")
            .and_then(|rest| rest.split_once(":]"))
        else {
            return Ok(false);
        };
        if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(Malformed::UnknownClass);
        }
        self.rest = rest;
        Ok(true)
    }

    /// One character of a class, by its code.
    fn class_char(&mut self) -> Result<u32, Malformed> {
        match self.next() {
            None => Err(Malformed::OpenClass),
            Some('\\') => self.escape(),
            Some(c) => Ok(c.into()),
        }
    }

    /// After a backslash, the rest of an escape that stands for a class; false if there is none.
    fn class_escape(&mut self) -> Result<bool, Malformed> {
        if self.rest.starts_with(['d', 'D', 's', 'S', 'w', 'W']) {
            self.next();
            return Ok(true);
        }
        if !self.eat("p") && !self.eat("P") {
            return Ok(false);
        }
        let known = match self.next() {
            Some('C' | 'L' | 'M' | 'N' | 'P' | 'S' | 'Z') => true,
            Some('{') => match self.rest.split_once('}') {
                Some((name, rest)) => {
                    self.rest = rest;
                    let name = name.strip_prefix('^').unwrap_or(name);
                    let letter = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | ' ');
                    !name.is_empty() && name.chars().all(letter)
                }
                None => false,
            },
            _ => false,
        };
        known.then_some(true).ok_or(Malformed::UnknownClass)
    }

    /// After a backslash, the rest of an escape that stands for one character, and its code.
    fn escape(&mut self) -> Result<u32, Malformed> {
        let octal = |c: char| c.is_digit(8);
        match self.next().ok_or(Malformed::TrailingBackslash)? {
            'a' => Ok(7),
            'f' => Ok(12),
            'n' => Ok(10),
            'r' => Ok(13),
            't' => Ok(9),
            'v' => Ok(11),
            'x' => self.hexadecimal(),
            // A single digit that is not 0 would refer back to a group.
            first @ '0'..='7' if first == '0' || self.rest.starts_with(octal) => {
                let mut code = first.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    if let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) {
                        code = code * 8 + digit;
                        self.next();
                    }
                }
                Ok(code)
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c.into()),
            _ => Err(Malformed::Escape),
        }
    }

    /// The rest of `\x7F` or `\x{10FFFF}`.
    fn hexadecimal(&mut self) -> Result<u32, Malformed> {
        let digits = if self.eat("{") {
            let (digits, rest) = self.rest.split_once('}').ok_or(Malformed::Escape)?;
            self.rest = rest;
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).ok_or(Malformed::Escape)?;
            self.rest = rest;
            digits
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Malformed::Escape);
        }
        let significant = digits.trim_start_matches('0');
        match u32::from_str_radix(significant, 16) {
            Err(_) if significant.is_empty() => Ok(0),
            Ok(code) if code <= char::MAX.into() => Ok(code),
            _ => Err(Malformed::Escape),
        }
    }
}

/// A count as Go reads it: digits, none of them a leading zero; far above the limit where it does
/// not fit.
fn count(digits: &str) -> Option<u32> {
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let padded = digits.len() > 1 && digits.starts_with('0');
    (number && !padded).then(|| digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What agents of Serf 0.9.4 and 0.10.1 answered, and what is here that other engines refuse.
    #[test]
    fn what_go_reads_passes() {
        for expression in [
            "",
            "a|b",
            "a{",
            "a{,3}",
            "a{1",
            "a{01}",
            "{",
            "}",
            "]",
            r"\Qa*(\E+",
            r"a\Q\E*",
            "^*",
            r"\b*",
            "()*",
            "(|a)*",
            "(?)",
            "(?i)a",
            "a(?i)*",
            "a*(?i)*",
            "(?i-s:a)",
            "(?U)a+",
            "(?P<name>a)",
            "a*?",
            "a{2,3}?",
            "a{1000}",
            "(a{500}){2}",
            "(a{1000}){1}",
            "(a{1000}){0}",
            "(?:a{0}){1000}",
            "(?:(?:a{1000}){0}b){1000}",
            "[]a]",
            "[^]a]",
            "[a-]",
            "[-a]",
            "[a-b-c]",
            "[[:alpha:][:^digit:]]",
            "[[:alpha]",
            "[[a]]",
            "[a&&b]",
            r"[\d\pL-]",
            r"\pL\PN\p{L}\p{^Lu}",
            r"\_\-\<\/",
            r"\0\12\123\777",
            r"\x7f\x{0010FFFF}",
            r"\a\f\n\r\t\v\A\z\B",
            "ä.世",
        ] {
            assert_eq!(check(expression), Ok(()), "{expression}");
        }
    }

    #[test]
    fn what_go_cannot_read_is_refused_with_the_reason() {
        for (expression, reason) in [
            ("(", Malformed::OpenGroup),
            ("a)|(b", Malformed::UnexpectedParen),
            ("*", Malformed::NothingToRepeat),
            ("a|*", Malformed::NothingToRepeat),
            ("(+)", Malformed::NothingToRepeat),
            (r"\Q\E*", Malformed::NothingToRepeat),
            ("{2}", Malformed::NothingToRepeat),
            ("a**", Malformed::RepeatedRepetition),
            ("a++", Malformed::RepeatedRepetition),
            ("a{2}{3}", Malformed::RepeatedRepetition),
            ("a???", Malformed::RepeatedRepetition),
            ("a{1001}", Malformed::RepeatCount),
            ("a{99999999999}", Malformed::RepeatCount),
            ("a{3,2}", Malformed::RepeatCount),
            ("(a{500}){3}", Malformed::RepeatCount),
            ("((a{10}b{2}){10}c){11}", Malformed::RepeatCount),
            ("(?=a)", Malformed::Group),
            ("(?<=a)", Malformed::GroupName),
            ("(?x)a", Malformed::Group),
            ("(?i-)a", Malformed::Group),
            ("(?--i)a", Malformed::Group),
            ("(?P=name)", Malformed::Group),
            ("(?P<>a)", Malformed::GroupName),
            ("(?P<a b>a)", Malformed::GroupName),
            ("(?P<a", Malformed::GroupName),
            (r"\", Malformed::TrailingBackslash),
            (r"\1", Malformed::Escape),
            (r"\8", Malformed::Escape),
            (r"\C", Malformed::Escape),
            (r"\Z", Malformed::Escape),
            (r"\u0041", Malformed::Escape),
            (r"\ä", Malformed::Escape),
            (r"\x", Malformed::Escape),
            (r"\x4", Malformed::Escape),
            (r"\x{}", Malformed::Escape),
            (r"\x{110000}", Malformed::Escape),
            (r"\x{ffffffffff}", Malformed::Escape),
            (r"\Qa", Malformed::OpenQuote),
            ("[", Malformed::OpenClass),
            ("[]", Malformed::OpenClass),
            ("[a-", Malformed::OpenClass),
            ("[z-a]", Malformed::Range),
            (r"[\n-\t]", Malformed::Range),
            (r"[\b]", Malformed::Escape),
            ("[[:nope:]]", Malformed::UnknownClass),
            (r"\pX", Malformed::UnknownClass),
            (r"\p{", Malformed::UnknownClass),
            (r"\p{}", Malformed::UnknownClass),
            (r"\p{,2}", Malformed::UnknownClass),
            (r"\p", Malformed::UnknownClass),
        ] {
            assert_eq!(check(expression), Err(reason), "{expression}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in ".{0,80}", syntax in r"[\[\](){}|*+?^$\\a-dpQEx0-9:<>,i-]{0,40}") {
            let _ = check(&text);
            let _ = check(&syntax);
        }

        #[test]
        fn whatever_is_quoted_passes(text in r"[^\\]{0,40}") {
            prop_assert_eq!(check(&format!(r"\Q{text}\E")), Ok(()));
        }
    }
}
