//! A configuration as text in, its sections and their lines as words out. Pure.
//!
//! For those who look at a text and change nothing by it: every line is taken as it is, in whatever form. What a line
//! inside `.if` says is up to HAProxy's surroundings, so it is marked.
//!
//! Sources: HAProxy's Configuration Manual, sections 2.2 "Quoting and escaping", 2.4 "Conditional blocks" and
//! 4 "Proxies" (`from`).

use std::collections::BTreeMap;

use crate::syntax::SECTIONS;

/// A configuration by sections; lines above the first belong to one without a kind.
#[derive(Clone, Debug, Default)]
pub struct Lines(Vec<Section>);

/// A section.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its first line.
    pub title: Line,
    /// All others, without comments, blank lines and the directives of conditional blocks.
    pub lines: Vec<Line>,
    /// The `defaults` section it inherits from, by its place in the text.
    parent: Option<usize>,
}

/// A line.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Which of the texts it stands in, from 0.
    pub text: usize,
    /// Counted from 1.
    pub number: usize,
    /// Its words without quotes and escapes; at least one.
    pub words: Vec<String>,
    /// Whether it stands inside `.if`.
    pub conditional: bool,
}

impl Lines {
    /// Never fails.
    pub fn parse(text: &str) -> Self {
        Self::parse_all([text])
    }

    /// The same of several files, in the order HAProxy reads them: what the last `defaults` of one says holds in the next.
    pub fn parse_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sections = vec![Section::default()];
        let mut defaults = BTreeMap::new();
        let mut last_defaults = None;
        let mut depth = 0_usize;
        let texts = texts.into_iter().enumerate();
        let lines = texts.flat_map(|(text, lines)| {
            let lines = lines.lines().enumerate();
            lines.map(move |(index, line)| (text, index + 1, line))
        });
        for (text, number, line) in lines {
            if number == 1 {
                depth = 0;
            }
            let line = Line {
                text,
                number,
                words: words(line),
                conditional: depth > 0,
            };
            match line.word(0) {
                "" | ".else" | ".elif" => {}
                ".if" => depth += 1,
                ".endif" => depth = depth.saturating_sub(1),
                kind if SECTIONS.contains(&kind) => {
                    let parent = match line.from() {
                        Some(name) => defaults.get(name).copied(),
                        None if kind == "defaults" => None,
                        None => last_defaults,
                    };
                    if kind == "defaults" {
                        last_defaults = Some(sections.len());
                        defaults.insert(line.word(1).to_owned(), sections.len());
                    }
                    sections.push(Section {
                        title: line,
                        lines: Vec::new(),
                        parent,
                    });
                }
                _ => {
                    if let Some(section) = sections.last_mut() {
                        section.lines.push(line);
                    }
                }
            }
        }
        Self(sections)
    }

    /// All sections, in the order of the text.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.0.iter()
    }

    /// The sections of this kind and name; all of the kind for one that has no names.
    pub fn named<'a, 'b>(
        &'a self,
        kind: &'b str,
        name: &'b str,
    ) -> impl Iterator<Item = &'a Section> + use<'a, 'b> {
        let is_it = move |section: &&Section| section.kind() == kind && section.name() == name;
        self.sections().filter(is_it)
    }

    /// A proxy section and the `defaults` it inherits from, nearest first.
    pub fn chain<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a Section> {
        std::iter::successors(Some(section), |section| self.0.get(section.parent?))
    }

    /// The line in force of those that are such: the last one of the section, or else of what it inherits from.
    pub fn last<'a>(
        &'a self,
        section: &'a Section,
        such: impl Fn(&Line) -> bool,
    ) -> Option<&'a Line> {
        self.chain(section)
            .find_map(|section| section.lines.iter().rev().find(|line| such(line)))
    }

    /// The line in force that begins with these words.
    pub fn setting<'a>(&'a self, section: &'a Section, begins: &[&str]) -> Option<&'a Line> {
        self.last(section, |line| line.begins(begins))
    }

    /// The line in force that switches this option on; none where nothing does, or `no option` takes it back.
    pub fn option<'a>(&'a self, section: &'a Section, name: &str) -> Option<&'a Line> {
        let (on, off) = (["option", name], ["no", "option", name]);
        self.last(section, |line| line.begins(&on) || line.begins(&off))
            .filter(|line| line.begins(&on))
    }
}

