//! Server lines that no member made: the template's own in a backend of ours, and all of a backend of others. Nobody
//! touches, counts or prints them, wherever they stand and however they are written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use integration::cluster::WEB_PORT;
use integration::scenario::Scenario;
use integration::web::Web;
use integration::{HaproxyKind, Need, TestEnv, on_each_haproxy, test};
use serf_rpc::MemberStatus;
use tokio::time::sleep;

on_each_haproxy! {
    lines_of_the_templates_own_and_of_others_are_left_alone => left_alone;
    a_drain_in_a_backend_of_others_stays => of_others;
    healthy_servers_do_not_leave_for_a_sorry_server => not_counted;
}

const OFTEN: &str = "[drift]\ninterval = \"1s\"";

const HEAD: &str = r#"global
    description "serf-haproxy {{ stamp }}"
    stats socket {{ haproxy.stats_socket }} mode 600 level admin expose-fd listeners
    hard-stop-after {{ hard_stop_after }}

defaults
    mode http
    timeout connect 500ms
    timeout client 30s
    timeout server 30s
    retries 3
    option redispatch 1

frontend main
    bind {{ frontend.bind[0] }}
    default_backend nodes

backend nodes
"#;

const MEMBERS: &str = r#"{% for backend in backends if backend.name == "nodes" %}
{% include "servers.cfg.j2" %}
{% endfor %}
"#;

/// A template with these lines before and after the members' in the backend, and this after it.
fn template(lab: &TestEnv, before: &str, after: &str, others: &str) -> Result<PathBuf> {
    let path = lab.path("own.cfg.j2");
    std::fs::write(&path, format!("{HEAD}{before}{MEMBERS}{after}{others}"))?;
    Ok(path)
}

async fn admin(stage: &Scenario, backend: &str, server: &str) -> Result<String> {
    let stat = stage.haproxy.stat().await?;
    let line = stat
        .iter()
        .find(|line| line.get("pxname") == backend && line.get("svname") == server);
    Ok(line
        .with_context(|| format!("no {backend}/{server}"))?
        .get("status")
        .to_owned())
}

/// What people are shown speaks of no server but the members'.
async fn nothing_is_said_of(stage: &Scenario, names: &[&str]) -> Result<()> {
    let status = stage.controller.status().await?;
    let history = serde_json::to_string(&stage.controller.history().await?)?;
    for name in names {
        for said in [&history, &status.0.to_string(), &stage.controller.log()] {
            assert!(!said.contains(name), "{name} in {said}");
        }
    }
    assert_eq!(status.counter("repairs"), 0);
    Ok(())
}

async fn left_alone(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let sorry = Web::start("sorry".to_owned(), (lab.net().ip(90), WEB_PORT).into())?;
    let before = format!(
        "    server sorry {} backup\n    default-server rise 1\n",
        sorry.addr()
    );
    let after = "    default-server maxconn 5\n    server older localhost:3999 backup weight 7\n";
    let others = format!(
        "\nbackend theirs\n    server t1 {}\n    server t2 localhost:3999\n",
        sorry.addr()
    );
    let path = template(lab, &before, after, &others)?;
    let mut stage = Scenario::start_beside(lab, kind, 2, &["sorry", "older"], |options| {
        options.template(path).sections(OFTEN)
    })
    .await?;
    stage.settled().await?;
    let load = stage.load(lab)?;

    // The operator's hands are on them for longer than a drift interval.
    for drained in ["nodes/sorry", "theirs/t1"] {
        let command = format!("set server {drained} state drain");
        let said = stage.haproxy.command(&command);
        assert_eq!(said.await?.trim(), "");
    }
    stage.fixed.retain(|name| name != "sorry");
    stage.add(lab, 3)?;
    stage.serves_all().await?;
    stage.gossip("s1", MemberStatus::Left);
    let left = stage.webs.remove(0);
    stage.serves_all().await?;
    sleep(Duration::from_millis(2500)).await;
    stage.settled().await?;
    for (backend, server) in [("nodes", "sorry"), ("theirs", "t1")] {
        assert_eq!(admin(&stage, backend, server).await?, "DRAIN", "{server}");
    }
    let spoken = ["sorry", "older", "theirs"];
    nothing_is_said_of(&stage, &spoken).await?;

    // A controller that starts anew takes them from neither the worker nor the file.
    stage.controller.stop().await?;
    std::fs::remove_file(lab.path("state/members.json"))?;
    stage.controller.restart()?;
    stage.settled().await?;
    stage.add(lab, 4)?;
    stage.serves_all().await?;
    assert_eq!(admin(&stage, "nodes", "sorry").await?, "DRAIN");
    nothing_is_said_of(&stage, &spoken).await?;
    assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
    drop(left);
    load.nothing_failed("lines of others").await
}

