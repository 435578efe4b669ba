//! What goes wrong on the way to HAProxy and its file: no request fails, and joins and leaves go on being applied.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::{ControllerOptions, Status};
use integration::mount::Mount;
use integration::scenario::Scenario;
use integration::{Controller, HaproxyKind, Need, TestEnv, test, wait_for};
use serf_rpc::MemberStatus;
use tokio::time::sleep;

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Wrk];
const WITH_MOUNTS: [Need; 3] = [Need::Haproxy(HaproxyKind::Host), Need::Wrk, Need::Mounts];
const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");

/// One leaves and comes back, as HAProxy is told at once whatever else goes wrong.
async fn leaves_and_joins(stage: &Scenario, name: &str) -> Result<()> {
    stage.gossip(name, MemberStatus::Left);
    let others: Vec<_> = stage.names().filter(|other| *other != name).collect();
    stage.haproxy.serves("nodes", &others, SOON).await?;
    stage.gossip(name, MemberStatus::Alive);
    stage.serves_all().await
}

/// Waits for a problem that says this.
async fn complains(stage: &Scenario, words: &str) -> Result<Status> {
    let what = format!("a problem with {words:?}");
    let said = |status: &Status| {
        let problems = status.0["problems"].as_array();
        problems.is_some_and(|problems| {
            problems.iter().any(|problem| {
                problem["problem"]
                    .as_str()
                    .unwrap_or_default()
                    .contains(words)
            })
        })
    };
    stage.controller.settles(&what, SOON, said).await
}

#[test]
fn a_controller_killed_in_the_middle_of_changes() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 6, |options| options).await?;
        let load = stage.load(lab)?;
        let mut rng = fastrand::Rng::with_seed(6);
        for round in 0..10 {
            for number in 3..=6 {
                let left = rng.bool();
                let status = if left {
                    MemberStatus::Left
                } else {
                    MemberStatus::Alive
                };
                stage.gossip(&format!("s{number}"), status);
            }
            sleep(Duration::from_millis(rng.u64(0..(2 + round * 4)))).await;
            stage.controller.kill();
            stage.controller.restart()?;
        }
        for number in 3..=6 {
            stage.gossip(&format!("s{number}"), MemberStatus::Alive);
        }
        stage.serves_all().await?;
        leaves_and_joins(&stage, "s3").await?;
        stage.settled().await?;
        load.nothing_failed("controller killed in the middle of changes")
            .await
    });
}

#[test]
fn a_haproxy_that_somebody_else_reloads_between_plan_and_apply() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 8, |options| options).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        // Each of five twice, or it would count as flapping.
        for round in 0..10 {
            let name = format!("s{}", 3 + round % 5);
            stage.gossip(&name, MemberStatus::Left);
            stage.haproxy.reload().await?;
            let others: Vec<_> = stage.names().filter(|other| *other != name).collect();
            stage.haproxy.serves("nodes", &others, SOON).await?;
            stage.gossip(&name, MemberStatus::Alive);
            stage.haproxy.reload().await?;
            stage.serves_all().await?;
        }
        stage.settled().await?;
        load.nothing_failed("HAProxy reloaded by hand, 20 times")
            .await
    });
}

fn own_template(lab: &TestEnv) -> Result<std::path::PathBuf> {
    let path = lab.path("haproxy.cfg.j2");
    std::fs::copy(BUILT_IN, &path)?;
    Ok(path)
}

fn append(path: &Path, lines: &str) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    Ok(std::fs::write(path, format!("{text}\n{lines}\n"))?)
}

#[test]
fn a_template_that_renders_an_invalid_file() {
    test(&NEEDS, async |lab| {
        let path = own_template(lab)?;
        let stage = Scenario::start(lab, 3, |options| options.template(path.clone())).await?;
        stage.settled().await?;
        let worker = stage.haproxy.worker().await?;
        let load = stage.load(lab)?;
        append(&path, "backend broken\n    no-such-keyword")?;
        stage.controller.reload()?;
        let status = complains(&stage, "no-such-keyword").await?;
        let problems = status.0["problems"].to_string();
        assert!(
            problems.contains("haproxy.cfg.j2:"),
            "the template's line: {problems}"
        );
        leaves_and_joins(&stage, "s3").await?;
        assert_eq!(stage.haproxy.worker().await?, worker, "no reload");
        std::fs::copy(BUILT_IN, &path)?;
        stage.controller.reload()?;
        stage.settled().await?;
        leaves_and_joins(&stage, "s3").await?;
        load.nothing_failed("a template that renders an invalid file")
            .await
    });
}

