//! The words of a backend's server lines in, those of one line for all of them out. Pure.
//!
//! Words that all have are kept as they are. Words that differ by what the server is called, or where it is, name that.
//! What is left differs for reasons that the lines do not tell, and stands in a map by name.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::syntax::keywords::settings;

/// Keywords that no two servers may have the same of: where they tell nothing else, the name is a good one.
const UNIQUE: [&str; 2] = ["cookie", "guid"];

/// What the template prints for a server's weight.
const WEIGHT: &str = " weight {{ server.weight }}";

/// A server line that becomes a member's.
#[derive(Clone, Debug)]
pub(super) struct Spelled<'a> {
    pub(super) name: &'a str,
    /// What the member at its address is called, if there is one.
    pub(super) alias: Option<&'a str>,
    pub(super) addr: SocketAddr,
    /// The words after its address.
    pub(super) words: Vec<&'a str>,
}

/// The words of a line for all servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Common {
    /// As they stand in the template, a blank before each word.
    pub(super) words: String,
    /// Words that some have otherwise.
    pub(super) maps: Vec<WordMap>,
    /// Whether the weight is the member's own.
    pub(super) weighs: bool,
}

/// Words by the name of the server, where no rule makes them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WordMap {
    /// What it is called in the template.
    pub variable: String,
    /// The keyword.
    pub keyword: String,
    /// The words of each server that has them otherwise; a blank before them, nothing for none.
    pub words: BTreeMap<String, String>,
    /// Those of all others, as the template has them.
    pub others: String,
}

/// A way to write the words of one keyword.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    None,
    /// Each word as it is, with holes for what is the server's own.
    Words(Vec<Vec<Part>>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Text(String),
    Name,
    Ip,
    Port,
    /// The number that is made from its name.
    Id,
}

type Setting<'a> = (&'a str, Vec<&'a str>);

/// A keyword, and how often it stood in the line before.
type Key<'a> = (&'a str, usize);

