//! What HAProxy does with requests by itself: limits, compression, timeouts, a start that is slow.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::scenario::Scenario;
use integration::{HaproxyKind, TestEnv, on_each_haproxy, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{get, header, reloads};

/// Whoever comes when too many wait is turned away at once, and nobody else.
async fn overload(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let config = "max_conn = 1\nmax_queue = 50\noverload = { queue = 2, status = 429, retry_after = \"3s\" }";
    let stage = Scenario::start_on(lab, kind, 1, |options| options.backend(config)).await?;
    let front = stage.controller.front();
    let waiting = async || {
        let lines = stage.haproxy.stat().await.unwrap_or_default();
        let backend = lines
            .iter()
            .find(|line| line.get("svname") == "BACKEND" && line.get("pxname") == "nodes");
        backend.map_or(0, |line| line.count("qcur"))
    };
    let mut slow = Vec::new();
    for expected in [0, 1, 2, 3] {
        slow.push(tokio::spawn(async move {
            get(front, "/slow?ms=1000", "").await
        }));
        let what = format!("{expected} to wait");
        wait_for(&what, SOON, async || {
            waiting().await == expected && slow.len() as u64 == expected + 1
        })
        .await?;
        if expected == 0 {
            wait_for("one to be served", SOON, async || {
                stage.webs[0].requests() > 0
            })
            .await?;
        }
    }
    let asked = Instant::now();
    let answer = get(front, "/", "").await?;
    ensure!(
        answer.status == 429 && header(&answer, "retry-after") == Some("3"),
        "{answer:?}"
    );
    ensure!(
        asked.elapsed() < Duration::from_millis(900),
        "it waited: {:?}",
        asked.elapsed()
    );
    for request in slow {
        ensure!(
            request.await??.status == 200,
            "one that waited was not served"
        );
    }
    ensure!(get(front, "/", "").await?.status == 200);
    Ok(())
}

/// Answers of these types are compressed, for those who can read it.
async fn compressed(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let config = "compress = [\"text/plain\", \"application/json\"]";
    let stage = Scenario::start_on(lab, kind, 1, |options| options.backend(config)).await?;
    let front = stage.controller.front();
    let mut stream = TcpStream::connect(front).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {front}\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    ensure!(text.contains("\r\ncontent-encoding: gzip\r\n"), "{text}");
    // What a body in gzip begins with.
    ensure!(answer.windows(3).any(|it| it == [0x1f, 0x8b, 8]), "{text}");
    let plain = get(front, "/", "").await?;
    ensure!(
        header(&plain, "content-encoding").is_none() && plain.body == "s1",
        "{plain:?}"
    );
    Ok(())
}

async fn left_alone(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let config = "compress = \"text/html\"";
    let stage = Scenario::start_on(lab, kind, 1, |options| options.backend(config)).await?;
    let answer = get(stage.controller.front(), "/", "accept-encoding: gzip\r\n").await?;
    ensure!(
        header(&answer, "content-encoding").is_none() && answer.body == "s1",
        "{answer:?}"
    );
    Ok(())
}

/// A server that takes longer than its backend has time gives 504.
async fn timeouts(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let config = "timeouts = { server = \"1s\", queue = \"300ms\" }\nmax_conn = 1\neject = false";
    let stage = Scenario::start_on(lab, kind, 1, |options| options.backend(config)).await?;
    let front = stage.controller.front();
    ensure!(get(front, "/slow?ms=100", "").await?.status == 200);
    let asked = Instant::now();
    let late = get(front, "/slow?ms=10000", "").await?;
    ensure!(late.status == 504, "{late:?}");
    ensure!(
        asked.elapsed() >= Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    let text = std::fs::read_to_string(stage.haproxy.config())?;
    for line in [
        "timeout server 1s",
        "timeout queue 300ms",
        "timeout connect 500ms",
    ] {
        ensure!(text.contains(line), "{line} is not in\n{text}");
    }
    Ok(())
}

/// Shares of a server that has just come, and of the same when its time is over.
async fn slow_start(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    const SLOW: Duration = Duration::from_secs(8);
    let config = "slow_start = \"8s\"";
    let mut stage = Scenario::start_on(lab, kind, 1, |options| options.backend(config)).await?;
    tokio::time::sleep(SLOW + Duration::from_secs(1)).await;
    stage.add(lab, 2)?;
    stage.serves_all().await?;
    let share = async |stage: &Scenario| -> Result<u64> {
        let before = stage.webs[1].requests();
        for _ in 0..100 {
            get(stage.controller.front(), "/", "").await?;
        }
        Ok(stage.webs[1].requests() - before)
    };
    let asked = Instant::now();
    let young = share(&stage).await?;
    // On a machine that is slow it has grown meanwhile.
    ensure!(
        young < 35 || asked.elapsed() > SLOW / 3,
        "{young} of 100 at once"
    );
    tokio::time::sleep(SLOW + Duration::from_secs(1)).await;
    let grown = share(&stage).await?;
    ensure!((45..=55).contains(&grown), "{grown} of 100 later");
    ensure!(reloads(&stage).await? == 0);
    Ok(())
}

on_each_haproxy! {
    whoever_comes_when_too_many_wait_is_turned_away_at_once => overload;
    answers_of_the_types_named_are_compressed => compressed;
    answers_of_other_types_are_not_compressed => left_alone;
    a_backend_has_timeouts_of_its_own => timeouts;
    a_server_that_comes_has_its_share_after_a_while => slow_start;
}
