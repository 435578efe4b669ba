//! What is known and what follows: containers and the agent's tags in, the change that is to be made out. Pure.
//!
//! Nothing is changed before Docker has listed its containers and the agent its tags; and what was known stays known when
//! either is lost.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use serf_rpc::TagChange;

use crate::agent::Own;
use crate::containers::{Book, Container, Event};
use crate::instances::{Rules, Seen, seen};
use crate::pace::Urgency;
use crate::tags::{self, Chosen, Names, Tags};

/// What is known.
#[derive(Clone, Debug)]
pub struct State {
    rules: Rules,
    names: Names,
    book: Book,
    is_listed: bool,
    own: Option<Own>,
    seen: Vec<Seen>,
    chosen: Chosen,
}

impl State {
    /// Nothing yet.
    pub fn new(rules: Rules, names: Names) -> Self {
        Self {
            rules,
            names,
            book: Book::default(),
            is_listed: false,
            own: None,
            seen: Vec::new(),
            chosen: Chosen::default(),
        }
    }

    /// Takes other rules. Where labels are called otherwise, the containers have to be listed again first.
    pub fn set_rules(&mut self, rules: Rules, names: Names) {
        if rules.prefix != self.rules.prefix {
            self.is_listed = false;
        }
        (self.rules, self.names) = (rules, names);
    }

    /// Takes news of a container, heard at that moment.
    pub fn hear(&mut self, event: &Event, at: Instant) {
        self.book.hear(event, at);
    }

    /// Takes what was heard before the list that follows.
    pub fn remember(&mut self, events: &[Event]) {
        self.book.remember(events);
    }

    /// Takes a list that was asked for at that moment; of it nothing is kept but what has labels of ours.
    pub fn list(&mut self, listed: Vec<Container>, asked: Instant) {
        let prefix = &self.rules.prefix;
        let ours = listed.into_iter().filter_map(|mut container| {
            container
                .labels
                .retain(|label, _| label.starts_with(prefix));
            (!container.labels.is_empty()).then_some(container)
        });
        self.book.list(ours.collect(), asked);
        self.is_listed = true;
    }

    /// Takes what the agent says of itself.
    pub fn set_own(&mut self, own: Own) {
        self.own = Some(own);
    }

    /// What the agent said of itself last.
    pub fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// Whether Docker has listed its containers, once.
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// What has to be changed in the agent's tags, and how soon; none where nothing has, or not enough is known.
    pub fn decide(&mut self, now: i64) -> Option<(TagChange, Urgency)> {
        let host: Option<IpAddr> = self.own.as_ref().and_then(|own| own.addr);
        self.seen = seen(&self.book, &self.rules, host, now);
        let node = self.own.as_ref().map(|own| &own.tags);
        let before = node
            .map(|node| tags::places(node, &self.names))
            .unwrap_or_default();
        let others = node
            .map(|node| tags::others(node, &self.names))
            .unwrap_or_default();
        self.chosen = tags::choose(&mut self.seen, &before, &others, &self.names);
        if !self.is_listed {
            return None;
        }
        let change = tags::change(node?, &self.chosen.tags, &self.names)?;
        let only_comes = before.is_subset(&self.chosen.places) && before != self.chosen.places;
        let urgency = if only_comes {
            Urgency::Gathering
        } else {
            Urgency::AtOnce
        };
        Some((change, urgency))
    }

    /// The change that takes our tags away; none where there are none, or none are known.
    pub fn leave(&self) -> Option<TagChange> {
        tags::change(&self.own.as_ref()?.tags, &Tags::new(), &self.names)
    }

    /// Each container that has labels of ours, as it was decided last.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Our tags, as they were decided last.
    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// What the tags are called.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whether the agent has our tags as they were decided last.
    pub fn is_written(&self) -> bool {
        let node = self.own.as_ref().map(|own| &own.tags);
        node.is_some_and(|node| tags::change(node, &self.chosen.tags, &self.names).is_none())
    }

    /// Who was in the agent's tags when they were read last.
    pub fn written(&self) -> BTreeSet<crate::instances::Place> {
        let node = self.own.as_ref().map(|own| &own.tags);
        node.map(|node| tags::places(node, &self.names))
            .unwrap_or_default()
    }