impl Common {
    /// Of no line at all nothing is common, and the weight is the member's own unless the section says one.
    pub(super) fn of(servers: &[Spelled<'_>], weight_is_inherited: bool) -> Self {
        let lines: Vec<BTreeMap<Key<'_>, Setting<'_>>> = servers.iter().map(by_key).collect();
        let mut common = Self::default();
        for key in order(servers) {
            let (keyword, _) = key;
            let values: Vec<Option<&Setting<'_>>> =
                lines.iter().map(|line| line.get(&key)).collect();
            let is_same = values.windows(2).all(|pair| pair.first() == pair.last());
            if keyword == "weight" && !is_same {
                common.weigh();
            } else {
                common.add(keyword, servers, &values);
            }
        }
        let says_weight = order(servers)
            .iter()
            .any(|(keyword, _)| *keyword == "weight");
        if !says_weight && !weight_is_inherited {
            common.weigh();
        }
        common
    }

    /// Only what all of them have, in words that say nothing of any of them.
    pub(super) fn of_all(servers: &[Spelled<'_>]) -> String {
        let lines: Vec<BTreeMap<Key<'_>, Setting<'_>>> = servers.iter().map(by_key).collect();
        let mut words = String::new();
        for key in order(servers) {
            let (keyword, _) = key;
            let values: Vec<Option<&Setting<'_>>> =
                lines.iter().map(|line| line.get(&key)).collect();
            let is_same = values.windows(2).all(|pair| pair.first() == pair.last());
            let have_all = values.iter().all(Option::is_some);
            let form = best(keyword, servers, &values);
            if have_all && (is_same || form.has_name()) {
                words += &form.template();
            }
        }
        words
    }

    fn weigh(&mut self) {
        self.words += WEIGHT;
        self.weighs = true;
    }

    /// Gives servers the ids that they have by their places, and all others one that is made from the name.
    pub(super) fn keep_ids(&mut self, ids: impl Iterator<Item = (String, usize)>) {
        let words = ids.map(|(name, id)| (name, format!(" id {id}")));
        self.print_map("id", words.collect(), &Form::id());
    }

    fn add(&mut self, keyword: &str, servers: &[Spelled<'_>], values: &[Option<&Setting<'_>>]) {
        let form = best(keyword, servers, values);
        let mut words = BTreeMap::new();
        for (server, value) in servers.iter().zip(values) {
            let wanted = value.map(|(word, args)| said(word, args.iter().copied()));
            let wanted = wanted.unwrap_or_default();
            for name in [Some(server.name), server.alias].into_iter().flatten() {
                if form.print(name, server.addr) != wanted {
                    words.insert(name.to_owned(), wanted.clone());
                }
            }
        }
        if words.is_empty() {
            self.words += &form.template();
        } else {
            self.print_map(keyword, words, &form);
        }
    }

    fn print_map(&mut self, keyword: &str, words: BTreeMap<String, String>, others: &Form) {
        let variable = self.free_name(keyword);
        let others = others.template();
        self.words += &format!(
            "{{% if server.name in {variable} %}}{{{{ {variable}[server.name] }}}}{{% else %}}{others}{{% endif %}}"
        );
        self.maps.push(WordMap {
            variable,
            keyword: keyword.to_owned(),
            words,
            others: others.trim_start().to_owned(),
        });
    }

    fn free_name(&self, keyword: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = keyword.chars().map(plain).collect();
        let taken = |name: &String| self.maps.iter().any(|map| map.variable == *name);
        let mut more = (2..).map(|number| format!("{name}_{number}"));
        let first = format!("{name}_words");
        if taken(&first) {
            more.find(|name| !taken(name)).unwrap_or(first)
        } else {
            first
        }
    }
}

/// Every keyword of the lines: those of the first in its order, then what others have besides.
fn order<'a>(servers: &[Spelled<'a>]) -> Vec<Key<'a>> {
    let mut keys = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for server in servers {
        for (key, _) in keyed(server) {
            if known.insert(key) {
                keys.push(key);
            }
        }
    }
    keys
}

fn by_key<'a>(server: &Spelled<'a>) -> BTreeMap<Key<'a>, Setting<'a>> {
    keyed(server).collect()
}

fn keyed<'a>(server: &Spelled<'a>) -> impl Iterator<Item = (Key<'a>, Setting<'a>)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    settings(server.words.iter().copied()).map(move |(word, args)| {
        let times = seen.entry(word).or_default();
        *times += 1;
        ((word, *times), (word, args))
    })
}

/// The form that says the most of them right.
fn best(keyword: &str, servers: &[Spelled<'_>], values: &[Option<&Setting<'_>>]) -> Form {
    if keyword == "id" {
        return Form::id();
    }
    let alone = servers.len() == 1 && !UNIQUE.contains(&keyword);
    let mut forms: Vec<Form> = Vec::new();
    for (server, value) in servers.iter().zip(values) {
        for form in Form::candidates(server, *value, alone) {
            if !forms.contains(&form) && forms.len() < MOST_FORMS {
                forms.push(form);
            }
        }
    }
    let right = |form: &Form| {
        let all = servers.iter().zip(values);
        let right = all.filter(|(server, value)| {
            let wanted = value.map(|(word, args)| said(word, args.iter().copied()));
            form.print(server.name, server.addr) == wanted.unwrap_or_default()
        });
        right.count()
    };
    let counted: Vec<(usize, Form)> = forms.into_iter().map(|form| (right(&form), form)).collect();
    let most = counted.iter().map(|(count, _)| *count).max().unwrap_or(0);
    let is_unique = UNIQUE.contains(&keyword);
    if is_unique && most <= 1 && servers.len() > 1 || is_unique && servers.len() == 1 {
        let by_name = Form::Words(vec![vec![Part::Text(keyword.to_owned())], vec![Part::Name]]);
        let named = counted.into_iter().find(|(_, form)| form.has_name());
        return named.map_or(by_name, |(_, form)| form);
    }
    let mut best = counted.into_iter().filter(|(count, _)| *count == most);
    best.next().map_or(Form::None, |(_, form)| form)
}

