//! The config file: its text and the environment in, a checked [`Config`] or everything that is wrong with it out.
//!
//! A value of the environment, `SERF_HAPROXY_<SECTION>_<KEY>`, goes before the file's, the file's before the default.
//! Lists, tables, `[[backend]]` and `[[file]]` are set in the file only. Every path is absolute: a relative one is
//! refused, because it would mean something else for the service than for the person who calls `check`.

mod between;
mod check;
mod error;
mod loaded;
mod read;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod value;

use std::path::PathBuf;

pub use check::{CheckConfig, ProxyVersion, Request, StatusCodes};
pub use error::{Diagnostic, Location};
pub use settings::{
    BackendConfig, Config, Control, Damping, Debounce, Drain, DriftConfig, Frontend, GuardConfig,
    Haproxy, Http, Mode, Observe, OutputFile, ProbeMode, Reload, ReloadMethod, Retired, Serf,
    SocketMode, StateConfig, Suspicion, Timeouts,
};
pub use value::NodePattern;

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

    /// The config of a file's bytes, with the variables of `env` over it.
    ///
    /// # Errors
    /// All errors of the file's syntax, or all errors of single keys, or all errors between keys, whichever comes first.
    pub fn read(
        bytes: Vec<u8>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let text = decode(bytes).map_err(|error| vec![read::encoding(&error)]);
        text.and_then(|text| Self::parse(&text, env))
    }

    /// The control socket that the text of a file names, for those who only want to talk to it: the rest may be wrong. With
    /// the first thing that is in the way.
    pub fn control_socket(text: &str) -> (Option<PathBuf>, Option<Diagnostic>) {
        let (table, errors) = toml::de::DeTable::parse_recoverable(text);
        let source = source::Source::new(text, table.get_ref(), []);
        let socket = source.root().section("control").get("socket", value::path);
        let syntax = errors.first().map(|error| read::syntax(text, error));
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
        let (table, errors) = toml::de::DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors
                .iter()
                .map(|error| read::syntax(text, error))
                .collect());
        }
        let source = source::Source::new(text, table.get_ref(), env);
        let config = read::config(&source);
        if source.is_clean() {
            between::check(&config, &source.root());
        }
        let diagnostics = source.finish();
        if diagnostics.is_empty() {
            Ok(config)
        } else {
            Err(diagnostics)
        }
    }
}
