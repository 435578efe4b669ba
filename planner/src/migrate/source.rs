//! A file as it stands: its text in, lines with their bytes, and where sections begin and end, out. Pure.

use std::ops::Range;

use crate::syntax::lines::{Line, Lines, Section};

/// A text by lines and sections.
pub(super) struct Source<'a> {
    /// With their line breaks.
    raw: Vec<&'a str>,
    lines: Lines,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            raw: text.split_inclusive('\n').collect(),
            lines: Lines::parse(text),
        }
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// How many lines it has.
    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// A line with its line break, counted from 1; empty where there is none.
    pub(super) fn raw(&self, number: usize) -> &'a str {
        let index = number.checked_sub(1);
        index
            .and_then(|index| self.raw.get(index))
            .copied()
            .unwrap_or_default()
    }

    /// The proxies of that name that may have servers.
    pub(super) fn proxies<'b>(
        &'b self,
        name: &'b str,
    ) -> impl Iterator<Item = &'b Section> + use<'a, 'b> {
        let sections = self.lines.sections();
        sections.filter(move |section| section.has_servers() && section.name() == name)
    }

    /// The numbers of the lines of a section, its first one included.
    pub(super) fn range(&self, section: &Section) -> Range<usize> {
        let from = section.title.number;
        let titles = self
            .lines
            .sections()
            .skip(1)
            .map(|other| other.title.number);
        let end = titles.filter(|number| *number > from).min();
        from..end.unwrap_or(self.len() + 1)
    }

    /// Behind which line one more of a section goes: its last that says something, outside what began inside it.
    pub(super) fn end(&self, section: &Section) -> usize {
        let mut depth = 0_i32;
        let mut end = section.title.number;
        for number in self.range(section) {
            let words: Vec<&str> = self.raw(number).split_ascii_whitespace().collect();
            match words.first().copied().unwrap_or("#") {
                word if word.starts_with('#') => continue,
                ".if" => depth += 1,
                ".endif" => depth -= 1,
                _ => {}
            }
            if depth < 0 {
                break;
            }
            if depth == 0 {
                end = number;
            }
        }
        end
    }

    /// The line break that its lines end with.
    pub(super) fn line_break(&self) -> &'static str {
        let first = self.raw.first().copied().unwrap_or_default();
        if first.ends_with("\r\n") {
            "\r\n"
        } else {
            "\n"
        }
    }

    /// The blanks that the lines of a section begin with: those of its first one.
    pub(super) fn indentation(&self, section: &Section) -> &'a str {
        section
            .lines
            .first()
            .map_or("    ", |line| self.indentation_of(line))
    }

    pub(super) fn indentation_of(&self, line: &Line) -> &'a str {
        let raw = self.raw(line.number);
        let words = raw.trim_start_matches([' ', '\t']);
        raw.strip_suffix(words).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_before_what_is_said_of_the_next_and_outside_of_conditions() {
        let text = "# a\nglobal\n  daemon\n.if defined(X)\n  user x\n.endif\n\n# next\ndefaults\n mode http\n\
                    .if defined(Y)\nbackend b\n balance first\n.endif\nbackend c\n";
        let source = Source::new(text);
        let ends = source.lines().sections().skip(1).map(|section| {
            let range = source.range(section);
            (section.kind().to_owned(), range, source.end(section))
        });
        let ends: Vec<_> = ends.collect();
        assert_eq!(
            ends,
            [
                ("global".to_owned(), 2..9, 6),
                ("defaults".to_owned(), 9..12, 10),
                ("backend".to_owned(), 12..15, 13),
                ("backend".to_owned(), 15..16, 15),
            ]
        );
    }
}
