//! Members that come and go, replace each other, or lie.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use integration::cluster::{SOON, WEB_PORT, first_file};
use integration::controller::{ControllerOptions, Status, binary};
use integration::fake_agent::node;
use integration::scenario::{Scenario, backend};
use integration::{Controller, FakeAgent, Haproxy, HaproxyKind, Need, Web, test, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serf_rpc::{Member, MemberStatus};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Wrk];

/// How often what was done changed whether a server takes traffic.
async fn changes_of(stage: &mut Scenario, server: &str) -> Result<usize> {
    let output = stage
        .controller
        .options()
        .run("history", &["--format", "json"])
        .await?;
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let touches = |entry: &&serde_json::Value| {
        let changes = entry["changes"].as_array();
        entry["how"] == "runtime"
            && changes.is_some_and(|changes| {
                changes.iter().any(|change| {
                    let change = change.as_str().unwrap_or_default();
                    let action = change.strip_prefix(&format!("nodes/{server}: "));
                    action.is_some_and(|action| action.starts_with("ready") || action == "drain")
                })
            })
    };
    Ok(entries.iter().filter(touches).count())
}

#[test]
fn a_member_that_joins_and_leaves_every_300_ms() {
    test(&NEEDS, async |lab| {
        let penalty = Duration::from_secs(10);
        let configure = |options: ControllerOptions| {
            options.sections("[damping]\nmax_penalty = \"10s\"\n[drain]\ntimeout = \"5s\"\n")
        };
        let mut stage = Scenario::start(lab, 3, configure).await?;
        let worker = stage.haproxy.worker().await?;
        let load = stage.load(lab)?;
        let before = changes_of(&mut stage, "s1").await?;
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            stage.gossip("s1", MemberStatus::Left);
            sleep(Duration::from_millis(150)).await;
            stage.gossip("s1", MemberStatus::Alive);
            sleep(Duration::from_millis(150)).await;
        }
        let steady = Instant::now();
        let changes = changes_of(&mut stage, "s1").await? - before;
        let others = stage.controller.status().await?;
        assert_eq!(
            (others.server("s2"), others.server("s3")),
            ("ready", "ready")
        );
        stage
            .haproxy
            .serves("nodes", &["s1", "s2", "s3"], SOON)
            .await?;
        let back = steady.elapsed();
        println!(
            "{changes} applies changed whether it takes traffic; back {back:?} after it was steady"
        );
        assert!(changes <= 6, "{changes} applies");
        // It doubled a hundred times, and is bounded.
        assert!(back < penalty * 2, "{back:?}");
        assert_eq!(stage.haproxy.worker().await?, worker, "no reload");
        load.nothing_failed("a flapping member").await
    });
}

#[test]
fn two_rolling_deployments_by_graceful_leave() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 4, |options| options).await?;
        let load = stage.load(lab)?;
        for _ in 0..2 {
            for number in 1..=4_u8 {
                let name = format!("s{number}");
                stage.gossip(&name, MemberStatus::Leaving);
                stage.gossip(&name, MemberStatus::Left);
                out_of(&stage, &name).await?;
                let at = usize::from(number) - 1;
                stage.webs[at].stop_listening();
                sleep(Duration::from_millis(300)).await;
                stage.webs[at].listen()?;
                stage.gossip(&name, MemberStatus::Alive);
                stage.serves_all().await?;
            }
        }
        no_address_twice(&stage)?;
        load.nothing_failed("two rolling deployments by leave")
            .await
    });
}

async fn out_of(stage: &Scenario, name: &str) -> Result<()> {
    wait_for(&format!("{name} to be out"), SOON, async || {
        let serving = stage.haproxy.serving("nodes").await;
        serving.is_ok_and(|names| !names.contains(&name.to_owned()))
    })
    .await
}

/// Each generation is killed and replaced by members of other names at the same addresses.
#[test]
fn two_rolling_deployments_by_kill_with_new_names_at_the_old_addresses() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 4, |options| options).await?;
        for generation in 1..=2 {
            for number in 1..=4_u8 {
                let at = usize::from(number) - 1;
                let ip = stage.ip(lab, number);
                let old = stage.webs[at].name().to_owned();
                let new = format!("g{generation}-{number}");
                stage.webs[at].close();
                stage.webs[at] = Web::start(new.clone(), (ip, WEB_PORT).into())?;
                stage.agent.put(backend(&new, ip).build());
                // Gossip learns of a death later than of a birth.
                sleep(Duration::from_millis(300)).await;
                no_address_twice(&stage)?;
                stage.gossip(&old, MemberStatus::Failed);
                // The new name comes in before the old one goes, in the file too.
                stage.serves_all().await?;
                stage.settled().await?;
                no_address_twice(&stage)?;
            }
        }
        let status = stage.controller.status().await?;
        assert_eq!(status.servers("ready"), 4, "{}", status.0);
        Ok(())
    });
}

fn no_address_twice(stage: &Scenario) -> Result<()> {
    let text = std::fs::read_to_string(stage.haproxy.config())?;
    let mut addresses = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(server) = line.strip_prefix("server ") {
            let addr = server.split_whitespace().nth(1).unwrap_or_default();
            assert!(addresses.insert(addr.to_owned()), "twice: {line}\n{text}");
        }
    }
    Ok(())
}