/// Ways to write one keyword that are looked at, at most.
const MOST_FORMS: usize = 64;

impl Form {
    /// The ways to write what a server says, the likeliest first.
    fn candidates(server: &Spelled<'_>, value: Option<&Setting<'_>>, alone: bool) -> Vec<Self> {
        let Some((word, args)) = value else {
            return vec![Self::None];
        };
        let with = |hole: &dyn Fn(&str) -> Vec<Part>| {
            let first = vec![Part::Text((*word).to_owned())];
            let args = args.iter().map(|arg| hole(arg));
            Self::Words(std::iter::once(first).chain(args).collect())
        };
        let whole = |is_it: &dyn Fn(&str) -> bool, part: Part, arg: &str| {
            vec![if is_it(arg) {
                part
            } else {
                Part::Text(arg.to_owned())
            }]
        };
        let literal = with(&|arg| vec![Part::Text(arg.to_owned())]);
        let named = if alone {
            with(&|arg| whole(&|arg| arg == server.name, Part::Name, arg))
        } else {
            with(&|arg| holes(arg, server.name))
        };
        let ip = server.addr.ip();
        let placed = with(&|arg| whole(&|arg| arg.parse() == Ok(ip), Part::Ip, arg));
        let port = server.addr.port().to_string();
        let ported = with(&|arg| whole(&|arg| arg == port, Part::Port, arg));
        vec![named, literal, placed, ported]
    }

    fn id() -> Self {
        Self::Words(vec![vec![Part::Text("id".to_owned())], vec![Part::Id]])
    }

    fn has_name(&self) -> bool {
        let Self::Words(words) = self else {
            return false;
        };
        words.iter().flatten().any(|part| *part == Part::Name)
    }

    /// What it says for this server, a blank before each word.
    fn print(&self, name: &str, addr: SocketAddr) -> String {
        self.written(&|part| match part {
            Part::Text(text) => text.clone(),
            Part::Name => name.to_owned(),
            Part::Ip => addr.ip().to_string(),
            Part::Port => addr.port().to_string(),
            Part::Id => String::new(),
        })
    }

    /// As it stands in a template, a blank before each word.
    fn template(&self) -> String {
        self.written(&|part| match part {
            Part::Text(text) => text.clone(),
            Part::Name => "{{ server.name }}".to_owned(),
            Part::Ip => "{{ server.ip }}".to_owned(),
            Part::Port => "{{ server.port }}".to_owned(),
            Part::Id => "{{ server.id }}".to_owned(),
        })
    }

    fn written(&self, part: &dyn Fn(&Part) -> String) -> String {
        let Self::Words(words) = self else {
            return String::new();
        };
        let words = words
            .iter()
            .map(|parts| parts.iter().map(part).collect::<String>());
        words.map(|word| format!(" {word}")).collect()
    }
}

/// A setting with a blank before each word.
fn said<'a>(word: &'a str, args: impl Iterator<Item = &'a str>) -> String {
    let words = std::iter::once(word).chain(args);
    words.map(|word| format!(" {word}")).collect()
}

