//! The container lab cut in two: a web server without its network, at another address, under a name that Serf still
//! knows, and a balancer that gossip does not reach.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::compose::{Compose, NET, is_campaign};
use integration::wrk::Loads;
use integration::{Need, test_alone, wait_for, web};

const NEEDS: [Need; 4] = [
    Need::Compose,
    Need::Wrk,
    Need::Firewall,
    Need::Program("nsenter"),
];
const SOON: Duration = Duration::from_secs(20);
/// Serf says `failed` after 5 to 30 s, and refuses the name for as long again.
const LATE: Duration = Duration::from_secs(120);

/// The same address is given back, as `docker network connect --ip` does it.
#[test]
fn a_web_server_without_its_network_is_out_and_comes_back() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let webapp = compose.container("webapp").await?;
        let addr = compose.web(&webapp).await?.ip().to_string();
        let load = Loads::start(lab, compose.addr())?;
        let since = Instant::now();
        compose.disconnect(&webapp).await?;
        compose.settled(2).await?;
        println!("without its network it is out after {:?}", since.elapsed());
        tokio::time::sleep(SOON.saturating_sub(since.elapsed())).await;
        // What it had begun to answer is lost with it.
        for report in load.stop().await? {
            println!("while it was cut off: {report:?}");
            ensure!(report.failed() <= 2, "{report:?}");
        }
        let load = Loads::start(lab, compose.addr())?;
        let since = Instant::now();
        compose.connect(&webapp, &addr).await?;
        compose.settles(compose.balancer(), 3, LATE).await?;
        println!("connected again it is back after {:?}", since.elapsed());
        load.nothing_failed("while it came back").await?;
        compose.never_reloaded().await
    });
}

#[test]
fn a_balancer_that_no_gossip_reaches_keeps_its_servers_and_says_so() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let load = Loads::start(lab, compose.addr())?;
        let rules = "add table inet cut; \
            add chain inet cut in { type filter hook input priority 0; }; \
            add chain inet cut out { type filter hook output priority 0; }; \
            add rule inet cut in meta l4proto { tcp, udp } th dport 7946 drop; \
            add rule inet cut out meta l4proto { tcp, udp } th dport 7946 drop";
        compose.firewall(compose.balancer(), rules).await?;
        gossip_says(&compose, "failed").await?;
        let status = compose.status().await?;
        assert_eq!(status.servers("ready"), 3, "{}", status.0);
        let age = &status.0["agent"]["members_age_seconds"];
        ensure!(age.is_u64(), "{}", status.0);
        ensure!(
            status.0["problems"]
                .to_string()
                .contains("a split of gossip"),
            "{}",
            status.0
        );
        compose
            .firewall(compose.balancer(), "delete table inet cut")
            .await?;
        gossip_says(&compose, "alive").await?;
        compose.settled(3).await?;
        load.nothing_failed("while gossip was cut and healed")
            .await?;
        compose.never_reloaded().await
    });
}

/// Of all three servers.
async fn gossip_says(compose: &Compose, word: &str) -> Result<()> {
    wait_for(&format!("gossip to call them {word}"), LATE, async || {
        let status = compose.status().await;
        status.is_ok_and(|status| {
            let servers = status.0["backends"]["nodes"]["servers"].as_object();
            servers.is_some_and(|servers| {
                servers.len() == 3 && servers.values().all(|server| server["gossip"] == word)
            })
        })
    })
    .await
}

/// After a graceful stop, and after a kill that Serf has noticed, and after one that it has not.
const WAYS: [(&str, bool, u8); 3] = [
    ("stop", true, 201),
    ("kill", true, 202),
    ("kill", false, 203),
];

/// The name of its member has the address in it: elsewhere it is a new member.
#[test]
fn a_web_server_comes_back_at_another_address() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let webapp = compose.container("webapp").await?;
        let load = Loads::start(lab, compose.addr())?;
        for way in WAYS {
            moves(&compose, &webapp, way).await?;
        }
        load.nothing_failed("meanwhile").await?;
        compose.never_reloaded().await
    });
}

/// A name that does not have the address in it: Serf knows it at the old one still. Each kill takes about a minute, which
/// is Serf's own, and is for campaigns.
#[test]
fn a_name_that_serf_still_knows_comes_back_at_another_address() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 2).await?;
        let webapp = compose.start_named("web").await?;
        compose.settled(3).await?;
        let load = Loads::start(lab, compose.addr())?;
        let ways = if is_campaign() { WAYS.len() } else { 1 };
        for way in WAYS.into_iter().take(ways) {
            moves(&compose, &webapp, way).await?;
            let said = async |container: &str, words: &str| {
                let log = compose.docker(&["logs", container]).await?;
                let lines = log.lines().filter(|line| line.contains(words));
                Ok::<_, anyhow::Error>(lines.count())
            };
            println!(
                "so far the balancer's agent speaks of conflicts in {} lines, its own has ended {} times",
                said(compose.balancer(), "Name conflict").await?,
                said(&webapp, "serf ended with").await?
            );
        }
        load.nothing_failed("meanwhile").await?;
        compose.never_reloaded().await
    });
}

/// Ends one of three web servers, starts it at another address, and waits until it is served there.
async fn moves(
    compose: &Compose,
    webapp: &str,
    (how, noticed, last): (&str, bool, u8),
) -> Result<()> {
    compose.docker(&[how, webapp]).await?;
    if noticed {
        compose.settled(2).await?;
    }
    compose.disconnect(webapp).await?;
    compose.connect(webapp, &format!("{NET}.{last}")).await?;
    compose.docker(&["start", webapp]).await?;
    let since = Instant::now();
    let host = compose.inspect(webapp, "{{.Config.Hostname}}").await?;
    wait_for("its answers", LATE, async || {
        let answer = web::ask(compose.addr()).await;
        answer.is_some_and(|answer| answer.contains(&host))
    })
    .await?;
    let serf = if noticed { "has" } else { "has not" };
    println!(
        "at another address after a {how} that Serf {serf} noticed: served after {:?}",
        since.elapsed()
    );
    compose.settles(compose.balancer(), 3, LATE).await
}
