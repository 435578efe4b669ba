//! How long a join takes: a lab goes in, one figure a join comes out, all on the clock of this process.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemons::haproxy::HaproxyKind;
use crate::environment::TestEnv;
use crate::environment::wait::wait_some;
use crate::scenarios::cluster::{Balancer, Node, SOON, WITHOUT_PAUSE};
use crate::traffic::load::Load;
use crate::traffic::tap::Tap;

/// A leave takes the agent a second to tell of, a failure up to half a minute.
const GONE: Duration = Duration::from_secs(60);

/// One join, from the line in the balancer's agent's log.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// To the first request that the new web server got through HAProxy.
    pub served: Duration,
    /// To the agent's own event, which it holds back to gather more.
    pub event: Duration,
}

/// Lets nodes join one after the other, at least a second apart, each a newcomer to a backend of two,
/// listening before it joins, while one client asks without pause.
///
/// # Errors
/// When a part does not start, a node is not served, or a request fails.
pub async fn joins(lab: &TestEnv, kind: HaproxyKind, count: u8) -> Result<Vec<Join>> {
    let balancer = Balancer::start(lab, kind).await?;
    let mut nodes = Node::start_all(lab, 1..=2).await?;
    for node in &nodes {
        node.join(&balancer.agent).await?;
    }
    balancer.serves(&["s1", "s2"]).await?;
    let load = Load::start(balancer.controller.front(), WITHOUT_PAUSE);
    let log = Tap::monitor(balancer.agent.rpc_addr())?;
    let events = Tap::events(balancer.agent.rpc_addr())?;
    let mut joins = Vec::new();
    for number in 3..3 + count {
        nodes.push(Node::start(lab, number).await?);
        let node = nodes.last_mut().context("a node")?;
        let name = node.name().to_owned();
        let start = Instant::now();
        node.join(&balancer.agent).await?;
        let known = log
            .wait(&format!("EventMemberJoin: {name} "), start, SOON)
            .await?;
        let what = format!("{name} to be served");
        let first = wait_some(&what, SOON, async || node.web.first_request()).await?;
        let event = events.wait("member-join", known, SOON).await?;
        joins.push(Join {
            served: first.saturating_duration_since(known),
            event: event - known,
        });
        node.agent.leave().await?;
        balancer.agent.sees_off(&[&name]).await?;
        balancer.serves(&["s1", "s2"]).await?;
        // The next join must not share a coalescing period with this leave. A leave that gets lost on a
        // busy machine is a failure to the others.
        wait_some(&format!("{name} to be gone"), GONE, async || {
            let said = |event| events.arrival(event, known);
            said("member-leave").or_else(|| said("member-failed"))
        })
        .await?;
        nodes.pop();
    }
    let seen = load.stop();
    ensure!(seen.failed == 0, "{seen:?}");
    Ok(joins)
}

/// The middle value; none of nothing.
#[must_use]
pub fn median(values: impl IntoIterator<Item = Duration>) -> Option<Duration> {
    percentile(values, 50)
}

/// The value that this percentage of all does not exceed; none of nothing.
#[must_use]
pub fn percentile(values: impl IntoIterator<Item = Duration>, percent: usize) -> Option<Duration> {
    let mut values: Vec<Duration> = values.into_iter().collect();
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{median, percentile};

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = || (1..=20).map(Duration::from_millis);
        assert_eq!(median(values()), Some(Duration::from_millis(10)));
        assert_eq!(percentile(values(), 95), Some(Duration::from_millis(19)));
        assert_eq!(median(None), None);
    }
}
