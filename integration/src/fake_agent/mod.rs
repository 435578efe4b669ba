//! A fake Serf agent, for what the real one cannot be made to do: it speaks the RPC to any number of
//! clients, lists as many members as it is told, lets them come and go at a set rate, and suffers
//! every fault a connection can have, at any time.
//!
//! ```no_run
//! use integration::fake_agent::{FakeAgent, Fault, MembersAnswer, nodes};
//! use integration::test;
//!
//! #[test]
//! fn an_agent_that_lists_nobody() {
//!     test(&[], async |lab| {
//!         let agent = FakeAgent::on(lab, "fake", 1).members(nodes(100)).start()?;
//!         agent.behave(|behaviour| behaviour.members = MembersAnswer::Empty);
//!         agent.trap("stats", 5, Fault::Reset);
//!         // … a client of agent.rpc_addr() …
//!         Ok(())
//!     });
//! }
//! ```
//!
//! It knows `handshake`, `auth`, `event`, `members`, `members-filtered`, `stats`, `stream`, `monitor`,
//! `stop`, `tags`, `force-leave` and `leave`, and calls others unsupported. All agents share one thread, apart from
//! the runtime of the test, so that neither delays the other.

mod churn;
mod cluster;
mod coalescer;
mod command;
mod connection;
mod message;
mod request;
mod setting;
mod state;
mod topic;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use bstr::BString;
use bytes::Bytes;
use serf_rpc::{Member, MemberBuilder, MemberEventKind, MemberStatus, ProtocolVersions};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::daemons::agent::{GOSSIP_PORT, RPC_PORT};
use crate::environment::TestEnv;
pub use churn::{Churn, Churning};
pub use coalescer::Coalescing;
use connection::Connection;
use setting::Trap;
pub use setting::{Behaviour, Delivery, Fault, MembersAnswer};
use state::{Shared, State};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("fake-agent")
        .enable_all()
        .build()
        .expect("a runtime for the fake agents")
});

/// A member as a real agent would list it: alive, on the port of gossip, of current versions.
#[must_use]
pub fn node(name: impl AsRef<[u8]>, addr: Ipv4Addr) -> MemberBuilder {
    let versions = |min, max, current| ProtocolVersions { min, max, current };
    Member::builder(name)
        .addr(addr.into(), GOSSIP_PORT)
        .protocol(versions(1, 5, 2))
        .delegate(versions(2, 5, 5))
}

/// So many members, `node-000000` and on, with the tag that the controller selects, on addresses of 10.0.0.0/8.
pub fn nodes(count: u32) -> impl Iterator<Item = Member> {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 1));
    (0..count).map(move |number| {
        let addr = Ipv4Addr::from(first + number);
        node(format!("node-{number:06}"), addr)
            .tag("role", "backend")
            .build()
    })
}

/// How an agent is to be started.
#[derive(Clone, Debug)]
pub struct FakeAgentOptions {
    own: Member,
    addr: SocketAddr,
    members: Vec<Member>,
    rpc_auth: Option<String>,
    coalescing: Coalescing,
    seed: u64,
}

impl FakeAgentOptions {
    /// The members it knows from the beginning, itself apart.
    #[must_use]
    pub fn members(mut self, members: impl IntoIterator<Item = Member>) -> Self {
        self.members.extend(members);
        self
    }

    /// Asks clients for this key.
    #[must_use]
    pub fn rpc_auth(mut self, key: &str) -> Self {
        self.rpc_auth = Some(key.to_owned());
        self
    }

    /// Holds events back for other periods than 1 and 3 s.
    #[must_use]
    pub fn coalescing(mut self, coalescing: Coalescing) -> Self {
        self.coalescing = coalescing;
        self
    }

    /// What all that is random about it comes from.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts it; it listens.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(self) -> Result<FakeAgent> {
        let name = self.own.name().to_owned();
        let mut state = State::new(name, self.rpc_auth, self.coalescing, self.seed);
        for member in self.members.into_iter().chain([self.own]) {
            // What was there before it listens, nobody is told.
            state.cluster.put(member);
        }
        let shared = Arc::new(Shared::new(state));
        let clock = Arc::clone(&shared);
        let agent = FakeAgent {
            addr: self.addr,
            shared,
            clock: RUNTIME.spawn(async move { clock.run().await }),
        };
        agent.listen()?;
        Ok(agent)
    }
}

/// A running agent. Its connections are closed and its port is free once it is dropped.
#[derive(Debug)]
pub struct FakeAgent {
    addr: SocketAddr,
    shared: Arc<Shared>,
    clock: JoinHandle<()>,
}

impl FakeAgent {
    /// An agent of this name on the lab's address with this last octet.
    #[must_use]
    pub fn on(lab: &TestEnv, name: &str, last: u8) -> FakeAgentOptions {
        FakeAgentOptions {
            own: node(name, lab.net().ip(last)).build(),
            addr: lab.net().addr(last, RPC_PORT),
            members: Vec::new(),
            rpc_auth: None,
            coalescing: Coalescing::default(),
            seed: 0,
        }
    }

