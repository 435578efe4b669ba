//! HAProxy as a child of the controller: started, watched, reloaded, taken over and ended softly.

use std::time::Instant;

use anyhow::Result;
use integration::cluster::SOON;
use integration::process::{is_alive, signal_pid};
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, TestEnv, test, wait_for};
use rustix::process::Signal;
use serf_rpc::MemberStatus;

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Wrk];

async fn start(lab: &TestEnv, webs: u8) -> Result<Scenario> {
    let stage = Scenario::start(lab, webs, |options| options.spawn_haproxy()).await?;
    stage.settled().await?;
    Ok(stage)
}

#[test]
fn joins_and_leaves_go_through_the_runtime_api_and_a_new_template_through_a_reload() {
    test(&NEEDS, async |lab| {
        let template = lab.path("haproxy.cfg.j2");
        let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");
        std::fs::copy(built_in, &template)?;
        let configured = Scenario::start(lab, 3, |options| {
            options.spawn_haproxy().template(template.clone())
        });
        let mut stage = configured.await?;
        stage.settled().await?;
        let master = stage.controller.options().own_haproxy()?;
        let load = stage.load(lab)?;
        stage.gossip("s3", MemberStatus::Left);
        stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        let text = std::fs::read_to_string(&template)?;
        std::fs::write(
            &template,
            format!("{text}\nbackend another\n    mode http\n"),
        )?;
        stage.controller.reload()?;
        let reloaded = |status: &integration::controller::Status| status.counter("reloads") == 1;
        stage.controller.settles("a reload", SOON, reloaded).await?;
        stage.gossip("s3", MemberStatus::Alive);
        stage.serves_all().await?;
        assert_eq!(stage.controller.options().own_haproxy()?, master);
        load.nothing_failed("HAProxy as a child").await
    });
}

#[test]
fn a_killed_haproxy_is_started_again_with_the_current_servers() {
    test(&NEEDS, async |lab| {
        let mut stage = start(lab, 3).await?;
        stage.gossip("s3", MemberStatus::Left);
        stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        stage.settled().await?;
        let front = stage.controller.front();
        for round in 0..3 {
            let master = stage.controller.options().own_haproxy()?;
            signal_pid(master, Signal::KILL)?;
            let killed = Instant::now();
            wait_for("another master", SOON, async || {
                let now = stage.controller.options().own_haproxy();
                now.is_ok_and(|now| now != master && is_alive(now))
            })
            .await?;
            wait_for("a request", SOON, async || {
                integration::web::ask(front).await.is_some()
            })
            .await?;
            println!(
                "round {round}: killed and serving again after {:?}",
                killed.elapsed()
            );
            stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        }
        stage.settled().await?;
        assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
        Ok(())
    });
}

#[test]
fn a_killed_controller_leaves_haproxy_alone_and_the_next_one_takes_it_over() {
    test(&NEEDS, async |lab| {
        let mut stage = start(lab, 3).await?;
        let master = stage.controller.options().own_haproxy()?;
        let load = stage.load(lab)?;
        stage.controller.kill();
        stage.controller.restart()?;
        stage.gossip("s3", MemberStatus::Left);
        stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        stage.settled().await?;
        assert_eq!(stage.controller.options().own_haproxy()?, master);
        assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
        load.nothing_failed("a killed controller with HAProxy as a child")
            .await?;
        stage.controller.stop().await?;
        assert!(
            !is_alive(master),
            "the one that was taken over is ended as well"
        );
        Ok(())
    });
}
