//! What is wrong with a config file, and where.

use std::path::PathBuf;

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
    #[error("{}", list(path, complaints))]
    Invalid {
        /// The config file.
        path: PathBuf,
        /// What is wrong, at least one.
        complaints: Vec<Complaint>,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Where.
    pub place: Place,
    /// The key, `section.key`; empty for a syntax error.
    pub key: String,
    /// What is wrong; what to do.
    pub message: String,
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the config file.
    File {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In this environment variable.
    Variable(String),
}

fn list(path: &std::path::Path, complaints: &[Complaint]) -> String {
    let lines: Vec<String> = complaints
        .iter()
        .map(
            |Complaint {
                 place,
                 key,
                 message,
             }| {
                let key = if key.is_empty() {
                    String::new()
                } else {
                    format!("{key}: ")
                };
                match place {
                    Place::File { line, column } => {
                        format!("{}:{line}:{column}: {key}{message}", path.display())
                    }
                    Place::Variable(name) => format!("{name}: {key}{message}"),
                }
            },
        )
        .collect();
    lines.join("\n")
}

/// A value that cannot be taken, before its key is known.
#[derive(Debug)]
pub(super) struct Fault {
    /// What is wrong; what to do.
    pub(super) message: String,
    /// Where in the file, when that is known better than by the key.
    pub(super) span: Option<std::ops::Range<usize>>,
}
