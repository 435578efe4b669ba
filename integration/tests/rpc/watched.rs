//! A watcher on a fake agent, and what it sees.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use integration::FakeAgent;
use integration::fake_agent::Churn;
use serf_rpc::{
    AgentState, ConnectOptions, Latest, Member, Presence, Snapshot, WatchOptions, Watcher,
};
use tokio::time::timeout;

/// Within this, whatever is awaited happens on a slow machine too.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// Longer than any test runs.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

pub(crate) type Snapshots = Latest<Snapshot>;

/// Short of patience, and quick to try again.
pub(crate) fn options(agents: &[&FakeAgent]) -> WatchOptions {
    let agents = agents.iter().map(|agent| {
        ConnectOptions::new(agent.rpc_addr().to_string())
            .connect_timeout(Duration::from_millis(200))
            .call_timeout(Duration::from_millis(200))
    });
    WatchOptions::new(agents).retry(Duration::from_millis(1), Duration::from_millis(20))
}

/// A watcher that asks only when it is hinted at.
pub(crate) fn watch_by_hints(agent: &FakeAgent) -> (Watcher, Snapshots) {
    let watcher = Watcher::spawn(options(&[agent]).resync(NEVER));
    let snapshots = watcher.snapshots();
    (watcher, snapshots)
}

/// The first snapshot from now on that is such.
pub(crate) async fn until(
    snapshots: &mut Snapshots,
    mut such: impl FnMut(&Snapshot) -> bool,
) -> Result<Arc<Snapshot>> {
    match timeout(SOON, snapshots.wait_for(&mut such)).await {
        Ok(snapshot) => snapshot.context("the watcher has ended"),
        Err(_) => bail!(
            "waited in vain; the last snapshot is {:?}",
            snapshots.latest()
        ),
    }
}

/// The members that the agent lists, in the order of their names.
pub(crate) fn listed(snapshot: &Snapshot) -> Vec<Member> {
    let entries = snapshot.entries().iter();
    let listed = entries.filter(|entry| entry.presence == Presence::Listed);
    listed.map(|entry| entry.member.clone()).collect()
}

pub(crate) fn is_connected(snapshot: &Snapshot) -> bool {
    matches!(snapshot.agent(), AgentState::Connected { .. })
}

/// Waits until the watcher lists what the agent knows.
pub(crate) async fn agree(snapshots: &mut Snapshots, agent: &FakeAgent) -> Result<Arc<Snapshot>> {
    let truth = agent.members();
    until(snapshots, |snapshot| {
        is_connected(snapshot) && listed(snapshot) == truth
    })
    .await
}

/// What a snapshot says of a name, without the times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Listed,
    Absent,
    Reaped,
    Unknown,
}

pub(crate) fn seen(snapshot: &Snapshot, name: &str) -> Seen {
    match snapshot.get(name).map(|entry| entry.presence) {
        None => Seen::Unknown,
        Some(Presence::Listed) => Seen::Listed,
        Some(Presence::Absent { .. }) => Seen::Absent,
        Some(Presence::Reaped { .. }) => Seen::Reaped,
    }
}

/// Members that the agent knows from the start, and some that it does not.
pub(crate) fn churn(per_second: u32, seed: u64) -> Churn {
    let known = (0..50).map(|number| format!("node-{number:06}"));
    Churn {
        names: known
            .chain((0..50).map(|number| format!("new-{number}")))
            .collect(),
        per_second,
        seed,
    }
}
