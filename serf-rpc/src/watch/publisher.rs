//! What a watcher publishes: what it has seen in; snapshots, changes, suspicions and failures out.

use std::sync::Arc;
use std::time::SystemTime;

use bstr::{BStr, BString};
use tokio::sync::watch;

use crate::error::WatchError;
use crate::link::events::Teller;
use crate::link::unreached::{self, Unreached};
use crate::link::{AgentState, Latest};
use crate::link::{ClientEvent, ManagedClient, keeper::Links, managed::Ended};
use crate::types::Member;

use super::hints::Reasons;
use super::membership::{Continuity, Snapshot};
use super::watcher::WatchEvent;

/// The end at which a watcher is fed. When it is dropped, a last snapshot says that it is stopped.
#[derive(Debug)]
pub(crate) struct Publisher {
    snapshots: watch::Sender<Arc<Snapshot>>,
    states: watch::Sender<Arc<AgentState>>,
    events: Teller<WatchEvent>,
    client_events: Teller<ClientEvent>,
    suspicions: Teller<BString>,
    unreached: unreached::Publisher,
    ended: Ended,
    /// When something was last heard of an agent.
    heard_at: Option<SystemTime>,
}

/// The ends that readers take copies of.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) snapshots: Latest<Snapshot>,
    pub(crate) unreached: Latest<[Unreached]>,
    pub(crate) events: Teller<WatchEvent>,
    pub(crate) suspicions: Teller<BString>,
    pub(crate) ended: Ended,
    pub(crate) client: ManagedClient,
}

/// Both ends, of a watcher that begins with this snapshot and is connected by these links.
pub(crate) fn channel(seed: Snapshot, links: Links) -> (Publisher, Published) {
    let seed = seed.with_agent(AgentState::NeverReached);
    let (states, state) = watch::channel(Arc::new(AgentState::NeverReached));
    let (publisher, snapshots) = watch::channel(Arc::new(seed));
    let (failures, unreached) = watch::channel(Arc::default());
    let (events, client_events, suspicions) = (Teller::new(), Teller::new(), Teller::new());
    let ended = Ended::default();
    let client = ManagedClient::shared(
        links,
        Latest::new(state),
        client_events.clone(),
        ended.clone(),
    );
    let published = Published {
        snapshots: Latest::new(snapshots),
        unreached: Latest::new(unreached),
        events: events.clone(),
        suspicions: suspicions.clone(),
        ended: ended.clone(),
        client,
    };
    let publisher = Publisher {
        snapshots: publisher,
        states,
        events,
        client_events,
        suspicions,
        unreached: unreached::Publisher(failures),
        ended,
        heard_at: None,
    };
    (publisher, published)
}

impl Publisher {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// The agent at that address lists these members; it was asked because of these `reasons`.
    pub(crate) fn listed(
        &mut self,
        addr: &str,
        local: Option<BString>,
        members: Vec<Member>,
        kind: Continuity,
        reasons: Reasons,
    ) {
        let before = self.snapshot();
        let addr = addr.to_owned();
        let agent = AgentState::Connected { addr: addr.clone() };
        let now = SystemTime::now();
        let (next, changes) = before.merge(members, kind, now);
        self.heard_at = Some(now);
        let connected = *before.agent() != agent;
        let revision = next.revision();
        let next = next.with_agent(agent).with_local(local).because_of(reasons);
        self.replace(next, connected || !changes.is_empty());
        if connected {
            self.unreached.answers(&addr);
            tracing::info!(addr, revision, "agent answers");
            self.client_events
                .tell(ClientEvent::Connected { addr: addr.clone() });
            self.events.tell(WatchEvent::Connected { addr });
        }
        for change in changes {
            tracing::debug!(member = ?change.member().name(), revision, ?change, "membership changed");
            self.events.tell(WatchEvent::Changed { revision, change });
        }
    }

    /// Notes that there is no connection to an agent, and says whether there was one.
    pub(crate) fn lost(&mut self, addr: &str, error: Arc<WatchError>) -> bool {
        let before = self.snapshot();
        let was_connected = matches!(
            before.agent(),
            AgentState::Connected { .. } | AgentState::Silent { .. }
        );
        let addr = addr.to_owned();
        if was_connected {
            tracing::info!(addr, %error, "agent lost");
            let since = self.heard_at.unwrap_or_else(SystemTime::now);
            let lost = AgentState::Lost {
                addr: addr.clone(),
                since,
            };
            self.replace(before.with_agent(lost), true);
        } else {
            tracing::debug!(addr, %error, "agent not reached");
        }
        self.unreached.failed(&addr, Arc::clone(&error));
        self.client_events.tell(ClientEvent::Unreachable {
            addr: addr.clone(),
            error: Arc::clone(&error),
        });
        self.events.tell(WatchEvent::Unreachable { addr, error });
        was_connected
    }

    /// Something was last heard of the agent then.
    pub(crate) fn heard(&mut self, at: SystemTime) {
        self.heard_at = Some(at);
    }

    /// The agent answers again after it was silent.
    pub(crate) fn answers_again(&self, addr: &str) {
        tracing::info!(addr, "agent answers again");
        let addr = addr.to_owned();
        let agent = AgentState::Connected { addr };
        self.replace(self.snapshot().with_agent(agent), true);
    }

    /// The agent was asked and says nothing, since then.
    pub(crate) fn fell_silent(&self, addr: &str, since: SystemTime) {
        let before = self.snapshot();
        // Before its first answer it counts as not reached.
        if !matches!(before.agent(), AgentState::Connected { .. }) {
            return;
        }
        tracing::info!(addr, "agent is silent");
        let addr = addr.to_owned();
        let silent = AgentState::Silent { addr, since };
        self.replace(before.with_agent(silent), true);
    }

    /// Whether the member is known.
    pub(crate) fn knows(&self, name: &BStr) -> bool {
        self.snapshots.borrow().get(name).is_some()
    }

    /// The agent suspects that member.
    pub(crate) fn suspect(&self, name: &BStr) {
        tracing::debug!(member = ?name, "agent suspects a member");
        self.suspicions.tell(name.to_owned());
    }

    /// Says why there will be no more.
    pub(crate) fn end(&self, why: Arc<WatchError>) {
        // The first reason counts.
        let _ = self.ended.set(why);
    }

    fn replace(&self, snapshot: Snapshot, announce: bool) {
        self.states.send_if_modified(|state| {
            let changed = **state != *snapshot.agent();
            if changed {
                *state = Arc::new(snapshot.agent().clone());
            }
            changed
        });
        self.snapshots.send_if_modified(|current| {
            *current = Arc::new(snapshot);
            announce
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.end(Arc::new(WatchError::Stopped));
        let since = self.heard_at.unwrap_or_else(SystemTime::now);
        let stopped = AgentState::Stopped { since };
        self.replace(self.snapshot().with_agent(stopped), true);
        if let Some(error) = self.ended.get().cloned() {
            let error = || Arc::clone(&error);
            self.client_events
                .tell(ClientEvent::Stopped { error: error() });
            self.events.tell(WatchEvent::Stopped { error: error() });
        }
        self.client_events.end();
        self.events.end();
        self.suspicions.end();
    }
}