/// The template chokes on one member: it is left out and named, and everybody else comes and goes.
#[test]
fn a_member_that_makes_the_file_invalid() {
    test(&NEEDS, async |lab| {
        let path = own_template(lab)?;
        append(
            &path,
            "{% for backend in backends %}{% for server in backend.servers if server.name == \"s4\" %}\n\
             backend bad\n    no-such-keyword\n{% endfor %}{% endfor %}",
        )?;
        let mut stage = Scenario::start(lab, 3, |options| options.template(path.clone())).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        stage.add(lab, 4)?;
        stage.add(lab, 5)?;
        let named = |status: &Status| {
            let reason = status.0["quarantined"]["nodes/s4"].as_str();
            reason.is_some_and(|reason| reason.contains("no-such-keyword"))
        };
        stage
            .controller
            .settles("s4 in quarantine", SOON, named)
            .await?;
        let others = ["s1", "s2", "s3", "s5"];
        stage.haproxy.serves("nodes", &others, SOON).await?;
        let others_whole = |status: &Status| status.servers("ready") == 4 && status.is_whole();
        stage
            .controller
            .settles("the others in the file", SOON, others_whole)
            .await?;
        let text = std::fs::read_to_string(stage.haproxy.config())?;
        assert!(
            text.contains("server s5 ") && !text.contains("server s4 "),
            "{text}"
        );
        stage.gossip("s3", MemberStatus::Left);
        stage
            .haproxy
            .serves("nodes", &["s1", "s2", "s5"], SOON)
            .await?;
        stage.gossip("s3", MemberStatus::Alive);
        stage.haproxy.serves("nodes", &others, SOON).await?;
        stage.gossip("s4", MemberStatus::Left);
        let free = |status: &Status| status.0["quarantined"] == serde_json::json!({});
        stage
            .controller
            .settles("nobody in quarantine", SOON, free)
            .await?;
        load.nothing_failed("a member that makes the file invalid")
            .await
    });
}

#[test]
fn a_file_that_passes_the_check_and_cannot_bind() {
    test(&NEEDS, async |lab| {
        let path = own_template(lab)?;
        let stage = Scenario::start(lab, 3, |options| {
            options
                .template(path.clone())
                .sections("[reload]\ntimeout = \"5s\"\n")
        })
        .await?;
        stage.settled().await?;
        let worker = stage.haproxy.worker().await?;
        let taken = std::net::TcpListener::bind((lab.net().ip(9), 80))?;
        let load = stage.load(lab)?;
        append(
            &path,
            &format!(
                "frontend taken\n    mode http\n    bind {}",
                taken.local_addr()?
            ),
        )?;
        stage.controller.reload()?;
        let status = complains(&stage, "HAProxy could not listen on").await?;
        let problems = status.0["problems"].to_string();
        assert!(problems.contains("haproxy.cfg.j2:"), "{problems}");
        leaves_and_joins(&stage, "s3").await?;
        assert_eq!(stage.haproxy.worker().await?, worker, "no reload");
        drop(taken);
        std::fs::copy(BUILT_IN, &path)?;
        stage.controller.reload()?;
        stage.settled().await?;
        leaves_and_joins(&stage, "s3").await?;
        load.nothing_failed("a file that cannot bind").await
    });
}

#[test]
fn a_disk_that_is_full() {
    test(&WITH_MOUNTS, async |lab| {
        let dir = lab.path("small");
        std::fs::create_dir(&dir)?;
        let mount = Mount::small(&dir, 256)?;
        let stage = Scenario::start_in(lab, &dir, 3).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        let filler = dir.join("filler");
        // As much as there is room for.
        std::fs::write(&filler, vec![b'x'; 1 << 20]).err();
        stage.gossip("s3", MemberStatus::Left);
        let status = complains(&stage, "no space left").await?;
        assert_eq!(status.0["file"]["state"], "behind");
        stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        stage.gossip("s3", MemberStatus::Alive);
        stage.serves_all().await?;
        leaves_and_joins(&stage, "s2").await?;
        std::fs::remove_file(&filler)?;
        stage.settled().await?;
        load.nothing_failed("a full disk").await?;
        drop(stage);
        drop(mount);
        Ok(())
    });
}

#[test]
fn a_file_that_cannot_be_replaced() {
    test(&WITH_MOUNTS, async |lab| {
        let stage = Scenario::start(lab, 3, |options| options).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        let busy = Mount::on_itself(&stage.haproxy.config())?;
        leaves_and_joins(&stage, "s3").await?;
        stage.gossip("s3", MemberStatus::Left);
        let status = complains(&stage, "mount").await?;
        assert_eq!(status.0["file"]["state"], "behind");
        drop(busy);
        stage.gossip("s3", MemberStatus::Alive);
        stage.gossip("s2", MemberStatus::Alive);
        stage.serves_all().await?;
        stage.settled().await?;
        load.nothing_failed("a file that is a mount point").await
    });
}

