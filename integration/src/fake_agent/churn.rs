//! Members that come and go at a set rate: names, a rate and a seed in, changes of the truth out.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serf_rpc::{Member, MemberStatus};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::command::like;
use super::state::{Shared, State};
use super::{RUNTIME, abort, node};

/// How often changes are made; several at a time at high rates.
const TICK: Duration = Duration::from_millis(2);

/// Who comes and goes, and how fast.
#[derive(Clone, Debug)]
pub struct Churn {
    /// The members it may touch; those that the agent does not know yet will join.
    pub names: Vec<String>,
    /// Changes in a second.
    pub per_second: u32,
    /// Equal seeds give equal sequences of changes.
    pub seed: u64,
}

/// A churn that goes on until it is dropped.
#[derive(Debug)]
#[must_use = "it ends when dropped"]
pub struct Churning(JoinHandle<()>);

impl Drop for Churning {
    fn drop(&mut self) {
        abort(&self.0);
    }
}

impl Churning {
    pub(super) fn start(shared: Arc<Shared>, churn: Churn) -> Self {
        Self(RUNTIME.spawn(run(shared, churn)))
    }
}

async fn run(shared: Arc<Shared>, churn: Churn) {
    let mut rng = fastrand::Rng::with_seed(churn.seed);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    let mut made = 0;
    loop {
        ticks.tick().await;
        let wanted = start.elapsed().as_secs_f64() * f64::from(churn.per_second);
        while f64::from(made) < wanted {
            let name = &churn.names[rng.usize(..churn.names.len())];
            shared.change(|state, now| step(state, name, &mut rng, now));
            made += 1;
        }
    }
}

/// The next thing that may happen to a member, as it is.
fn step(state: &mut State, name: &str, rng: &mut fastrand::Rng, now: Instant) {
    let Some(member) = state.cluster.get(name.as_bytes()).cloned() else {
        let addr = Ipv4Addr::new(10, rng.u8(..), rng.u8(..), rng.u8(1..));
        return state.put(node(name, addr).tag("role", "backend").build(), now);
    };
    let status = match (member.status(), rng.u8(..4)) {
        (MemberStatus::Alive, 0) => MemberStatus::Failed,
        (MemberStatus::Alive, 1) => MemberStatus::Leaving,
        (MemberStatus::Alive, _) => return state.put(retagged(&member, rng), now),
        (MemberStatus::Leaving, _) => MemberStatus::Left,
        (_, 0) => return state.remove(name.as_bytes(), now),
        _ => MemberStatus::Alive,
    };
    state.put(like(&member).status(status).build(), now);
}

fn retagged(member: &Member, rng: &mut fastrand::Rng) -> Member {
    like(member).tag("weight", rng.u8(..).to_string()).build()
}