    /// Where its RPC is.
    #[must_use]
    pub fn rpc_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The truth: all members, in the order of their names.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.shared.lock().cluster.members().cloned().collect()
    }

    /// Bytes of the body of its answer to `members`, as it is now.
    #[must_use]
    pub fn answer_len(&self) -> usize {
        self.shared.lock().members().len()
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Member> {
        self.shared.lock().cluster.get(name.as_bytes()).cloned()
    }

    /// Lets a member join, or puts it in the place of the one of its name; log and events say what changed.
    pub fn put(&self, member: Member) {
        self.shared.change(|state, now| state.put(member, now));
    }

    /// Gives a member that it knows another status.
    pub fn set_status(&self, name: &str, status: MemberStatus) {
        if let Some(member) = self.member(name) {
            self.put(command::like(&member).status(status).build());
        }
    }

    /// Reaps a member.
    pub fn remove(&self, name: &str) {
        self.shared
            .change(|state, now| state.remove(name.as_bytes(), now));
    }

    /// Lets members come and go until the result is dropped.
    pub fn churn(&self, churn: Churn) -> Churning {
        Churning::start(Arc::clone(&self.shared), churn)
    }

    /// Sends a user event to whom it may concern, at once.
    pub fn user_event(&self, name: &str, payload: &[u8]) {
        let event = |state: &mut State, now| state.user_event(name.as_bytes(), payload, false, now);
        self.shared.change(event);
    }

    /// Sends as many of one user event in one piece, however many that are: none is dropped.
    pub fn flood(&self, name: &str, payload: &[u8], count: u64) {
        self.shared.lock().flood(name.as_bytes(), payload, count);
    }

    /// Sends a record of members, at once, whether it is true or not.
    pub fn announce(&self, kind: MemberEventKind, members: &[Member]) {
        let members: Vec<Bytes> = members.iter().map(wire::member).collect();
        self.shared
            .change(|state, now| state.announce(kind, &members, now));
    }

    /// Writes a line into its log, `component: text`, at one of Serf's levels, true or not.
    ///
    /// # Panics
    /// When Serf has no such level.
    pub fn say(&self, level: &str, text: impl AsRef<[u8]>) {
        self.shared
            .change(|state, now| state.say(level, text.as_ref(), now));
    }

    /// Sends any bytes on all connections, after what is already being sent.
    pub fn send_raw(&self, bytes: impl Into<Bytes>) {
        self.shared.lock().send_raw(&bytes.into());
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.lock().behaviour);
    }

    /// Is sound again: behaves as at the start, and takes its traps away. Connections stay as they are.
    pub fn calm(&self) {
        let mut state = self.shared.lock();
        state.behaviour = Behaviour::default();
        state.traps.clear();
    }

    /// Makes something happen to all connections now, in the middle of whatever is being sent.
    pub fn strike(&self, fault: Fault) {
        self.shared.lock().strike(&fault);
    }

    /// Makes something happen to the connection that is next to be answered this command, after so
    /// many bytes of the answer; or after all of them, if it has no more. Traps of one command
    /// spring in the order in which they were set.
    pub fn trap(&self, command: &str, after: usize, fault: Fault) {
        let trap = Trap {
            command: command.to_owned(),
            after,
            fault,
        };
        self.shared.lock().traps.push(trap);
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn listen(&self) -> Result<()> {
        self.stop_listening();
        let bound = std::net::TcpListener::bind(self.addr)
            .with_context(|| format!("the fake agent cannot listen on {}", self.addr))?;
        bound.set_nonblocking(true)?;
        let _runtime = RUNTIME.enter();
        let listener = TcpListener::from_std(bound)?;
        let accept = accept(listener, Arc::clone(&self.shared));
        self.shared.lock().listener = Some(RUNTIME.spawn(accept));
        Ok(())
    }

    /// Refuses further connections; those that are open go on.
    pub fn stop_listening(&self) {
        let listener = self.shared.lock().listener.take();
        if let Some(listener) = listener {
            abort(&listener);
        }
    }

    /// Dies: all connections are reset and further ones refused. Who it knows it still knows when it
    /// [listens](Self::listen) again, as from a snapshot file.
    pub fn die(&self) {
        self.stop_listening();
        self.strike(Fault::Reset);
    }

    /// Forgets everybody but itself, and its log, without a word, as by a restart without a snapshot file.
    pub fn forget(&self) {
        self.shared.lock().forget();
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.lock().connections()
    }

    /// How many connections it has ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.lock().counts.accepted
    }

    /// How many requests of this command it has read.
    #[must_use]
    pub fn requests(&self, command: &str) -> u64 {
        let state = self.shared.lock();
        state
            .counts
            .requests
            .get(command)
            .copied()
            .unwrap_or_default()
    }

    /// How many records it has left out because a client did not read.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().counts.dropped
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> BString {
        self.shared.lock().name.clone()
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop_listening();
        abort(&self.clock);
        self.strike(Fault::Close);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // A connection that fails while it is accepted is the client's to notice.
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(Connection::new(socket, Arc::clone(&shared)).serve());
        }
    }
}

/// Ends a task, and returns when it has.
fn abort(task: &JoinHandle<()>) {
    task.abort();
    while !task.is_finished() {
        std::thread::yield_now();
    }
}
