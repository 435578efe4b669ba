//! Clients that keep their server: through joins and leaves, reloads and restarts, on other balancers, until it drains.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::http;
use integration::scenario::Scenario;
use integration::{Haproxy, HaproxyKind, TestEnv, on_each_haproxy, wait_for};
use serf_rpc::MemberStatus;

use super::{get, header, reloads};

const CLIENTS: usize = 100;
/// Half of them joins, half leaves.
const CHANGES: u8 = 20;

/// Somebody with a cookie, and the server that it stands for.
#[derive(Clone, Debug, Default)]
struct Client {
    cookie: Option<String>,
    server: Option<String>,
    /// How often the server was another than before.
    moved: usize,
}

impl Client {
    async fn ask(&mut self, front: SocketAddr) -> Result<()> {
        let cookie = self.cookie.as_ref();
        let cookie = cookie.map_or_else(String::new, |it| format!("cookie: {it}\r\n"));
        let answer = get(front, "/", &cookie).await?;
        ensure!(answer.status == 200, "{answer:?}");
        if let Some(set) = header(&answer, "set-cookie") {
            let (pair, attributes) = set.split_once(';').context("a bare cookie")?;
            ensure!(
                attributes.contains("httponly") && attributes.contains("samesite=lax"),
                "{set}"
            );
            ensure!(!attributes.contains("secure"), "{set} over plain HTTP");
            // Heads are in small letters here; the name is in capitals.
            self.cookie = Some(pair.replacen("srv=", "SRV=", 1));
        }
        let before = self.server.replace(answer.body.clone());
        self.moved += usize::from(before.is_some_and(|before| before != answer.body));
        Ok(())
    }
}

async fn ask_all(clients: &mut [Client], front: SocketAddr) -> Result<()> {
    for client in clients {
        client.ask(front).await?;
    }
    Ok(())
}

fn moved(clients: &[Client]) -> usize {
    clients.iter().map(|client| client.moved).sum()
}

async fn through_everything(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage =
        Scenario::start_on(lab, kind, 3, |options| options.backend("sticky = true")).await?;
    let front = stage.controller.front();
    let mut clients = vec![Client::default(); CLIENTS];
    ask_all(&mut clients, front).await?;
    ensure!(
        clients.iter().all(|client| client.cookie.is_some()),
        "{clients:?}"
    );
    for name in ["s1", "s2", "s3"] {
        let own = clients
            .iter()
            .filter(|it| it.server.as_deref() == Some(name));
        ensure!(own.count() > CLIENTS / 5, "{name} has few");
    }
    for number in 4..4 + CHANGES / 2 {
        stage.add(lab, number)?;
        stage.serves_all().await?;
        ask_all(&mut clients, front).await?;
        stage.gossip(&format!("s{number}"), MemberStatus::Left);
        stage.webs.pop();
        stage.serves_all().await?;
        ask_all(&mut clients, front).await?;
    }
    ensure!(
        moved(&clients) == 0,
        "{} moved at joins and leaves",
        moved(&clients)
    );
    ensure!(reloads(&stage).await? == 0, "a join or leave reloaded");
    stage.settled().await?;

    let before = stage.haproxy.worker().await?;
    stage.haproxy.reload().await?;
    wait_for("another worker", SOON, async || {
        let worker = stage.haproxy.worker().await;
        worker.is_ok_and(|worker| worker.pid != before.pid)
    })
    .await?;
    ask_all(&mut clients, front).await?;
    ensure!(
        moved(&clients) == 0,
        "{} moved at a reload",
        moved(&clients)
    );

    stage.controller.stop().await?;
    stage.controller.restart()?;
    stage.settled().await?;
    ask_all(&mut clients, front).await?;
    ensure!(
        moved(&clients) == 0,
        "{} moved with the controller",
        moved(&clients)
    );

    stage.haproxy.kill().await?;
    stage.haproxy.start().await?;
    stage.settled().await?;
    ask_all(&mut clients, front).await?;
    ensure!(
        moved(&clients) == 0,
        "{} moved with HAProxy",
        moved(&clients)
    );

    elsewhere(lab, &stage, &clients, kind).await?;
    drains(&stage, clients).await
}

/// Another balancer with the same backends knows the cookies of this one.
async fn elsewhere(
    lab: &TestEnv,
    stage: &Scenario,
    clients: &[Client],
    kind: HaproxyKind,
) -> Result<()> {
    let dir = lab.path("other");
    std::fs::create_dir(&dir)?;
    let mut other = Haproxy::prepare_in(&dir, kind).await?;
    let (own, front) = (stage.controller.front(), lab.net().addr(9, 8080));
    let text = std::fs::read_to_string(stage.haproxy.config())?;
    let text = text.replace(&own.to_string(), &front.to_string()).replace(
        &stage.haproxy.stats_socket().display().to_string(),
        &other.stats_socket().display().to_string(),
    );
    std::fs::write(other.config(), text)?;
    other.start().await?;
    let mut clients = clients.to_vec();
    ask_all(&mut clients, front).await?;
    ensure!(
        moved(&clients) == 0,
        "{} moved to another balancer",
        moved(&clients)
    );
    other.kill().await
}

