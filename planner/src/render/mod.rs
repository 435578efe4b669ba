//! Settings, servers and a template in, HAProxy's configuration with its stamp out. Pure.
//!
//! Equal input gives equal text. A template reaches no file, clock or environment, prints strings and numbers
//! only, and its work is bounded.

mod audit;
mod context;
mod ids;
#[cfg(test)]
mod reference;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, OutputSpan, UndefinedBehavior, Value};

pub use audit::with_invented;
pub use audit::{Finding, Flaw};

use crate::config::Config;
use crate::encoding::decode;
use crate::model::{Server, Servers};
use crate::stamp::Stamp;

/// The first line of every file of ours; a file that begins otherwise is somebody else's.
pub const FIRST_LINE: &str = "# written by serf-haproxy; changes are overwritten";

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../templates/", $name)))),*]
    };
}

/// The embedded templates by name. The first is the whole file, the last stands beside a file of the site's, the others can
/// be included by any template.
pub const BUILT_IN: [(&str, &str); 9] = embedded![
    "haproxy.cfg.j2",
    "backends.cfg.j2",
    "servers.cfg.j2",
    "frontend.cfg.j2",
    "frontend-http.cfg.j2",
    "policy.cfg.j2",
    "routes.cfg.j2",
    "route-sections.cfg.j2",
    "second-file.cfg.j2",
];

/// Steps that one render may take, some 64 bytes of text each at most; 10,000 servers take less than a million.
const FUEL: u64 = 5_000_000;

/// A rendered file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text, begins with [`FIRST_LINE`], ends with a newline.
    pub text: String,
    /// The text as it is with an empty stamp.
    pub blank: String,
    /// The first 16 hex digits of the SHA-256 of `blank`.
    pub stamp: Stamp,
    origins: Vec<Option<Origin>>,
}

impl Rendered {
    /// The place in a template that gave a line of `text`, counted from 1; none where a line has no template.
    pub fn origin(&self, line: usize) -> Option<&Origin> {
        self.origins.get(line.checked_sub(1)?)?.as_ref()
    }
}

/// A line of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The template's path, or its name where it is built in.
    pub template: std::sync::Arc<str>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.template, self.line)
    }
}

/// Where a template goes wrong and how. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{template}:{line}: {message}{}", quoted(excerpt))]
pub struct RenderError {
    /// The template's path, or its name where it is built in.
    pub template: String,
    /// Counted from 1; 0 when it is the template as a whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// The text of that line.
    pub excerpt: String,
}

fn quoted(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!(", in `{excerpt}`")
    }
}

/// A template, ready to be rendered any number of times.
#[derive(Debug)]
pub struct Renderer {
    env: Environment<'static>,
    name: String,
}

impl Renderer {
    /// A template from the bytes of its file; `name` is what errors call it.
    ///
    /// # Errors
    /// When they are no UTF-8, or no template.
    pub fn read(name: &str, bytes: Vec<u8>) -> Result<Self, RenderError> {
        let source = decode(bytes).map_err(|error| RenderError {
            template: name.to_owned(),
            line: error.line,
            message: error.to_string(),
            excerpt: String::new(),
        })?;
        Self::new(name, source)
    }

    /// The built-in template.
    ///
    /// # Errors
    /// None in a tested build.
    pub fn built_in() -> Result<Self, RenderError> {
        let [(name, source), ..] = BUILT_IN;
        Self::new(name, source.to_owned())
    }

