//! Docker's API: its socket in, lists of containers and news of them out. Read only: `GET /version`, `/events` and
//! `/containers/json`.
//!
//! A session listens first and lists then, so that nothing is missed between the two; when it ends, for whatever reason,
//! another begins, after a pause that doubles.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bollard::models::{
    ContainerSummary, ContainerSummaryStateEnum, EventMessage, EventMessageTypeEnum,
    PortSummaryTypeEnum,
};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptions};
use bollard::{ClientVersion, Docker};
use futures_util::future::{FusedFuture as _, FutureExt as _};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::containers::{Container, Event, Health, Port, SETTLES, State, What, health_of};

/// How long an answer may take, in seconds.
const PATIENCE: u64 = 10;
/// Between the ends and beginnings of two lists.
const GAP: Duration = Duration::from_millis(50);
/// The shortest and the longest pause before another session.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Versions of the API to try where `GET /version` is not allowed: Docker 20.10 to 28 know the first, later ones the other.
const VERSIONS: [(usize, usize); 2] = [(1, 41), (1, 44)];
/// What is to be heard of, as Docker calls it.
const HEARD: [&str; 10] = [
    "start",
    "die",
    "destroy",
    "kill",
    "pause",
    "unpause",
    "health_status",
    "rename",
    "connect",
    "disconnect",
];

/// How Docker is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The socket.
    pub socket: PathBuf,
    /// How often all is listed though nothing was heard.
    pub resync: Duration,
    /// How many seconds of the past count.
    pub past: i64,
}

/// What is heard of Docker.
#[derive(Debug)]
pub enum Update {
    /// A session has begun, and this was heard before it.
    Began(Vec<Event>),
    /// News, heard at that moment.
    Event(Event, std::time::Instant),
    /// All containers there are, by a list that was asked for at that moment.
    Listed(Vec<Container>, std::time::Instant),
    /// A session has ended, or could not begin.
    Lost(DockerError),
}

/// Why Docker is not heard.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It does not answer, or not as it should.
    #[error("cannot {doing} at {socket}")]
    Api {
        /// What was asked.
        doing: &'static str,
        /// Its socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: bollard::errors::Error,
    },
    /// It has closed the stream of events, which it does when it ends.
    #[error("Docker at {0} has ended the stream of its events")]
    Ended(PathBuf),
}

impl DockerError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Api {
                source:
                    bollard::errors::Error::DockerResponseServerError {
                        status_code: 403, ..
                    },
                ..
            } => "the proxy before Docker has to allow GET /version, /events and /containers/json",
            _ => {
                "see whether Docker runs and whether the user that runs serf-docker may use its socket; tags stay as they are \
                 meanwhile, and it is tried again by itself"
            }
        }
    }
}

