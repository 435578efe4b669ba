//! Members that name the addresses of others, with a weight of 0: whoever served there goes on, and comes back.

use std::time::Duration;

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::{Scenario, backend};
use integration::{HaproxyKind, Need, TestEnv, test, wait_for};
use serf_rpc::MemberStatus;
use tokio::time::sleep;

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Wrk];
const COUNT: u8 = 4;

/// Four servers, and of each one that names its address, with this weight. The squatters' names are before theirs.
async fn squatted(lab: &TestEnv) -> Result<Scenario> {
    let stage = Scenario::start(lab, COUNT, |options| options).await?;
    squat(lab, &stage);
    let waiting = |status: &Status| status.servers("waiting") == usize::from(COUNT);
    stage
        .controller
        .settles("the squatters to wait", SOON, waiting)
        .await?;
    Ok(stage)
}

fn squat(lab: &TestEnv, stage: &Scenario) {
    for number in 1..=COUNT {
        let squatter = backend(format!("a{number}"), stage.ip(lab, number)).tag("weight", "0");
        stage.agent.put(squatter.build());
    }
}

/// Waits until a server takes requests.
async fn serves(stage: &Scenario, name: &str) -> Result<()> {
    wait_for(&format!("{name} to serve"), SOON, async || {
        let status = stage.controller.status().await;
        let ready = status.is_ok_and(|status| status.server(name) == "ready");
        let serving = stage.haproxy.serving("nodes").await.unwrap_or_default();
        ready && serving.iter().any(|serving| serving == name)
    })
    .await
}

async fn all_serve(stage: &Scenario) -> Result<()> {
    for number in 1..=COUNT {
        serves(stage, &format!("s{number}")).await?;
    }
    Ok(())
}

#[test]
fn over_a_rolling_restart() {
    test(&NEEDS, async |lab| {
        let mut stage = squatted(lab).await?;
        let load = stage.load(lab)?;
        for number in 1..=COUNT {
            let (name, at) = (format!("s{number}"), usize::from(number) - 1);
            stage.gossip(&name, MemberStatus::Leaving);
            stage.gossip(&name, MemberStatus::Left);
            wait_for("it to be out", SOON, async || {
                let serving = stage.haproxy.serving("nodes").await;
                serving.is_ok_and(|names| !names.contains(&name))
            })
            .await?;
            stage.webs[at].stop_listening();
            sleep(Duration::from_millis(300)).await;
            stage.webs[at].listen()?;
            // Its squatter is first to be seen alive, and goes on where nobody else does.
            sleep(Duration::from_millis(700)).await;
            stage.gossip(&name, MemberStatus::Alive);
            serves(&stage, &name).await?;
        }
        all_serve(&stage).await?;
        load.nothing_failed("a rolling restart beside squatters")
            .await
    });
}

#[test]
fn over_crashes_and_a_restart_of_the_controller() {
    test(&NEEDS, async |lab| {
        let mut stage = squatted(lab).await?;
        let load = stage.load(lab)?;
        for number in 1..=COUNT {
            let (name, at) = (format!("s{number}"), usize::from(number) - 1);
            stage.webs[at].stop_listening();
            sleep(Duration::from_millis(1500)).await;
            stage.gossip(&name, MemberStatus::Failed);
            sleep(Duration::from_millis(300)).await;
            stage.webs[at].listen()?;
            sleep(Duration::from_millis(700)).await;
            if number == 2 {
                stage.controller.restart()?;
                sleep(Duration::from_millis(700)).await;
            }
            stage.gossip(&name, MemberStatus::Alive);
            serves(&stage, &name).await?;
        }
        all_serve(&stage).await?;
        load.nothing_failed("crashes beside squatters").await
    });
}

#[test]
fn on_a_balancer_that_begins_with_nothing() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 0, |options| options).await?;
        squat(lab, &stage);
        for number in 1..=COUNT {
            stage.add(lab, number)?;
        }
        all_serve(&stage).await?;
        let load = stage.load(lab)?;
        sleep(Duration::from_secs(1)).await;
        stage.controller.restart()?;
        sleep(Duration::from_secs(1)).await;
        all_serve(&stage).await?;
        load.nothing_failed("squatters that are there first").await
    });
}
