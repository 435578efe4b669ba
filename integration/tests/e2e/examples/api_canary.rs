//! A canary has the share that its tag says, and another one as soon as the tag does.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use integration::{Agent, HaproxyKind, TestEnv, Web, on_each_haproxy, wait_for, web};

use super::{Balancer, Example, TOLD};

on_each_haproxy! {
    a_canary_has_the_share_that_its_tag_says => canary;
}

/// Weights are spread evenly: of so many requests no share is further off than by this.
const OFF: u64 = 3;

async fn join(example: &Example<'_>, file: &str, name: &str, last: u8) -> Result<(Agent, Web)> {
    let web = Web::start(name, (example.ip(last), 8080).into())?;
    Ok((example.agent(file, name, last).await?, web))
}

/// Who answers how many of the next requests.
async fn shares(example: &Example<'_>, requests: u64) -> Result<BTreeMap<String, u64>> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let name = web::ask(example.front(8080)).await.context("an answer")?;
        *shares.entry(name).or_default() += 1;
    }
    Ok(shares)
}

/// Waits until HAProxy has given the canary this weight.
async fn weighs(balancer: &Balancer, weight: u64) -> Result<()> {
    wait_for(&format!("weight {weight}"), TOLD, async || {
        let stat = balancer.haproxy.stat().await.unwrap_or_default();
        stat.iter()
            .any(|line| line.get("svname") == "canary" && line.count("weight") == weight)
    })
    .await
}

async fn canary(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let example = Example::of(lab, "api-canary")?;
    let mut balancer = example.balancer(kind).await?;
    let _one = join(&example, "stable.json", "api1", 3).await?;
    let _two = join(&example, "stable.json", "api2", 4).await?;
    balancer.serves("api", &["api1", "api2"]).await?;
    let (mut agent, _web) = join(&example, "canary.json", "canary", 5).await?;
    balancer.serves("api", &["api1", "api2", "canary"]).await?;

    // 10 of 30 + 30 + 10
    let seen = shares(&example, 700).await?;
    println!("{kind:?}: weight 10 beside 60: {seen:?}");
    ensure!(seen["canary"].abs_diff(100) <= OFF, "{seen:?}");
    agent.set_tag("weight", "60").await?;
    weighs(&balancer, 60).await?;
    let seen = shares(&example, 400).await?;
    println!("{kind:?}: weight 60 beside 60: {seen:?}");
    ensure!(seen["canary"].abs_diff(200) <= OFF, "{seen:?}");

    // It is not good: out at once, and nobody asks it any more.
    agent.set_tag("state", "drain").await?;
    balancer.serves("api", &["api1", "api2"]).await?;
    let seen = shares(&example, 100).await?;
    ensure!(!seen.contains_key("canary"), "{seen:?}");
    agent.leave().await?;
    balancer.agent.sees_off(&["canary"]).await?;
    let said = balancer.is_well().await?;
    ensure!(!said.contains("warning"), "{said}");
    Ok(())
}
