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

use std::path::Path;

pub use check::{Check, ProxyVersion, Request, StatusCodes};
pub use error::{Complaint, ConfigError, Place};
pub use settings::{
    Backend, Config, Control, Damping, Debounce, Drain, Drift, Frontend, Guard, Haproxy, Http,
    Mode, OutputFile, ProbeMode, Reload, ReloadWay, Retired, Serf, State, Suspicion, Timeouts,
};
pub use value::NodePattern;

impl Config {
    /// Reads the file, takes the variables of `env` over it and checks everything.
    ///
    /// # Errors
    /// When the file cannot be read; else all errors of the file's syntax, or all errors of single keys, or all
    /// errors between keys, whichever comes first.
    pub fn load(
        path: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, env).map_err(|complaints| ConfigError::Invalid {
            path: path.to_owned(),
            complaints,
        })
    }

    /// The same from the text of a file. Pure.
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