/// A word with a hole wherever the name stands in it as a word of its own.
fn holes(arg: &str, name: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = arg;
    while let Some(at) = rest.find(name) {
        let (before, found) = rest.split_at(at);
        let after = found.get(name.len()..).unwrap_or_default();
        let last = before.chars().next_back().or(text.chars().next_back());
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text += before;
        if is_part(last) || is_part(after.chars().next()) {
            text += name;
        } else {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Name);
        }
        rest = after;
    }
    text += rest;
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that lines `NAME ADDR WORDS…` have in common, and the maps.
    fn common(lines: &[&str]) -> (String, Vec<String>) {
        let servers: Vec<Spelled<'_>> = lines
            .iter()
            .map(|line| {
                let mut words = line.split(' ');
                Spelled {
                    name: words.next().unwrap(),
                    alias: None,
                    addr: words.next().unwrap().parse().unwrap(),
                    words: words.collect(),
                }
            })
            .collect();
        let common = Common::of(&servers, true);
        let maps = common.maps.iter().map(|map| {
            let words: Vec<String> = map.words.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{} {} | {}", map.variable, words.join(","), map.others)
        });
        let maps: Vec<String> = maps.collect();
        let mut words = common.words;
        for map in &common.maps {
            let from = words.find("{% if").unwrap();
            let to = words.find("{% endif %}").unwrap() + "{% endif %}".len();
            words.replace_range(from..to, &format!(" {}", map.variable));
        }
        (words.trim_start().to_owned(), maps)
    }

    #[test]
    fn words_of_all_are_kept_and_those_that_name_the_server_name_it() {
        let none: Vec<String> = Vec::new();
        for (lines, words) in [
            (
                &[
                    "a 10.0.0.1:80 check inter 2s cookie a",
                    "b 10.0.0.2:80 check inter 2s cookie b",
                ][..],
                "check inter 2s cookie {{ server.name }}",
            ),
            (
                &[
                    "w-1 10.0.0.1:80 check-sni w-1.example.com sni str(w-1.example.com)",
                    "w-2 10.0.0.2:80 sni str(w-2.example.com) check-sni w-2.example.com",
                ],
                "check-sni {{ server.name }}.example.com sni str({{ server.name }}.example.com)",
            ),
            (
                &[
                    "a 10.0.0.1:80 addr 10.0.0.1 port 80",
                    "b 10.0.0.2:81 addr 10.0.0.2 port 81",
                ],
                "addr {{ server.ip }} port {{ server.port }}",
            ),
            (
                &["a 10.0.0.1:80 check port 80", "b 10.0.0.2:80 check port 80"],
                "check port 80",
            ),
            // of one line alone only the whole name is one
            (
                &["s 10.0.0.1:80 cookie s on-marked-down s-x check-sni s.example.com port 80"],
                "cookie {{ server.name }} on-marked-down s-x check-sni s.example.com port 80",
            ),
            (
                &["a 10.0.0.1:80 weight 5", "b 10.0.0.2:80 weight 6"],
                "weight {{ server.weight }}",
            ),
            (
                &["a 10.0.0.1:80 weight 5", "b 10.0.0.2:80 weight 5"],
                "weight 5",
            ),
        ] {
            assert_eq!(common(lines), (words.to_owned(), none.clone()));
        }
    }

    #[test]
    fn what_no_rule_says_stands_in_a_map_beside_what_most_have() {
        let (words, maps) = common(&[
            "a 10.0.0.1:80 maxconn 10 cookie x check",
            "b 10.0.0.2:80 maxconn 10 cookie y",
            "c 10.0.0.3:80 maxconn 20 cookie z check",
        ]);
        assert_eq!(words, "maxconn_words cookie_words check_words");
        assert_eq!(
            maps,
            [
                "maxconn_words c= maxconn 20 | maxconn 10",
                "cookie_words a= cookie x,b= cookie y,c= cookie z | cookie {{ server.name }}",
                "check_words b= | check",
            ]
        );
    }

    #[test]
    fn a_name_inside_another_word_is_none() {
        assert_eq!(holes("shutdown-sessions", "s").len(), 1);
        assert_eq!(
            holes("a.b-a", "a"),
            [Part::Name, Part::Text(".b-".to_owned()), Part::Name]
        );
        assert_eq!(holes("aa", "a"), [Part::Text("aa".to_owned())]);
    }
}
