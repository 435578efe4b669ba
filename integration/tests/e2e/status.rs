//! What `status` says when something is wrong, within five seconds, and that it says nothing false.

use std::time::Duration;

use anyhow::{Context, ensure};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::fake_agent::node;
use integration::scenario::Scenario;
use integration::{Balancer, HaproxyKind, Need, Node, test, wait_for};
use rustix::process::Signal;
use serf_rpc::MemberStatus;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::documented::{documented, said};

const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");
const REAL: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
const NEEDS: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
const TRIXIE: [Need; 1] = [Need::Haproxy(HaproxyKind::Trixie)];
/// What is wrong is said within five seconds; the rest is for a machine that does other things too.
const SAID: Duration = Duration::from_secs(10);

/// The sentence of the problem that concerns this; empty where there is none.
fn problem<'a>(status: &'a Status, what: &str) -> &'a str {
    let problems = status.0["problems"].as_array();
    let found = problems.into_iter().flatten().find(|it| it["what"] == what);
    found
        .and_then(|problem| problem["problem"].as_str())
        .unwrap_or_default()
}

fn all_is_well(status: &Status) -> bool {
    status.0["problems"] == serde_json::json!([]) && status.is_whole()
}

fn backend<'a>(status: &'a Status, figure: &str) -> &'a serde_json::Value {
    &status.0["backends"]["nodes"][figure]
}

#[test]
fn an_agent_that_is_silent_gone_or_refuses_the_key_is_a_problem_with_what_to_do() {
    test(&REAL, async |lab| {
        let key = lab.secret("rpc.key", "right")?;
        let agent = integration::Agent::on(lab, "balancer", 1)
            .tag("role", "balancer")
            .rpc_auth("right");
        let agent = agent.start().await?;
        let lines = format!("auth_key_file = {key:?}\nresync = \"1s\"");
        let here = "networks = [\"127.0.0.0/8\"]";
        let mut balancer = Balancer::start_beside(lab, HaproxyKind::Host, agent, |options| {
            Ok(options.serf(&lines).backend(here))
        })
        .await?;
        let node = Node::start(lab, 1).await?;
        node.join(&balancer.agent).await?;
        balancer.serves(&["s1"]).await?;
        let controller = &mut balancer.controller;
        controller.settles("all well", SOON, all_is_well).await?;
        assert_eq!(said(controller, "status").await?.1, 0);

        // Read every second, and changed long ago.
        sleep(Duration::from_millis(3500)).await;
        let status = controller.status().await?;
        let age = |name: &str| status.0["agent"][name].as_u64().context("an age");
        ensure!(age("members_age_seconds")? <= 2, "{}", status.0["agent"]);
        ensure!(age("changed_age_seconds")? >= 3, "{}", status.0["agent"]);

        balancer.agent.process().signal(Signal::STOP)?;
        let silent = |status: &Status| problem(status, "agent").contains("does not answer");
        let status = controller.settles("a silent agent", SAID, silent).await?;
        assert_eq!(status.0["agent"]["state"], "silent");
        assert_eq!(status.server("s1"), "ready", "nobody is taken out for it");
        let (text, code) = said(controller, "status").await?;
        assert_eq!(code, 1);
        documented("The Serf agent stands still", "serf-haproxy status", &text)?;
        balancer.agent.process().signal(Signal::CONT)?;
        controller.settles("all well", SOON, all_is_well).await?;

        balancer.agent.kill();
        let gone = |status: &Status| problem(status, "agent").starts_with("no Serf agent listens");
        controller
            .settles("an agent that is gone", SAID, gone)
            .await?;
        let (text, code) = said(controller, "status").await?;
        assert_eq!(code, 1);
        documented("The Serf agent has stopped", "serf-haproxy status", &text)?;

        std::fs::write(&key, "wrong")?;
        controller.restart()?;
        balancer.agent.restart().await?;
        let refused = |status: &Status| problem(status, "agent").contains("accept the key");
        let status = controller.settles("a refused key", SOON, refused).await?;
        assert_eq!(status.server("s1"), "ready");
        assert!(status.of_server("s1", "why").starts_with("as before"));
        let (text, code) = said(controller, "status").await?;
        assert_eq!(code, 1);
        documented("The agent refuses the key", "serf-haproxy status", &text)?;
        ensure!(!controller.log().contains("split of gossip"));
        Ok(())
    });
}