/// Who was with the server that goes is with another one afterwards, and stays there; all others notice nothing.
async fn drains(stage: &Scenario, mut clients: Vec<Client>) -> Result<()> {
    let front = stage.controller.front();
    let concerned = |client: &&Client| client.server.as_deref() == Some("s1");
    let of_s1 = clients.iter().filter(concerned).count();
    // It is under way while the server goes, and is not cut.
    let cookie = clients
        .iter()
        .find(concerned)
        .and_then(|client| client.cookie.clone());
    let cookie = format!("cookie: {}\r\n", cookie.context("a client of s1")?);
    let running = tokio::spawn(async move { get(front, "/slow?ms=2500", &cookie).await });
    wait_for("the request to be there", SOON, async || {
        let lines = stage.haproxy.stat().await.unwrap_or_default();
        lines
            .iter()
            .any(|line| line.get("svname") == "s1" && line.count("scur") > 0)
    })
    .await?;
    stage.gossip("s1", MemberStatus::Left);
    stage.haproxy.serves("nodes", &["s2", "s3"], SOON).await?;
    for _ in 0..5 {
        ask_all(&mut clients, front).await?;
    }
    let answer = running.await??;
    ensure!(
        (answer.status, answer.body.as_str()) == (200, "s1"),
        "{answer:?}"
    );
    ensure!(
        moved(&clients) == of_s1,
        "{} moves, {of_s1} clients of s1",
        moved(&clients)
    );
    ensure!(
        clients.iter().all(|client| client.moved <= 1),
        "{clients:?}"
    );
    ensure!(
        clients
            .iter()
            .all(|client| client.server.as_deref() != Some("s1"))
    );
    Ok(())
}

/// A tag that asks for a drain moves the server's clients, and so does another address; without `sticky` nobody stays.
async fn moves(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let sticky = "sticky = { cookie = \"SRV\", max_idle = \"30m\", max_life = \"8h\", key = \"of-all-balancers\" }\n\
                  ports = [3000, 3001]";
    let mut stage = Scenario::start_on(lab, kind, 2, |options| options.backend(sticky)).await?;
    let front = stage.controller.front();
    let mut clients = vec![Client::default(); 20];
    ask_all(&mut clients, front).await?;
    let of = |clients: &[Client], name: &str| {
        clients
            .iter()
            .filter(|it| it.server.as_deref() == Some(name))
            .count()
    };
    let of_s1 = of(&clients, "s1");
    ensure!(of_s1 > 0 && of_s1 < 20, "{clients:?}");
    let member = |tag: &str, value: &str| {
        integration::scenario::backend("s1", stage.ip(lab, 1))
            .tag(tag, value)
            .build()
    };
    stage.agent.put(member("state", "drain"));
    let told = |status: &Status| status.server("s1") == "drain";
    stage.controller.settles("the drain", SOON, told).await?;
    stage.haproxy.serves("nodes", &["s2"], SOON).await?;
    ask_all(&mut clients, front).await?;
    ask_all(&mut clients, front).await?;
    ensure!(moved(&clients) == of_s1, "{clients:?}");
    ensure!(of(&clients, "s2") == 20, "{clients:?}");

    // It comes back, and nobody is moved for that; then s2 goes on at another port.
    stage.agent.put(member("state", "ready"));
    stage.serves_all().await?;
    ask_all(&mut clients, front).await?;
    ensure!(moved(&clients) == of_s1, "{clients:?}");
    let addr = SocketAddr::new(stage.webs[1].addr().ip(), 3001);
    stage.webs[1] = integration::Web::start("s2", addr)?;
    let other = integration::scenario::backend("s2", stage.ip(lab, 2)).tag("port", "3001");
    stage.agent.put(other.build());
    wait_for("s2 to move", SOON, async || {
        let lines = stage.haproxy.stat().await.unwrap_or_default();
        let mut own = lines.iter().filter(|line| line.get("svname") == "s2");
        own.any(|line| line.get("addr") == addr.to_string() && line.get("status").starts_with("UP"))
    })
    .await?;
    let before = clients.clone();
    ask_all(&mut clients, front).await?;
    let renewed = clients
        .iter()
        .zip(&before)
        .filter(|(now, before)| now.cookie != before.cookie);
    ensure!(renewed.count() == 20, "a cookie of the old address counts");
    let settled = clients.clone();
    ask_all(&mut clients, front).await?;
    ensure!(moved(&clients) == moved(&settled), "they move again");
    ensure!(reloads(&stage).await? == 0, "something reloaded");
    Ok(())
}

/// Without the key there is no cookie.
async fn nobody(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let stage = Scenario::start_on(lab, kind, 2, |options| options).await?;
    let front = stage.controller.front();
    let mut client = Client::default();
    for _ in 0..6 {
        client.ask(front).await?;
    }
    ensure!(client.cookie.is_none() && client.moved >= 4, "{client:?}");
    let answer = http::get(front, "/").await?;
    ensure!(header(&answer, "set-cookie").is_none(), "{answer:?}");
    Ok(())
}

on_each_haproxy! {
    a_client_keeps_its_server_through_everything_until_that_drains => through_everything;
    a_server_that_drains_or_moves_gives_its_clients_away_once => moves;
    nobody_is_kept_who_is_not_to_be => nobody;
}
