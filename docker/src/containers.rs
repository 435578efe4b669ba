//! The containers of this host: lists and events in, each container as it is now out. Pure.
//!
//! A list is what Docker says at once, an event is news. News goes before a list that was asked for earlier; and whoever
//! is gone, paused or told to end is known as that before any list says so.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

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

/// How long after an event a list may still say what was before: Docker tells of a pause or an end before it lists it.
pub const SETTLES: Duration = Duration::from_secs(1);

/// All that is known of the containers.
#[derive(Clone, Debug, Default)]
pub struct Book {
    containers: BTreeMap<String, Container>,
    /// Who was told to end, and when.
    stopping: BTreeMap<String, i64>,
    news: BTreeMap<String, News>,
}

/// What was heard of a container lately.
#[derive(Clone, Copy, Debug)]
struct News {
    /// When the last of it was heard.
    at: Instant,
    is_ended: bool,
    state: Option<State>,
    health: Option<Health>,
}

impl Book {
    /// Takes news, heard at that moment.
    pub fn hear(&mut self, event: &Event, at: Instant) {
        let news = self.news.entry(event.id.clone()).or_insert(News {
            at,
            is_ended: false,
            state: None,
            health: None,
        });
        news.at = at;
        match event.what {
            What::Started => {
                (news.is_ended, news.state, news.health) = (false, None, None);
                self.stopping.remove(&event.id);
            }
            What::Ended => {
                news.is_ended = true;
                self.stopping.remove(&event.id);
                self.containers.remove(&event.id);
            }
            what if what.ends() => {
                self.stopping.entry(event.id.clone()).or_insert(event.at);
            }
            What::Signal(_) | What::Changed => {}
            What::Paused => news.state = Some(State::Paused),
            What::Unpaused => news.state = Some(State::Running),
            What::Health(health) => news.health = Some(health),
        }
        if let Some(container) = self.containers.get_mut(&event.id) {
            news.overrule(container);
        }
    }

    /// Takes what was heard before, in its order, of which nothing is left but who was told to end.
    pub fn remember(&mut self, events: &[Event]) {
        for event in events {
            match event.what {
                What::Started | What::Ended => {
                    self.stopping.remove(&event.id);
                }
                what if what.ends() => {
                    self.stopping.entry(event.id.clone()).or_insert(event.at);
                }
                _ => {}
            }
        }
    }

    /// Takes a list that was asked for at that moment.
    pub fn list(&mut self, listed: Vec<Container>, asked: Instant) {
        self.news.retain(|_, news| asked < news.at + SETTLES);
        let mut containers = BTreeMap::new();
        for mut container in listed {
            if let Some(news) = self.news.get(&container.id) {
                if news.is_ended {
                    continue;
                }
                news.overrule(&mut container);
            }
            containers.insert(container.id.clone(), container);
        }
        // Who was there, is not listed, and was heard of since.
        for (id, container) in std::mem::take(&mut self.containers) {
            if self.news.get(&id).is_some_and(|news| asked < news.at) {
                containers.entry(id).or_insert(container);
            }
        }
        self.containers = containers;
        let (known, news) = (&self.containers, &self.news);
        self.stopping
            .retain(|id, _| known.contains_key(id) || news.contains_key(id));
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

impl News {
    fn overrule(&self, container: &mut Container) {
        container.state = self.state.unwrap_or(container.state);
        container.health = self.health.or(container.health);
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

    fn ms(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn who_has_ended_is_not_brought_back_by_a_list_of_before_or_soon_after() {
        let start = Instant::now();
        let mut book = Book::default();
        let both = || vec![container("a", &[]), container("b", &[])];
        book.list(both(), start);
        book.hear(&event("a", What::Ended), ms(start, 10));
        assert_eq!(ids(&book), ["b"]);
        for asked in [5, 15, 1009] {
            book.list(both(), ms(start, asked));
            assert_eq!(ids(&book), ["b"], "{asked}");
        }
        // A list of later is right, whatever was heard before.
        book.list(both(), ms(start, 1010));
        assert_eq!(ids(&book), ["a", "b"]);
    }

    #[test]
    fn who_was_started_again_is_there() {
        let start = Instant::now();
        let mut book = Book::default();
        book.list(vec![container("a", &[])], start);
        book.hear(&event("a", What::Ended), ms(start, 10));
        book.hear(&event("a", What::Started), ms(start, 20));
        assert!(ids(&book).is_empty());
        book.list(vec![container("a", &[])], ms(start, 21));
        assert_eq!(ids(&book), ["a"]);
    }

    #[test]
    fn what_was_heard_of_a_container_goes_before_a_list_of_before_or_soon_after() {
        let start = Instant::now();
        let mut book = Book::default();
        book.list(vec![container("a", &[])], start);
        book.hear(&event("a", What::Paused), ms(start, 10));
        for asked in [5, 15] {
            book.list(vec![container("a", &[])], ms(start, asked));
            assert_eq!(book.containers().next().unwrap().state, State::Paused);
        }
        book.hear(&event("a", What::Health(Health::Unhealthy)), ms(start, 20));
        book.hear(&event("a", What::Unpaused), ms(start, 30));
        let it = book.containers().next().unwrap();
        assert_eq!(
            (it.state, it.health),
            (State::Running, Some(Health::Unhealthy))
        );
        book.list(vec![container("a", &[])], ms(start, 2000));
        assert_eq!(book.containers().next().unwrap().health, None);
    }

    #[test]
    fn a_stop_is_seen_at_its_signal_and_forgotten_by_who_runs_on() {
        let start = Instant::now();
        let mut book = Book::default();
        book.list(vec![container("a", &[])], start);
        for signal in [1, 10, 12] {
            book.hear(&event("a", What::Signal(signal)), start);
        }
        assert!(!book.is_stopping("a", 100, 300));
        for signal in ENDS {
            let mut book = book.clone();
            book.hear(&event("a", What::Signal(signal)), start);
            assert!(book.is_stopping("a", 399, 300));
            assert_eq!(book.next_patience(399, 300), Some(400));
            assert!(!book.is_stopping("a", 400, 300));
            // No list takes it back, another start does.
            book.list(vec![container("a", &[])], ms(start, 5000));
            assert!(book.is_stopping("a", 100, 300));
            book.hear(&event("a", What::Started), ms(start, 5001));
            assert!(!book.is_stopping("a", 100, 300));
        }
    }

    #[test]
    fn nothing_is_kept_of_who_is_gone() {
        let start = Instant::now();
        let mut book = Book::default();
        for n in 0..100 {
            let id = n.to_string();
            book.hear(&event(&id, What::Started), start);
            book.hear(&event(&id, What::Signal(15)), start);
            book.hear(&event(&id, What::Ended), start);
        }
        book.hear(&event("never listed", What::Signal(15)), start);
        book.list(Vec::new(), ms(start, 5000));
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