async fn of_others(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let others = "\nlisten theirs\n    bind {{ frontend.bind[0] | replace(':8080', ':8081') }}\n    server t1 127.0.0.1:3999 weight 7\n";
    let path = template(lab, "", "", others)?;
    let stage = Scenario::start_on(lab, kind, 1, |options| {
        options.template(path).sections(OFTEN)
    })
    .await?;
    stage.settled().await?;
    for command in [
        "set server theirs/t1 state drain",
        "set server theirs/t1 weight 3",
    ] {
        assert_eq!(stage.haproxy.command(command).await?.trim(), "");
    }
    sleep(Duration::from_millis(2500)).await;
    stage.settled().await?;
    assert_eq!(admin(&stage, "theirs", "t1").await?, "DRAIN");
    nothing_is_said_of(&stage, &["theirs"]).await
}

async fn not_counted(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let sorry = Web::start("sorry".to_owned(), (lab.net().ip(90), WEB_PORT).into())?;
    let before = format!("    server sorry {} backup\n", sorry.addr());
    let path = template(lab, &before, "", "")?;
    let guard = "[guard]\nmax_removal = \"100%\"\nhold = \"1s\"";
    let stage = Scenario::start_beside(lab, kind, 2, &["sorry"], |options| {
        options.template(path).sections(guard)
    })
    .await?;
    stage.settled().await?;
    stage.gossip("s1", MemberStatus::Failed);
    stage.gossip("s2", MemberStatus::Failed);
    sleep(Duration::from_secs(4)).await;
    let serving = stage.haproxy.serving("nodes").await?;
    assert!(
        serving
            .iter()
            .any(|name| name.starts_with('s') && name != "sorry"),
        "{serving:?}"
    );
    assert_eq!(sorry.requests(), 0);
    Ok(())
}

#[test]
fn check_passes_a_sorry_server_and_counts_what_is_left_alone() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let others = "backend theirs\n    server t1 127.0.0.9:80\n";
        let sorry = "    server sorry 127.0.0.9:80 backup\n";
        let checked = async |path: &Path| {
            let haproxy = integration::Haproxy::prepare(lab, HaproxyKind::Host).await?;
            let agent = lab.net().addr(1, integration::agent::RPC_PORT);
            let options =
                integration::Controller::on(lab, agent, &haproxy).template(path.to_owned());
            options.write()?;
            let output = options.run("check", &[]).await?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            anyhow::ensure!(
                output.status.success(),
                "{said}{}",
                String::from_utf8_lossy(&output.stderr)
            );
            anyhow::Ok(said)
        };
        for (before, after) in [(sorry, ""), ("", sorry)] {
            let said = checked(&template(lab, before, after, others)?).await?;
            for line in [
                "backend nodes: changes without a reload",
                "backend nodes: server lines of the template's own, left alone: 1",
                "backend theirs: not in the config, left alone",
            ] {
                assert!(said.contains(line), "{line} in {said}");
            }
        }
        Ok(())
    });
}
