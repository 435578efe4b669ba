//! A server as the text of a configuration lists it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{BackendName, ServerName, Weight};

/// A server as it is written into the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, unique in its backend.
    pub name: ServerName,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its absolute weight.
    pub weight: Weight,
    /// Whether it may get requests right after a start of HAProxy; else it is written `disabled`.
    pub ready: bool,
}

/// The servers of each backend, sorted by name.
pub type Servers = BTreeMap<BackendName, Vec<Server>>;
