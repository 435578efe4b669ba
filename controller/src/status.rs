//! What the controller says of itself: the outcome of a cycle in, JSON out, or by `text` what a person can read. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

mod text;

/// How everything stands after a cycle. Its JSON form is an interface: names are stable, values are added only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When it was so, in seconds since 1970.
    pub time: u64,
    /// Counts up whenever a server stands otherwise than before; `approve --revision` takes it.
    pub revision: u64,
    /// What needs a person, the oldest first; empty when all is well.
    pub problems: Vec<Problem>,
    /// The config in force.
    #[serde(default)]
    pub config: Config,
    /// The Serf agent.
    pub agent: Agent,
    /// HAProxy.
    pub haproxy: Haproxy,
    /// The configuration file.
    pub file: File,
    /// What was done since this process started.
    pub counters: Counters,
    /// Every backend.
    pub backends: BTreeMap<String, Backend>,
    /// The services that members have announced; each is a backend, too.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// Members that a rule picks and that cannot be used, by their escaped name, and what they announce that is no service
    /// here, as `SERVICE/MEMBER`; with the reason.
    pub quarantined: BTreeMap<String, String>,
}

impl Status {
    /// Whether it is this one at another time: the ages of what was read apart, too.
    pub(crate) fn is_at_another_time(&self, other: &Self) -> bool {
        let Self {
            time: _,
            revision,
            problems,
            config,
            agent,
            haproxy,
            file,
            counters,
            backends,
            services,
            quarantined,
        } = self;
        *revision == other.revision
            && *problems == other.problems
            && *config == other.config
            && *agent == other.agent
            && *haproxy == other.haproxy
            && *file == other.file
            && *counters == other.counters
            && *backends == other.backends
            && *services == other.services
            && *quarantined == other.quarantined
    }
}

/// Something that is wrong and needs a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What it concerns, in a word or two that stay the same: `haproxy`, `file`, `config`.
    pub what: String,
    /// What is wrong, in a sentence.
    pub problem: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What to do about it, in a sentence; empty where there is nothing to do but wait.
    pub advice: String,
}

/// The config with its templates, as it is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Tells configs and templates from others: balancers that say the same pick the same members and render them alike.
    /// Eight hex digits of a hash of the backends and of what the templates say; addresses, paths and sockets are not in
    /// it, nor is another version's comparable.
    pub digest: String,
    /// When it was taken, in seconds since 1970.
    pub since: u64,
}

/// The Serf agent that membership comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// `connected`; `silent`, where it is connected and says nothing; `lost`; or `waiting`, where none has answered yet.
    pub state: String,
    /// `host:port` of the agent, once one has answered.
    pub addr: Option<String>,
    /// How long ago the members were last read, in seconds.
    pub members_age_seconds: Option<u64>,
    /// How long ago what was read was last otherwise than before, in seconds.
    pub changed_age_seconds: Option<u64>,
    /// Members known, all statuses.
    pub members: usize,
    /// Those of them that the agent lists, itself among them; the others are remembered.
    pub listed: usize,
}

/// The worker that answers on the stats socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Haproxy {
    /// `running`, or `unreachable`: then nothing of it is known now.
    pub state: String,
    /// How long ago it was last read, in seconds: the worker, and its servers with their admin states.
    pub age_seconds: Option<u64>,
    /// How long ago was read what its checks say, in seconds.
    pub checks_age_seconds: Option<u64>,
    /// The worker's process id.
    pub pid: Option<u32>,
    /// Its version, `3.0`.
    pub version: Option<String>,
    /// The stamp of the text it started with.
    pub stamp: Option<String>,
    /// Workers of earlier reloads that still finish what they had begun; unknown without a master socket.
    pub old_workers: Option<usize>,
    /// How long ago they were counted, in seconds.
    pub old_workers_age_seconds: Option<u64>,
    /// Each of them. They keep the servers they had, whatever happens to those since.
    pub old: Vec<OldWorker>,
}

/// A worker of an earlier reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldWorker {
    /// Its process id.
    pub pid: u32,
    /// The connections of clients that it still holds, counted every `drift.interval`; unknown where it did not say.
    pub sessions: Option<u64>,
}

