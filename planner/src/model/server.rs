//! A server as the text of a configuration lists it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

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
    /// What its line has beside that.
    pub details: Arc<Details>,
}

/// What the line of a server has that decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// HAProxy's `backup`: it gets requests where no other server of its backend takes any.
    pub backup: bool,
    /// The member's tags that a template may see.
    pub tags: BTreeMap<String, String>,
}

/// The servers of each backend, sorted by name.
pub type Servers = BTreeMap<BackendName, Vec<Server>>;
