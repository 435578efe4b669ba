//! Where services are to be found: containers and the time in; instances, and for each container that has none the
//! reason, out. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use planner::model::BackendName;

use crate::containers::{Book, Container, Health, State};
use crate::labels::{self, Flaw, Key, Reach, Wanted};

/// How labels are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What labels of ours begin with.
    pub prefix: String,
    /// Where a container is reached whose labels do not say it.
    pub reach: Reach,
    /// How many seconds a container may take to end once it was told to.
    pub patience: i64,
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The service.
    pub service: BackendName,
    /// The address, where it is not the host's.
    pub addr: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            None => write!(f, "{}:{}", self.service, self.port),
            Some(addr) => write!(f, "{}:{}@{addr}", self.service, self.port),
        }
    }
}

/// A service of a container, at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Where it listens.
    pub place: Place,
    /// What is said of it beside.
    pub details: BTreeMap<Key, String>,
    /// When its container was made, and which it is: who was first has its place first.
    pub age: (i64, String),
}

/// What a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Each service of it; one entry without a service where its labels are wrong.
    pub services: Vec<(Option<BackendName>, Result<Instance, Reason>)>,
}

/// Why a service of a container is not in the tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A label is wrong.
    Label(Flaw),
    /// Its check has not come to anything yet.
    Starting,
    /// Its check says so.
    Unhealthy,
    /// It is paused.
    Paused,
    /// It was told to end.
    Stopping,
    /// It does not run.
    Ended,
    /// Nothing says which port is meant.
    NoPort,
    /// Several may be meant.
    SeveralPorts(Vec<u16>),
    /// The port is not published.
    NotPublished(u16),
    /// It is published for this host only.
    Loopback(u16),
    /// It is in several networks.
    SeveralNetworks(Vec<String>),
    /// It has no address, in the network that is meant or in any.
    NoAddress(Option<String>),
    /// Another container has the same service at the same place.
    Twice,
    /// Other containers of the service are ready, and this one is not to be.
    NotReady,
    /// Its host and path are those of another service, which was there first.
    Claimed(BackendName),
    /// A node's tags have no room for it.
    NoRoom,
}

impl Reason {
    /// The same for metrics and programs: one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Label(_) => "label",
            Self::Starting => "starting",
            Self::Unhealthy => "unhealthy",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::NoPort | Self::SeveralPorts(_) => "port",
            Self::NotPublished(_) | Self::Loopback(_) => "unpublished",
            Self::SeveralNetworks(_) | Self::NoAddress(_) => "network",
            Self::Twice => "twice",
            Self::NotReady => "state",
            Self::Claimed(_) => "conflict",
            Self::NoRoom => "room",
        }
    }

    /// All words, and when each is said.
    pub const TOLD: [(&'static str, &'static str); 13] = [
        ("label", "a label is wrong, or there is none of that name"),
        (
            "starting",
            "the HEALTHCHECK of its image has not come to anything yet",
        ),
        ("unhealthy", "its HEALTHCHECK calls it unhealthy"),
        ("paused", "it is paused"),
        (
            "stopping",
            "it was told to end (`docker stop`), and has not yet",
        ),
        ("ended", "it does not run"),
        ("port", "nothing says which of its ports is meant"),
        (
            "unpublished",
            "its port is not published, or on this host's loopback only",
        ),
        (
            "network",
            "it has no address in the network that is meant, or several networks and no label says which is",
        ),
        (
            "twice",
            "another container has the same service at the same place",
        ),
        (
            "state",
            "its label `state` keeps it out while others of its service are ready",
        ),
        (
            "conflict",
            "its host and path are those of another service of this host, which was there first",
        ),
        (
            "room",
            "the tags of a node have 512 bytes, and there is no room for it",
        ),
    ];

    /// Whether somebody has to do something about it.
    pub fn is_wrong(&self) -> bool {
        !matches!(
            self,
            Self::Starting
                | Self::Unhealthy
                | Self::Paused
                | Self::Stopping
                | Self::Ended
                | Self::NotReady
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(flaw) => flaw.fmt(f),
            Self::Starting => f.write_str("its health check has not come to anything yet"),
            Self::Unhealthy => f.write_str("its health check calls it unhealthy"),
            Self::Paused => f.write_str("it is paused"),
            Self::Stopping => f.write_str("it was told to end"),
            Self::Ended => f.write_str("it does not run"),
            Self::NoPort => f.write_str("nothing says which port it listens on; add the label port"),
            Self::SeveralPorts(ports) => {
                write!(f, "it has several ports ({}); add the label port", list(ports))
            }
            Self::NotPublished(port) => write!(
                f,
                "its port {port} is not published; publish it, or set the label address to `container` where balancers reach its network"
            ),
            Self::Loopback(port) => {
                write!(f, "its port {port} is published on this host's loopback only, where no balancer reaches it")
            }
            Self::SeveralNetworks(networks) => {
                write!(f, "it is in several networks ({}); add the label network", list(networks))
            }
            Self::NoAddress(None) => f.write_str("it has no address of its own"),
            Self::NoAddress(Some(network)) => write!(f, "it has no address in the network {network}"),
            Self::Twice => f.write_str("another container has the same service at the same place"),
            Self::NotReady => f.write_str("its label state keeps it out while others of its service are ready"),
            Self::Claimed(service) => {
                write!(f, "its host and path are those of the service {service}, which was there first")
            }
            Self::NoRoom => f.write_str(
                "no room: all tags of a node have 512 bytes; shorter names, or fewer containers on this host",
            ),
        }
    }
}

