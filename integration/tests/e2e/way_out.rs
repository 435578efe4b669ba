//! HAProxy's stats socket does not answer: the other ways out, in their order, and what is said meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::Scenario;
use integration::web::ask;
use integration::{HaproxyKind, Need, TestEnv, on_each_haproxy, test, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

const OFTEN: &str = "[drift]\ninterval = \"1s\"\n";

/// Waits until the web server of this number has had a request, and says how long that took.
async fn gets_requests(stage: &Scenario, number: usize, within: Duration) -> Result<Duration> {
    let web = stage.webs.get(number - 1).context("a web server")?;
    let started = Instant::now();
    wait_for("a request", within, async || {
        ask(stage.controller.front()).await;
        web.requests() > 0
    })
    .await?;
    Ok(started.elapsed())
}

fn problems(status: &Status) -> String {
    status.0["problems"].to_string()
}

/// Nobody answers, and the third server waits for it.
fn is_untold(status: &Status) -> bool {
    status.server("s3") == "unknown" && status.of_server("s3", "why").contains("not been told yet")
}

fn rotation(status: &Status) -> &serde_json::Value {
    &status.0["backends"]["nodes"]["in_rotation"]
}

fn in_rotation(status: &Status) -> u64 {
    rotation(status).as_u64().unwrap_or_default()
}

async fn path_is_deleted(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Scenario::start_on(lab, kind, 2, |options| options.sections(OFTEN)).await?;
    stage.settled().await?;
    std::fs::remove_file(stage.haproxy.stats_socket())?;
    stage.add(lab, 3)?;
    let took = gets_requests(&stage, 3, SOON).await?;
    println!("{kind:?}: a join by the master's socket was in force after {took:?}");
    let told = |status: &Status| status.server("s3") == "ready" && status.is_whole();
    let status = stage.controller.settles("s3 ready", SOON, told).await?;
    let problems = problems(&status);
    assert!(problems.contains("admin.sock"), "{problems}");
    assert!(problems.contains("on its master's socket"), "{problems}");
    assert_eq!(status.counter("reloads"), 0);
    stage.agent.set_status("s1", serf_rpc::MemberStatus::Left);
    let gone = |status: &Status| in_rotation(status) == 2 && status.is_whole();
    stage.controller.settles("s1 gone", SOON * 2, gone).await?;
    let before = stage.webs[0].requests();
    for _ in 0..20 {
        assert!(ask(stage.controller.front()).await.is_some());
    }
    assert_eq!(stage.webs[0].requests(), before);
    let status = stage.controller.status().await?;
    assert_eq!(status.counter("reloads"), 0);
    Ok(())
}

/// Takes connections of the stats socket until it answers no more, and keeps them.
async fn shut(stage: &Scenario) -> Result<Vec<UnixStream>> {
    let mut taken = Vec::new();
    for _ in 0..300 {
        let mut stream = UnixStream::connect(stage.haproxy.stats_socket()).await?;
        stream.write_all(b"prompt\nset timeout cli 3600\n").await?;
        let mut reply = [0; 64];
        let answers = timeout(Duration::from_millis(500), stream.read(&mut reply)).await;
        taken.push(stream);
        if answers.is_err() {
            return Ok(taken);
        }
    }
    anyhow::bail!("300 connections do not shut it")
}

async fn connections_are_taken(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Scenario::start_on(lab, kind, 2, |options| options.sections(OFTEN)).await?;
    stage.settled().await?;
    let taken = shut(&stage).await?;
    stage.add(lab, 3)?;
    let status = stage
        .controller
        .settles("s3 untold", SOON, is_untold)
        .await?;
    assert_eq!(rotation(&status), &serde_json::Value::Null, "{status:?}");
    gets_requests(&stage, 3, SOON * 3).await?;
    let told = |status: &Status| status.server("s3") == "ready" && status.counter("reloads") == 1;
    let status = stage.controller.settles("s3 ready", SOON, told).await?;
    assert_eq!(
        status.0["counters"]["reloads_by_reason"],
        serde_json::json!({"unreachable": 1})
    );
    drop(taken);
    stage.settled().await?;
    assert_eq!(stage.controller.status().await?.counter("reloads"), 1);
    Ok(())
}

on_each_haproxy! {
    a_deleted_stats_socket_is_bypassed_by_the_masters => path_is_deleted;
    taken_connections_end_in_one_reload => connections_are_taken;
}

#[test]
fn nothing_fails_while_the_stats_socket_is_gone() {
    test(
        &[Need::Haproxy(HaproxyKind::Host), Need::Wrk],
        async |lab| {
            let mut stage = Scenario::start(lab, 3, |options| options.sections(OFTEN)).await?;
            stage.settled().await?;
            let load = stage.load(lab)?;
            std::fs::remove_file(stage.haproxy.stats_socket())?;
            for number in 4..=6 {
                stage.add(lab, number)?;
                gets_requests(&stage, number.into(), SOON).await?;
            }
            let status = stage.controller.status().await?;
            assert_eq!(status.counter("reloads"), 0);
            load.nothing_failed("three joins by the master's socket")
                .await
        },
    );
}

#[test]
fn without_a_masters_socket_the_command_brings_a_join_into_force() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let script = format!("kill -USR2 $(cat {})", lab.path("haproxy.pid").display());
        let command = ["sh", "-c", &script];
        let mut stage = Scenario::start(lab, 2, |options| {
            options.sections(OFTEN).reload_command(&command)
        })
        .await?;
        stage.settled().await?;
        std::fs::remove_file(stage.haproxy.stats_socket())?;
        stage.add(lab, 3)?;
        let status = stage
            .controller
            .settles("s3 untold", SOON, is_untold)
            .await?;
        assert_eq!(rotation(&status), &serde_json::Value::Null, "{status:?}");
        gets_requests(&stage, 3, SOON * 2).await.map(drop)
    });
}

#[test]
fn a_haproxy_that_is_not_there_is_not_reloaded() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 1, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        stage.haproxy.kill().await?;
        stage.add(lab, 2)?;
        let waits = |status: &Status| status.server("s2") == "unknown";
        stage.controller.settles("s2 unknown", SOON, waits).await?;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let history = serde_json::to_string(&stage.controller.history().await?)?;
        assert!(!history.contains("\"reload\""), "{history}");
        stage.haproxy.start().await?;
        stage.settled().await?;
        let status = stage.controller.status().await?;
        assert_eq!(status.server("s2"), "ready");
        assert_eq!(status.counter("reloads"), 0);
        Ok(())
    });
}
