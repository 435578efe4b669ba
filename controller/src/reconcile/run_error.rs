//! Why the controller cannot start, or `once` could not bring everything up to date.

use std::path::{Path, PathBuf};

use planner::review::loss::Loss;

use crate::config::ConfigError;
use crate::haproxy::file::FileError;
use crate::state::StateError;
use crate::templates::TemplateError;

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The template is unusable and no earlier one is known.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The configuration file is somebody else's.
    #[error(
        "{} was not written by serf-haproxy; start once with --adopt to take it over (a copy is kept)",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The configuration file is somebody else's, and something of it would be lost.
    #[error("{}", would_lose(path, loss))]
    WouldLose {
        /// The file.
        path: PathBuf,
        /// What.
        loss: Loss,
    },
    /// The built-in template would run HAProxy with more rights than the file of somebody else's.
    #[error(
        "{} limits HAProxy by `{}` inside `.if`, which cannot be taken over: set it in [haproxy], for example \
         user = \"haproxy\"",
        path.display(),
        rights.join("`, `")
    )]
    MoreRights {
        /// The file.
        path: PathBuf,
        /// Which of `user`, `group` and `chroot`.
        rights: Vec<&'static str>,
    },
    /// A key or the state directory is open to others.
    #[error("{}", .0.join("\n"))]
    Exposed(
        /// For each, what is open, and the mode wanted.
        Vec<String>,
    ),
    /// The configuration file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// Not everything could be brought up to date.
    #[error("{}", problems.join("; "))]
    NotDone {
        /// What is in the way.
        problems: Vec<String>,
    },
}

impl RunError {
    /// Whether somebody has to change config, template or the file first: another try ends the same way.
    pub fn is_of_the_config(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Template(_)
                | Self::Foreign { .. }
                | Self::WouldLose { .. }
                | Self::MoreRights { .. }
                | Self::Exposed(_)
        )
    }
}

fn would_lose(path: &Path, loss: &Loss) -> String {
    format!(
        "{} was not written by serf-haproxy, and this of it would be gone:\n{loss}\
         Nothing was written. What is to stay belongs into a template of your own ([haproxy] template; begin it with \
         `serf-haproxy render --print-template`). With --yes beside --adopt it goes; a copy of the file is kept.",
        path.display()
    )
}
