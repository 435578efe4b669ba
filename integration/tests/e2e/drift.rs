//! Another hand on HAProxy: what it changes is changed back, said and written down, and no request fails.

use std::time::Duration;

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, test, wait_for};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Wrk];
const OFTEN: &str = "[drift]\ninterval = \"1s\"\n";

async fn value(stage: &Scenario, server: &str, column: &str) -> Result<String> {
    let stat = stage.haproxy.stat().await?;
    let line = stat
        .iter()
        .find(|line| line.get("pxname") == "nodes" && line.get("svname") == server);
    Ok(line.map_or_else(String::new, |line| line.get(column).to_owned()))
}

/// Takes s4 away, which HAProxy refuses while it has connections, be they idle: nobody has asked anything yet.
async fn deleted(stage: &mut Scenario) -> Result<()> {
    // The controller would have it back between the two commands.
    stage.controller.process().signal(Signal::STOP)?;
    let haproxy = &stage.haproxy;
    haproxy.command("set server nodes/s4 state maint").await?;
    wait_for("s4 to be deleted", SOON, async || {
        let reply = haproxy.command("del server nodes/s4").await;
        // A refusal speaks of servers that can be deleted.
        reply.is_ok_and(|reply| reply.contains("Server deleted"))
    })
    .await?;
    stage.controller.process().signal(Signal::CONT)?;
    wait_for("s4 to be missed", SOON, async || {
        stage.controller.log().contains("nodes/s4 was deleted")
    })
    .await?;
    stage.serves_all().await
}

#[test]
fn what_another_hand_changes_is_changed_back() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 4, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        deleted(&mut stage).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        let addr = |number| format!("{}:3000", stage.ip(lab, number));
        let (first, second) = (addr(1), addr(2));
        let hands = [
            ("set server nodes/s1 weight 7", "nodes/s1 got weight 7"),
            (
                "set server nodes/s2 state maint",
                "nodes/s2 was set to maint",
            ),
            (
                "set server nodes/s3 state drain",
                "nodes/s3 was set to drain",
            ),
            (
                &format!("set server nodes/s2 addr {} port 3000", stage.ip(lab, 1)),
                &format!("nodes/s2 was moved to {first}"),
            ),
            (
                &format!(
                    "add server nodes/stranger {second}; set server nodes/stranger state ready"
                ),
                "nodes/stranger was added",
            ),
        ];
        for (number, (command, found)) in (2..).zip(hands) {
            let repairs = format!("repair {number} after {command:?}");
            println!("{command}: {}", stage.haproxy.command(command).await?);
            stage
                .controller
                .settles(&repairs, SOON, |status| status.counter("repairs") >= number)
                .await?;
            stage.serves_all().await?;
            assert!(stage.controller.log().contains(found), "{found}");
            let entries = stage.controller.history().await?;
            let written = serde_json::to_string(&entries)?;
            assert!(
                written.contains(&format!("somebody else: {found}")),
                "{written}"
            );
        }
        assert_eq!(value(&stage, "s1", "weight").await?, "1");
        assert_eq!(value(&stage, "s2", "addr").await?, second);
        let status = stage.controller.status().await?;
        assert_eq!(status.counter("reloads"), 0);
        load.nothing_failed("another hand on HAProxy").await
    });
}

#[test]
fn repairs_that_do_not_hold_end_in_one_reload_and_then_come_seldom() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 3, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        let until = Instant::now() + Duration::from_secs(25);
        while Instant::now() < until {
            stage
                .haproxy
                .command("set server nodes/s1 weight 7")
                .await
                .ok();
            sleep(Duration::from_millis(200)).await;
        }
        let status = stage.controller.status().await?;
        let repairs = status.counter("repairs");
        assert_eq!(status.counter("reloads"), 1, "{status:?}");
        assert!((4..=15).contains(&repairs), "{repairs} repairs");
        let recovered = |status: &Status| status.is_whole();
        stage
            .controller
            .settles("the last repair", SOON * 3, recovered)
            .await?;
        wait_for("the weight", SOON * 3, async || {
            value(&stage, "s1", "weight")
                .await
                .is_ok_and(|weight| weight == "1")
        })
        .await?;
        println!(
            "{repairs} repairs and {} reload in 25 s",
            status.counter("reloads")
        );
        load.nothing_failed("a hand that does not rest").await
    });
}

#[test]
fn a_worker_of_somebody_elses_making_is_written_down() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 2, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        stage.haproxy.reload().await?;
        wait_for("an entry", SOON, async || {
            stage
                .controller
                .log()
                .contains("somebody else reloaded or restarted HAProxy")
        })
        .await?;
        let entries = serde_json::to_string(&stage.controller.history().await?)?;
        assert!(entries.contains("\"found\""), "{entries}");
        assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
        load.nothing_failed("HAProxy reloaded by somebody else")
            .await
    });
}

#[test]
fn a_file_that_somebody_else_puts_in_the_place_of_ours_is_left_alone_and_said_once() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 1, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        let worker = stage.haproxy.worker().await?;
        let foreign = "# tended by hand\nglobal\n";
        std::fs::write(stage.haproxy.config(), foreign)?;
        let problem = |status: &Status| {
            status.0["problems"]
                .to_string()
                .contains("was not written by serf-haproxy and is not overwritten")
        };
        stage
            .controller
            .settles("the problem", SOON, problem)
            .await?;
        let history = stage.controller.history().await?.len();
        stage.add(lab, 2)?;
        stage.serves_all().await?;
        sleep(Duration::from_secs(4)).await;

        let log = stage.controller.log();
        assert_eq!(
            log.matches("was not written by serf-haproxy and is not overwritten")
                .count(),
            1,
            "{log}"
        );
        assert!(!log.contains("writing it again"), "{log}");
        let grown: Vec<_> = stage.controller.history().await?.split_off(history);
        assert!(
            grown.iter().all(|entry| entry["how"] == "runtime"),
            "{grown:?}"
        );
        assert_eq!(std::fs::read_to_string(stage.haproxy.config())?, foreign);
        assert_eq!(stage.haproxy.worker().await?, worker);

        std::fs::remove_file(stage.haproxy.config())?;
        stage.settled().await
    });
}
