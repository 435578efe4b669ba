//! The container lab under load: web servers come and go by `--scale`, are killed, stopped and restarted.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use integration::compose::{Compose, is_campaign};
use integration::measure::median;
use integration::wrk::Loads;
use integration::{Need, test_alone, web};
use serde_json::Value;

const NEEDS: [Need; 2] = [Need::Compose, Need::Wrk];
/// What `docker stop` grants.
const GRACE: Duration = Duration::from_secs(10);

#[test]
fn web_servers_come_and_go_and_nobody_notices() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 1).await?;
        let load = Loads::start(lab, compose.addr())?;
        compose.scale(10).await?;
        compose.settled(10).await?;
        first_requests(&compose, "nine at once").await?;
        let all = if is_campaign() { 10 } else { 4 };
        compose.scale(all).await?;
        compose.settled(all).await?;

        let webapps = compose.containers("webapp").await?;
        let [stopped, killed, ..] = &webapps[..] else {
            anyhow::bail!("{webapps:?}");
        };
        stop(&compose, stopped).await?;
        compose.settled(all - 1).await?;
        compose.docker(&["kill", killed]).await?;
        compose.settled(all - 2).await?;
        compose.docker(&["start", stopped, killed]).await?;
        compose.settled(all).await?;
        for webapp in &webapps {
            compose.docker(&["restart", webapp]).await?;
            compose.settled(all).await?;
        }
        first_requests(&compose, "one by one").await?;
        compose.scale(2).await?;
        compose.settled(2).await?;
        load.nothing_failed(&format!("1, 10, {all}, a stop, a kill, all restarted, 2"))
            .await?;
        compose.never_reloaded().await
    });
}

/// Requests that take two seconds, at a web server that is stopped, and then at a balancer that is.
#[test]
fn who_is_stopped_finishes_its_requests() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 2).await?;
        let webapps = compose.containers("webapp").await?;
        for webapp in &webapps {
            let slow = web::post(compose.web(webapp).await?, "/delay", r#"{"ms": 2000}"#).await;
            assert_eq!(slow.map(|(status, _)| status), Some(204));
        }
        // While the first is stopped, each of the two has a request.
        for stopped in [&*webapps[0], compose.balancer()] {
            let requests = tokio::spawn({
                let (one, two) = (web::get(compose.addr(), "/"), web::get(compose.addr(), "/"));
                async { tokio::join!(one, two) }
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop(&compose, stopped).await?;
            let (one, two) = requests.await?;
            let (Some((200, one)), Some((200, two))) = (&one, &two) else {
                anyhow::bail!("{one:?} {two:?}");
            };
            if stopped != compose.balancer() {
                let [one, two] = [one, two].map(|body| serde_json::from_str::<Value>(body));
                assert_ne!(one?["host"], two?["host"]);
            }
            println!("two requests of 2 s were answered while {stopped} was stopped");
        }
        Ok(())
    });
}

/// `docker stop`: all has ended by itself, and in time.
async fn stop(compose: &Compose, container: &str) -> Result<()> {
    let since = Instant::now();
    compose.docker(&["stop", container]).await?;
    let took = since.elapsed();
    println!("docker stop of {container}: {took:?}");
    let code = compose.inspect(container, "{{.State.ExitCode}}").await?;
    assert_eq!(code, "0", "{container} did not end by itself");
    ensure!(took < GRACE, "{took:?}");
    Ok(())
}

/// How long after the start of its container each application listened, and answered its first request.
async fn first_requests(compose: &Compose, what: &str) -> Result<()> {
    let (mut listened, mut served) = (Vec::new(), Vec::new());
    for webapp in compose.containers("webapp").await? {
        let started = compose.started(&webapp).await?;
        let listens = compose.said(&webapp, "listening on", UNIX_EPOCH).await?;
        let serves = compose.said(&webapp, "first request served", listens);
        // Docker may call the container started only after it listens.
        let since = |time: SystemTime| time.duration_since(started).unwrap_or_default();
        served.push(since(serves.await?));
        listened.push(since(listens));
    }
    println!(
        "{what}: after the container's start the application listened at {:?} (at most {:?}), \
         and served its first request at {:?} (at most {:?}), medians of {}",
        median(listened.iter().copied()),
        listened.iter().max(),
        median(served.iter().copied()),
        served.iter().max(),
        served.len()
    );
    Ok(())
}