#[test]
fn a_web_server_that_stops_is_down_and_a_backend_without_any_is_a_problem() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 3, |options| options).await?;
        stage.settled().await?;
        stage.webs[0].close();
        // A check of another server may fail once on a busy machine.
        let down = |status: &Status| {
            status.server("s1") == "down" && status.of_server("s2", "check") == "up"
        };
        let status = stage.controller.settles("s1 down", SAID, down).await?;
        assert_eq!(status.of_server("s1", "check"), "down");
        assert!(
            status.of_server("s1", "why").contains("L4CON"),
            "{status:?}"
        );
        assert_eq!(backend(&status, "in_rotation"), 3);
        assert_eq!(backend(&status, "answering"), 2);
        assert_eq!(status.0["problems"], serde_json::json!([]), "others serve");

        for web in &mut stage.webs {
            web.close();
        }
        let unserved = |status: &Status| !problem(status, "backend nodes").is_empty();
        let status = stage
            .controller
            .settles("a problem", SAID, unserved)
            .await?;
        assert_eq!(backend(&status, "answering"), 0);
        let all = |status: &Status| status.servers("down") == 3;
        stage.controller.settles("all down", SAID, all).await?;
        let (text, code) = said(&mut stage.controller, "status").await?;
        assert_eq!(code, 1);
        let situation = "All servers of a backend are down";
        documented(situation, "serf-haproxy status", &text)?;

        for web in &mut stage.webs {
            web.listen()?;
        }
        stage.settled().await
    });
}

/// What is due by the clock is said although a look at HAProxy, which finds nothing new, is due before it.
#[test]
fn a_backend_without_any_server_is_a_problem_after_a_pause_of_the_controller_too() {
    test(&NEEDS, async |lab| {
        let seldom = "[drift]\ninterval = \"1h\"\n";
        let mut stage = Scenario::start(lab, 2, |options| options.sections(seldom)).await?;
        stage.settled().await?;
        for web in &mut stage.webs {
            web.close();
        }
        let all = |status: &Status| status.servers("down") == 2;
        stage.controller.settles("all down", SAID, all).await?;
        stage.controller.process().signal(Signal::STOP)?;
        sleep(Duration::from_secs(3)).await;
        stage.controller.process().signal(Signal::CONT)?;
        let unserved = |status: &Status| !problem(status, "backend nodes").is_empty();
        let said = stage.controller.settles("a problem", SAID, unserved);
        said.await.map(drop)
    });
}

#[test]
fn a_haproxy_that_is_gone_is_not_spoken_of_as_if_it_ran() {
    test(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 2, |options| options).await?;
        stage.settled().await?;
        stage.haproxy.kill().await?;
        let gone = |status: &Status| problem(status, "haproxy").contains("does not answer");
        let status = stage.controller.settles("a problem", SAID, gone).await?;
        let haproxy = &status.0["haproxy"];
        assert_eq!(haproxy["state"], "unreachable");
        assert_eq!(haproxy["pid"], serde_json::Value::Null);
        assert!(haproxy["age_seconds"].is_u64(), "{haproxy}");
        assert_eq!(backend(&status, "in_rotation"), &serde_json::Value::Null);
        for server in ["s1", "s2"] {
            assert_eq!(status.server(server), "unknown");
            assert_eq!(status.of_server(server, "check"), "not read");
        }
        let (text, code) = said(&mut stage.controller, "status").await?;
        assert_eq!(code, 1);
        documented("HAProxy has stopped", "serf-haproxy status", &text)?;
        stage.haproxy.start().await?;
        stage.serves_all().await?;
        stage.settled().await
    });
}

#[test]
fn who_has_left_or_is_picked_no_more_is_shown_with_the_reason() {
    test(&NEEDS, async |lab| {
        let stage = Scenario::start(lab, 4, |options| options).await?;
        stage.settled().await?;
        stage.gossip("s4", MemberStatus::Left);
        let other = node("s3", stage.ip(lab, 3)).tag("role", "other");
        stage.agent.put(other.build());
        let both = |status: &Status| {
            // What no leave explains is watched for a while.
            matches!(status.server("s3"), "out" | "gone") && status.server("s4") == "gone"
        };
        let status = stage.controller.settles("both gone", SOON, both).await?;
        let why = |name| status.of_server(name, "why");
        assert!(why("s4").contains("leaves the cluster"), "{status:?}");
        assert!(why("s3").contains("no rule picks it"), "{status:?}");
        assert_eq!(status.of_server("s4", "gossip"), "left");
        assert_eq!(status.of_server("s3", "gossip"), "alive");
        stage.gossip("s4", MemberStatus::Alive);
        let back = |status: &Status| status.server("s4") == "ready";
        stage.controller.settles("s4 back", SOON, back).await?;
        Ok(())
    });
}