    /// A template from its text; `name` is what errors call it.
    ///
    /// # Errors
    /// When its syntax is wrong.
    pub fn new(name: &str, source: String) -> Result<Self, RenderError> {
        let mut env = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true);
        let failed = |error: &Error| render_error(error, name, &source);
        env.set_syntax(syntax.build().map_err(|error| failed(&error))?);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_auto_reload(false);
        env.set_debug(false);
        env.set_fuel(Some(FUEL));
        env.set_formatter(|out, state, value| match value.kind() {
            ValueKind::String | ValueKind::Number => minijinja::escape_formatter(out, state, value),
            kind => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("cannot print a value that is {kind}"),
            )),
        });
        for (name, source) in BUILT_IN {
            env.add_template(name, source)
                .map_err(|error| render_error(&error, name, source))?;
        }
        env.add_template_owned(name.to_owned(), source.clone())
            .map_err(|error| failed(&error))?;
        Ok(Self {
            env,
            name: name.to_owned(),
        })
    }

    /// Its text.
    pub fn source(&self) -> String {
        let template = self.env.get_template(&self.name);
        template.map_or_else(|_| String::new(), |template| template.source().to_owned())
    }

    /// Whether it may print tags of members: the word is in it.
    pub(crate) fn reads_tags(&self) -> bool {
        self.source().contains("tags")
    }

    /// Renders the file with these servers, in backends of the config; others are left out.
    ///
    /// # Errors
    /// When the template uses a variable that is not there, prints what is no text, works for too long, or does anything
    /// with the stamp but print it.
    pub fn render(&self, config: &Config, servers: &Servers) -> Result<Rendered, RenderError> {
        let context = context::context(config, servers);
        let (blank, _) = self.once(&context, "")?;
        let stamp = Stamp::of_blank(&blank);
        let (text, origins) = self.once(&context, &stamp.0)?;
        if stamp.blank(&text) != blank {
            return Err(RenderError {
                template: self.name.clone(),
                line: 0,
                message: "`stamp` is to be printed as it is, and nothing else may depend on it: a text is known by it"
                    .to_owned(),
                excerpt: String::new(),
            });
        }
        Ok(Rendered {
            text,
            blank,
            stamp,
            origins,
        })
    }

    /// Renders a file that is not HAProxy's: as the template has it, with an empty stamp.
    ///
    /// # Errors
    /// Those of [`Renderer::render`].
    pub fn render_plain(&self, config: &Config, servers: &Servers) -> Result<String, RenderError> {
        let context = context::context(config, servers);
        let context = minijinja::context! { stamp => "", ..context };
        let template = self.env.get_template(&self.name);
        let rendered = template.and_then(|template| template.render(context));
        rendered.map_err(|error| self.failed(&error))
    }

    fn once(
        &self,
        context: &Value,
        stamp: &str,
    ) -> Result<(String, Vec<Option<Origin>>), RenderError> {
        let context = minijinja::context! { stamp, ..context.clone() };
        let template = self.env.get_template(&self.name);
        let rendered = template.and_then(|template| template.render_with_spans(context));
        let (mut text, spans) = rendered.map_err(|error| self.failed(&error))?;
        let mut origins = self.origins(&text, &spans);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if text.lines().next() != Some(FIRST_LINE) {
            text.insert_str(0, &format!("{FIRST_LINE}\n"));
            origins.insert(0, None);
        }
        Ok((text, origins))
    }

    /// For each line of the text the place its first printed character comes from.
    fn origins(&self, text: &str, spans: &[OutputSpan]) -> Vec<Option<Origin>> {
        let mut names: BTreeMap<&str, std::sync::Arc<str>> = BTreeMap::new();
        let mut spans = spans.iter().peekable();
        let mut offset = 0;
        let mut origins = Vec::new();
        for line in text.split_inclusive('\n') {
            let first = offset + (line.len() - line.trim_start().len()).min(line.len() - 1);
            offset += line.len();
            while spans
                .next_if(|span| span.output_range().end <= first)
                .is_some()
            {}
            let span = spans
                .peek()
                .filter(|span| span.output_range().start <= first);
            origins.push(span.map(|span| {
                Origin {
                    template: names
                        .entry(span.name())
                        .or_insert_with(|| span.name().into())
                        .clone(),
                    line: span.line() + self.newlines(span, first),
                }
            }));
        }
        origins
    }

    /// Lines between the start of a span, which is all that minijinja tells of it, and this byte of the output.
    fn newlines(&self, span: &OutputSpan, offset: usize) -> usize {
        if span.kind() != minijinja::OutputSpanKind::Raw {
            return 0;
        }
        let start = span.source_range().start;
        let end = start + offset.saturating_sub(span.output_range().start);
        let template = self.env.get_template(span.name()).ok();
        let before = template
            .as_ref()
            .and_then(|template| template.source().get(start..end));
        before.map_or(0, |before| before.matches('\n').count())
    }

    fn failed(&self, error: &Error) -> RenderError {
        let source = |name: &str| {
            self.env
                .get_template(name)
                .ok()
                .map(|t| t.source().to_owned())
        };
        let inner = innermost(error);
        let name = inner.name().unwrap_or(&self.name);
        render_error(inner, name, &source(name).unwrap_or_default())
    }
}

/// The error that an include or a block passed on.
fn innermost(error: &Error) -> &Error {
    let below = error
        .source()
        .and_then(|source| source.downcast_ref::<Error>());
    below.map_or(error, innermost)
}

fn render_error(error: &Error, name: &str, source: &str) -> RenderError {
    let mut line = error.line().unwrap_or_default();
    let mut message = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    if error.kind() == ErrorKind::SyntaxError
        && let Some((at, sign)) = foreign_sign(error, source)
    {
        line = at;
        message = format!(
            "{message}; where `{sign}` is HAProxy's own and not the template's, write {{% raw %}} before it and \
             {{% endraw %}} behind it"
        );
    }
    let excerpt = line
        .checked_sub(1)
        .and_then(|index| source.lines().nth(index))
        .unwrap_or_default();
    RenderError {
        template: name.to_owned(),
        line,
        message,
        excerpt: excerpt.trim().to_owned(),
    }
}

/// What begins a tag or a comment where the template goes wrong, and is likely to be HAProxy's: its log formats have such
/// signs. With the line, counted from 1.
fn foreign_sign(error: &Error, source: &str) -> Option<(usize, &'static str)> {
    if error.detail() == Some("unexpected end of comment") {
        let before = source.get(..source.rfind("{#")?)?;
        return Some((before.matches('\n').count() + 1, "{#"));
    }
    let line = error.line()?;
    let text = source.lines().nth(line.checked_sub(1)?)?;
    let is_unknown = error
        .detail()
        .is_some_and(|detail| detail.starts_with("unknown statement"));
    let is_none_of_ours = |(at, _): (usize, &str)| {
        let rest = text.get(at + 2..).unwrap_or_default();
        let word = rest.trim_start_matches(['-', '+']).trim_start();
        is_unknown || !word.starts_with(|first: char| first.is_ascii_alphabetic())
    };
    if text.match_indices("{%").any(is_none_of_ours) {
        return Some((line, "{%"));
    }
    text.contains("{{").then_some((line, "{{"))
}