/// The configuration file that the controller owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where it is.
    pub path: String,
    /// `current` or `behind`.
    pub state: String,
    /// The stamp of what is on disk.
    pub stamp: Option<String>,
    /// How long ago it was last read or written, in seconds.
    pub age_seconds: Option<u64>,
}

/// What was done since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Executions of a plan that did more than admit servers whose probe came true.
    pub applies: u64,
    /// Executions that only admitted such servers.
    pub admissions: u64,
    /// Steps through the Runtime API that were tried.
    #[serde(default)]
    pub steps: u64,
    /// Steps that HAProxy refused.
    pub refused: u64,
    /// Executions that put back what somebody else had changed.
    pub repairs: u64,
    /// Files written.
    pub writes: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// What the history tells as failed.
    pub failures: u64,
    /// Reloads that took effect, by their first reason.
    pub reloads_by_reason: BTreeMap<String, u64>,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Servers in rotation: those that HAProxy has ready, whatever its checks say. Unknown while HAProxy does not answer.
    pub in_rotation: Option<usize>,
    /// Those of them that take requests: HAProxy's check does not call them down, nor anybody else. Where nobody checks
    /// them they count once they have answered. Unknown while HAProxy does not answer.
    pub answering: Option<usize>,
    /// Whether HAProxy checks its servers.
    pub checked: bool,
    /// Whether its check tells roles (`probe = "check"`): that some of its servers do not answer is as it should be.
    #[serde(default)]
    pub roles: bool,
    /// Whom its rule picks, in words.
    pub picks: String,
    /// Servers that went without intent and count still.
    pub removed: usize,
    /// So many may go on the word of one witness.
    pub may_go: usize,
    /// Its servers, by name.
    pub servers: BTreeMap<String, Server>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Whose requests it gets, `shop.example.com/api`; `*` is any host. None where it gets nobody's.
    pub route: Option<String>,
    /// Why it gets nobody's; else empty.
    pub unrouted: String,
    /// What its members say that it speaks, `http`, `h2` or `tcp`; none where they do not say.
    pub proto: Option<String>,
    /// What its members disagree about, in sentences.
    pub disputes: Vec<String>,
    /// Since when it has been there, in seconds since 1970.
    pub since: u64,
    /// Since when nobody has served it, in seconds since 1970: after `keep_empty` it goes. None while somebody does.
    pub empty_since: Option<u64>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `ready`, `down`, `pending`, `waiting`, `drain`, `maint`, `leaving`, `out`, `gone` or `unknown`. One that is down is
    /// in rotation, and HAProxy's check calls it down; one that is pending is to be ready, and HAProxy was not read to have
    /// it so; one that is gone has left the backend and is shown a while longer; all are unknown while HAProxy does not
    /// answer.
    pub state: String,
    /// Why.
    pub why: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its weight, 0 to 256.
    pub weight: u16,
    /// What gossip says of it: `alive`, `leaving`, `left`, `failed` or `absent`.
    pub gossip: String,
    /// What HAProxy's check says: `up`, `falling`, `down`, `pending` before its first result, `none` where no check runs,
    /// `not read` where that is not known.
    pub check: String,
    /// What the controller's own probe says: `good`, `refused`, `failed` or `none`.
    pub probe: String,
    /// What its agent says (`agent-check`): `ready`, `drain`, `maint` or `down`, with `, weight 50 of 100` where it is not
    /// the whole; `not asked` where that is switched off, `none` where it has no agent.
    #[serde(default)]
    pub agent: String,
    /// The agent, or its neighbours, could not reach the member just now.
    pub suspected: bool,
    /// One witness would have it out, and the guard keeps it: `approve` lets it go.
    pub held: bool,
    /// The member's name, escaped, where the server is called otherwise (`names = "map"`).
    #[serde(default)]
    pub member: Option<String>,
    /// How the controller came to know it: `member`, `before` (by its own book or file) or `worker`.
    pub origin: String,
    /// Since when it has stood so, in seconds since 1970.
    pub since: u64,
}