#[test]
fn a_server_whose_connections_are_open_is_deleted_later_and_nothing_has_failed() {
    test(&TRIXIE, async |lab| {
        let stage = Scenario::start_on(lab, HaproxyKind::Trixie, 2, |options| {
            options.sections("[drain]\ntimeout = \"1s\"\n[timeouts]\nclient = \"20s\"\n")
        })
        .await?;
        stage.settled().await?;
        // What the log says before is of a HAProxy that starts, whose socket refuses connections for a moment.
        let started = stage.controller.log().len();
        // Some that wait for their answer, at each server.
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = TcpStream::connect(stage.controller.front()).await?;
            let request = "GET /slow?ms=15000 HTTP/1.1\r\nHost: a\r\n\r\n";
            client.write_all(request.as_bytes()).await?;
            clients.push(client);
        }
        sleep(Duration::from_millis(300)).await;
        stage.gossip("s2", MemberStatus::Left);
        let line = "nodes/s2: delete";
        wait_for("s2 to be deleted", SOON * 2, async || {
            stage.controller.log().contains(line)
        })
        .await?;
        let log = stage.controller.log();
        ensure!(log.matches(line).count() == 1, "{log}");
        ensure!(!log[started..].contains("refused"), "{log}");
        for entry in stage.controller.history().await? {
            assert_eq!(entry["error"], serde_json::Value::Null, "{entry}");
        }
        let status = stage.controller.status().await?;
        assert_eq!(status.counter("failures"), 0);
        assert_eq!(status.counter("refused"), 0);
        Ok(())
    });
}

#[test]
fn a_reload_is_one_line_of_history() {
    test(&NEEDS, async |lab| {
        let path = lab.path("haproxy.cfg.j2");
        std::fs::copy(BUILT_IN, &path)?;
        let stage = Scenario::start(lab, 3, |options| options.template(path.clone())).await?;
        stage.settled().await?;
        let before = stage.controller.history().await?.len();
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(
            &path,
            format!("{text}\nbackend more\n    timeout queue 7s\n"),
        )?;
        stage.controller.reload()?;
        let reloaded = |status: &Status| status.counter("reloads") == 1 && status.is_whole();
        stage.controller.settles("a reload", SOON, reloaded).await?;
        sleep(Duration::from_secs(3)).await;
        let history = stage.controller.history().await?;
        let lines = &history[before..];
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!(lines[0]["how"], "reload");
        Ok(())
    });
}

#[test]
fn a_restart_beside_an_unchanged_cluster_writes_nothing_and_is_quiet() {
    test(&REAL, async |lab| {
        let mut balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let nodes = Node::start_all(lab, 1..=3).await?;
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        balancer.serves(&["s1", "s2", "s3"]).await?;
        let controller = &mut balancer.controller;
        controller.settles("all well", SOON, all_is_well).await?;
        let file = std::fs::metadata(balancer.haproxy.config())?.modified()?;
        controller.stop().await?;
        let before = controller.log().len();
        controller.restart()?;
        controller.settles("all well", SOON, all_is_well).await?;
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            let status = controller.status().await?;
            assert_eq!(status.0["file"]["state"], "current");
            sleep(Duration::from_millis(100)).await;
        }
        let status = controller.status().await?;
        let counters = ["applies", "admissions", "writes", "reloads", "failures"];
        for counter in counters {
            assert_eq!(
                status.counter(counter),
                0,
                "{counter}: {}",
                controller.log()
            );
        }
        assert_eq!(
            std::fs::metadata(balancer.haproxy.config())?.modified()?,
            file
        );
        let log = controller.log();
        let log = log.get(before..).unwrap_or(&log);
        ensure!(!log.contains("held") && !log.contains("WARN"), "{log}");
        Ok(())
    });
}