/// At most so many of a list are told.
const TOLD: usize = 5;

fn list<T: ToString>(all: &[T]) -> String {
    let told: Vec<String> = all.iter().take(TOLD).map(T::to_string).collect();
    let more = if all.len() > TOLD { ", …" } else { "" };
    told.join(", ") + more
}

/// What each container is that has labels of ours.
pub fn seen(book: &Book, rules: &Rules, host: Option<IpAddr>, now: i64) -> Vec<Seen> {
    let mut seen: Vec<Seen> = book
        .containers()
        .filter_map(|container| {
            let wanted = match labels::read(&container.labels, &rules.prefix) {
                Ok(wanted) => wanted,
                Err(flaw) => {
                    return Some(Seen::with(
                        container,
                        vec![(None, Err(Reason::Label(flaw)))],
                    ));
                }
            };
            let is_stopping = book.is_stopping(&container.id, now, rules.patience);
            let services = wanted.into_iter().map(|wanted| {
                let service = wanted.service.clone();
                let place = state(container, is_stopping)
                    .and_then(|()| place(container, &wanted, rules, host));
                let instance = place.map(|(addr, port)| Instance {
                    place: Place {
                        service: service.clone(),
                        addr,
                        port,
                    },
                    details: wanted.details,
                    age: (container.created, container.id.clone()),
                });
                (Some(service), instance)
            });
            let services: Vec<_> = services.collect();
            (!services.is_empty()).then(|| Seen::with(container, services))
        })
        .collect();
    twice(&mut seen);
    seen
}

impl Seen {
    fn with(
        container: &Container,
        services: Vec<(Option<BackendName>, Result<Instance, Reason>)>,
    ) -> Self {
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            services,
        }
    }
}

fn state(container: &Container, is_stopping: bool) -> Result<(), Reason> {
    match (container.state, container.health) {
        (State::Ended, _) => Err(Reason::Ended),
        (State::Paused, _) => Err(Reason::Paused),
        (State::Running, _) if is_stopping => Err(Reason::Stopping),
        (State::Running, Some(Health::Starting)) => Err(Reason::Starting),
        (State::Running, Some(Health::Unhealthy)) => Err(Reason::Unhealthy),
        (State::Running, Some(Health::Healthy) | None) => Ok(()),
    }
}

/// Its address, where that is not the host's, and its port.
fn place(
    container: &Container,
    wanted: &Wanted,
    rules: &Rules,
    host: Option<IpAddr>,
) -> Result<(Option<IpAddr>, u16), Reason> {
    if container.network_mode == "host" {
        // Its ports are the host's, and none of them is listed but those that the image exposes.
        return Ok((None, inside(container, wanted, false)?));
    }
    match wanted.reach.unwrap_or(rules.reach) {
        Reach::Container => {
            let port = inside(container, wanted, false)?;
            Ok((Some(address(container, wanted)?), port))
        }
        Reach::Host => {
            let port = inside(container, wanted, true)?;
            published(container, port, host)
        }
    }
}

