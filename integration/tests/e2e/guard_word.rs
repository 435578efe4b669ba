//! What Serf's word is worth: forced leaves, restarts of all agents, slips in tags and reaped members, with real agents and
//! under load. Whoever answers and is needed stays.

use std::time::Duration;

use integration::cluster::{SOON, names};
use integration::controller::{ControllerOptions, Status};
use integration::scenario::Scenario;
use integration::{Agent, Balancer, HaproxyKind, Need, Node, test, wait_for};
use serf_rpc::MemberStatus;
use tokio::time::{Instant, sleep};

const NEEDS: [Need; 3] = [Need::Serf, Need::Haproxy(HaproxyKind::Host), Need::Wrk];
/// A little longer than a leave may last.
const LEAVE: Duration = Duration::from_secs(12);

fn in_rotation(status: &Status) -> u64 {
    let count = status.0["backends"]["nodes"]["in_rotation"].as_u64();
    count.unwrap_or_default()
}

#[test]
fn the_only_server_whose_living_node_is_forced_to_leave() {
    test(&NEEDS, async |lab| {
        let balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let node = Node::start(lab, 1).await?;
        node.join(&balancer.agent).await?;
        balancer.serves(&["s1"]).await?;
        let load = integration::wrk::Loads::start(lab, balancer.controller.front())?;
        balancer.agent.force_leave("s1").await?;
        let end = Instant::now() + LEAVE;
        let mut last = balancer.controller.status().await?;
        while Instant::now() < end {
            last = balancer.controller.status().await?;
            assert_eq!(last.server("s1"), "ready", "{}", last.0);
            sleep(Duration::from_millis(200)).await;
        }
        let (gossip, why) = (last.of_server("s1", "gossip"), last.of_server("s1", "why"));
        println!("forced to leave: Serf says {gossip}; {why}");
        assert!(
            gossip != "leaving" || why.contains("for more than 10 s"),
            "{why}"
        );
        load.nothing_failed("force-leave of the only living node")
            .await
    });
}

/// One of several is drained, as others serve, and is back when its leave has turned out to be none.
#[test]
fn a_leave_that_does_not_end_is_taken_back() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 3, |options| options).await?;
        let load = stage.load(lab)?;
        stage.gossip("s1", MemberStatus::Leaving);
        stage.haproxy.serves("nodes", &["s2", "s3"], SOON).await?;
        let back = |status: &Status| {
            let server = &status.0["backends"]["nodes"]["servers"]["s1"];
            let why = status.of_server("s1", "why");
            server["held"] == true && why.contains("`leaving` for more than 10 s")
        };
        let what = "s1 to be taken back";
        stage.controller.settles(what, SOON * 2, back).await?;
        stage.serves_all().await?;
        load.nothing_failed("a leave that does not end").await
    });
}

#[test]
fn all_agents_that_leave_at_once_and_come_back() {
    test(&NEEDS, async |lab| {
        let (balancer, mut nodes) = Balancer::start_serving(lab, HaproxyKind::Host, 1..=3).await?;
        let load = integration::wrk::Loads::start(lab, balancer.controller.front())?;
        for node in &nodes {
            node.agent.begin_leave()?;
        }
        // Of agents that leave at once Serf now and then loses the word, as those that would pass it on leave too: then
        // it says `failed`, and all stay.
        let last = |status: &Status| {
            let servers = status.0["backends"]["nodes"]["servers"].to_string();
            let left = servers.contains("it leaves the cluster, but");
            let lost = servers.contains("it looks like a split of gossip");
            (in_rotation(status) == 1 && left) || (in_rotation(status) > 1 && lost)
        };
        let what = "the last to be held";
        let left = balancer.controller.settles(what, SOON, last).await?;
        let servers = left.0["backends"]["nodes"]["servers"].as_object();
        let held = servers.is_some_and(|servers| servers.values().any(|it| it["held"] == true));
        assert!(held, "{}", left.0);
        for node in &mut nodes {
            node.agent.restart().await?;
            node.join(&balancer.agent).await?;
        }
        balancer.serves(&names(&nodes)).await?;
        load.nothing_failed("all agents restarted gracefully at once")
            .await
    });
}

#[test]
fn a_slip_in_the_tags_of_all() {
    test(&NEEDS, async |lab| {
        let (balancer, nodes) = Balancer::start_serving(lab, HaproxyKind::Host, 1..=4).await?;
        let load = integration::wrk::Loads::start(lab, balancer.controller.front())?;
        for node in &nodes {
            node.agent.set_tag("role", "typo").await?;
        }
        // The tags change one after the other: only when all have is anybody held.
        let held = |status: &Status| {
            let servers = status.0["backends"]["nodes"]["servers"].to_string();
            let said = servers.contains("no rule picks it any more, which is no leave");
            said && in_rotation(status) == 2 && status.servers("out") == 2
        };
        balancer
            .controller
            .settles("half to stay", SOON, held)
            .await?;
        sleep(Duration::from_secs(2)).await;
        assert!(held(&balancer.controller.status().await?));
        for node in &nodes {
            node.agent.set_tag("role", "backend").await?;
        }
        // Now and then Serf's gossip loses a change of tags; the next exchange of whole lists, which two agents have
        // every 15 s and more, has it.
        balancer
            .haproxy
            .serves("nodes", &names(&nodes), SOON * 5)
            .await?;
        load.nothing_failed("role=typo on all").await
    });
}

/// `hold` of a reaped member goes on, and so it does over a restart of the controller.
#[test]
fn a_failed_member_that_is_reaped_before_hold_ends() {
    test(&NEEDS, async |lab| {
        let short = |options: ControllerOptions| {
            Ok(options.sections("[guard]\nhold = \"25s\"\nwindow = \"5s\"\n"))
        };
        let config = lab.path("reap.json");
        std::fs::write(&config, "{\"reconnect_timeout\": \"2s\"}")?;
        let agent = Agent::on(lab, "balancer", 1)
            .tag("role", "balancer")
            .arg(format!("-config-file={}", config.display()))
            .start()
            .await?;
        let mut balancer = Balancer::start_beside(lab, HaproxyKind::Host, agent, short).await?;
        let mut nodes = Node::start_all(lab, 1..=3).await?;
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        balancer.serves(&names(&nodes)).await?;
        let load = integration::wrk::Loads::start(lab, balancer.controller.front())?;
        nodes[0].agent.kill();
        let failed = |status: &Status| status.of_server("s1", "gossip") == "failed";
        let seen = balancer
            .controller
            .settles("s1 to have failed", SOON * 3, failed);
        seen.await?;
        let since = Instant::now();
        wait_for("s1 to be reaped", SOON * 2, async || {
            let members = balancer.agent.members().await;
            members.is_ok_and(|members| members.iter().all(|member| member.name != "s1"))
        })
        .await?;
        let reaped = balancer.controller.status().await?;
        assert_eq!(reaped.server("s1"), "ready", "{}", reaped.0);
        balancer.controller.restart()?;
        let out = |status: &Status| status.server("s1") == "out";
        let gone = balancer
            .controller
            .settles("hold to end", SOON * 3, out)
            .await?;
        println!(
            "out {:?} after it had failed, hold is 25 s",
            since.elapsed()
        );
        assert!(gone.of_server("s1", "why").contains("`hold`"), "{}", gone.0);
        assert!(since.elapsed() < Duration::from_secs(45), "hold began anew");
        balancer.serves(&["s2", "s3"]).await?;
        load.nothing_failed("a failed member reaped before hold ends")
            .await
    });
}
