//! All that an agent knows, and who listens to it: changes in, messages to connections out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bstr::BString;
use bytes::Bytes;
use serf_rpc::{Member, MemberEventKind};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::cluster::{Cluster, Saying};
use super::coalescer::{Coalescer, Coalescing};
use super::message::Message;
use super::setting::{Behaviour, Fault, Trap, between};
use super::topic::{Interest, Level, Record, Topic};
use super::wire;

/// Lines that a monitor begins with.
const OLD_LINES: usize = 512;
/// What stands before every line: nobody reads the time.
const TIME: &str = "2026/11/23 16:07:50";

/// An agent's state, and its alarm clock.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something may be due earlier than was thought.
    wake: Notify,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    /// The state, to look at or to change nothing that has its time.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let result = change(&mut self.lock(), Instant::now());
        self.wake.notify_one();
        result
    }

    /// Sends what is due, for ever.
    pub(super) async fn run(&self) {
        loop {
            let due = self.lock().run(Instant::now());
            match due {
                None => self.wake.notified().await,
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.wake.notified() => {}
                },
            }
        }
    }
}

/// What an agent was asked and did.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) requests: BTreeMap<String, u64>,
    pub(super) dropped: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) name: BString,
    pub(super) key: Option<String>,
    pub(super) cluster: Cluster,
    pub(super) behaviour: Behaviour,
    pub(super) traps: Vec<Trap>,
    pub(super) counts: Counts,
    pub(super) listener: Option<JoinHandle<()>>,
    rng: fastrand::Rng,
    coalescer: Coalescer,
    log: VecDeque<Record>,
    ltime: u64,
    /// Records on their way, by their time and the order in which they set out.
    later: BTreeMap<(Instant, u64), Record>,
    set_out: u64,
    peers: BTreeMap<u64, Peer>,
}

/// A connection, as the agent sees it.
#[derive(Debug)]
struct Peer {
    outbound: mpsc::Sender<Message>,
    faults: mpsc::UnboundedSender<Fault>,
    subscriptions: Vec<(u64, Interest)>,
}

impl State {
    pub(super) fn new(
        name: BString,
        key: Option<String>,
        coalescing: Coalescing,
        seed: u64,
    ) -> Self {
        Self {
            name,
            key,
            cluster: Cluster::default(),
            behaviour: Behaviour::default(),
            traps: Vec::new(),
            counts: Counts::default(),
            listener: None,
            rng: fastrand::Rng::with_seed(seed),
            coalescer: Coalescer::new(coalescing),
            log: VecDeque::new(),
            ltime: 0,
            later: BTreeMap::new(),
            set_out: 0,
            peers: BTreeMap::new(),
        }
    }

    /// Puts a member in the place of the one of its name, and says so.
    pub(super) fn put(&mut self, member: Member, now: Instant) {
        let name = member.name().to_owned();
        if let Some(saying) = self.cluster.put(member) {
            self.tell(name, saying, now);
        }
    }

    /// Takes a member away, and says so.
    pub(super) fn remove(&mut self, name: &[u8], now: Instant) {
        if let Some(saying) = self.cluster.remove(name) {
            self.tell(name.into(), saying, now);
        }
    }

    fn tell(&mut self, name: BString, saying: Saying, now: Instant) {
        for (level, text) in saying.lines {
            self.say(level, &text, now);
        }
        if let Some(kind) = saying.event {
            self.coalescer.take(kind, name, saying.member, now);
        }
    }

    /// Writes a line into the log.
    pub(super) fn say(&mut self, level: &str, text: &[u8], now: Instant) {
        let line = [format!("{TIME} [{level}] ").as_bytes(), text].concat();
        let record = Record {
            topic: Topic::Line(Level::parse(level).expect("a level of Serf's")),
            body: wire::line(&line),
        };
        if self.log.len() == OLD_LINES {
            self.log.pop_front();
        }
        self.log.push_back(record.clone());
        let delivery = self.behaviour.lines;
        let delays = delivery.draw(&mut self.rng);
        self.send(&record, delays, now);
    }

    /// Sends a record of members as they stand in a list, true or not.
    pub(super) fn announce(&mut self, kind: MemberEventKind, members: &[Bytes], now: Instant) {
        let body = wire::member_event(kind, members.iter());
        self.send_event(Topic::Member(kind), body, now);
        let text = format!("agent: Received event: {}", kind.as_str());
        self.say("INFO", text.as_bytes(), now);
    }

    /// Sends a user event, never held back.
    pub(super) fn user_event(&mut self, name: &[u8], payload: &[u8], coalesce: bool, now: Instant) {
        self.ltime += 1;
        let body = wire::user_event(self.ltime, name, payload, coalesce);
        self.send_event(Topic::User(name.into()), body, now);
    }

    /// Sends user events, all in one message, to whom it may concern.
    pub(super) fn flood(&mut self, name: &[u8], payload: &[u8], count: u64) {
        let first = self.ltime + 1;
        self.ltime += count;
        let topic = Topic::User(name.into());
        for peer in self.peers.values() {
            for (seq, _) in peer.subscriptions.iter().filter(|(_, of)| of.wants(&topic)) {
                let header = wire::header(*seq, "");
                let mut records = Vec::new();
                for ltime in first..=self.ltime {
                    records.extend_from_slice(&header);
                    records.extend_from_slice(&wire::user_event(ltime, name, payload, false));
                }
                let message = Message::new(Bytes::new(), records.into());
                self.counts.dropped += u64::from(peer.outbound.try_send(message).is_err());
            }
        }
    }