    /// When something is decided otherwise though nothing is heard.
    pub fn deadline(&self, now: i64) -> Option<i64> {
        self.book.next_patience(now, self.rules.patience)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::containers::tests::container;
    use crate::containers::{Health, Port, SETTLES, What};
    use crate::labels::Reach;
    use crate::tags::tests::names;

    fn state() -> State {
        let rules = Rules {
            prefix: "serf.".to_owned(),
            reach: Reach::Host,
            patience: 300,
        };
        State::new(rules, names())
    }

    fn shop(id: u16) -> Container {
        let mut it = container(&id.to_string(), &[("serf.service", "shop"), ("other", "x")]);
        it.created = i64::from(id);
        it.ports.push(Port {
            inside: 80,
            published: Some(([0, 0, 0, 0].into(), 30_000 + id)),
        });
        it
    }

    fn own(tags: &[(&str, &str)]) -> Own {
        Own {
            name: "host".to_owned(),
            addr: Some([10, 0, 0, 1].into()),
            tags: tags
                .iter()
                .map(|(tag, value)| ((*tag).into(), (*value).into()))
                .collect(),
        }
    }

    #[test]
    fn nothing_is_changed_before_both_are_known() {
        let mut state = state();
        assert_eq!(state.decide(0), None);
        state.set_own(own(&[("svc", "shop:30001"), ("host.shop", "a")]));
        assert_eq!(state.decide(0), None);
        let mut other = self::state();
        other.list(vec![shop(1)], Instant::now());
        assert_eq!(other.decide(0), None);
        state.list(vec![shop(1)], Instant::now());
        // What an earlier process has written is known as that.
        let (change, urgency) = state.decide(0).unwrap();
        assert_eq!(
            format!("{change:?}"),
            format!("{:?}", TagChange::new().delete("host.shop"))
        );
        assert_eq!(urgency, Urgency::AtOnce);
    }

    #[test]
    fn who_comes_gathers_and_who_goes_does_not() {
        let mut state = state();
        state.set_own(own(&[("svc", "shop:30001")]));
        state.list(vec![shop(1), shop(2)], Instant::now());
        assert_eq!(state.decide(0).unwrap().1, Urgency::Gathering);
        let (id, what, at) = ("1".to_owned(), What::Signal(15), 0);
        state.hear(&Event { id, what, at }, Instant::now());
        let (change, urgency) = state.decide(0).unwrap();
        assert_eq!(urgency, Urgency::AtOnce);
        assert_eq!(
            format!("{change:?}"),
            format!("{:?}", TagChange::new().set("svc", "shop:30002"))
        );
        assert_eq!(state.deadline(0), Some(300));
        // It was told to end, and has not.
        state.set_own(own(&[("svc", "shop:30002")]));
        assert_eq!(state.decide(300).unwrap().1, Urgency::Gathering);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Happens(u16, What),
        List(bool),
        AgentRestarts(bool),
        Writes,
        WeRestart,
        DockerRestarts,
    }

    fn step() -> impl Strategy<Value = Step> {
        let what = prop_oneof![
            3 => Just(What::Started),
            2 => Just(What::Ended),
            1 => Just(What::Signal(15)),
            1 => Just(What::Paused),
            1 => Just(What::Unpaused),
            1 => Just(What::Health(Health::Healthy)),
            1 => Just(What::Health(Health::Unhealthy)),
        ];
        prop_oneof![
            6 => (0..6_u16, what).prop_map(|(id, what)| Step::Happens(id, what)),
            2 => any::<bool>().prop_map(Step::List),
            1 => any::<bool>().prop_map(Step::AgentRestarts),
            3 => Just(Step::Writes),
            1 => Just(Step::WeRestart),
            1 => Just(Step::DockerRestarts),
        ]
    }

    /// What really runs, whether it is heard of or not.
    struct World {
        now: Instant,
        containers: BTreeMap<u16, Container>,
        /// What containers were like before they changed last, and when that was: lists may say so for a while.
        before: BTreeMap<u16, (Instant, Container)>,
        stopping: BTreeSet<u16>,
        agent: Tags,
        /// Events that Docker would still tell.
        past: Vec<Event>,
    }

    impl World {
        fn happens(&mut self, id: u16, what: What) -> bool {
            if what == What::Started {
                let is_new = !self.containers.contains_key(&id);
                if is_new {
                    self.stopping.remove(&id);
                    self.before.remove(&id);
                    self.containers.insert(id, shop(id));
                }
                return is_new;
            }
            let Some(it) = self.containers.get_mut(&id) else {
                return false;
            };
            self.before.insert(id, (self.now, it.clone()));
            match what {
                What::Ended => {
                    self.stopping.remove(&id);
                    self.containers.remove(&id);
                }
                What::Signal(_) => drop(self.stopping.insert(id)),
                What::Paused => it.state = crate::containers::State::Paused,
                What::Unpaused => it.state = crate::containers::State::Running,
                What::Health(health) => it.health = Some(health),
                What::Started | What::Changed => {}
            }
            true
        }

        fn list(&self) -> Vec<Container> {
            let mut listed = self.containers.clone();
            for (id, (at, before)) in &self.before {
                if self.now < *at + SETTLES {
                    listed.insert(*id, before.clone());
                }
            }
            listed.into_values().collect()
        }

        fn serving(&self) -> BTreeSet<u16> {
            let well = self.containers.iter().filter(|(id, it)| {
                it.state == crate::containers::State::Running
                    && it.health != Some(Health::Unhealthy)
                    && !self.stopping.contains(id)
            });
            well.map(|(id, _)| 30_000 + id).collect()
        }

        fn own(&self) -> Own {
            Own {
                name: "h".to_owned(),
                addr: None,
                tags: self.agent.clone(),
            }
        }

        fn write(&mut self, daemon: &mut State) -> BTreeSet<u16> {
            if daemon.decide(0).is_some() {
                self.agent.retain(|tag, _| tag == b"role");
                self.agent.extend(daemon.chosen().tags.clone());
                daemon.set_own(self.own());
            }
            tags::places(&self.agent, &names())
                .into_iter()
                .map(|it| it.port)
                .collect()
        }
    }

    proptest! {
        /// Whatever happens, is lost and restarts: while Docker is heard, nobody is in the tags who is gone; and once all was read
        /// again, whoever serves is in them, and nobody else.
        #[test]
        fn tags_come_to_what_runs(steps in prop::collection::vec((step(), 0..600_u64), 0..60)) {
            let mut world = World {
                now: Instant::now(),
                containers: BTreeMap::new(),
                before: BTreeMap::new(),
                stopping: BTreeSet::new(),
                agent: Tags::from([("role".into(), "web".into())]),
                past: Vec::new(),
            };
            let (mut daemon, mut lists, mut lost) = (state(), Vec::new(), false);
            for (step, millis) in steps {
                world.now += Duration::from_millis(millis);
                match step {
                    Step::Happens(id, what) => {
                        if world.happens(id, what) {
                            let event = Event { id: id.to_string(), what, at: 0 };
                            world.past.push(event.clone());
                            if !lost {
                                daemon.hear(&event, world.now);
                            }
                        }
                    }
                    // A list may be answered long after it was asked for.
                    Step::List(at_once) => {
                        lists.push((world.list(), world.now));
                        if at_once && !lost {
                            for (list, asked) in std::mem::take(&mut lists) {
                                daemon.list(list, asked);
                            }
                        }
                    }
                    Step::AgentRestarts(keeps) => {
                        if !keeps {
                            world.agent.retain(|tag, _| tag == b"role");
                        }
                        daemon.set_own(world.own());
                    }
                    Step::Writes => {
                        let ports = world.write(&mut daemon);
                        if !lost && daemon.is_listed() && daemon.own().is_some() {
                            prop_assert!(ports.is_subset(&world.serving()), "{:?} {:?}", ports, world.serving());
                        }
                    }
                    Step::WeRestart => {
                        daemon = state();
                        daemon.remember(&world.past);
                        lost = false;
                        lists.clear();
                        daemon.set_own(world.own());
                        world.now += SETTLES;
                    }
                    Step::DockerRestarts => {
                        lost = !lost;
                        lists.clear();
                        if !lost {
                            world.now += SETTLES;
                            daemon.remember(&world.past);
                            daemon.list(world.list(), world.now);
                        }
                    }
                }
            }
            world.now += SETTLES;
            daemon.remember(&world.past);
            daemon.list(world.list(), world.now);
            daemon.set_own(world.own());
            prop_assert_eq!(world.write(&mut daemon), world.serving());
            prop_assert!(world.agent.contains_key(&b"role".to_vec()));
        }
    }
}
