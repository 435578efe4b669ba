//! The container lab cut in two: a web server without its network, and a balancer that gossip does not reach.

use std::time::{Duration, Instant};

use anyhow::ensure;
use integration::compose::{Compose, NET};
use integration::wrk::{Connections, Wrk};
use integration::{Need, test_alone, wait_for};

const NEEDS: [Need; 4] = [
    Need::Compose,
    Need::Wrk,
    Need::Firewall,
    Need::Program("nsenter"),
];
const SOON: Duration = Duration::from_secs(20);
/// Serf says `failed` after 5 to 30 s.
const LATE: Duration = Duration::from_secs(45);

/// The same address is given back, as `docker network connect --ip` does it.
#[test]
fn a_web_server_without_its_network_is_out_and_comes_back() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let balancer = compose.container("balancer").await?;
        compose.settled(&balancer, 3, SOON).await?;
        let webapp = compose.container("webapp").await?;
        let addr = compose.exec(&webapp, &["hostname", "-i"]).await?;
        let network = compose.network();
        compose
            .docker(&["network", "disconnect", &network, &webapp])
            .await?;
        compose.settled(&balancer, 2, SOON).await?;
        tokio::time::sleep(SOON).await;
        let load = Wrk::on(lab, compose.addr(), Connections::PerRequest).start()?;
        let back = ["--alias", "serf-cluster", "--ip", addr.trim()];
        let connect = [&["network", "connect"][..], &back, &[&network, &webapp]].concat();
        compose.docker(&connect).await?;
        compose.settled(&balancer, 3, LATE).await?;
        let report = load.stop().await?;
        println!("while it came back: {report:?}");
        ensure!(report.failed() == 0, "{report:?}");
        assert_eq!(compose.status(&balancer).await?.counter("reloads"), 0);
        Ok(())
    });
}

#[test]
fn a_balancer_that_no_gossip_reaches_keeps_its_servers_and_says_so() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let balancer = compose.container("balancer").await?;
        compose.settled(&balancer, 3, SOON).await?;
        let load = Wrk::on(lab, compose.addr(), Connections::KeepAlive).start()?;
        let rules = "add table inet cut; \
            add chain inet cut in { type filter hook input priority 0; }; \
            add chain inet cut out { type filter hook output priority 0; }; \
            add rule inet cut in meta l4proto { tcp, udp } th dport 7946 drop; \
            add rule inet cut out meta l4proto { tcp, udp } th dport 7946 drop";
        compose.firewall(&balancer, rules).await?;
        wait_for("gossip to call them all failed", LATE, async || {
            let status = compose.status(&balancer).await;
            status.is_ok_and(|status| {
                let servers = status.0["backends"]["nodes"]["servers"]
                    .as_object()
                    .cloned();
                let servers = servers.unwrap_or_default();
                servers.len() == 3 && servers.values().all(|server| server["gossip"] == "failed")
            })
        })
        .await?;
        let status = compose.status(&balancer).await?;
        assert_eq!(status.servers("ready"), 3, "{}", status.0);
        let age = &status.0["agent"]["members_age_seconds"];
        ensure!(age.is_u64(), "{}", status.0);
        compose.firewall(&balancer, "delete table inet cut").await?;
        wait_for("gossip to find them again", LATE, async || {
            let status = compose.status(&balancer).await;
            status.is_ok_and(|status| {
                let servers = status.0["backends"]["nodes"]["servers"]
                    .as_object()
                    .cloned();
                let servers = servers.unwrap_or_default();
                servers.values().all(|server| server["gossip"] == "alive")
            })
        })
        .await?;
        compose.settled(&balancer, 3, SOON).await?;
        let report = load.stop().await?;
        println!("while gossip was cut: {report:?}");
        ensure!(report.failed() == 0 && report.requests > 0, "{report:?}");
        assert_eq!(compose.status(&balancer).await?.counter("reloads"), 0);
        Ok(())
    });
}

/// After a graceful stop and after a kill. Serf would take the second for an impostor, did its name not have the address
/// in it.
#[test]
fn a_web_server_comes_back_at_another_address() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let balancer = compose.container("balancer").await?;
        compose.settled(&balancer, 3, SOON).await?;
        let webapp = compose.container("webapp").await?;
        let network = compose.network();
        let load = Wrk::on(lab, compose.addr(), Connections::PerRequest).start()?;
        for (how, last) in [("stop", 201), ("kill", 202)] {
            compose.docker(&[how, &webapp]).await?;
            compose.settled(&balancer, 2, SOON).await?;
            compose
                .docker(&["network", "disconnect", &network, &webapp])
                .await?;
            let addr = format!("{NET}.{last}");
            let other = ["--alias", "serf-cluster", "--ip", &addr];
            let connect = [&["network", "connect"][..], &other, &[&network, &webapp]].concat();
            compose.docker(&connect).await?;
            compose.docker(&["start", &webapp]).await?;
            let since = Instant::now();
            compose.settled(&balancer, 3, SOON).await?;
            println!("at another address after a {how}: {:?}", since.elapsed());
        }
        let report = load.stop().await?;
        println!("meanwhile: {report:?}");
        ensure!(report.failed() == 0, "{report:?}");
        assert_eq!(compose.status(&balancer).await?.counter("reloads"), 0);
        Ok(())
    });
}
