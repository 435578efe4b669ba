//! A watcher that is fed by a test.

use std::sync::Arc;
use std::time::SystemTime;

use bstr::BStr;

use crate::error::WatchError;
use crate::types::Member;
use crate::watch::{Continuity, Publisher, Reasons, Watcher};

/// The address of the agent that a fed watcher names.
const ADDR: &str = "agent.test:7373";

/// What a test feeds a [`Watcher`] with: what is set is there when the call returns, under a paused clock too. When it is
/// dropped the watcher ends.
///
/// ```
/// use serf_rpc::Member;
/// use serf_rpc::testing::FakeWatcher;
///
/// let (watcher, mut fake) = FakeWatcher::new();
/// fake.set([Member::builder("web-1").tag("role", "web").build()]);
/// assert_eq!(watcher.snapshot().entries().len(), 1);
/// ```
#[derive(Debug)]
pub struct FakeWatcher {
    publisher: Publisher,
    kind: Continuity,
}

impl FakeWatcher {
    /// A watcher that no agent has answered yet, and what feeds it.
    pub fn new() -> (Watcher, Self) {
        let (watcher, publisher) = Watcher::fed();
        let kind = Continuity::Fresh;
        (watcher, Self { publisher, kind })
    }

    /// The agent answers that these are the members. Who was among them and is not any more was reaped, or is absent if
    /// the agent was lost meanwhile.
    pub fn set(&mut self, members: impl IntoIterator<Item = Member>) {
        let members = members.into_iter().collect();
        let reasons = Reasons::default();
        self.publisher
            .listed(ADDR, None, members, self.kind, reasons);
        self.kind = Continuity::Continuous;
    }

    /// The agent is lost.
    pub fn lose(&mut self, error: impl Into<WatchError>) {
        self.publisher.heard(SystemTime::now());
        self.publisher.lost(ADDR, Arc::new(error.into()));
        self.kind = Continuity::Fresh;
    }

    /// The agent suspects that member.
    pub fn suspect(&mut self, name: impl AsRef<[u8]>) {
        self.publisher.suspect(BStr::new(name.as_ref()));
    }

    /// The watcher ends by itself, for that reason.
    pub fn end(self, error: impl Into<WatchError>) {
        self.publisher.end(Arc::new(error.into()));
    }
}
