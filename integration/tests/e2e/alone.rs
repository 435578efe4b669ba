//! A balancer that is started again without anything that leads its agent back into the cluster.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cluster::{SOON, names};
use integration::controller::{ControllerOptions, Status, binary};
use integration::{Balancer, HaproxyKind, Need, Node, TestEnv, test};

const NEEDS: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];

/// A balancer with its cluster.
async fn cluster(lab: &TestEnv, rejoin: bool) -> Result<(Balancer, Vec<Node>)> {
    let rejoin = if rejoin { "rejoin = true" } else { "" };
    let configure = |options: ControllerOptions| Ok(options.serf(rejoin));
    let balancer = Balancer::start_with(lab, HaproxyKind::Host, configure).await?;
    let nodes = Node::start_all(lab, 1..=2).await?;
    for node in &nodes {
        node.join(&balancer.agent).await?;
    }
    balancer.serves(&names(&nodes)).await?;
    Ok((balancer, nodes))
}

/// The balancer is shut down, so that nobody looks for it, and starts again; a web server comes meanwhile.
async fn reboot(lab: &TestEnv, balancer: &mut Balancer, nodes: &mut Vec<Node>) -> Result<()> {
    balancer.controller.kill();
    balancer.agent.leave().await?;
    nodes[0].agent.sees_off(&["balancer"]).await?;
    let new = Node::start(lab, 3).await?;
    new.join(&nodes[0].agent).await?;
    nodes.push(new);
    balancer.agent.restart().await?;
    balancer.controller.restart()
}

fn problems(status: &Status) -> String {
    status.0["problems"].to_string()
}

#[test]
fn an_agent_that_knows_only_itself_is_a_problem_that_is_said_everywhere() {
    test(&NEEDS, async |lab| {
        let (mut balancer, mut nodes) = cluster(lab, false).await?;
        let well = balancer.controller.options().run("status", &[]).await?;
        assert_eq!(well.status.code(), Some(0), "all is well: {well:?}");
        reboot(lab, &mut balancer, &mut nodes).await?;

        let alone = |status: &Status| problems(status).contains("knows only itself");
        let controller = &mut balancer.controller;
        let status = controller.settles("a problem", SOON, alone).await?;
        let words = problems(&status);
        ensure!(words.contains("2 of its cluster are remembered"), "{words}");
        ensure!(
            words.contains(&format!("`serf join {}", nodes[0].agent.ip())),
            "{words}"
        );
        ensure!(
            words.contains("retry_join") && words.contains("snapshot_path"),
            "{words}"
        );
        assert_eq!(status.servers("ready"), 2, "nobody is taken out for it");
        assert_eq!(status.0["agent"]["listed"], 1);
        let shown = controller.options().run("status", &[]).await?;
        assert_eq!(shown.status.code(), Some(1), "{shown:?}");
        let log = controller.log();
        let warnings = log
            .lines()
            .filter(|line| line.contains("knows only itself"));
        let warnings: Vec<_> = warnings.collect();
        ensure!(
            warnings.len() == 1 && warnings[0].contains("WARN"),
            "{warnings:?}"
        );

        let addr = balancer.agent.rpc_addr().to_string();
        let doctor = Command::new(binary("serfctl")?)
            .args(["doctor", "--rpc-addr", &addr])
            .output()?;
        let text = String::from_utf8_lossy(&doctor.stdout);
        assert_eq!(doctor.status.code(), Some(1), "{text}");
        ensure!(text.contains("the agent knows only itself"), "{text}");

        // What the problem says helps, and it is over.
        balancer.agent.join(nodes[0].agent.ip()).await?;
        balancer.serves(&names(&nodes)).await?;
        let controller = &mut balancer.controller;
        let over = |status: &Status| problems(status) == "[]";
        controller.settles("all to be well", SOON, over).await?;
        let well = controller.options().run("status", &[]).await?;
        assert_eq!(well.status.code(), Some(0), "{well:?}");
        Ok(())
    });
}

#[test]
fn an_agent_that_is_alone_is_told_to_join_the_members_that_are_remembered_and_replays_no_event() {
    test(&NEEDS, async |lab| {
        let (mut balancer, mut nodes) = cluster(lab, true).await?;
        let addr = nodes[0].agent.rpc_addr().to_string();
        let event = Command::new(binary("serfctl")?)
            .args(["event", "--rpc-addr", &addr, "deploy"])
            .output()?;
        ensure!(event.status.success(), "{event:?}");
        // One of the members that are remembered is gone for good.
        nodes[1].agent.kill();
        reboot(lab, &mut balancer, &mut nodes).await?;
        let started = balancer.agent.log().len();
        balancer.serves(&names(&nodes)).await?;
        let controller = &balancer.controller;
        // Whose agent is gone is held, and that stays a problem.
        let over = |status: &Status| !problems(status).contains("knows only itself");
        controller
            .settles("the problem to be over", SOON, over)
            .await?;
        ensure!(
            controller.log().contains("joined the cluster again"),
            "{}",
            controller.log()
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        let log = balancer.agent.log().split_off(started);
        ensure!(!log.contains("deploy"), "an event was replayed: {log}");
        Ok(())
    });
}
