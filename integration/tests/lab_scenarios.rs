//! The container lab under load: web servers by `--scale`, killed, stopped and restarted; supervised processes killed;
//! the balancer itself killed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::compose::Compose;
use integration::wrk::{Connections, Wrk};
use integration::{Lab, Need, test_alone, wait_for};

const NEEDS: [Need; 2] = [Need::Compose, Need::Wrk];
const SOON: Duration = Duration::from_secs(20);
/// Longer than any scenario; each is ended when its scenario is.
const LOAD: Duration = Duration::from_secs(240);

/// Both ways of asking, at once.
struct Load([Wrk; 2]);

impl Load {
    fn start(lab: &Lab, compose: &Compose) -> Result<Self> {
        let on = |connections| {
            Wrk::on(lab, compose.addr(), connections)
                .duration(LOAD)
                .start()
        };
        Ok(Self([
            on(Connections::KeepAlive)?,
            on(Connections::PerRequest)?,
        ]))
    }

    async fn nothing_failed(self, what: &str) -> Result<()> {
        for wrk in self.0 {
            let report = wrk.stop().await?;
            println!("{what}: {report:?}");
            ensure!(
                report.failed() == 0 && report.requests > 0,
                "{what}: {report:?}"
            );
        }
        Ok(())
    }
}

async fn reloads(compose: &Compose, balancer: &str) -> Result<u64> {
    let status = compose.status(balancer).await?;
    Ok(status.counter("reloads"))
}

#[test]
fn web_servers_come_and_go_and_nobody_notices() {
    test_alone(&NEEDS, async |lab| {
        let mut compose = Compose::up(lab.dir(), 1).await?;
        let balancer = compose.container("balancer").await?;
        compose.settled(&balancer, 1, SOON).await?;
        let load = Load::start(lab, &compose)?;
        compose.scale(10).await?;
        compose.settled(&balancer, 10, SOON).await?;
        compose.scale(4).await?;
        compose.settled(&balancer, 4, SOON).await?;

        let webapps = compose.containers("webapp").await?;
        let [stopped, killed, ..] = &webapps[..] else {
            anyhow::bail!("{webapps:?}");
        };
        let since = Instant::now();
        compose.docker(&["stop", stopped]).await?;
        println!("docker stop: {:?}", since.elapsed());
        let code = ["inspect", "--format", "{{.State.ExitCode}}", stopped];
        assert_eq!(compose.docker(&code).await?.trim(), "0");
        compose.settled(&balancer, 3, SOON).await?;
        compose.docker(&["kill", killed]).await?;
        compose.settled(&balancer, 2, SOON).await?;
        compose.docker(&["start", stopped, killed]).await?;
        compose.settled(&balancer, 4, SOON).await?;
        for webapp in &webapps {
            compose.docker(&["restart", webapp]).await?;
            compose.settled(&balancer, 4, SOON).await?;
        }
        compose.scale(2).await?;
        compose.settled(&balancer, 2, SOON).await?;
        load.nothing_failed("1, 10, 4, a stop, a kill, all restarted, 2")
            .await?;
        assert_eq!(reloads(&compose, &balancer).await?, 0);
        Ok(())
    });
}

#[test]
fn what_is_supervised_comes_back() {
    test_alone(&NEEDS, async |lab| {
        let mut compose = Compose::up(lab.dir(), 3).await?;
        let balancer = compose.container("balancer").await?;
        compose.settled(&balancer, 3, SOON).await?;
        let webapp = compose.container("webapp").await?;
        let load = Load::start(lab, &compose)?;
        for (container, service) in [
            (&balancer, "serf"),
            (&balancer, "serf-haproxy"),
            (&webapp, "serf"),
            (&webapp, "webapp"),
        ] {
            for _ in 0..kills() {
                killed(&compose, container, service).await?;
            }
            compose.settled(&balancer, 3, SOON).await?;
        }
        load.nothing_failed("all but haproxy killed").await?;
        for _ in 0..kills() {
            killed(&compose, &balancer, "haproxy").await?;
            compose.settled(&balancer, 3, SOON).await?;
        }
        assert_eq!(reloads(&compose, &balancer).await?, 0);

        compose.start_balancer2().await?;
        let other = compose.container("balancer2").await?;
        compose.settled(&other, 3, SOON).await?;
        wait_for("the same file", SOON, async || {
            let of = async |balancer: &str| {
                let file = ["cat", "/etc/haproxy/haproxy.cfg"];
                compose.exec(balancer, &file).await
            };
            matches!((of(&balancer).await, of(&other).await), (Ok(one), Ok(two)) if one == two)
        })
        .await?;

        // It cannot be answered meanwhile; what is asked of the balancer is to come back under it.
        let _load = Load::start(lab, &compose)?;
        compose.docker(&["kill", &balancer]).await?;
        compose.docker(&["start", &balancer]).await?;
        let since = Instant::now();
        compose.settled(&balancer, 3, SOON).await?;
        println!("the balancer has its servers after {:?}", since.elapsed());
        Ok(())
    });
}

/// How often each process is killed: KILLS=10 is the campaign.
fn kills() -> usize {
    let kills = std::env::var("KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(1)
}

/// Kills a supervised process, and waits until it is back.
async fn killed(compose: &Compose, container: &str, service: &str) -> Result<()> {
    let dir = format!("/service/{service}");
    let pid = async || {
        let stat = compose
            .exec(container, &["s6-svstat", "-o", "pid", &dir])
            .await?;
        Ok::<_, anyhow::Error>(stat.trim().to_owned())
    };
    let before = pid().await?;
    let since = Instant::now();
    compose.exec(container, &["s6-svc", "-k", &dir]).await?;
    wait_for(
        &format!("{service} again"),
        SOON,
        async || matches!(pid().await, Ok(now) if now != before && now != "-1"),
    )
    .await?;
    println!("{service} is back after {:?}", since.elapsed());
    Ok(())
}
