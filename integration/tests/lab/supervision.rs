//! The container lab: each supervised process killed in its container.

use std::time::{Duration, Instant};

use anyhow::Result;
use integration::compose::{Compose, is_campaign};
use integration::wrk::Loads;
use integration::{Need, test_alone, wait_for};

const NEEDS: [Need; 2] = [Need::Compose, Need::Wrk];
const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_is_killed_comes_back() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let webapp = compose.container("webapp").await?;
        let load = Loads::start(lab, compose.addr())?;
        for (container, service) in [
            (compose.balancer(), "serf"),
            (compose.balancer(), "serf-haproxy"),
            (compose.balancer(), "haproxy/log"),
            (&webapp, "serf"),
            (&webapp, "webapp"),
            (&webapp, "webapp/log"),
        ] {
            // The controller counts from its own start.
            compose.never_reloaded().await?;
            kill_often(&compose, container, service).await?;
            compose.settled(3).await?;
        }
        load.nothing_failed("all but haproxy killed").await?;
        kill_often(&compose, compose.balancer(), "haproxy").await?;
        compose.settled(3).await?;
        compose.never_reloaded().await?;
        for container in [compose.balancer(), &webapp] {
            orphans_are_reaped(&compose, container).await?;
        }
        Ok(())
    });
}

/// Kills a supervised process once, in a campaign ten times, and waits each time until it is back and says that it is
/// ready.
async fn kill_often(compose: &Compose, container: &str, service: &str) -> Result<()> {
    let kills = if is_campaign() { 10 } else { 1 };
    let dir = format!("/service/{service}");
    let (mut back, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        let stat = async || {
            let stat = ["s6-svstat", "-o", "pid,ready", &dir];
            compose.exec(container, &stat).await
        };
        let before = stat().await?;
        let before = before.split(' ').next().unwrap_or_default().to_owned();
        let since = Instant::now();
        compose.exec(container, &["s6-svc", "-k", &dir]).await?;
        let mut running = None;
        let notifies = !service.ends_with("/log");
        wait_for(&format!("{service} again"), SOON, async || {
            let Ok(stat) = stat().await else {
                return false;
            };
            let mut words = stat.split_whitespace();
            if words.next().is_none_or(|pid| pid == before || pid == "-1") {
                return false;
            }
            running.get_or_insert_with(|| since.elapsed());
            !notifies || words.next() == Some("true")
        })
        .await?;
        ready.push(since.elapsed());
        back.extend(running);
    }
    println!(
        "{service} killed {kills} times: runs again after {:?}, is ready after {:?} at most",
        back.iter().max(),
        ready.iter().max()
    );
    Ok(())
}

/// A process whose parent has gone ends, and nothing is left of it.
async fn orphans_are_reaped(compose: &Compose, container: &str) -> Result<()> {
    compose
        .exec(container, &["sh", "-c", "sleep 0.1 & :"])
        .await?;
    let zombies = async || {
        let states = ["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || :"];
        let states = compose.exec(container, &states).await?;
        let zombies = states.lines().filter(|stat| stat.contains(") Z "));
        Ok::<_, anyhow::Error>(zombies.count())
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    wait_for("no zombies", SOON, async || {
        zombies().await.is_ok_and(|zombies| zombies == 0)
    })
    .await?;
    println!("{container}: no zombie");
    Ok(())
}
