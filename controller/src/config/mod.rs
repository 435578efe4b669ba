//! The config file: its path and the environment in, a checked [`Config`] or everything that is wrong with it out.
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

use std::path::{Path, PathBuf};

pub use check::{Check, ProxyVersion, Request, StatusCodes};
pub use error::{Complaint, ConfigError, Place};
pub use settings::{
    Backend, Config, Control, Damping, Debounce, Drain, Drift, Frontend, Guard, Haproxy, Http,
    Mode, OutputFile, ProbeMode, Reload, ReloadWay, Retired, Serf, SocketMode, State, Suspicion,
    Timeouts,
};
pub use value::NodePattern;

use crate::encoding::decode;
use crate::haproxy::taken_over::TakenOver;
use crate::render::FIRST_LINE;

impl Config {
    /// The keys that differ from `started_with` and that a running controller cannot take: they wait for its next start.
    pub fn needs_restart(&self, started_with: &Self) -> Vec<&'static str> {
        let (new, old) = (self, started_with);
        let spawns = |config: &Self| config.haproxy.reload == ReloadWay::Spawn;
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

    /// Reads the file, takes the variables of `env` over it and checks everything. What HAProxy's file has that goes on is
    /// read, too.
    ///
    /// # Errors
    /// When the file cannot be read; else all errors of the file's syntax, or all errors of single keys, or all
    /// errors between keys, whichever comes first.
    pub fn load(
        path: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let text = decode(bytes).map_err(|error| vec![read::encoding(&error)]);
        let config = text.and_then(|text| Self::parse(&text, env));
        let mut config = config.map_err(|complaints| ConfigError::Invalid {
            path: path.to_owned(),
            complaints,
        })?;
        config.haproxy.taken_over = TakenOver::read(&config.haproxy.config, FIRST_LINE);
        Ok(config)
    }

    /// The control socket of a controller that runs with this file, for those who only want to talk to it: the rest of
    /// the file may be wrong, and what stands against reading it comes beside the default socket.
    pub fn control_socket(path: &Path) -> (PathBuf, Option<ConfigError>) {
        let default = Control::default().socket;
        match std::fs::read(path) {
            Err(source) => {
                let path = path.to_owned();
                (default, Some(ConfigError::Read { path, source }))
            }
            Ok(bytes) => {
                let (socket, complaint) = Self::socket_in(&String::from_utf8_lossy(&bytes));
                let error = complaint.map(|complaint| ConfigError::Invalid {
                    path: path.to_owned(),
                    complaints: vec![complaint],
                });
                (socket.unwrap_or(default), error)
            }
        }
    }

    /// The same from the text of a file, with the first thing that is in the way. Pure.
    fn socket_in(text: &str) -> (Option<PathBuf>, Option<Complaint>) {
        let (table, errors) = toml::de::DeTable::parse_recoverable(text);
        let source = source::Source::new(text, table.get_ref(), []);
        let socket = source.root().section("control").get("socket", value::path);
        let syntax = errors.first().map(|error| read::syntax(text, error));
        (
            socket,
            syntax.or_else(|| source.finish().into_iter().next()),
        )
    }

    /// [`Config::load`] from the text of a file. Pure.
    ///
    /// # Errors
    /// All complaints found, ordered by place.
    pub fn parse(
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Complaint>> {
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
        let complaints = source.finish();
        if complaints.is_empty() {
            Ok(config)
        } else {
            Err(complaints)
        }
    }
}
