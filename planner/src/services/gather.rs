//! What the cluster announces: a Snapshot and `[services]` in, the servers of each service, what their members want of it
//! and what was refused out.

use std::collections::{BTreeMap, BTreeSet};

use serf_rpc::{Entry, Member, Snapshot};

use super::{Announcement, Path};
use crate::config::{BackendConfig, Config, Services};
use crate::model::{
    BackendName, Candidate, Details, Quarantine, SerfStatus, ServerKey, ServerName,
};
use crate::route::Host;
use crate::select::{self, Defaults, Said, shown};

/// Announcements of one member that are looked at: Serf's 512 bytes for all tags of a node have room for fewer.
const MOST: usize = 128;

/// What a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proto {
    /// HTTP/2 without TLS.
    H2,
    /// HTTP/1.1.
    Http,
    /// Anything.
    Tcp,
}

impl Proto {
    /// Takes the value of a tag.
    pub fn new(text: impl AsRef<[u8]>) -> Option<Self> {
        match text.as_ref() {
            b"h2" => Some(Self::H2),
            b"http" => Some(Self::Http),
            b"tcp" => Some(Self::Tcp),
            _ => None,
        }
    }

    /// As a tag has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// What a member wants of a service that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whose requests it is to get; none where the member does not say.
    pub host: Option<Host>,
    /// Below which path; none where the member does not say.
    pub path: Option<Path>,
    /// What it speaks; none where the member does not say.
    pub proto: Option<Proto>,
}

/// One service, as its members announce it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its servers.
    pub servers: BTreeMap<ServerName, Candidate>,
    /// What the lines of those have beside address and weight.
    pub details: BTreeMap<ServerKey, Details>,
    /// What those members want of it that are alive, and of which something can be used; by what their servers are called.
    pub wishes: BTreeMap<String, Wish>,
}

/// All that members announce.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The services that they may announce.
    pub services: BTreeMap<BackendName, Found>,
    /// What is no service here, as `SERVICE/MEMBER`, escaped.
    pub refused: BTreeMap<String, Quarantine>,
    /// Members that announce something and whose names can be no server's, escaped.
    pub unnameable: BTreeSet<String>,
}

/// Gathers what members announce.
pub fn gather(snapshot: &Snapshot, config: &Config, defaults: &Defaults) -> Gathered {
    let mut gathered = Gathered::default();
    let Some(services) = &config.services else {
        return gathered;
    };
    let taken: BTreeSet<&BackendName> = config.backends.iter().map(|it| &it.name).collect();
    let mut backends = BTreeMap::new();
    for (name, entry) in defaults.named(snapshot) {
        let Some(value) = entry.member.tag(&defaults.tags.services) else {
            continue;
        };
        let Some(name) = name else {
            gathered.unnameable.insert(shown(entry.member.name()));
            continue;
        };
        let gatherer = Gatherer {
            services,
            taken: &taken,
            defaults,
            name: &name,
            entry,
        };
        for (at, announced) in Announcement::list(value).enumerate() {
            let refused = match announced {
                _ if at == MOST => Some(("...".to_owned(), Quarantine::TooManyAnnouncements(MOST))),
                Ok(announced) => gatherer.take(&announced, &mut backends, &mut gathered),
                Err(entry) => Some((shown(entry), Quarantine::Announcement)),
            };
            // Whoever is gone has nothing to put right.
            if let Some((service, why)) = refused.filter(|_| gatherer.is_alive()) {
                gathered.refused.insert(format!("{service}/{name}"), why);
            }
            if at == MOST {
                break;
            }
        }
    }
    gathered
}

/// One member that announces something.
struct Gatherer<'a> {
    services: &'a Services,
    taken: &'a BTreeSet<&'a BackendName>,
    defaults: &'a Defaults,
    name: &'a ServerName,
    entry: &'a Entry,
}

impl Gatherer<'_> {
    fn is_alive(&self) -> bool {
        select::gossip(self.entry) == SerfStatus::Alive
    }

    /// Takes one announcement; gives back what it is refused for.
    fn take(
        &self,
        announced: &Announcement,
        backends: &mut BTreeMap<BackendName, BackendConfig>,
        gathered: &mut Gathered,
    ) -> Option<(String, Quarantine)> {
        let service = &announced.service;
        let refuse = |why| Some((service.to_string(), why));
        if !self.services.allows(service) {
            return refuse(Quarantine::NotAllowed);
        }
        if self.taken.contains(service) {
            return refuse(Quarantine::IsBackend);
        }
        let server = announced.port.map_or_else(
            || self.name.clone(),
            |port| self.name.at(announced.addr, port),
        );
        let found = gathered.services.entry(service.clone()).or_default();
        if found.servers.contains_key(&server) {
            return refuse(Quarantine::Twice);
        }
        let backend = backends.entry(service.clone());
        let backend = backend.or_insert_with(|| self.services.backend(service));
        let said = Said {
            member: &self.entry.member,
            service: Some(announced),
        };
        let key = ServerKey::new(service, &server);
        let tags = &self.defaults.tags;
        let of_it = self.wish(said).and_then(|wish| {
            let backup = select::is_backup(said, &tags.backup)?;
            let attributes = select::attributes(&key, said, backend, self.defaults)?;
            Ok((wish, backup, attributes))
        });
        let attributes = of_it.map(|(wish, backup, attributes)| {
            let tags = self.template_tags(&self.entry.member);
            if backup || !tags.is_empty() {
                found.details.insert(key, Details { backup, tags });
            }
            if self.is_alive() {
                found.wishes.insert(self.name.member().to_owned(), wish);
            }
            attributes
        });
        let gossip = select::gossip(self.entry);
        found
            .servers
            .insert(server, Candidate { attributes, gossip });
        None
    }

    fn template_tags(&self, member: &Member) -> BTreeMap<String, String> {
        if self.defaults.tags_are_read {
            select::template_tags(member)
        } else {
            BTreeMap::new()
        }
    }

    /// What the member wants of the service, as far as it may.
    fn wish(&self, said: Said<'_>) -> Result<Wish, Quarantine> {
        let tags = &self.defaults.tags;
        // What holds for a service holds for all its servers: a suffix with a port says nothing here.
        let announced = said.service.map(|announced| Announcement {
            port: None,
            ..announced.clone()
        });
        let said = Said {
            member: said.member,
            service: announced.as_ref(),
        };
        let read = |tag: &str| {
            let (name, value) = said.tag(tag)?;
            Some((name.into_owned(), value, str::from_utf8(value).ok()))
        };
        let host = match read(&tags.host) {
            None => None,
            Some((name, value, text)) => {
                let host = text.and_then(Host::new);
                let host = host.ok_or_else(|| select::HOST.wrong(&name, value))?;
                if !self
                    .services
                    .hosts
                    .iter()
                    .any(|hosts| hosts.matches(Some(host.as_str())))
                {
                    return Err(Quarantine::Host(host.as_str().to_owned()));
                }
                Some(host)
            }
        };
        let path = match read(&tags.path) {
            None => None,
            Some((name, value, text)) => {
                let path = text.and_then(Path::new);
                let path = path.ok_or_else(|| select::PATH.wrong(&name, value))?;
                if !self.services.paths.iter().any(|above| path.is_below(above)) {
                    return Err(Quarantine::Path(path.to_string()));
                }
                Some(path)
            }
        };
        let proto = match read(&tags.proto) {
            None => None,
            Some((name, value, _)) => {
                let proto = Proto::new(value);
                Some(proto.ok_or_else(|| select::PROTO.wrong(&name, value))?)
            }
        };
        Ok(Wish { host, path, proto })
    }
}