/// Whatever a member says of itself: it is quarantined, alone, and nothing of it reaches the file.
#[test]
fn hostile_members() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let debug = |options: ControllerOptions| options.arg("--log-level=debug");
        let mut stage = Scenario::start(lab, 2, debug).await?;
        let written = |status: &Status| status.is_whole();
        stage.controller.settles("the file", SOON, written).await?;
        let before = std::fs::read(stage.haproxy.config())?;
        let ip = stage.ip(lab, 50);
        let names: [&[u8]; 12] = [
            b"a b",
            b"x\n  server evil 127.0.0.1:1",
            b"x; quit",
            b"\"quoted\"",
            b"'single'",
            b"x # comment",
            b"$HOME",
            b"<script>alert(1)</script>",
            b"\x1b[2J\x1b]0;owned\x07",
            b"\xff\xfe",
            "\u{202e}txet\u{2066}".as_bytes(),
            b"x\n<0>EMERG forged: \xc2\x9b31m",
        ];
        for name in names {
            stage.agent.put(backend(name, ip).build());
        }
        stage.agent.put(backend("n".repeat(128), ip).build());
        let tag = |name: &str, key: &str, value: &[u8]| -> Member {
            backend(name, ip).tag(key, value).build()
        };
        let tagged = [
            tag("t1", "port", b"3000 check\nserver evil 127.0.0.1:1"),
            tag("t2", "port", b"99999"),
            tag("t3", "port", b"+80"),
            backend("t4", lab.net().ip(1)).tag("port", "7373").build(),
            tag("t5", "weight", b"257"),
            tag("t6", "weight", b"1;shutdown"),
            tag("t7", "state", b"ready\ndisable server nodes/s1"),
            tag("t8", "weight", &[b'9'; 300]),
            backend("t9", [169, 254, 1, 1].into()).build(),
        ];
        let count = tagged.len();
        for member in tagged {
            stage.agent.put(member);
        }
        let quarantined = |status: &Status| {
            status.0["quarantined"]
                .as_object()
                .map_or(0, serde_json::Map::len)
        };
        let wanted = names.len() + 1 + count;
        let status = stage
            .controller
            .settles("all of them in quarantine", SOON, |status| {
                quarantined(status) == wanted
            });
        let status = status.await?;
        assert_eq!(status.servers("ready"), 2);
        sleep(Duration::from_millis(500)).await;
        assert_eq!(std::fs::read(stage.haproxy.config())?, before, "the file");
        stage.serves_all().await?;
        let shown = stage.controller.options().run("status", &[]).await?;
        let controls = |byte: &u8| byte.is_ascii_control() && *byte != b'\n';
        assert!(!shown.stdout.iter().any(controls), "safe on a terminal");
        // The arrow before an advice is its own.
        let text = String::from_utf8(shown.stdout)?;
        assert!(text.replace('→', "").is_ascii(), "{text}");
        let log = stage.controller.log();
        let of_names = log.lines().filter(|line| line.contains("member="));
        assert!(of_names.count() >= wanted, "{log}");
        let harmful = |c: &char| c.is_control() && *c != '\n' || "\u{202e}\u{2066}".contains(*c);
        assert_eq!(log.chars().find(harmful), None, "safe in a log: {log}");
        assert!(!log.contains("\n<0>"), "nor is a line of it forged: {log}");
        // Alive and in order again, one of them is an ordinary server.
        stage.agent.put(backend("t1", ip).build());
        let web = Web::start("t1", (ip, WEB_PORT).into())?;
        stage.webs.push(web);
        stage.serves_all().await
    });
}

/// Members that exist and are nobody's servers.
const CROWD: u16 = 1000;
/// How long they change.
const FLOOD: Duration = Duration::from_secs(5);

/// Everything that is said of members while hundreds of them change all the time: the log stays small, and tells so.
#[test]
fn a_crowd_that_changes_fills_no_disk() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let debug = |options: ControllerOptions| options.arg("--log-level=debug");
        let stage = Scenario::start(lab, 1, debug).await?;
        let start = Instant::now();
        let mut changes = 0;
        while start.elapsed() < FLOOD {
            changes += 1;
            for number in 0..CROWD {
                let member = node(format!("m{number}"), [10, 9, 0, 1].into());
                stage
                    .agent
                    .put(member.tag("n", changes.to_string()).build());
            }
            sleep(Duration::from_millis(100)).await;
        }
        let log = || stage.controller.log();
        let lines = log().lines().count();
        println!("{changes} changes of {CROWD} members left {lines} lines");
        assert!(lines < 6000, "{lines}");
        wait_for("what was left out", Duration::from_secs(15), async || {
            log().contains("more lines were left out")
        })
        .await
    });
}

/// Whoever takes the log of a service may stand still, and its pipe is full then.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        options.write()?;
        let mut command = Command::new(binary("serf-haproxy")?);
        command.arg("run").arg("-c").arg(options.path());
        command.arg("--log-level=debug").env("TMPDIR", lab.dir());
        // The harness has it, and the controller would take it for a setting.
        command.env_remove("SERF_HAPROXY_BIN_DIR");
        command.stderr(Stdio::piped());
        let mut controller = command.kill_on_drop(true).spawn()?;
        first_file(&haproxy).await?;
        haproxy.start().await?;
        for number in 0..CROWD {
            let member = node(format!("m{number}"), [10, 9, 0, 1].into());
            agent.put(member.build());
        }
        // A thousand lines of the members are more than a pipe holds.
        sleep(Duration::from_secs(1)).await;
        let ip = lab.net().ip(101);
        let _web = Web::start("s1", (ip, WEB_PORT).into())?;
        agent.put(backend("s1", ip).build());
        haproxy.serves("nodes", &["s1"], SOON).await?;
        let pid = controller.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).context("a process")?;
        kill_process(pid, Signal::TERM)?;
        let ended = tokio::time::timeout(SOON, controller.wait()).await??;
        assert!(ended.success(), "{ended}");
        Ok(())
    });
}
