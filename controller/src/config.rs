//! The config file: its path and the environment in, a checked [`Config`] or everything that is wrong with it out.
//!
//! What the file may say is [`planner::config`]'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use planner::config::{Config, Control, Diagnostic, Location};
use planner::render::FIRST_LINE;
use planner::route::{BasicAuth, User, UsersError};

use crate::haproxy::taken_over;
use crate::pages::{self, BadPage};

/// Why a config cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The config file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file or the environment has errors; all that were found, ordered by place, one a line.
    #[error("{}", list(path, diagnostics))]
    Invalid {
        /// The config file.
        path: PathBuf,
        /// What is wrong, at least one.
        diagnostics: Vec<Diagnostic>,
    },
    /// A `basic_auth_file` has something else than users with hashes that HAProxy knows.
    #[error("{path}: {source}")]
    Users {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; what to do.
        source: UsersError,
    },
    /// Pages that HAProxy is to answer with are no pages; all that were found, one a line.
    #[error("{}", list_pages(path, pages))]
    Pages {
        /// The config file.
        path: PathBuf,
        /// What is wrong, at least one.
        pages: Vec<BadPage>,
    },
}

/// Reads the file and the files of users that it names, takes the variables of `env` over it and checks everything. What HAProxy's file has that goes on is
/// read, too.
///
/// # Errors
/// When the file cannot be read; else all errors of the file's syntax, or all errors of single keys, or all
/// errors between keys, whichever comes first.
pub fn load(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let config = Config::read(bytes, env);
    let mut config = config.map_err(|diagnostics| ConfigError::Invalid {
        path: path.to_owned(),
        diagnostics,
    })?;
    let mut users = BTreeMap::new();
    for path in config.routing.users_files() {
        let read = read_users(&path)?;
        users.insert(path, read);
    }
    config.routing.set_users(&users);
    let pages = pages::bad(&config);
    if !pages.is_empty() {
        let path = path.to_owned();
        return Err(ConfigError::Pages { path, pages });
    }
    config.haproxy.taken_over = taken_over::read(&config.haproxy.config, FIRST_LINE);
    Ok(config)
}

/// The users of a `basic_auth_file`.
fn read_users(path: &Path) -> Result<Vec<User>, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    BasicAuth::parse(&bytes).map_err(|source| ConfigError::Users {
        path: path.to_owned(),
        source,
    })
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
            let (socket, diagnostic) = Config::control_socket(&String::from_utf8_lossy(&bytes));
            let error = diagnostic.map(|diagnostic| ConfigError::Invalid {
                path: path.to_owned(),
                diagnostics: vec![diagnostic],
            });
            (socket.unwrap_or(default), error)
        }
    }
}

fn list_pages(path: &Path, pages: &[BadPage]) -> String {
    let lines: Vec<String> = pages
        .iter()
        .map(|page| format!("{}: {page}", path.display()))
        .collect();
    lines.join("\n")
}

fn list(path: &Path, diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics
        .iter()
        .map(
            |Diagnostic {
                 location,
                 key,
                 message,
             }| {
                let key = if key.is_empty() {
                    String::new()
                } else {
                    format!("{key}: ")
                };
                match location {
                    Location::File { line, column } => {
                        format!("{}:{line}:{column}: {key}{message}", path.display())
                    }
                    Location::Variable(name) => format!("{name}: {key}{message}"),
                }
            },
        )
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load("/nowhere/config.toml".as_ref(), []).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/config.toml");
    }

    #[test]
    fn what_is_wrong_is_told_with_the_file_and_the_place_in_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"[serf]\n# f\xfcr alle\n").unwrap();
        let error = load(file.path(), []).unwrap_err().to_string();
        let location = format!("{}:2:4: the file is not UTF-8", file.path().display());
        assert!(error.starts_with(&location), "{error}");
    }
}
