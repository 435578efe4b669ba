//! Servers with an agent check: what the agent says stands, through joins, reloads and restarts of the controller.

use std::time::Duration;

use anyhow::{Context, Result};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::{Scenario, backend};
use integration::{HaproxyKind, HealthAgent, TestEnv, Web, on_each_haproxy, wait_for};
use serf_rpc::MemberStatus;
use tokio::time::sleep;

on_each_haproxy! {
    what_an_agent_says_of_its_server_stands => scenario;
}

const SECTIONS: &str = "[drift]\ninterval = \"1s\"\n[drain]\ntimeout = \"1s\"\n";
const OPTIONS: &str =
    "max_weight = 256\nserver_options = \"agent-check agent-port 4000 agent-inter 200ms\"";
/// Several turns of the agent's check and of the drift timer.
const A_WHILE: Duration = Duration::from_millis(1200);

async fn scenario(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let agents = [
        HealthAgent::start(lab.net().addr(101, 4000), "50%").await?,
        HealthAgent::start(lab.net().addr(102, 4000), "ready").await?,
    ];
    let options = |options: integration::controller::ControllerOptions| {
        options.sections(SECTIONS).backend(OPTIONS)
    };
    let mut stage = Scenario::start_on(lab, kind, 0, options).await?;
    for number in 1..=2 {
        let (name, ip) = (format!("s{number}"), stage.ip(lab, number));
        stage.webs.push(Web::start(&*name, (ip, 3000).into())?);
        let member = backend(&name, ip).tag("weight", "100");
        stage.agent.put(member.build());
    }
    stage.serves_all().await?;
    shows(&stage, "ready, weight 50 of 100", 50).await?;
    says(&stage, &agents[0], "drain 100%", "drain", 100).await?;
    says(
        &stage,
        &agents[0],
        "ready 70%",
        "ready, weight 70 of 100",
        70,
    )
    .await?;
    says(&stage, &agents[0], "maint", "maint, weight 70 of 100", 70).await?;
    says(
        &stage,
        &agents[0],
        "up ready 50%",
        "ready, weight 50 of 100",
        50,
    )
    .await?;
    says(&stage, &agents[0], "down", "down, weight 50 of 100", 50).await?;
    says(&stage, &agents[0], "up", "ready, weight 50 of 100", 50).await?;
    stage.settled().await?;

    stage.haproxy.reload().await?;
    says(&stage, &agents[0], "50%", "ready, weight 50 of 100", 50).await?;
    says(
        &stage,
        &agents[0],
        "drain 50%",
        "drain, weight 50 of 100",
        50,
    )
    .await?;
    untouched(&stage).await?;

    stage.controller.restart()?;
    says(&stage, &agents[0], "drain", "drain, weight 50 of 100", 50).await?;
    stage.haproxy.serves("nodes", &["s2"], SOON).await?;
    untouched(&stage).await?;

    agents[0].say("ready");
    stage.gossip("s1", MemberStatus::Left);
    stage.haproxy.serves("nodes", &["s2"], SOON).await?;
    sleep(A_WHILE).await;
    stage
        .haproxy
        .serves("nodes", &["s2"], Duration::from_secs(1))
        .await?;
    let asked = agents[0].asked();
    sleep(A_WHILE).await;
    assert_eq!(
        agents[0].asked(),
        asked,
        "the agent of a server that left is asked"
    );
    untouched(&stage).await
}

/// Lets the agent of s1 say something, and waits until HAProxy and the status show it, and go on doing so.
async fn says(
    stage: &Scenario,
    agent: &HealthAgent,
    word: &str,
    shown: &str,
    weight: u64,
) -> Result<()> {
    agent.say(word);
    let shown_soon = shows(stage, shown, weight).await;
    shown_soon.with_context(|| format!("after {word:?}"))?;
    sleep(A_WHILE).await;
    shows(stage, shown, weight).await
}

async fn shows(stage: &Scenario, shown: &str, weight: u64) -> Result<()> {
    let wanted = (shown.to_owned(), weight);
    let mut last = None;
    let seen = wait_for("s1 to be shown so", SOON, async || {
        let status = stage.controller.status().await;
        let says = status.map(|status| status.of_server("s1", "agent").to_owned());
        last = says.ok().zip(uweight(stage).await.ok());
        last.as_ref() == Some(&wanted)
    })
    .await;
    let state = stage.haproxy.command("show servers state nodes").await;
    seen.with_context(|| format!("wanted {wanted:?}, seen {last:?}, {state:?}"))
}

async fn uweight(stage: &Scenario) -> Result<u64> {
    let stat = stage.haproxy.stat().await?;
    let line = stat.iter().find(|line| line.get("svname") == "s1");
    Ok(line.map_or(0, |line| line.count("uweight")))
}

/// Nothing was repaired or reloaded, and no server stands otherwise than by its member.
async fn untouched(stage: &Scenario) -> Result<()> {
    let whole = |status: &Status| status.is_whole();
    let status = stage
        .controller
        .settles("everything well", SOON, whole)
        .await?;
    for counter in ["repairs", "reloads"] {
        assert_eq!(status.counter(counter), 0, "{counter}: {status:?}");
    }
    Ok(())
}
