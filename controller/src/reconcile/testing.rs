//! What the owners' tests share: a HAProxy in memory, a journal in a folder of its own, and what is wanted of both.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fake_haproxy::{FakeHaproxy, Version};
use planner::config::Config;
use planner::guard::Guard;
use planner::pipeline::{Desired, LoadedConfig};
use planner::render::Renderer;
use planner::services::Book;
use serf_rpc::{AgentState, Member, Snapshot};
use tempfile::TempDir;
use tokio::sync::watch;

use super::journal::Journal;
use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::haproxy::runtime::RuntimeApi;
use crate::haproxy::socket::Socket;
use crate::published::Published;
use crate::state::{PersistedState, StateDir};

pub(super) const VERSIONS: [Version; 3] = Version::ALL;

/// A file of HAProxy before any of ours.
pub(super) const FIRST: &str =
    "global\ndescription \"serf-haproxy 0000000000000001\"\nbackend web\n";

/// A fake HAProxy that runs a file, and the ways to it.
pub(super) struct Scene {
    pub(super) fake: FakeHaproxy,
    pub(super) dir: TempDir,
    pub(super) journal: Journal,
}

impl Scene {
    pub(super) fn new(version: Version, file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let (published, _) = watch::channel(Arc::new(Published::default()));
        let (saved, anchor) = (PersistedState::default(), ClockAnchor::now());
        Self {
            fake: FakeHaproxy::start(version, file).unwrap(),
            journal: Journal::new(state, saved, anchor, published, clock::now()),
            dir,
        }
    }

    pub(super) fn runtime(&self) -> RuntimeApi {
        let stats = self.fake.clone();
        RuntimeApi::new(Socket::dialled("/stats", move || stats.stats()))
    }

    pub(super) fn master(&self) -> Socket {
        let master = self.fake.clone();
        Socket::dialled("/master", move || master.master())
    }

    pub(super) fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("haproxy.cfg")
    }

    /// Whether something is wrong with this.
    pub(super) fn problem(&self, what: &str) -> Option<String> {
        let problems = self.journal.problems.list().into_iter();
        let mut such = problems.filter(|problem| problem.what == what);
        such.next().map(|problem| problem.problem)
    }
}

/// What is desired with one backend, `web`, whose members answer; `more` goes before the backend in the config.
pub(super) fn desired(file: &Path, more: &str, members: &[&str]) -> Desired {
    let config = format!(
        "[haproxy]\nconfig = {file:?}\n{more}\n[frontend]\nbind = [\"127.0.0.1:8099\"]\n[[backend]]\nname = \"web\"\ntags = {{ role = \"web\" }}\nport = 80\n"
    );
    let config = Config::parse(&config, []).unwrap();
    let renderer = Renderer::built_in().unwrap();
    let loaded = LoadedConfig::new(config, renderer, Vec::new(), Vec::new());
    let (scope, guard) = (loaded.scope.clone(), Guard::new(loaded.rules()));
    let mut desired = Desired::new(
        loaded,
        scope,
        Arc::new(snapshot(members)),
        guard,
        Book::default(),
    );
    let now = clock::now();
    desired.select(now);
    for name in members {
        desired.assume_answering(name.as_bytes());
    }
    desired.decide(now);
    let lines = desired.decisions().lines();
    desired.render(lines).unwrap();
    desired
}

fn snapshot(members: &[&str]) -> Snapshot {
    let member = |(last, name): (u8, &&str)| {
        let member = Member::builder(*name).addr([10, 0, 0, last].into(), 7946);
        member.tag("role", "web").build()
    };
    let members = (1..).zip(members).map(member).collect();
    let now = SystemTime::UNIX_EPOCH;
    let agent = AgentState::Connected {
        addr: "127.0.0.1:7373".to_owned(),
    };
    let snapshot = Snapshot::default().relisted(members, now);
    snapshot.with_agent(agent)
}
