//! A balancer that reaches nobody: once it does again, so do requests.

use std::time::{Duration, Instant};

use anyhow::Result;
use integration::cluster::{SOON, WITHOUT_PAUSE};
use integration::controller::Status;
use integration::scenario::Scenario;
use integration::{Firewall, HaproxyKind, Load, Need, TestEnv, Web, test_alone, wait_for};
use serf_rpc::MemberStatus;
use tokio::time::sleep;

const WITH_FIREWALL: [Need; 3] = [Need::Firewall, Need::Haproxy(HaproxyKind::Host), Need::Wrk];

/// The balancer alone: neither gossip nor probes nor checks reach anybody.
#[test]
fn a_balancer_that_is_cut_off_from_everything_and_healed() {
    test_alone(&WITH_FIREWALL, cut_off);
}

async fn cut_off(lab: &TestEnv) -> Result<()> {
    let firewall = Firewall::new(lab)?;
    let stage = Scenario::start(lab, 4, |options| options).await?;
    let nodes: Vec<_> = (1..=4).map(|number| stage.ip(lab, number)).collect();
    firewall.isolate(&nodes)?;
    sleep(Duration::from_secs(3)).await;
    for web in &stage.webs {
        stage.gossip(web.name(), MemberStatus::Failed);
    }
    let what = "all but the last line to be out";
    let out = |status: &Status| status.servers("out") == 3 && status.servers("down") == 1;
    stage.controller.settles(what, SOON, out).await?;
    sleep(Duration::from_secs(10)).await;
    assert!(out(&stage.controller.status().await?));
    for web in &stage.webs {
        web.forget_first_request();
    }
    firewall.heal()?;
    let healed = Instant::now();
    let load = Load::start(stage.controller.front(), WITHOUT_PAUSE);
    wait_for("all web servers to be asked", SOON, async || {
        stage.webs.iter().all(|web| web.first_request().is_some())
    })
    .await?;
    let asked = stage.webs.iter().filter_map(Web::first_request);
    let last = asked.map(|at| at - healed).max().unwrap_or_default();
    println!("healed: every server asked within {last:?}, while gossip says failed");
    let status = stage.controller.status().await?;
    assert_eq!(status.of_server("s1", "gossip"), "failed");
    assert!(last < Duration::from_secs(4), "asked after {last:?}");
    let _ = load.stop();
    Ok(())
}
