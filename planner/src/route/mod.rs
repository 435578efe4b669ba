//! Routes: where a request goes. Routes of the config and of services in, which of them wins and what the map holds out. Pure.
//!
//! A [`Route`] is plain data, whoever made it. [`Routes`] is a set in which for every request one route wins, whatever the
//! order they were given in: the more specific host, then the longer path, then more conditions ([`Rank`]). Two that could
//! win the same request by the same rank are no set.
//!
//! A route with nothing but hosts, a path and a backend is an entry of a map ([`map`]), which the Runtime API changes
//! without a reload. Every other is a rule: lines of the front end (`templates/routes.cfg.j2`).
//!
//! What [`choose`](Routes::choose) says of a request HAProxy does: `integration/tests/haproxy/routes.rs` asks both.

mod action;
mod ambiguity;
mod choose;
mod header;
mod host;
pub mod map;
mod path;
mod rank;
mod request;
#[cfg(test)]
mod tests;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

pub use action::{Action, RateLimit, Redirect, Response, Split, SplitTo};
pub use ambiguity::{Ambiguity, clash};
pub use choose::{Choice, Lost, Other, Refusal, Winner};
pub use header::{HeaderChanges, HeaderName, HeaderPattern, HeaderValue, Method};
pub use host::{Host, HostPattern};
pub use path::PathPattern;
pub use rank::Rank;
pub use request::{BadRequest, Request, Url};
pub use users::{BasicAuth, User, UsersError};

use crate::model::BackendName;
use crate::stamp::digest;

/// A route. [`Route::to_backend`] makes the plainest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who made it.
    pub origin: Origin,
    /// The hosts, one of which the request names; at least one pattern.
    pub hosts: BTreeSet<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// The methods, one of which the request has; empty is any.
    pub methods: BTreeSet<Method>,
    /// What its headers are, all of them.
    pub headers: BTreeMap<HeaderName, HeaderPattern>,
    /// The front ends that it is for; empty is every one that speaks HTTP.
    pub frontends: BTreeSet<String>,
    /// What is done with the request.
    pub action: Action,
    /// Whether the path's prefix is taken off before a server sees it. Only with [`PathPattern::Prefix`].
    pub strip_prefix: bool,
    /// Networks whose clients may; empty is everybody. Others get 403.
    pub allow_from: Vec<IpNet>,
    /// Who has to say a name and a password; others get 401.
    pub basic_auth: Option<BasicAuth>,
    /// How many requests a client's address has; what goes beyond gets 429.
    pub rate_limit: Option<RateLimit>,
    /// What is changed of the request's headers.
    pub request_headers: HeaderChanges,
    /// What is changed of the response's headers, HAProxy's own responses included.
    pub response_headers: HeaderChanges,
}

/// Who made a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `[[route]]` of the config.
    Config {
        /// Where it begins, counted from 1.
        line: usize,
    },
    /// A service that members announce.
    Service {
        /// Its name.
        service: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { line } => write!(f, "line {line}"),
            Self::Service { service } => write!(f, "service {service}"),
        }
    }
}

impl Route {
    /// Requests for these hosts and this path go to a backend; no host is any.
    pub fn to_backend(
        origin: Origin,
        hosts: impl IntoIterator<Item = HostPattern>,
        path: PathPattern,
        backend: BackendName,
    ) -> Self {
        let mut hosts: BTreeSet<HostPattern> = hosts.into_iter().collect();
        if hosts.is_empty() {
            hosts.insert(HostPattern::Any);
        }
        Self {
            origin,
            hosts,
            path,
            methods: BTreeSet::new(),
            headers: BTreeMap::new(),
            frontends: BTreeSet::new(),
            action: Action::Backend {
                backend,
                split: Split::default(),
            },
            strip_prefix: false,
            allow_from: Vec::new(),
            basic_auth: None,
            rate_limit: None,
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
        }
    }

    /// How many conditions it has beside host and path: its methods, and each header.
    pub fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    /// The backend of a route that is an entry of the map: it has nothing but hosts, a path and a backend.
    pub fn entry(&self) -> Option<&BackendName> {
        let Action::Backend { backend, split } = &self.action else {
            return None;
        };
        let is_plain = self.conditions() == 0
            && self.frontends.is_empty()
            && split.to.is_empty()
            && !self.strip_prefix
            && self.allow_from.is_empty()
            && self.basic_auth.is_none()
            && self.rate_limit.is_none()
            && self.request_headers.is_empty()
            && self.response_headers.is_empty();
        is_plain.then_some(backend)
    }

    /// The backends that its requests may go to.
    pub fn backends(&self) -> impl Iterator<Item = &BackendName> {
        let (backend, split) = match &self.action {
            Action::Backend { backend, split } => (Some(backend), Some(split)),
            Action::Redirect(_) | Action::Respond(_) => (None, None),
        };
        let split = split.into_iter().flat_map(|split| &split.to);
        backend.into_iter().chain(split.map(|to| &to.backend))
    }

    /// Ten hex digits that tell it from the other routes of a set, whatever the order: of what it matches.
    pub fn id(&self) -> String {
        digest([self.matches()], 5)
    }

    /// What it matches, for people: `GET,POST shop.example.com/api, X-Canary: 1`.
    pub fn matches(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(",");
        if !self.methods.is_empty() {
            let methods = listed(&mut self.methods.iter().map(ToString::to_string));
            write!(f, "{methods} ")?;
        }
        let hosts = listed(&mut self.hosts.iter().map(ToString::to_string));
        write!(f, "{hosts}{}", self.path)?;
        for (name, pattern) in &self.headers {
            write!(f, ", {name}: {pattern}")?;
        }
        if !self.frontends.is_empty() {
            let frontends = listed(&mut self.frontends.iter().cloned());
            write!(f, ", on {frontends}")?;
        }
        Ok(())
    }
}

/// Routes of which for every request one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// In the order in which they win: by their first host's rank, greatest first.
    routes: Vec<Route>,
}

impl Routes {
    /// Takes routes in any order.
    ///
    /// # Errors
    /// Every pair that could win the same request by the same rank.
    pub fn new(mut routes: Vec<Route>) -> Result<Self, Vec<Ambiguity>> {
        let ambiguities = ambiguity::all(&routes);
        if !ambiguities.is_empty() {
            return Err(ambiguities);
        }
        routes.sort_by_cached_key(|route| {
            let greatest = route.hosts.iter().map(|host| Rank::of(host, route)).max();
            (std::cmp::Reverse(greatest), route.matches())
        });
        Ok(Self { routes })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// All, in the order in which they win.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// All that are rules, in the order in which they win.
    pub fn rules(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(|route| route.entry().is_none())
    }

    /// Reads the users of every `basic_auth_file`; each file once.
    ///
    /// # Errors
    /// The first that `read` or [`BasicAuth::parse`] gives.
    pub fn read_users<E: From<UsersError>>(
        &mut self,
        mut read: impl FnMut(&std::path::Path) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let mut known: BTreeMap<std::path::PathBuf, Vec<User>> = BTreeMap::new();
        for auth in self.routes.iter_mut().filter_map(|r| r.basic_auth.as_mut()) {
            let users = match known.get(&auth.file) {
                Some(users) => users.clone(),
                None => BasicAuth::parse(&read(&auth.file)?)?,
            };
            known.insert(auth.file.clone(), users.clone());
            auth.users = users;
        }
        Ok(())
    }
}
