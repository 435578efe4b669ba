//! The container lab: its balancer killed and started again under load, and a second one.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use integration::compose::Compose;
use integration::wrk::Loads;
use integration::{Need, test_alone, wait_for, web};
use serde_json::Value;

const NEEDS: [Need; 2] = [Need::Compose, Need::Wrk];
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_second_balancer_comes_to_the_same_file() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 3).await?;
        let one = compose.balancer();
        let two = compose.start_balancer2().await?;
        compose.settles(&two, 3, SOON).await?;
        compose.scale(5).await?;
        for balancer in [one, &two] {
            compose.settles(balancer, 5, SOON).await?;
        }
        let file = async |balancer: &str| {
            let file = ["cat", "/etc/haproxy/haproxy.cfg"];
            compose.exec(balancer, &file).await
        };
        wait_for("the same file", SOON, async || {
            matches!((file(one).await, file(&two).await), (Ok(one), Ok(two)) if one == two)
        })
        .await?;
        let servers = file(one).await?.matches("\n    server ").count();
        println!("two balancers, one file, byte for byte, with {servers} servers");
        assert_eq!(servers, 5);
        Ok(())
    });
}

/// One web server leaves and another comes while it is dead.
#[test]
fn a_balancer_that_is_killed_comes_back_with_the_servers_of_now() {
    test_alone(&NEEDS, async |lab| {
        let compose = Compose::up(lab.dir(), 4).await?;
        let mut webapps = compose.containers("webapp").await?;
        let comes = webapps.pop().unwrap_or_default();
        let leaves = webapps.remove(0);
        compose.docker(&["stop", &comes]).await?;
        compose.settled(3).await?;

        let load = Loads::start(lab, compose.addr())?;
        compose.docker(&["kill", compose.balancer()]).await?;
        compose.docker(&["start", &comes]).await?;
        compose.docker(&["stop", &leaves]).await?;
        compose.docker(&["start", compose.balancer()]).await?;
        let started = compose.started(compose.balancer()).await?;
        let wanted = hosts(&compose, webapps.iter().chain([&comes])).await?;
        let mut first = None;
        wait_for("the servers of now", SOON, async || {
            let mut answers = BTreeSet::new();
            for _ in 0..2 * wanted.len() {
                let Some(host) = answering(&compose).await else {
                    return false;
                };
                first.get_or_insert_with(SystemTime::now);
                answers.insert(host);
            }
            answers == wanted
        })
        .await?;
        let since = |time: SystemTime| time.duration_since(started);
        println!(
            "the balancer is back: its first answer came {:?}, one of each server of now and of no other {:?} after its start",
            first.map(since).transpose()?,
            since(SystemTime::now())?
        );
        compose.settled(3).await?;
        compose.never_reloaded().await?;
        // While it was dead they failed, by nature.
        for report in load.stop().await? {
            println!("meanwhile: {report:?}");
            ensure!(report.bad_status == 0, "{report:?}");
        }
        Ok(())
    });
}

async fn hosts(
    compose: &Compose,
    webapps: impl IntoIterator<Item = &String>,
) -> Result<BTreeSet<String>> {
    let mut hosts = BTreeSet::new();
    for webapp in webapps {
        hosts.insert(compose.inspect(webapp, "{{.Config.Hostname}}").await?);
    }
    Ok(hosts)
}

async fn answering(compose: &Compose) -> Option<String> {
    let greeting = web::ask(compose.addr()).await?;
    let greeting: Value = serde_json::from_str(&greeting).ok()?;
    Some(greeting["host"].as_str()?.to_owned())
}