impl Section {
    /// `backend`, `global` …
    pub fn kind(&self) -> &str {
        self.title.word(0)
    }

    /// Whether it is of a kind that has servers to send traffic to.
    pub fn has_servers(&self) -> bool {
        matches!(self.kind(), "backend" | "listen")
    }

    /// Its name, empty where it has none.
    pub fn name(&self) -> &str {
        match self.title.word(1) {
            "from" if self.kind() == "defaults" => "",
            name => name,
        }
    }
}

impl Line {
    /// A word, from 0; empty where there is none.
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// Whether it makes servers.
    pub fn is_server(&self) -> bool {
        matches!(self.word(0), "server" | "server-template")
    }

    /// Whether its first words are these.
    pub fn begins(&self, words: &[&str]) -> bool {
        words.len() <= self.words.len() && words.iter().zip(&self.words).all(|(a, b)| a == b)
    }

    /// The `defaults` that the title of a section names.
    fn from(&self) -> Option<&str> {
        let at = self.words.iter().skip(1).position(|word| word == "from")?;
        self.words.get(at + 2).map(String::as_str)
    }
}

/// Splits a line as HAProxy does; a variable in it stays as it is written.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') => break,
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_haproxy_takes_them_for() {
        let split = |line| words(line).join("|");
        assert_eq!(
            split("\tserver\ts1   1.2.3.4:80\tcheck\r"),
            "server|s1|1.2.3.4:80|check"
        );
        assert_eq!(split("bind *:80#x y"), "bind|*:80");
        let quoted = r##"description "a b" 'c "#' d\ e "f\"g" "" # h"##;
        assert_eq!(split(quoted), r##"description|a b|c "#|d e|f"g|"##);
        assert_eq!(split("# all of it"), "");
        assert_eq!(split("open \"quote"), "open|quote");
        assert_eq!(split("end\\"), "end");
    }

    #[test]
    fn what_a_section_inherits_holds_until_it_says_otherwise() {
        let text = "global\n\
            defaults base\n retries 1\n option redispatch 1\n timeout connect 1s\n\
            defaults web from base\n retries 2\n no option redispatch\n\
            backend a\n timeout\tconnect 5s # slow\n timeout connect 2s\n\
            backend b from base\n.if defined(X)\n retries 9\n.else\n.endif\n option redispatch\n\
            defaults\n\
            backend c\n";
        let lines = Lines::parse(text);
        let of = |name, begins: &[&str]| {
            let section = lines.named("backend", name).next().unwrap();
            let found = lines.setting(section, begins);
            found.map_or("-".to_owned(), |line| {
                format!(
                    "{} {}{}",
                    line.number,
                    line.words.join(" "),
                    if line.conditional { "?" } else { "" }
                )
            })
        };
        assert_eq!(of("a", &["timeout", "connect"]), "11 timeout connect 2s");
        assert_eq!(of("a", &["retries"]), "7 retries 2");
        assert_eq!(of("b", &["timeout", "connect"]), "5 timeout connect 1s");
        assert_eq!(of("b", &["retries"]), "14 retries 9?");
        assert_eq!(of("c", &["retries"]), "-");
        let redispatch = |name| {
            let section = lines.named("backend", name).next().unwrap();
            lines.option(section, "redispatch").map(|line| line.number)
        };
        assert_eq!(["a", "b", "c"].map(redispatch), [None, Some(17), None]);
        assert_eq!(lines.named("global", "").count(), 1);
    }
}