/// The port inside: the one that is said, or the only one.
fn inside(container: &Container, wanted: &Wanted, only_published: bool) -> Result<u16, Reason> {
    if let Some(port) = wanted.port {
        return Ok(port);
    }
    let distinct = |published: bool| {
        let ports = container
            .ports
            .iter()
            .filter(|port| !published || port.published.is_some());
        let mut ports: Vec<u16> = ports.map(|port| port.inside).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    };
    let published = if only_published {
        distinct(true)
    } else {
        Vec::new()
    };
    let ports = if published.is_empty() {
        distinct(false)
    } else {
        published
    };
    match ports[..] {
        [] => Err(Reason::NoPort),
        [port] => Ok(port),
        _ => Err(Reason::SeveralPorts(ports)),
    }
}

/// Where the port is published: on the host's own address, if it may be chosen.
fn published(
    container: &Container,
    port: u16,
    host: Option<IpAddr>,
) -> Result<(Option<IpAddr>, u16), Reason> {
    let bindings = container.ports.iter().filter(|it| it.inside == port);
    let mut bindings: Vec<(IpAddr, u16)> = bindings.filter_map(|it| it.published).collect();
    if bindings.is_empty() {
        return Err(Reason::NotPublished(port));
    }
    bindings.sort_unstable();
    let hosts = |addr: &IpAddr| addr.is_unspecified() || Some(*addr) == host;
    if let Some((_, port)) = bindings.iter().find(|(addr, _)| hosts(addr)) {
        return Ok((None, *port));
    }
    let beyond = bindings.iter().find(|(addr, _)| !addr.is_loopback());
    beyond.map_or(Err(Reason::Loopback(port)), |(addr, port)| {
        Ok((Some(*addr), *port))
    })
}

/// Its own address, IPv4 before IPv6.
fn address(container: &Container, wanted: &Wanted) -> Result<IpAddr, Reason> {
    let first = |addrs: &Vec<IpAddr>| addrs.iter().min().copied();
    if let Some(network) = &wanted.network {
        let addrs = container.networks.get(network);
        return addrs
            .and_then(first)
            .ok_or_else(|| Reason::NoAddress(Some(network.clone())));
    }
    let with = container
        .networks
        .iter()
        .filter(|(_, addrs)| !addrs.is_empty());
    let with: Vec<_> = with.collect();
    match with[..] {
        [] => Err(Reason::NoAddress(None)),
        [(_, addrs)] => first(addrs).ok_or(Reason::NoAddress(None)),
        _ => Err(Reason::SeveralNetworks(
            with.iter().map(|(network, _)| (*network).clone()).collect(),
        )),
    }
}