#[test]
fn a_directory_that_nobody_may_write_to() {
    test(&WITH_MOUNTS, async |lab| {
        let dir = lab.path("locked");
        std::fs::create_dir(&dir)?;
        let stage = Scenario::start_in(lab, &dir, 3).await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        let locked = Mount::read_only(&dir)?;
        stage.gossip("s3", MemberStatus::Left);
        let status = complains(&stage, "read-only").await?;
        assert_eq!(status.0["file"]["state"], "behind");
        stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        stage.gossip("s3", MemberStatus::Alive);
        stage.serves_all().await?;
        leaves_and_joins(&stage, "s2").await?;
        drop(locked);
        stage.settled().await?;
        load.nothing_failed("a directory that nobody may write to")
            .await
    });
}

#[test]
fn a_check_command_that_hangs() {
    test(&NEEDS, async |lab| {
        let gate = lab.path("hang");
        let script = format!(
            "if [ -e {0} ]; then sleep 600; fi; exec haproxy -c -q -f \"$0\"",
            gate.display()
        );
        let stage = Scenario::start(lab, 3, |options: ControllerOptions| {
            options
                .check_command(&["sh", "-c", &script, "{path}"])
                .sections("[reload]\ntimeout = \"2s\"\n")
        })
        .await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        std::fs::write(&gate, "")?;
        stage.gossip("s3", MemberStatus::Left);
        stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        complains(&stage, "check command").await?;
        stage.gossip("s3", MemberStatus::Alive);
        stage.serves_all().await?;
        leaves_and_joins(&stage, "s2").await?;
        std::fs::remove_file(&gate)?;
        stage.settled().await?;
        load.nothing_failed("a check command that hangs").await
    });
}

#[test]
fn a_reload_command_that_hangs() {
    test(&NEEDS, async |lab| {
        let path = own_template(lab)?;
        let stage = Scenario::start(lab, 3, |options| {
            options
                .template(path.clone())
                .reload_command(&["sleep", "600"])
                .sections("[reload]\ntimeout = \"2s\"\n")
        })
        .await?;
        stage.settled().await?;
        let load = stage.load(lab)?;
        append(&path, "backend another\n    mode http")?;
        stage.controller.reload()?;
        complains(&stage, "reload").await?;
        leaves_and_joins(&stage, "s3").await?;
        std::fs::copy(BUILT_IN, &path)?;
        stage.controller.reload()?;
        stage.settled().await?;
        load.nothing_failed("a reload command that hangs").await
    });
}

#[test]
fn a_second_controller_on_one_state_directory() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 2, |options| options).await?;
        let front = stage.controller.options().clone();
        let mut second: Controller = front.start()?;
        let status = second.process().exited(SOON).await?;
        assert_eq!(status.code(), Some(1));
        let log = second.log();
        assert!(
            log.contains("another serf-haproxy uses the state directory"),
            "{log}"
        );
        leaves_and_joins(&stage, "s2").await
    });
}

/// Once is as good as running, and not beside a running one.
#[test]
fn once_brings_everything_up_to_date_and_ends() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 3, |options| options).await?;
        let options = stage.controller.options().clone();
        let beside = options.run("once", &[]).await?;
        assert_eq!(beside.status.code(), Some(1));
        let said = String::from_utf8_lossy(&beside.stderr).into_owned();
        assert!(said.contains("another serf-haproxy"), "{said}");
        stage.controller.stop().await?;
        stage.gossip("s3", MemberStatus::Left);
        stage.add(lab, 4)?;
        let once = options.run("once", &[]).await?;
        let said = String::from_utf8_lossy(&once.stderr).into_owned();
        assert_eq!(once.status.code(), Some(0), "{said}");
        stage
            .haproxy
            .serves("nodes", &["s1", "s2", "s4"], Duration::ZERO)
            .await?;
        let text = std::fs::read_to_string(stage.haproxy.config())?;
        assert!(
            text.contains("server s4 ") && !text.contains("server s3 "),
            "{text}"
        );
        drop(stage.agent);
        let without = options.run("once", &[]).await;
        if let Ok(without) = without {
            let said = String::from_utf8_lossy(&without.stderr).into_owned();
            assert_eq!(without.status.code(), Some(1));
            assert!(said.contains("no Serf agent listens"), "{said}");
        }
        Ok(())
    });
}

#[test]
fn servers_come_back_after_a_restart_of_haproxy_without_a_reload() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 3, |options| options).await?;
        stage.settled().await?;
        stage.haproxy.kill().await?;
        stage.haproxy.start().await?;
        stage.serves_all().await?;
        wait_for("a request", SOON, async || {
            integration::web::ask(stage.controller.front())
                .await
                .is_some()
        })
        .await?;
        stage.settled().await?;
        assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
        leaves_and_joins(&stage, "s1").await
    });
}
