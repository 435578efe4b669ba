//! Joins: how soon they are served, and how a burst of them is taken.

use std::time::{Duration, Instant};

use integration::cluster::{SOON, WITHOUT_PAUSE, names};
use integration::measure::{joins, median};
use integration::{Balancer, HaproxyKind, Load, Need, Node, test_alone, wait_for};

const HOST: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
const MEGABYTE: u64 = 1024;

#[test]
fn a_join_is_served_twenty_times_sooner_than_the_agent_tells_of_it() {
    test_alone(&HOST, async |lab| {
        let joins = joins(lab, HaproxyKind::Host, 5).await?;
        let served = median(joins.iter().map(|join| join.served)).unwrap_or_default();
        let event = median(joins.iter().map(|join| join.event)).unwrap_or_default();
        println!("served {served:?} after the agent knew, told after {event:?}");
        assert!(
            served * 20 <= event,
            "served after {served:?}, told after {event:?}: {joins:?}"
        );
        Ok(())
    });
}

#[test]
fn a_burst_of_twenty_joins_takes_at_most_four_applies_and_no_reload() {
    test_alone(&HOST, async |lab| {
        let balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let nodes = Node::start_all(lab, 1..=20).await?;
        balancer
            .controller
            .settles("a status", SOON, |_| true)
            .await?;
        let before = (
            balancer.controller.status().await?,
            balancer.haproxy.worker().await?,
        );

        let start = Instant::now();
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "told to join in {:?}",
            start.elapsed()
        );
        balancer.serves(&names(&nodes)).await?;

        let load = Load::start(balancer.controller.front(), WITHOUT_PAUSE);
        wait_for("every node to answer", SOON, async || {
            load.seen().answers.len() == nodes.len()
        })
        .await?;
        let seen = load.stop();
        assert_eq!(seen.failed, 0, "{seen:?}");

        let status = balancer
            .controller
            .settles("20 servers ready", SOON, |status| {
                status.servers("ready") == nodes.len()
            });
        let status = status.await?;
        let grown = |counter: &str| status.counter(counter) - before.0.counter(counter);
        println!("20 joins in {} applies", grown("applies"));
        let said = balancer.haproxy.log();
        assert!(!said.contains("[ALERT]"), "{said}");
        assert!(
            (1..=4).contains(&grown("applies")),
            "{} applies: {status:?}",
            grown("applies")
        );
        assert_eq!(grown("reloads"), 0);
        assert_eq!(balancer.haproxy.worker().await?, before.1);

        let memory = balancer.controller.memory()?;
        // Only an optimized program is small; of another, what it allocates is counted alone.
        let (counted, most) = match cfg!(debug_assertions) {
            true => (memory.allocated_kb, 8 * MEGABYTE),
            false => (memory.resident_kb, 15 * MEGABYTE),
        };
        assert!(counted <= most, "{memory:?} with 20 members");
        println!("{memory:?} with 20 members");
        Ok(())
    });
}
