//! Servers that fail: out by their traffic and back, and a breaker before all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::scenario::Scenario;
use integration::{HaproxyKind, TestEnv, on_each_haproxy, wait_for};

use super::{get, header, reloads};

/// What a server is marked down at.
const ERRORS: usize = 5;

/// Whether HAProxy has this server so.
async fn is(stage: &Scenario, name: &str, status: &str) -> bool {
    let lines = stage.haproxy.stat().await.unwrap_or_default();
    let mut own = lines.iter().filter(|line| line.get("svname") == name);
    own.any(|line| line.get("status").starts_with(status))
}

/// A cookie for each server.
async fn cookies(front: SocketAddr, count: usize) -> Result<BTreeMap<String, String>> {
    let mut cookies = BTreeMap::new();
    for _ in 0..40 {
        let answer = get(front, "/", "").await?;
        let set = header(&answer, "set-cookie").unwrap_or_default();
        let pair = set
            .split(';')
            .next()
            .unwrap_or_default()
            .replacen("srv=", "SRV=", 1);
        cookies.insert(answer.body, format!("cookie: {pair}\r\n"));
        if cookies.len() == count {
            return Ok(cookies);
        }
    }
    anyhow::bail!("not all servers answer: {cookies:?}")
}

/// A server that answers 500 to everything is out after so many errors and back after it recovers; who is with others sees
/// none of them.
async fn ejected(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    // Its check is rare, so that its traffic is likely to tell first.
    let config = format!(
        "sticky = true\neject = {{ errors = {ERRORS}, on = \"layer7\" }}\n\
         check = {{ method = \"HEAD\", path = \"/health\", interval = \"4s\", rise = 1 }}"
    );
    let stage = Scenario::start_on(lab, kind, 3, |options| options.backend(&config)).await?;
    let front = stage.controller.front();
    let cookies = cookies(front, 3).await?;
    stage.webs[0].set_failing(true);
    let mut seen = 0;
    for _ in 0..ERRORS * 4 {
        for (name, cookie) in &cookies {
            let answer = get(front, "/", cookie).await?;
            if name == "s1" {
                seen += usize::from(answer.status == 500);
            } else {
                ensure!(answer.status == 200, "a client of {name} sees {answer:?}");
            }
        }
    }
    ensure!(
        (1..=ERRORS).contains(&seen),
        "{seen} errors until it was out, of {ERRORS}"
    );
    ensure!(is(&stage, "s1", "DOWN").await);
    stage.webs[0].set_failing(false);
    wait_for("s1 to be back", SOON, async || is(&stage, "s1", "UP").await).await?;
    let answer = get(front, "/", &cookies["s1"]).await?;
    ensure!(answer.body == "s1", "{answer:?}");
    ensure!(reloads(&stage).await? == 0);
    Ok(())
}

/// Without it such a server stays.
async fn kept(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let config = "eject = false\ncheck = { path = \"/health\", interval = \"1m\" }";
    let stage = Scenario::start_on(lab, kind, 2, |options| options.backend(config)).await?;
    stage.webs[0].set_failing(true);
    let mut seen = 0;
    for _ in 0..ERRORS * 8 {
        let answer = get(stage.controller.front(), "/", "").await?;
        seen += usize::from(answer.status == 500);
    }
    ensure!(seen == ERRORS * 4, "{seen} errors");
    ensure!(is(&stage, "s1", "UP").await);
    Ok(())
}

/// One that refuses connections costs no request, and is back once it listens.
async fn refusing(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let config = "eject = { errors = 3 }\nretry = { attempts = 5 }";
    let mut stage = Scenario::start_on(lab, kind, 3, |options| options.backend(config)).await?;
    let load = stage.load(lab)?;
    stage.webs[0].stop_listening();
    wait_for("s1 to be out", SOON, async || {
        is(&stage, "s1", "DOWN").await
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.webs[0].listen()?;
    wait_for("s1 to be back", SOON, async || is(&stage, "s1", "UP").await).await?;
    load.nothing_failed("a server that refused connections")
        .await
}

/// A breaker opens at its ratio, answers its page without asking a server, and closes.
async fn breaker(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let page = lab.path("busy.http");
    std::fs::write(
        &page,
        "HTTP/1.1 429 Busy\r\nContent-Type: text/html\r\nCache-Control: no-store\r\n\r\n<p>come again</p>",
    )?;
    let config = format!(
        "check = \"tcp\"\nbreaker = {{ ratio = \"40%\", min_requests = 10, window = \"3s\", status = 429, retry_after = \"7s\", \
         page = {page:?} }}"
    );
    let stage = Scenario::start_on(lab, kind, 2, |options| options.backend(&config)).await?;
    let front = stage.controller.front();
    // Fewer than that many requests open nothing, whatever becomes of them.
    stage.webs.iter().for_each(|web| web.set_failing(true));
    for _ in 0..5 {
        ensure!(get(front, "/", "").await?.status == 500);
    }
    stage.webs.iter().for_each(|web| web.set_failing(false));
    tokio::time::sleep(Duration::from_secs(7)).await;
    // One in four fails: below the ratio.
    for turn in 0..40 {
        stage
            .webs
            .iter()
            .for_each(|web| web.set_failing(turn % 4 == 0));
        let answer = get(front, "/", "").await?;
        ensure!(
            answer.status != 429,
            "it opens at a quarter, with request {turn}"
        );
    }
    stage.webs.iter().for_each(|web| web.set_failing(true));
    let mut asked = 0;
    let open = loop {
        let answer = get(front, "/", "").await?;
        if answer.status == 429 {
            break answer;
        }
        asked += 1;
        ensure!(answer.status == 500 && asked < 100, "{answer:?}");
    };
    ensure!(asked > 1, "it was open before");
    ensure!(header(&open, "retry-after") == Some("7"), "{open:?}");
    ensure!(
        header(&open, "cache-control") == Some("no-store"),
        "{open:?}"
    );
    ensure!(open.body == "<p>come again</p>", "{open:?}");
    let counted: u64 = stage.webs.iter().map(integration::Web::requests).sum();
    ensure!(get(front, "/", "").await?.status == 429);
    let now: u64 = stage.webs.iter().map(integration::Web::requests).sum();
    ensure!(now == counted, "a request went through");
    stage.webs.iter().for_each(|web| web.set_failing(false));
    wait_for("it to close", SOON, async || {
        get(front, "/", "")
            .await
            .is_ok_and(|answer| answer.status == 200)
    })
    .await?;
    for _ in 0..20 {
        ensure!(get(front, "/", "").await?.status == 200, "it opens again");
    }
    ensure!(reloads(&stage).await? == 0);
    Ok(())
}

on_each_haproxy! {
    a_server_that_fails_every_request_is_out_after_so_many_and_comes_back => ejected;
    a_server_that_fails_every_request_stays_where_nothing_ejects_it => kept;
    a_server_that_refuses_connections_costs_no_request => refusing;
    a_breaker_opens_at_its_ratio_answers_its_page_and_closes => breaker;
}
