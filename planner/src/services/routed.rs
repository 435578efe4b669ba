//! What services come to: those that there are and the config in; their backends, all routes, and who gets none out.
//!
//! Of two that want the same requests one has them: the operator's route, or of services the one that has had them for longest.

use std::collections::BTreeMap;
use std::fmt;

use super::{Book, Service, Whose};
use crate::config::{BackendConfig, Config, Mode};
use crate::model::BackendName;
use crate::route::{HostPattern, Origin, PathPattern, Route, Routes, clash};

/// What services bring into force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Their backends, by name.
    pub backends: Vec<BackendConfig>,
    /// The routes of the config, and theirs.
    pub routing: Routes,
    /// Those that have no route.
    pub unrouted: BTreeMap<BackendName, Unrouted>,
}

/// Why no request of a front end goes to a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrouted {
    /// It is no HTTP.
    #[error("it speaks no HTTP")]
    Tcp,
    /// Nothing says whose requests it gets.
    #[error("it names no host, and there is no `[services] default_host` for it")]
    NoHost,
    /// A `[[route]]` is for the same requests.
    #[error("the [[route]] of {0} is for {1} too, and goes before it")]
    Config(Origin, String),
    /// Another service has the same requests.
    #[error("service {0} has {1} already; it was there before")]
    Service(BackendName, String),
}

impl Unrouted {
    /// Whether somebody wants it otherwise.
    pub fn is_dispute(&self) -> bool {
        matches!(self, Self::Config(..) | Self::Service(..))
    }
}

impl Book {
    /// What the services come to beside a config.
    pub fn effect(&self, config: &Config) -> Effect {
        let mut routes: Vec<Route> = config.routing.iter().cloned().collect();
        let mut unrouted = BTreeMap::new();
        let backends = self.backends(config);
        let mut services: Vec<_> = self.iter().zip(&backends).collect();
        services.sort_by_key(|((name, service), _)| (service.placed, (*name).clone()));
        for ((name, service), backend) in services {
            match route(name, service, backend, &routes) {
                Ok(route) => routes.push(route),
                Err(why) => drop(unrouted.insert(name.clone(), why)),
            }
        }
        // None of them clashes with another.
        let routing = Routes::new(routes).unwrap_or_else(|_| config.routing.clone());
        Effect {
            backends,
            routing,
            unrouted,
        }
    }
}

/// The route of a service beside those that go before it.
fn route(
    name: &BackendName,
    service: &Service,
    backend: &BackendConfig,
    before: &[Route],
) -> Result<Route, Unrouted> {
    if backend.mode == Mode::Tcp {
        return Err(Unrouted::Tcp);
    }
    let host = match &service.whose {
        Whose::Of(host) => HostPattern::Exact(host.clone()),
        Whose::Any => HostPattern::Any,
        Whose::Nobody => return Err(Unrouted::NoHost),
    };
    let path = match service.path.as_str() {
        "/" => PathPattern::Any,
        path => PathPattern::Prefix(path.to_owned()),
    };
    let origin = Origin::Service {
        service: name.to_string(),
    };
    let route = Route::to_backend(origin, [host], path, name.clone());
    let other = before.iter().find(|other| clash(&route, other).is_some());
    match other.map(|other| &other.origin) {
        None => Ok(route),
        Some(Origin::Service { service }) => {
            let service = BackendName::new(service).unwrap_or_else(|| name.clone());
            Err(Unrouted::Service(service, route.matches()))
        }
        Some(origin) => Err(Unrouted::Config(origin.clone(), route.matches())),
    }
}

impl fmt::Display for Service {
    /// `shop.example.com/api`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whose {
            Whose::Nobody => f.pad("none"),
            _ => f.pad(&format!("{}{}", self.whose, self.path)),
        }
    }
}
