//! Why HAProxy must be reloaded, as data: one reason in, its words for people and its label for counters out. Pure.

use std::fmt;

use serde::Serialize;

use crate::model::{BackendName, ServerKey, ServerName};

/// Why a plan cannot be carried out through the Runtime API alone. The list is closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum ReloadReason {
    /// It is not known which text the worker runs, or which options one of its servers has.
    UnknownWorker {
        /// The server, where it is only about one.
        server: Option<ServerKey>,
    },
    /// A section differs in something else than its servers, is new, or is gone.
    SkeletonChanged {
        /// The section as its first line names it, `backend nodes`.
        section: String,
    },
    /// A section whose servers cannot be told apart from the rest differs.
    OpaqueChanged {
        /// The section as its first line names it.
        section: String,
    },
    /// A server that stays in service is to have other options.
    ServerOptionChanged {
        /// Its backend.
        backend: BackendName,
        /// Its name.
        server: ServerName,
        /// The first keyword that differs.
        keyword: String,
    },
    /// `add server` of this version refuses a keyword of the new server, or takes it without heeding it.
    KeywordNotDynamic {
        /// Its backend.
        backend: BackendName,
        /// Its name.
        server: ServerName,
        /// The keyword.
        keyword: String,
    },
    /// The backend's balance algorithm is static: it takes no new servers and no weights at runtime.
    StaticBalance {
        /// The backend.
        backend: BackendName,
    },
    /// The new server needs a file that the worker has not loaded.
    FileNotLoaded {
        /// Its backend.
        backend: BackendName,
        /// Its name.
        server: ServerName,
        /// The file.
        file: String,
    },
    /// A server that is to go is named elsewhere in the text (`use-server`, `track`, `srv_is_up()`…).
    Referenced {
        /// Its backend.
        backend: BackendName,
        /// Its name.
        server: ServerName,
    },
    /// A retired server came back with other options.
    RetiredOptionsDiffer {
        /// Its backend.
        backend: BackendName,
        /// Its name.
        server: ServerName,
    },
    /// A repair did not hold three times. Found by the cycle, never by a plan.
    RepairFailed {
        /// The server.
        server: ServerKey,
    },
    /// The worker has not answered on any of its sockets for a while. Found by the cycle, never by a plan.
    Unreachable,
    /// More retired servers than `retired.max` wait in maint.
    RetiredFull {
        /// The backend.
        backend: BackendName,
        /// How many.
        retired: usize,
    },
}

impl ReloadReason {
    /// A short constant name, for counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownWorker { .. } => "unknown-worker",
            Self::SkeletonChanged { .. } => "skeleton-changed",
            Self::OpaqueChanged { .. } => "opaque-changed",
            Self::ServerOptionChanged { .. } => "server-option-changed",
            Self::KeywordNotDynamic { .. } => "keyword-not-dynamic",
            Self::StaticBalance { .. } => "static-balance",
            Self::FileNotLoaded { .. } => "file-not-loaded",
            Self::Referenced { .. } => "referenced",
            Self::RetiredOptionsDiffer { .. } => "retired-options-differ",
            Self::RepairFailed { .. } => "repair-failed",
            Self::Unreachable => "unreachable",
            Self::RetiredFull { .. } => "retired-full",
        }
    }
}

impl fmt::Display for ReloadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWorker { server: None } => {
                f.write_str("it is not known which file the worker runs")
            }
            Self::UnknownWorker {
                server: Some(server),
            } => write!(f, "{server}: its options are not known"),
            Self::SkeletonChanged { section } => {
                write!(f, "{section}: changed in more than its servers")
            }
            Self::OpaqueChanged { section } => write!(
                f,
                "{section}: changed, and its servers cannot be told from the rest"
            ),
            Self::ServerOptionChanged {
                backend,
                server,
                keyword,
            } => write!(
                f,
                "{backend}/{server}: `{keyword}` changed while it is in service"
            ),
            Self::KeywordNotDynamic {
                backend,
                server,
                keyword,
            } => write!(
                f,
                "{backend}/{server}: a server with `{keyword}` cannot be added at runtime"
            ),
            Self::StaticBalance { backend } => write!(
                f,
                "{backend}: its balance algorithm takes no servers and no weights at runtime"
            ),
            Self::FileNotLoaded {
                backend,
                server,
                file,
            } => write!(f, "{backend}/{server}: the worker has not loaded {file}"),
            Self::Referenced { backend, server } => {
                write!(f, "{backend}/{server}: to go, but named elsewhere")
            }
            Self::RetiredOptionsDiffer { backend, server } => write!(
                f,
                "{backend}/{server}: came back with other options than it was retired with"
            ),
            Self::RepairFailed { server } => write!(f, "{server}: repairs do not hold"),
            Self::Unreachable => f.write_str("the worker has not answered on any of its sockets"),
            Self::RetiredFull { backend, retired } => {
                write!(f, "{backend}: {retired} retired servers")
            }
        }
    }
}
