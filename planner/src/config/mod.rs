//! The config file: its text and the environment in, a checked [`Config`] or everything that is wrong with it out.
//!
//! A value of the environment, `SERF_HAPROXY_<SECTION>_<KEY>`, goes before the file's, the file's before the default.
//! Lists, tables, `[[backend]]` and `[[file]]` are set in the file only. Every path is absolute: a relative one is
//! refused, because it would mean something else for the service than for the person who calls `check`.

mod between;
mod check;
mod derived;
mod error;
mod frontend;
mod loaded;
pub mod node;
mod other;
pub mod policy;
#[cfg(test)]
mod reference;
mod route;
pub mod section;
mod services;
mod settings;
pub mod source;
mod tag_pattern;
#[cfg(test)]
mod tests;
pub mod value;

use std::path::PathBuf;

use toml::de::DeTable;

pub use check::{CheckConfig, ProxyVersion, Request, StatusCodes};
pub use error::{Diagnostic, Location};
pub use frontend::{
    ACME_BACKEND, CertificatePlace, Frontend, FrontendName, Hsts, LogFormat, SniPattern,
};
pub use other::read;
pub use route::RouteConfig;
pub use services::Services;
pub use settings::{
    BackendConfig, Config, Control, Damping, Debounce, Drain, DriftConfig, GuardConfig, Haproxy,
    Http, Mode, Observe, OutputFile, ProbeMode, Reload, ReloadMethod, Retired, Serf, SocketMode,
    StateConfig, Suspicion, TagNames, Timeouts,
};
pub use tag_pattern::TagPattern;
pub use value::NodePattern;

use self::section::Section;
use self::source::{SERF_HAPROXY, Source};
use self::value::{path, some};
use crate::encoding::decode;

impl Config {
    /// The keys that differ from `started_with` and that a running controller cannot take: they wait for its next start.
    pub fn needs_restart(&self, started_with: &Self) -> Vec<&'static str> {
        let (new, old) = (self, started_with);
        let spawns = |config: &Self| config.haproxy.reload == ReloadMethod::Spawn;
        let is_child = spawns(new) && spawns(old);
        let program = |config: &Self| config.haproxy.check_command.first().cloned();
        let keys = [
            ("haproxy.config", new.haproxy.config != old.haproxy.config),
            ("haproxy.spawn", spawns(new) != spawns(old)),
            (
                "haproxy.files",
                is_child && new.haproxy.files != old.haproxy.files,
            ),
            (
                "haproxy.check_command",
                is_child && program(new) != program(old),
            ),
            ("state.dir", new.state != old.state),
            ("control.socket", new.control.socket != old.control.socket),
            ("control.mode", new.control.mode != old.control.mode),
            ("control.group", new.control.group != old.control.group),
        ];
        let differing = keys.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(key, _)| key).collect()
    }

    /// Whether requests have routes, or may have some as soon as members announce services.
    pub fn has_routes(&self) -> bool {
        !self.routing.is_empty() || self.services.is_some()
    }

    /// The config of a file's bytes, with the variables of `env` over it.
    ///
    /// # Errors
    /// All errors of the file's syntax, or all errors of single keys, or all errors between keys, whichever comes first.
    pub fn read(
        bytes: Vec<u8>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let text = decode(bytes).map_err(|error| {
            let (line, column) = (error.line, error.column);
            vec![Diagnostic {
                location: Location::File { line, column },
                key: String::new(),
                message: error.to_string(),
            }]
        });
        text.and_then(|text| Self::parse(&text, env))
    }

    /// The control socket that the text of a file names, for those who only want to talk to it: the rest may be wrong. With
    /// the first thing that is in the way.
    pub fn control_socket(text: &str) -> (Option<PathBuf>, Option<Diagnostic>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let source = Source::new(text, table.into_inner(), SERF_HAPROXY, []);
        let control = source.root().get("control");
        let socket = control.and_then(|node| node.keys()?.take("socket", None, some(path), None));
        let syntax = errors.first().map(|error| syntax(text, error));
        (
            socket,
            syntax.or_else(|| source.finish().into_iter().next()),
        )
    }

    /// [`Config::read`] from the text of a file.
    ///
    /// # Errors
    /// All complaints found, ordered by place.
    pub fn parse(
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| syntax(text, error)).collect());
        }
        let source = Source::new(text, table.into_inner(), SERF_HAPROXY, env);
        let root = source.root();
        let mut config = <Self as Section>::read(&root);
        between::ways_to_reload(&root);
        if let Some(config) = config.as_mut().filter(|_| source.is_clean()) {
            derived::fill(config, &root);
            between::check(config, &root);
            route::routes(config, &root);
        }
        let diagnostics = source.finish();
        match config {
            Some(config) if diagnostics.is_empty() => Ok(config),
            _ => Err(diagnostics),
        }
    }
}

/// What the parser of the file's syntax says.
fn syntax(text: &str, error: &toml::de::Error) -> Diagnostic {
    Diagnostic {
        location: source::location(text, error.span().map_or(0, |span| span.start)),
        key: String::new(),
        message: match both_forms(text) {
            Some(message) => message,
            None => format!("{}; this is no TOML", error.message()),
        },
    }
}

/// What to write where one front end is a `[frontend]` and others are `[[frontend]]`, which TOML takes for a slip.
fn both_forms(text: &str) -> Option<String> {
    let has = |header: &str| {
        text.lines()
            .any(|line| line.trim_start().starts_with(header))
    };
    (has("[frontend]") && has("[[frontend]]")).then(|| {
        "there are [frontend] and [[frontend]]; write [[frontend]] for all, with name = \"main\" in the one that is [frontend] now"
            .to_owned()
    })
}
