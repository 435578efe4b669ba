//! The containers of this host: lists and events in, each container as it is now out. Pure.
//!
//! A list is what Docker says at once, an event is news. News goes before a list that was asked for earlier; and whoever
//! is gone, paused or told to end is known as that before any list says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A container as Docker lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits, as a rule; any text.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// Seconds since 1970.
    pub created: i64,
    /// What Docker calls its state.
    pub state: State,
    /// What its HEALTHCHECK says, where the image has one.
    pub health: Option<Health>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that its image exposes or that are published, TCP only.
    pub ports: Vec<Port>,
    /// Its addresses by network.
    pub networks: BTreeMap<String, Vec<IpAddr>>,
    /// How it is in the network: `bridge`, `host`, `none`, `container:ID`, or a network's name.
    pub network_mode: String,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It is paused.
    Paused,
    /// Anything else: created, restarting, exited, dead.
    Ended,
}

/// What a HEALTHCHECK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    Starting,
    /// All is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Inside.
    pub inside: u16,
    /// Where it is published; none where it is only exposed.
    pub published: Option<(IpAddr, u16)>,
}

/// What has happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// To whom.
    pub id: String,
    /// What.
    pub what: What,
    /// Seconds since 1970.
    pub at: i64,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was started.
    Started,
    /// It has ended, or is no more.
    Ended,
    /// It was sent this signal.
    Signal(u8),
    /// It was paused.
    Paused,
    /// It goes on.
    Unpaused,
    /// Its check has come to this.
    Health(Health),
    /// Something else about it is otherwise: its networks, its name.
    Changed,
}

/// Signals that tell a program to end: SIGINT, SIGQUIT, SIGKILL, SIGTERM, SIGWINCH, which is how httpd is asked to, and
/// SIGRTMIN+3, which is how systemd is (`STOPSIGNAL` of their images).
const ENDS: [u8; 6] = [2, 3, 9, 15, 28, 37];

impl What {
    /// Whether something is otherwise now that only a list tells.
    pub fn needs_list(self) -> bool {
        !matches!(self, Self::Ended | Self::Signal(_))
    }

    fn ends(self) -> bool {
        matches!(self, Self::Signal(signal) if ENDS.contains(&signal))
    }
}

/// All that is known of the containers.
#[derive(Clone, Debug, Default)]
pub struct Book {
    containers: BTreeMap<String, Container>,
    /// Who was told to end, and when.
    stopping: BTreeMap<String, i64>,
    /// The number of the last event about a container, and who has ended by it.
    news: BTreeMap<String, (u64, bool)>,
    /// Events heard so far.
    heard: u64,
}

impl Book {
    /// So many events were heard: a list that is asked for now knows of these.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Whoever numbers events begins anew.
    pub fn forget_events(&mut self) {
        self.heard = 0;
        self.news.clear();
    }

    /// Takes news.
    pub fn hear(&mut self, event: &Event) {
        self.heard += 1;
        let ended = event.what == What::Ended;
        self.news.insert(event.id.clone(), (self.heard, ended));
        let container = self.containers.get_mut(&event.id);
        match event.what {
            What::Started => {
                self.stopping.remove(&event.id);
            }
            What::Ended => {
                self.stopping.remove(&event.id);
                self.containers.remove(&event.id);
            }
            what if what.ends() => {
                self.stopping.entry(event.id.clone()).or_insert(event.at);
            }
            What::Signal(_) | What::Changed => {}
            What::Paused => set(container, |it| it.state = State::Paused),
            What::Unpaused => set(container, |it| it.state = State::Running),
            What::Health(health) => set(container, |it| it.health = Some(health)),
        }
    }

    /// Takes what was heard before, in its order, of which nothing is left but who was told to end.
    pub fn remember(&mut self, events: &[Event]) {
        for event in events {
            match event.what {
                What::Started | What::Ended => drop(self.stopping.remove(&event.id)),
                what if what.ends() => {
                    drop(self.stopping.entry(event.id.clone()).or_insert(event.at))
                }
                _ => {}
            }
        }
    }

    /// Takes a list that was asked for when so many events were heard.
    pub fn list(&mut self, listed: Vec<Container>, asked_at: u64) {
        let is_news = |id: &str| self.news.get(id).is_some_and(|(at, _)| *at > asked_at);
        let mut containers = BTreeMap::new();
        for container in listed {
            match self.news.get(&container.id) {
                // It has ended since; or what it is now was heard later than this was said.
                Some((at, true)) if *at > asked_at => {}
                Some((at, false))
                    if *at > asked_at && self.containers.contains_key(&container.id) => {}
                _ => {
                    containers.insert(container.id.clone(), container);
                }
            }
        }
        for (id, container) in &self.containers {
            if is_news(id) {
                containers.insert(id.clone(), container.clone());
            }
        }
        self.containers = containers;
        let known: BTreeSet<&String> = self.containers.keys().collect();
        self.stopping.retain(|id, _| known.contains(id));
        self.news.retain(|_, (at, _)| *at > asked_at);
    }

