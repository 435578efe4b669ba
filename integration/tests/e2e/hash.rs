//! Consistent hashing: a URI stays with its server whatever is reloaded, and has the same one on every balancer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::Scenario;
use integration::{Controller, Haproxy, HaproxyKind, TestEnv, on_each_haproxy, wait_for, web};

on_each_haproxy! {
    no_uri_moves_at_a_reload_and_two_balancers_agree => agree;
}

const URIS: usize = 300;
const BACKEND: &str = "balance = \"uri\"";

/// Which server answers for each URI.
async fn map(front: SocketAddr) -> Result<BTreeMap<usize, String>> {
    let mut map = BTreeMap::new();
    for uri in 0..URIS {
        let answer = web::get(front, &format!("/page/{uri}")).await;
        let (_, server) = answer.context("an answer")?;
        map.insert(uri, server);
    }
    Ok(map)
}

fn moved(before: &BTreeMap<usize, String>, after: &BTreeMap<usize, String>) -> usize {
    before
        .iter()
        .filter(|(uri, server)| after.get(uri) != Some(server))
        .count()
}

fn write(template: &Path, version: u32) -> Result<()> {
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");
    let text = std::fs::read_to_string(built_in)?;
    let other = format!("timeout client {}ms", 30_000 + version);
    Ok(std::fs::write(
        template,
        text.replace("timeout client {{ timeouts.client }}", &other),
    )?)
}

async fn agree(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let template = lab.path("haproxy.cfg.j2");
    write(&template, 0)?;
    let mut stage = Scenario::start_on(lab, kind, 3, |options| {
        options.backend(BACKEND).template(template.clone())
    })
    .await?;
    let front = stage.controller.front();
    let three = map(front).await?;
    for number in 4..=8 {
        stage.add(lab, number)?;
    }
    stage.serves_all().await?;
    stage.settled().await?;
    let eight = map(front).await?;
    assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
    write(&template, 1)?;
    stage.controller.reload()?;
    let reloaded = |status: &Status| status.counter("reloads") == 1 && status.is_whole();
    stage
        .controller
        .settles("the reload", SOON, reloaded)
        .await?;
    stage.serves_all().await?;
    let after = map(front).await?;

    // The second one knows nothing of the first, and gets its servers in one go.
    let dir = lab.path("second");
    std::fs::create_dir(&dir)?;
    let mut haproxy = Haproxy::prepare_in(&dir, kind).await?;
    let bind = lab.net().addr(1, 8090);
    let options = integration::controller::ControllerOptions::new(
        &dir,
        stage.agent.rpc_addr(),
        &haproxy,
        bind,
    );
    let second: Controller = options.backend(BACKEND).start()?;
    integration::cluster::first_file(&haproxy).await?;
    haproxy.start().await?;
    let names: Vec<&str> = stage.names().collect();
    haproxy.serves("nodes", &names, SOON).await?;
    wait_for("the second balancer", SOON, async || {
        web::ask(bind).await.is_some()
    })
    .await?;
    let other = map(second.front()).await?;
    println!(
        "{kind:?}: of {URIS} URIs {} moved at 5 joins, {} at the reload, {} are elsewhere on the second balancer",
        moved(&three, &eight),
        moved(&eight, &after),
        moved(&after, &other)
    );
    assert!(moved(&three, &eight) > 0);
    assert_eq!(moved(&eight, &after), 0);
    assert_eq!(moved(&after, &other), 0);
    Ok(())
}
