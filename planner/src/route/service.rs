//! Routes of services as the controller tells them: plain words that are whitelisted again by who reads them. Pure.

use serde::{Deserialize, Serialize};

use super::{HostPattern, Origin, PathPattern, Route};
use crate::model::BackendName;

/// A route that a service has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRoute {
    /// The service.
    pub service: String,
    /// Its hosts; none is any.
    pub hosts: Vec<String>,
    /// Its path, `/` for any.
    pub path: String,
    /// The backend.
    pub backend: String,
}

impl ServiceRoute {
    /// The words of a route; none of one that no service has made, or that is more than an entry of the map.
    pub fn of(route: &Route) -> Option<Self> {
        let Origin::Service { service } = &route.origin else {
            return None;
        };
        let named = route.hosts.iter().filter(|host| **host != HostPattern::Any);
        Some(Self {
            service: service.clone(),
            hosts: named.map(ToString::to_string).collect(),
            path: route.path.to_string(),
            backend: route.entry()?.to_string(),
        })
    }

    /// The route; none where a word is not what it is to be.
    pub fn route(&self) -> Option<Route> {
        let hosts = self.hosts.iter().map(|host| HostPattern::parse(host));
        let hosts: Option<Vec<HostPattern>> = hosts.collect();
        let service = self.service.clone();
        Some(Route::to_backend(
            Origin::Service { service },
            hosts?,
            PathPattern::parse(&self.path).ok()?,
            BackendName::new(&self.backend)?,
        ))
    }
}
