//! The services that there are, as they survive a restart: a name with times in seconds since 1970, and what a member wants
//! of it in the words of its tags.

use std::collections::BTreeMap;

use planner::model::BackendName;
use planner::route::Host;
use planner::services::{Path, Proto, Service, Whose};
use serde::{Deserialize, Serialize};

use crate::clock_anchor::ClockAnchor;

/// A service that members have announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastService {
    /// Since when it has been there.
    pub since: u64,
    /// Whose requests it gets.
    pub whose: Whose,
    /// Below which path.
    pub path: Path,
    /// Since when it gets those.
    pub placed: u64,
    /// What it speaks, where its members say so.
    pub proto: Option<Proto>,
    /// Since when nobody has served it.
    pub empty: Option<u64>,
}

impl PastService {
    /// A service as it stands now.
    pub(crate) fn of(service: &Service, anchor: &ClockAnchor) -> Self {
        Self {
            since: anchor.unix_secs(service.since),
            whose: service.whose.clone(),
            path: service.path.clone(),
            placed: anchor.unix_secs(service.placed),
            proto: service.proto,
            empty: service.empty.map(|at| anchor.unix_secs(at)),
        }
    }

    /// The service as it stood then.
    pub(crate) fn service(&self, anchor: &ClockAnchor) -> Service {
        let mut service = Service::new(anchor.instant(self.since));
        service.whose.clone_from(&self.whose);
        service.path.clone_from(&self.path);
        service.placed = anchor.instant(self.placed);
        service.proto = self.proto;
        service.empty = self.empty.map(|at| anchor.instant(at));
        service
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedService {
    name: String,
    since: u64,
    /// `*` is any host, none is nobody's requests.
    host: Option<String>,
    path: String,
    placed: u64,
    proto: Option<String>,
    empty: Option<u64>,
}

impl SavedService {
    pub(super) fn of(name: &BackendName, service: &PastService) -> Self {
        Self {
            name: name.to_string(),
            since: service.since,
            host: match &service.whose {
                Whose::Of(host) => Some(host.as_str().to_owned()),
                Whose::Any => Some("*".to_owned()),
                Whose::Nobody => None,
            },
            path: service.path.to_string(),
            placed: service.placed,
            proto: service.proto.map(|proto| proto.as_str().to_owned()),
            empty: service.empty,
        }
    }

    fn into_service(self) -> Option<(BackendName, PastService)> {
        let whose = match self.host.as_deref() {
            None => Whose::Nobody,
            Some("*") => Whose::Any,
            Some(host) => Whose::Of(Host::new(host)?),
        };
        let service = PastService {
            since: self.since,
            whose,
            path: Path::new(&self.path)?,
            placed: self.placed,
            proto: self.proto.and_then(Proto::new),
            empty: self.empty,
        };
        Some((BackendName::new(self.name)?, service))
    }
}

/// Those that can be read.
pub(super) fn read(saved: Vec<SavedService>) -> BTreeMap<BackendName, PastService> {
    let services = saved.into_iter();
    services.filter_map(SavedService::into_service).collect()
}