    fn send_event(&mut self, topic: Topic, body: Bytes, now: Instant) {
        let delivery = self.behaviour.events;
        let delays = delivery.draw(&mut self.rng);
        self.send(&Record { topic, body }, delays, now);
    }

    fn send(&mut self, record: &Record, delays: Vec<Duration>, now: Instant) {
        for delay in delays {
            if delay.is_zero() {
                self.deliver(record);
            } else {
                self.set_out += 1;
                self.later
                    .insert((now + delay, self.set_out), record.clone());
            }
        }
    }

    fn deliver(&mut self, record: &Record) {
        for peer in self.peers.values() {
            for (seq, interest) in &peer.subscriptions {
                if interest.wants(&record.topic) {
                    self.counts.dropped += u64::from(!peer.push(*seq, record));
                }
            }
        }
    }

    /// Sends what is due, and says when the next is.
    fn run(&mut self, now: Instant) -> Option<Instant> {
        if self.coalescer.due().is_some_and(|due| due <= now) {
            for (kind, members) in self.coalescer.flush() {
                self.announce(kind, &members, now);
            }
        }
        while let Some(first) = self.later.first_entry() {
            if first.key().0 > now {
                break;
            }
            let record = first.remove();
            self.deliver(&record);
        }
        let later = self.later.keys().next().map(|(at, _)| *at);
        later.into_iter().chain(self.coalescer.due()).min()
    }

    /// The body of an answer to `members`.
    pub(super) fn members(&mut self) -> Bytes {
        let how = self.behaviour.members;
        self.cluster.answer(how, &mut self.rng)
    }

    /// How long the next answer takes.
    pub(super) fn answer_after(&mut self) -> Duration {
        between(self.behaviour.answer_after, &mut self.rng)
    }

    /// The trap that an answer to this command springs.
    pub(super) fn spring(&mut self, command: &str) -> Option<Trap> {
        let at = self.traps.iter().position(|trap| trap.command == command)?;
        Some(self.traps.remove(at))
    }

    /// A connection comes; says under which number.
    pub(super) fn enter(
        &mut self,
        outbound: mpsc::Sender<Message>,
        faults: mpsc::UnboundedSender<Fault>,
    ) -> u64 {
        self.counts.accepted += 1;
        let peer = Peer {
            outbound,
            faults,
            subscriptions: Vec::new(),
        };
        self.peers.insert(self.counts.accepted, peer);
        self.counts.accepted
    }

    /// A connection goes.
    pub(super) fn leave(&mut self, peer: u64) {
        self.peers.remove(&peer);
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.peers.len()
    }

    /// Makes something happen to all connections.
    pub(super) fn strike(&self, fault: &Fault) {
        for peer in self.peers.values() {
            // One that has just ended needs no more.
            let _ = peer.faults.send(fault.clone());
        }
    }

    /// Sends bytes to all connections, between one message and the next.
    pub(super) fn send_raw(&self, bytes: &Bytes) {
        for peer in self.peers.values() {
            let _ = peer
                .outbound
                .try_send(Message::new(bytes.clone(), Bytes::new()));
        }
    }

    /// Whether a connection may subscribe so; the agent's words if not.
    pub(super) fn may_subscribe(
        &self,
        peer: u64,
        seq: u64,
        interest: &Interest,
    ) -> Result<(), &'static str> {
        let mut others = self
            .peers
            .get(&peer)
            .into_iter()
            .flat_map(|peer| &peer.subscriptions);
        match interest {
            Interest::Lines(_) if others.any(|(_, other)| matches!(other, Interest::Lines(_))) => {
                Err("Monitor already exists")
            }
            Interest::Events(_)
                if others.any(|(of, other)| *of == seq && matches!(other, Interest::Events(_))) =>
            {
                Err("Stream with given sequence exists")
            }
            _ => Ok(()),
        }
    }

    /// Begins a stream, or a monitor with the last lines of the log.
    pub(super) fn subscribe(&mut self, peer: u64, seq: u64, interest: Interest) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        for record in self
            .log
            .iter()
            .filter(|record| interest.wants(&record.topic))
        {
            self.counts.dropped += u64::from(!peer.push(seq, record));
        }
        peer.subscriptions.push((seq, interest));
    }

    /// Ends what runs under a sequence number; it may have a few records left.
    pub(super) fn unsubscribe(&mut self, peer: u64, seq: u64) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        let ended = peer.subscriptions.extract_if(.., |(of, _)| *of == seq);
        let ended: Vec<_> = ended.map(|(_, interest)| interest).collect();
        for interest in ended {
            let record = match interest {
                Interest::Lines(level) => Record {
                    topic: Topic::Line(level),
                    body: wire::line(b"late"),
                },
                Interest::Events(_) => Record {
                    topic: Topic::User("late".into()),
                    body: wire::user_event(self.ltime, b"late", b"", false),
                },
            };
            for _ in 0..self.behaviour.late_records {
                self.counts.dropped += u64::from(!peer.push(seq, &record));
            }
        }
    }

    /// Forgets everybody but itself, and the log, as by a restart.
    pub(super) fn forget(&mut self) {
        let own = self.cluster.get(&self.name).cloned();
        self.cluster = Cluster::default();
        self.log.clear();
        self.later.clear();
        self.coalescer.forget();
        if let Some(own) = own {
            self.cluster.put(own);
        }
    }
}

impl Peer {
    /// Queues a record; false where there is no room for it, which its reader never learns.
    fn push(&self, seq: u64, record: &Record) -> bool {
        let message = Message::new(wire::header(seq, ""), record.body.clone());
        !matches!(
            self.outbound.try_send(message),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }
}
