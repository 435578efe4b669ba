//! When gossip is wrong: under load, nobody is taken out who answers, and no request fails.

use std::time::Duration;

use anyhow::Result;
use integration::cluster::{SOON, names};
use integration::controller::Status;
use integration::fake_agent::MembersAnswer;
use integration::scenario::Scenario;
use integration::wrk::Loads;
use integration::{Balancer, Firewall, HaproxyKind, Need, Node, test};
use serf_rpc::MemberStatus;
use tokio::time::{Instant, sleep};

const NEEDS: [Need; 3] = [Need::Serf, Need::Haproxy(HaproxyKind::Host), Need::Wrk];
const WITH_FIREWALL: [Need; 3] = [Need::Firewall, Need::Haproxy(HaproxyKind::Host), Need::Wrk];
/// A group that no user has.
const GROUP: u32 = 59_173;

/// Looks at the status for so long: so many servers take traffic all the time.
async fn all_stay(stage: &Scenario, time: Duration) -> Result<Status> {
    let end = Instant::now() + time;
    loop {
        let status = stage.controller.status().await?;
        assert_eq!(status.servers("ready"), stage.webs.len(), "{}", status.0);
        if Instant::now() >= end {
            return Ok(status);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn an_agent_that_is_killed_and_restarted_without_a_snapshot() {
    test(&NEEDS, async |lab| {
        let (mut balancer, nodes) = Balancer::start_serving(lab, HaproxyKind::Host, 1..=3).await?;
        let load = Loads::start(lab, balancer.controller.front())?;
        balancer.agent.kill();
        balancer.agent.restart().await?;
        let what = "the agent that knows only itself";
        let status = balancer.controller.settles(what, SOON, |status| {
            status.of_server("s1", "gossip") == "absent"
        });
        assert_eq!(status.await?.servers("ready"), 3);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(balancer.controller.status().await?.servers("ready"), 3);
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        let known = balancer
            .controller
            .settles("the nodes again", SOON, |status| {
                ["s1", "s2", "s3"]
                    .iter()
                    .all(|name| status.of_server(name, "gossip") == "alive")
            });
        assert_eq!(known.await?.servers("ready"), 3);
        load.nothing_failed("agent restarted without a snapshot")
            .await
    });
}

#[test]
fn an_agent_that_is_away_while_two_servers_join() {
    test(&NEEDS, async |lab| {
        let (mut balancer, mut nodes) =
            Balancer::start_serving(lab, HaproxyKind::Host, 1..=2).await?;
        let load = Loads::start(lab, balancer.controller.front())?;
        balancer.agent.kill();
        for number in 3..=4 {
            let node = Node::start(lab, number).await?;
            node.join(&nodes[0].agent).await?;
            nodes.push(node);
        }
        for _ in 0..20 {
            sleep(Duration::from_millis(500)).await;
            let status = balancer.controller.status().await?;
            assert_eq!(status.servers("ready"), 2);
            assert_eq!(status.0["agent"]["state"], "lost");
        }
        balancer.agent.restart().await?;
        nodes[0].join(&balancer.agent).await?;
        balancer.serves(&names(&nodes)).await?;
        load.nothing_failed("agent away while two join").await
    });
}

#[test]
fn three_of_four_reported_failed_at_once() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 4, |options| options).await?;
        let load = stage.load(lab)?;
        for name in ["s1", "s2", "s3"] {
            stage.gossip(name, MemberStatus::Failed);
        }
        let status = all_stay(&stage, Duration::from_secs(8)).await?;
        let why = status.of_server("s1", "why");
        assert!(why.contains("split of gossip"), "{why}");
        load.nothing_failed("three of four failed at once").await
    });
}

#[test]
fn one_reported_failed_after_the_other() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 4, |options| options).await?;
        let load = stage.load(lab)?;
        for name in ["s1", "s2", "s3"] {
            stage.gossip(name, MemberStatus::Failed);
            all_stay(&stage, Duration::from_secs(5)).await?;
        }
        load.nothing_failed("one failed every 5 s").await
    });
}

#[test]
fn gossip_that_is_cut_for_many_times_hold_and_healed() {
    test(&NEEDS, async |lab| {
        let short = |options: integration::controller::ControllerOptions| {
            options.sections("[guard]\nhold = \"1s\"\nwindow = \"1s\"\n")
        };
        let stage = Scenario::start(lab, 4, short).await?;
        let load = stage.load(lab)?;
        let all = ["s1", "s2", "s3", "s4"];
        for name in all {
            stage.gossip(name, MemberStatus::Failed);
        }
        all_stay(&stage, Duration::from_secs(15)).await?;
        for name in all {
            stage.gossip(name, MemberStatus::Alive);
        }
        all_stay(&stage, Duration::from_secs(3)).await?;
        load.nothing_failed("gossip cut for 15 times hold").await
    });
}

#[test]
fn an_answer_without_members() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 3, |options| options).await?;
        let load = stage.load(lab)?;
        stage
            .agent
            .behave(|behaviour| behaviour.members = MembersAnswer::Empty);
        stage.agent.say("INFO", "serf: EventMemberUpdate: s1");
        stage.agent.strike(integration::fake_agent::Fault::Close);
        all_stay(&stage, Duration::from_secs(5)).await?;
        stage.agent.calm();
        all_stay(&stage, Duration::from_secs(1)).await?;
        load.nothing_failed("an empty answer").await
    });
}

#[test]
fn own_probes_that_all_fail_while_haproxy_reaches_the_servers() {
    test(&WITH_FIREWALL, async |lab| {
        let firewall = Firewall::new(lab)?;
        let configure = |options: integration::controller::ControllerOptions| {
            options.group(GROUP).backend("check = \"off\"")
        };
        let stage = Scenario::start(lab, 5, configure).await?;
        let load = stage.load(lab)?;
        firewall.silence_group(GROUP, integration::cluster::WEB_PORT)?;
        for _ in 0..10 {
            for name in ["s1", "s2", "s3"] {
                let line = format!("memberlist: Failed ping: {name} (timeout reached)");
                stage.agent.say("DEBUG", line);
            }
            all_stay(&stage, Duration::from_secs(1)).await?;
        }
        let status = stage.controller.status().await?;
        let why = status.of_server("s1", "why");
        assert!(why.contains("the fault is likely here"), "{why}");
        firewall.heal()?;
        let cleared = stage
            .controller
            .settles("the suspects cleared", SOON, |status| {
                status
                    .of_server("s1", "why")
                    .starts_with("alive, and answered")
            });
        cleared.await?;
        load.nothing_failed("all own probes fail").await
    });
}