    /// All containers that there are, by id.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    /// Whether it was told to end, less than `patience` seconds ago: whoever runs on for longer has not been stopped.
    pub fn is_stopping(&self, id: &str, now: i64, patience: i64) -> bool {
        let at = self.stopping.get(id);
        at.is_some_and(|at| now.saturating_sub(*at) < patience)
    }

    /// When the next of them has run on for long enough.
    pub fn next_patience(&self, now: i64, patience: i64) -> Option<i64> {
        let ends = self.stopping.values().map(|at| at.saturating_add(patience));
        ends.filter(|end| *end > now).min()
    }
}

fn set(container: Option<&mut Container>, change: impl FnOnce(&mut Container)) {
    if let Some(container) = container {
        change(container);
    }
}

/// What a health is called in a container's status, `Up 5 minutes (healthy)`.
pub fn health_of(status: &str) -> Option<Health> {
    let words = [
        ("(healthy)", Health::Healthy),
        ("(unhealthy)", Health::Unhealthy),
        ("(health: starting)", Health::Starting),
    ];
    let mut words = words.into_iter();
    words
        .find(|(word, _)| status.ends_with(word))
        .map(|(_, health)| health)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A container that runs.
    pub(crate) fn container(id: &str, labels: &[(&str, &str)]) -> Container {
        Container {
            id: id.to_owned(),
            name: format!("name-{id}"),
            created: 0,
            state: State::Running,
            health: None,
            labels: labels
                .iter()
                .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
                .collect(),
            ports: Vec::new(),
            networks: BTreeMap::new(),
            network_mode: "bridge".to_owned(),
        }
    }

    fn event(id: &str, what: What) -> Event {
        Event {
            id: id.to_owned(),
            what,
            at: 100,
        }
    }

    fn ids(book: &Book) -> Vec<&str> {
        book.containers().map(|it| it.id.as_str()).collect()
    }

    #[test]
    fn who_has_ended_is_not_brought_back_by_a_list_that_is_older() {
        let mut book = Book::default();
        book.list(vec![container("a", &[]), container("b", &[])], 0);
        let asked_at = book.heard();
        book.hear(&event("a", What::Ended));
        assert_eq!(ids(&book), ["b"]);
        book.list(vec![container("a", &[]), container("b", &[])], asked_at);
        assert_eq!(ids(&book), ["b"]);
        // A list that was asked for afterwards is right, whatever was heard before.
        book.list(vec![container("a", &[])], book.heard());
        assert_eq!(ids(&book), ["a"]);
    }

    #[test]
    fn who_was_started_needs_a_list_and_is_in_it() {
        let mut book = Book::default();
        let asked_at = book.heard();
        book.hear(&event("a", What::Started));
        book.list(vec![container("a", &[])], asked_at);
        assert_eq!(ids(&book), ["a"]);
    }

    #[test]
    fn what_was_heard_of_a_container_goes_before_an_older_list() {
        let mut book = Book::default();
        book.list(vec![container("a", &[])], 0);
        let asked_at = book.heard();
        book.hear(&event("a", What::Paused));
        book.list(vec![container("a", &[])], asked_at);
        assert_eq!(book.containers().next().unwrap().state, State::Paused);
        book.hear(&event("a", What::Health(Health::Unhealthy)));
        book.hear(&event("a", What::Unpaused));
        let it = book.containers().next().unwrap();
        assert_eq!(
            (it.state, it.health),
            (State::Running, Some(Health::Unhealthy))
        );
    }

    #[test]
    fn a_stop_is_seen_at_its_signal_and_forgotten_by_who_runs_on() {
        let mut book = Book::default();
        book.list(vec![container("a", &[])], 0);
        for signal in [1, 10, 12] {
            book.hear(&event("a", What::Signal(signal)));
        }
        assert!(!book.is_stopping("a", 100, 300));
        for signal in ENDS {
            let mut book = book.clone();
            book.hear(&event("a", What::Signal(signal)));
            assert!(book.is_stopping("a", 399, 300));
            assert_eq!(book.next_patience(399, 300), Some(400));
            assert!(!book.is_stopping("a", 400, 300));
            // No list takes it back, another start does.
            book.list(vec![container("a", &[])], book.heard());
            assert!(book.is_stopping("a", 100, 300));
            book.hear(&event("a", What::Started));
            assert!(!book.is_stopping("a", 100, 300));
        }
    }

    #[test]
    fn nothing_is_kept_of_who_is_gone() {
        let mut book = Book::default();
        for n in 0..100 {
            let id = n.to_string();
            book.hear(&event(&id, What::Started));
            book.hear(&event(&id, What::Signal(15)));
            book.hear(&event(&id, What::Ended));
        }
        book.list(Vec::new(), book.heard());
        assert_eq!(
            (book.news.len(), book.stopping.len(), book.containers.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn health_stands_in_the_status() {
        assert_eq!(health_of("Up 2 hours (healthy)"), Some(Health::Healthy));
        assert_eq!(
            health_of("Up 2 seconds (health: starting)"),
            Some(Health::Starting)
        );
        assert_eq!(health_of("Up 2 hours (unhealthy)"), Some(Health::Unhealthy));
        assert_eq!(health_of("Up 2 hours"), None);
        assert_eq!(health_of("Up 2 hours (Paused)"), None);
    }
}