/// Of those that are at one place the first one is.
fn twice(seen: &mut [Seen]) {
    let mut first: BTreeMap<Place, (i64, String)> = BTreeMap::new();
    for instance in seen
        .iter()
        .flat_map(|it| &it.services)
        .filter_map(|(_, it)| it.as_ref().ok())
    {
        let age = first
            .entry(instance.place.clone())
            .or_insert_with(|| instance.age.clone());
        if instance.age < *age {
            age.clone_from(&instance.age);
        }
    }
    for (_, instance) in seen.iter_mut().flat_map(|it| &mut it.services) {
        if let Ok(it) = instance
            && first.get(&it.place).is_some_and(|age| *age != it.age)
        {
            *instance = Err(Reason::Twice);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::containers::tests::container;
    use crate::containers::{Event, Port, What};

    fn rules() -> Rules {
        Rules {
            prefix: "serf.".to_owned(),
            reach: Reach::Host,
            patience: 300,
        }
    }

    fn published(inside: u16, addr: &str, port: u16) -> Port {
        Port {
            inside,
            published: Some((addr.parse().unwrap(), port)),
        }
    }

    fn exposed(inside: u16) -> Port {
        Port {
            inside,
            published: None,
        }
    }

    fn of(container: Container) -> String {
        let mut book = Book::default();
        book.list(vec![container], Instant::now());
        shown(&book)
    }

    fn shown(book: &Book) -> String {
        let seen = seen(book, &rules(), Some("10.0.0.1".parse().unwrap()), 100);
        let services = seen.iter().flat_map(|it| &it.services);
        let services = services.map(|(_, it)| match it {
            Ok(it) => it.place.to_string(),
            Err(reason) => reason.to_string(),
        });
        services.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn a_published_port_is_the_hosts() {
        let mut shop = container("a", &[("serf.service", "shop")]);
        shop.ports = vec![
            published(3000, "0.0.0.0", 32768),
            published(3000, "::", 32768),
            exposed(9000),
        ];
        assert_eq!(of(shop.clone()), "shop:32768");
        shop.ports = vec![published(3000, "10.0.0.1", 8080)];
        assert_eq!(of(shop.clone()), "shop:8080");
        shop.ports = vec![
            published(3000, "127.0.0.1", 8080),
            published(3000, "10.0.0.9", 8081),
        ];
        assert_eq!(of(shop.clone()), "shop:8081@10.0.0.9");
        shop.ports = vec![published(3000, "127.0.0.1", 8080)];
        assert!(of(shop.clone()).contains("loopback only"));
        shop.ports = vec![exposed(3000)];
        assert!(of(shop.clone()).starts_with("its port 3000 is not published"));
        shop.ports = vec![published(3000, "0.0.0.0", 1), published(4000, "0.0.0.0", 2)];
        assert_eq!(
            of(shop.clone()),
            "it has several ports (3000, 4000); add the label port"
        );
        shop.ports = Vec::new();
        assert!(of(shop.clone()).starts_with("nothing says which port"));
        shop.network_mode = "host".to_owned();
        shop.labels
            .insert("serf.port".to_owned(), "3000".to_owned());
        assert_eq!(of(shop), "shop:3000");
    }

    #[test]
    fn a_containers_own_address_is_that_of_its_network() {
        let mut shop = container(
            "a",
            &[("serf.service", "shop"), ("serf.address", "container")],
        );
        shop.ports = vec![exposed(3000)];
        assert_eq!(of(shop.clone()), "it has no address of its own");
        shop.networks.insert(
            "front".to_owned(),
            vec!["fd00::5".parse().unwrap(), "172.18.0.5".parse().unwrap()],
        );
        shop.networks.insert("none".to_owned(), Vec::new());
        assert_eq!(of(shop.clone()), "shop:3000@172.18.0.5");
        shop.networks
            .insert("back".to_owned(), vec!["172.19.0.5".parse().unwrap()]);
        assert_eq!(
            of(shop.clone()),
            "it is in several networks (back, front); add the label network"
        );
        shop.labels
            .insert("serf.network".to_owned(), "back".to_owned());
        assert_eq!(of(shop.clone()), "shop:3000@172.19.0.5");
        shop.labels
            .insert("serf.network".to_owned(), "other".to_owned());
        assert_eq!(of(shop), "it has no address in the network other");
    }

    #[test]
    fn only_what_runs_and_is_well_is_there() {
        let mut shop = container("a", &[("serf.service", "shop")]);
        shop.ports = vec![published(3000, "0.0.0.0", 1)];
        for (state, health, told) in [
            (State::Running, None, "shop:1"),
            (State::Running, Some(Health::Healthy), "shop:1"),
            (
                State::Running,
                Some(Health::Starting),
                "its health check has not come to anything yet",
            ),
            (
                State::Running,
                Some(Health::Unhealthy),
                "its health check calls it unhealthy",
            ),
            (State::Paused, Some(Health::Healthy), "it is paused"),
            (State::Ended, None, "it does not run"),
        ] {
            let it = Container {
                state,
                health,
                ..shop.clone()
            };
            assert_eq!(of(it), told);
        }
        let mut book = Book::default();
        book.list(vec![shop], Instant::now());
        let (id, what, at) = ("a".to_owned(), What::Signal(15), 99);
        book.hear(&Event { id, what, at }, Instant::now());
        assert_eq!(shown(&book), "it was told to end");
    }

    #[test]
    fn two_at_one_place_are_the_one_that_was_first() {
        let mut book = Book::default();
        let at = |id: &str, created| {
            let mut it = container(id, &[("serf.service", "shop"), ("serf.port", "3000")]);
            it.network_mode = "host".to_owned();
            it.created = created;
            it
        };
        book.list(vec![at("a", 5), at("b", 3)], Instant::now());
        assert_eq!(
            shown(&book),
            "another container has the same service at the same place | shop:3000"
        );
    }

    #[test]
    fn every_reason_has_its_word() {
        assert!(
            Reason::TOLD
                .iter()
                .any(|(word, _)| *word == Reason::NoRoom.word())
        );
        assert!(!Reason::Paused.is_wrong() && Reason::NoRoom.is_wrong());
    }
}