/// Sends what is heard, until nobody takes it any more.
pub async fn follow(options: Options, updates: mpsc::Sender<Update>) {
    let session = Session { options, updates };
    let mut pause = PAUSES.0;
    loop {
        let began = Instant::now();
        let Err(error) = session.run().await else {
            return;
        };
        if session.updates.send(Update::Lost(error)).await.is_err() {
            return;
        }
        if began.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

struct Session {
    options: Options,
    updates: mpsc::Sender<Update>,
}

impl Session {
    /// Goes on until Docker is lost, or nobody takes what is heard any more.
    async fn run(&self) -> Result<(), DockerError> {
        let socket = self.options.socket.clone();
        let docker = connect(&socket).await?;
        let now = i64::try_from(controller::clock::unix_secs()).unwrap_or_default();
        let past = past(&docker, &socket, now - self.options.past, now).await?;
        if self.send(Update::Began(past)).await {
            return Ok(());
        }
        let mut events = pin!(events(&docker, now, None));
        let mut list = pin!(list(&docker, &socket).fuse());
        let (mut asked, mut not_before) = (Instant::now(), Instant::now());
        // A list that is to be right at once, and one that is right in any case.
        let (mut is_stale, mut confirm) = (false, None::<Instant>);
        let mut next = pin!(sleep_until(not_before));
        loop {
            tokio::select! {
                event = events.next() => match event {
                    None => return Err(DockerError::Ended(socket.clone())),
                    Some(Err(source)) => return Err(DockerError::Api { doing: "hear of events", socket: socket.clone(), source }),
                    Some(Ok(message)) => if let Some(event) = event_of(&message) {
                        let now = Instant::now();
                        confirm = Some(now + SETTLES);
                        is_stale |= event.what.needs_list();
                        next.as_mut().reset(if is_stale { not_before } else { now + SETTLES });
                        if self.send(Update::Event(event, now.into_std())).await {
                            return Ok(());
                        }
                    }
                },
                listed = &mut list => {
                    if self.send(Update::Listed(listed?, asked.into_std())).await {
                        return Ok(());
                    }
                    not_before = Instant::now() + GAP;
                    let resync = Instant::now() + self.options.resync;
                    let then = if is_stale { not_before } else { confirm.unwrap_or(resync) };
                    next.as_mut().reset(then);
                }
                () = &mut next, if list.is_terminated() => {
                    is_stale = false;
                    asked = Instant::now();
                    confirm = confirm.filter(|at| *at > asked);
                    list.set(self::list(&docker, &socket).fuse());
                }
            }
        }
    }

    /// Whether nobody takes it any more.
    async fn send(&self, update: Update) -> bool {
        self.updates.send(update).await.is_err()
    }
}

/// A client that speaks a version of the API which Docker knows, or the proxy before it.
///
/// # Errors
/// [`DockerError::Api`].
pub async fn connect(socket: &Path) -> Result<Docker, DockerError> {
    let api = |doing| {
        move |source| DockerError::Api {
            doing,
            socket: socket.to_owned(),
            source,
        }
    };
    let client = |(major_version, minor_version): (usize, usize)| {
        let version = ClientVersion {
            major_version,
            minor_version,
        };
        Docker::connect_with_unix(&socket.display().to_string(), PATIENCE, &version)
    };
    let first = client(VERSIONS[0]).map_err(api("reach Docker"))?;
    match first.clone().negotiate_version().await {
        Ok(docker) => Ok(docker),
        Err(error @ bollard::errors::Error::DockerResponseServerError { .. }) => {
            for version in VERSIONS {
                let docker = client(version).map_err(api("reach Docker"))?;
                let one = ListContainersOptions {
                    limit: Some(1),
                    ..ListContainersOptions::default()
                };
                if docker.list_containers(Some(one)).await.is_ok() {
                    return Ok(docker);
                }
            }
            Err(api("ask for Docker's version")(error))
        }
        Err(error) => Err(api("ask for Docker's version")(error)),
    }
}

fn events(
    docker: &Docker,
    since: i64,
    until: Option<i64>,
) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> {
    let filters = HashMap::from([
        ("type", vec!["container", "network"]),
        ("event", HEARD.to_vec()),
    ]);
    let options = EventsOptionsBuilder::new()
        .since(&since.to_string())
        .filters(&filters);
    let options = match until {
        Some(until) => options.until(&until.to_string()),
        None => options,
    };
    docker.events(Some(options.build()))
}

/// What Docker still remembers of the time between the two: the last 256 events of all kinds, at most.
///
/// # Errors
/// [`DockerError::Api`].
pub async fn past(
    docker: &Docker,
    socket: &Path,
    since: i64,
    until: i64,
) -> Result<Vec<Event>, DockerError> {
    let mut past = Vec::new();
    let mut events = pin!(events(docker, since, Some(until)));
    while let Some(message) = events.next().await {
        let message = message.map_err(|source| DockerError::Api {
            doing: "hear of events",
            socket: socket.to_owned(),
            source,
        });
        past.extend(event_of(&message?));
    }
    Ok(past)
}

/// All containers that run.
///
/// # Errors
/// [`DockerError::Api`].
pub async fn list(docker: &Docker, socket: &Path) -> Result<Vec<Container>, DockerError> {
    let listed = docker.list_containers(None::<ListContainersOptions>).await;
    let listed = listed.map_err(|source| DockerError::Api {
        doing: "list containers",
        socket: socket.to_owned(),
        source,
    })?;
    Ok(listed.into_iter().filter_map(container_of).collect())
}

fn container_of(summary: ContainerSummary) -> Option<Container> {
    let name = summary
        .names
        .unwrap_or_default()
        .into_iter()
        .next()
        .unwrap_or_default();
    let status = summary.status.unwrap_or_default();
    let ports = summary.ports.unwrap_or_default().into_iter();
    let ports = ports
        .filter(|port| port.typ.is_none_or(|typ| typ == PortSummaryTypeEnum::TCP))
        .map(|port| {
            let addr = port.ip.as_deref().and_then(|ip| ip.parse().ok());
            let any = IpAddr::from([0, 0, 0, 0]);
            let published = port.public_port.filter(|port| *port != 0);
            Port {
                inside: port.private_port,
                published: published.map(|port| (addr.unwrap_or(any), port)),
            }
        });
    let networks = summary
        .network_settings
        .and_then(|it| it.networks)
        .unwrap_or_default();
    let networks = networks.into_iter().map(|(name, endpoint)| {
        let addrs = [endpoint.ip_address, endpoint.global_ipv6_address];
        let addrs = addrs
            .into_iter()
            .flatten()
            .filter_map(|addr| addr.parse().ok());
        (name, addrs.collect())
    });
    Some(Container {
        id: summary.id?,
        name: name.trim_start_matches('/').to_owned(),
        created: summary.created.unwrap_or_default(),
        state: match summary.state {
            Some(ContainerSummaryStateEnum::RUNNING) => State::Running,
            Some(ContainerSummaryStateEnum::PAUSED) => State::Paused,
            _ => State::Ended,
        },
        health: health_of(&status),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        ports: ports.collect(),
        networks: networks.collect::<BTreeMap<_, _>>(),
        network_mode: summary
            .host_config
            .and_then(|it| it.network_mode)
            .unwrap_or_default(),
    })
}

fn event_of(message: &EventMessage) -> Option<Event> {
    let actor = message.actor.as_ref()?;
    let attribute = |name: &str| actor.attributes.as_ref()?.get(name);
    let action = message.action.as_deref()?;
    let at = message.time.unwrap_or_default();
    if message.typ == Some(EventMessageTypeEnum::NETWORK) {
        let id = attribute("container")?.clone();
        let what = What::Changed;
        return Some(Event { id, what, at });
    }
    let what = match action {
        "start" => What::Started,
        "die" | "destroy" => What::Ended,
        "kill" => What::Signal(attribute("signal")?.parse().ok()?),
        "pause" => What::Paused,
        "unpause" => What::Unpaused,
        "rename" => What::Changed,
        _ => match action.strip_prefix("health_status: ")? {
            "healthy" => What::Health(Health::Healthy),
            "unhealthy" => What::Health(Health::Unhealthy),
            _ => What::Health(Health::Starting),
        },
    };
    let id = actor.id.clone()?;
    Some(Event { id, what, at })
}
