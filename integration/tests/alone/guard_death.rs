//! When servers die: no request goes to the dead for long, and the living stay.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::cluster::{SOON, names};
use integration::load::LoadProfile;
use integration::{
    Balancer, Firewall, HaproxyKind, Load, Need, Node, Tap, TestEnv, test_alone, wait_for,
    wait_some,
};
use tokio::time::sleep;

const HOST: [Need; 3] = [Need::Serf, Need::Haproxy(HaproxyKind::Host), Need::Wrk];
const WITH_FIREWALL: [Need; 3] = [Need::Serf, Need::Haproxy(HaproxyKind::Host), Need::Firewall];
/// From SIGKILL of an agent to `failed` in a small cluster.
const FAILED: Duration = Duration::from_secs(90);
/// Clients that leave the others their turn.
const GENTLE: LoadProfile = LoadProfile {
    clients: 2,
    per_connection: 1,
    pause: Duration::from_millis(5),
};

async fn cluster(lab: &TestEnv, count: u8, lines: &str) -> Result<(Balancer, Vec<Node>)> {
    let balancer =
        Balancer::start_with(lab, HaproxyKind::Host, |options| Ok(options.backend(lines))).await?;
    let nodes = Node::start_all(lab, 1..=count).await?;
    for node in &nodes {
        node.join(&balancer.agent).await?;
    }
    balancer.serves(&names(&nodes)).await?;
    Ok((balancer, nodes))
}

#[test]
fn a_scale_down_without_leaves() {
    test_alone(&HOST, scale_down);
}

async fn scale_down(lab: &TestEnv) -> Result<()> {
    let (balancer, mut nodes) = cluster(lab, 6, "").await?;
    let load = Load::start(balancer.controller.front(), GENTLE);
    wait_for("load", SOON, async || load.seen().total() > 100).await?;
    for node in &mut nodes[1..] {
        node.agent.kill();
        node.web.close();
    }
    sleep(Duration::from_secs(2)).await;
    let after_checks = load.seen();
    // Serf says failed one after the other; each goes when its turn has come.
    let mut slowest = Duration::ZERO;
    let mut said: Vec<Option<Instant>> = vec![None; nodes.len()];
    let mut gone: Vec<Option<Instant>> = vec![None; nodes.len()];
    let deadline = Instant::now() + FAILED;
    while gone[1..].contains(&None) {
        anyhow::ensure!(
            Instant::now() < deadline,
            "not all failed are out: {gone:?}"
        );
        let members = balancer.agent.members().await?;
        let status = balancer.controller.status().await?;
        for (number, node) in nodes.iter().enumerate().skip(1) {
            let failed = members
                .iter()
                .any(|member| member.name == node.name() && member.status == "failed");
            if failed {
                said[number].get_or_insert(Instant::now());
            }
            if !matches!(status.server(node.name()), "ready") {
                gone[number].get_or_insert(Instant::now());
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    for (said, gone) in said.iter().zip(&gone).skip(1) {
        let (said, gone) = (said.unwrap_or_else(Instant::now), gone.context("gone")?);
        slowest = slowest.max(gone.saturating_duration_since(said));
    }
    balancer.serves(&["s1"]).await?;
    let seen = load.stop();
    println!(
        "killed 5 of 6: {} requests, {} failed, {} of them later than 2 s; out at most {slowest:?} after Serf's failed",
        seen.total(),
        seen.failed,
        seen.failed - after_checks.failed
    );
    assert_eq!(seen.failed, after_checks.failed, "{seen:?}");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    Ok(())
}

#[test]
fn a_host_that_dies_without_a_check_and_refuses() {
    test_alone(&HOST, async |lab| {
        let (balancer, mut nodes) = cluster(lab, 5, "check = \"off\"").await?;
        let tap = Tap::monitor(balancer.agent.rpc_addr())?;
        let died = Instant::now();
        nodes[4].agent.kill();
        nodes[4].web.close();
        let took = out_after_suspicion(&balancer, &tap, died).await?;
        assert!(took < Duration::from_secs(2), "{took:?}");
        Ok(())
    });
}

#[test]
fn a_host_that_dies_without_a_check_and_whose_packets_are_lost() {
    test_alone(&WITH_FIREWALL, async |lab| {
        let firewall = Firewall::new(lab)?;
        let (balancer, nodes) = cluster(lab, 5, "check = \"off\"").await?;
        let tap = Tap::monitor(balancer.agent.rpc_addr())?;
        let died = Instant::now();
        firewall.isolate(&[nodes[4].agent.ip()])?;
        let took = out_after_suspicion(&balancer, &tap, died).await?;
        assert!(took < Duration::from_secs(2), "{took:?}");
        Ok(())
    });
}

/// From the agent's first suspicion of `s5` until it takes no more traffic; says when Serf would have told.
async fn out_after_suspicion(balancer: &Balancer, tap: &Tap, died: Instant) -> Result<Duration> {
    let suspected = wait_some("a suspicion", FAILED, async || {
        ["Failed ping: s5", "Failed UDP ping: s5", "Suspect s5"]
            .iter()
            .filter_map(|line| tap.arrival(line, died))
            .min()
    })
    .await?;
    let what = "s5 to be out of rotation";
    wait_for(what, SOON, async || {
        let serving = balancer.haproxy.serving("nodes").await;
        serving.is_ok_and(|names| !names.contains(&"s5".to_owned()))
    })
    .await?;
    let out = Instant::now();
    let failed = tap.wait("EventMemberFailed: s5", died, FAILED).await?;
    println!(
        "out of rotation {:?} after the first suspicion, which came {:?} after the death; Serf said failed {:?} after it",
        out - suspected,
        suspected - died,
        failed - died
    );
    balancer.serves(&["s1", "s2", "s3", "s4"]).await?;
    Ok(out - suspected)
}
