//! Files of somebody else's and edits by hand: taken over with the rights that HAProxy had, and nothing lost without a copy.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::{SOON, WEB_PORT};
use integration::controller::Status;
use integration::scenario::{Scenario, backend};
use integration::{
    Controller, FakeAgent, Haproxy, HaproxyKind, Need, TestEnv, Web, on_each_haproxy, test,
    wait_for,
};

const HOST: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
/// Debian's /etc/haproxy/haproxy.cfg, but for the files that it needs and `daemon`, which its unit (`-Ws`) makes void.
const STOCK: &str = "\
global
\tlog /dev/log\tlocal0
\tlog /dev/log\tlocal1 notice
\tchroot /var/lib/haproxy
\tstats socket /run/haproxy/admin.sock mode 660 level admin
\tstats timeout 30s
\tuser haproxy
\tgroup haproxy

\t# Default SSL material locations
\tca-base /etc/ssl/certs
\tcrt-base /etc/ssl/private
        ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets

defaults
\tlog\tglobal
\tmode\thttp
\toption\thttplog
\toption\tdontlognull
        timeout connect 5000
        timeout client  50000
        timeout server  50000
";

on_each_haproxy! {
    debians_own_file_goes_on_with_its_user_and_its_log => stock;
}

/// The user and group that a process runs as.
fn account(pid: u32) -> Result<(u32, u32)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let id = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        let id = line.and_then(|line| line.split_whitespace().nth(1));
        id.and_then(|id| id.parse().ok()).context("no account")
    };
    Ok((id("Uid:")?, id("Gid:")?))
}

async fn stock(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let socket = haproxy.stats_socket().display().to_string();
    let theirs = STOCK.replace("/run/haproxy/admin.sock", &socket);
    let site = lab.net().addr(1, 8081);
    let theirs = format!(
        "{theirs}\nfrontend site\n    bind {site}\n    default_backend web\n\nbackend web\n"
    );
    fs::write(haproxy.config(), &theirs)?;
    haproxy.start().await?;
    let before = account(haproxy.worker().await?.pid)?;
    ensure!(before.0 != 0, "HAProxy ran as root before");
    let agent = FakeAgent::on(lab, "balancer", 1).start()?;
    let _web = Web::start("s1", lab.net().addr(101, WEB_PORT))?;
    agent.put(backend("s1", lab.net().ip(101)).build());

    let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
    options.write()?;
    let refused = options.run("run", &["--adopt"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    for lost in [
        "ssl-default-bind-options",
        "crt-base",
        "timeout client 50000",
        &format!("nothing listens on {site} any more"),
        "--yes",
    ] {
        assert!(said.contains(lost), "no {lost} in {said}");
    }
    for kept in ["user haproxy", "chroot", "/dev/log"] {
        assert!(!said.contains(kept), "{kept} in {said}");
    }
    assert_eq!(fs::read_to_string(haproxy.config())?, theirs);

    let mut controller = options.arg("--adopt").arg("--yes").start()?;
    haproxy.serves("nodes", &["s1"], SOON).await?;
    let whole = |status: &Status| status.is_whole();
    controller
        .settles("everything in place", SOON, whole)
        .await?;
    assert_eq!(account(haproxy.worker().await?.pid)?, before);
    let file = fs::read_to_string(haproxy.config())?;
    for kept in [
        "log /dev/log\tlocal1 notice  # taken over",
        "log global",
        "option httplog",
    ] {
        assert!(file.contains(kept), "no {kept} in {file}");
    }
    assert_eq!(
        fs::read_to_string(lab.path("haproxy.cfg.before-serf-haproxy"))?,
        theirs
    );

    // For good: with the state gone, no --adopt, and other lines around them.
    controller.stop().await?;
    fs::remove_dir_all(controller.options().state_dir())?;
    let worker = haproxy.worker().await?;
    let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
    let controller = options.sections("[timeouts]\nclient = \"40s\"").start()?;
    wait_for("the reload", SOON, async || {
        haproxy.worker().await.is_ok_and(|now| now != worker)
    })
    .await?;
    controller
        .settles("everything in place", SOON, whole)
        .await?;
    assert_eq!(account(haproxy.worker().await?.pid)?, before);
    Ok(())
}

fn copies(lab: &TestEnv) -> Result<Vec<PathBuf>> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(lab.dir())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("haproxy.cfg.") {
            copies.push(path);
        }
    }
    copies.sort();
    Ok(copies)
}

#[test]
fn what_another_hand_writes_into_the_file_is_kept_before_it_goes() {
    test(&HOST, async |lab| {
        let mut stage = Scenario::start(lab, 1, |options| {
            options.sections("[drift]\ninterval = \"1s\"")
        })
        .await?;
        stage.settled().await?;
        let ours = fs::read_to_string(stage.haproxy.config())?;
        let edited = format!("{ours}# by hand\n");
        fs::write(stage.haproxy.config(), &edited)?;
        let written =
            async || fs::read_to_string(stage.haproxy.config()).is_ok_and(|it| it == ours);
        wait_for("the file as it was", SOON * 2, written).await?;
        let copy = lab.path("haproxy.cfg.edited");
        assert_eq!(fs::read_to_string(&copy)?, edited);
        let told = copy.display().to_string();
        wait_for("the log to say where", SOON, async || {
            stage.controller.log().contains(&told)
        })
        .await?;

        // Edited while no controller was there, too.
        stage.controller.stop().await?;
        let again = format!("{ours}# by hand again\n");
        fs::write(stage.haproxy.config(), &again)?;
        stage.controller.restart()?;
        wait_for("the file as it was", SOON * 2, written).await?;
        assert_eq!(fs::read_to_string(lab.path("haproxy.cfg.edited.2"))?, again);
        assert_eq!(copies(lab)?.len(), 2);
        Ok(())
    });
}

#[test]
fn a_file_that_is_put_there_again_is_not_overwritten_unasked_and_kept_when_asked() {
    test(&HOST, async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let rpc = lab.net().addr(1, integration::agent::RPC_PORT);
        let options = Controller::on(lab, rpc, &haproxy).sections("[drift]\ninterval = \"1s\"");
        let (first, second) = ("# one\nglobal\n", "# two\nglobal\n");
        fs::write(haproxy.config(), first)?;
        let read = || fs::read_to_string(haproxy.config()).unwrap_or_default();
        let ours = async || read().starts_with("# written by serf-haproxy");
        let mut controller = options.clone().arg("--adopt").start()?;
        wait_for("the file to be taken over", SOON, ours).await?;
        // What was adopted is that text, and not whatever comes after it.
        fs::write(haproxy.config(), second)?;
        wait_for("the log to say so", SOON, async || {
            controller.log().contains("is not overwritten")
        })
        .await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(read(), second);
        controller.stop().await?;
        let controller = options.arg("--adopt").start()?;
        wait_for("the file to be taken over", SOON, ours).await?;
        let kept = copies(lab)?;
        let kept: Vec<String> = kept
            .iter()
            .map(fs::read_to_string)
            .collect::<Result<_, _>>()?;
        assert_eq!(kept, [first, second]);
        drop(controller);
        Ok(())
    });
}

#[test]
fn haproxy_is_given_no_rights_by_a_file_that_was_moved_away() {
    test(&HOST, async |lab| {
        let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let site = lab.net().addr(1, 8081);
        let theirs = STOCK.replace(
            "/run/haproxy/admin.sock",
            &haproxy.stats_socket().display().to_string(),
        );
        let theirs = format!(
            "{theirs}\nfrontend site\n    bind {site}\n    default_backend web\n\nbackend web\n"
        );
        fs::write(haproxy.config(), &theirs)?;
        haproxy.start().await?;
        let worker = haproxy.worker().await?;
        let before = account(worker.pid)?;
        fs::rename(haproxy.config(), lab.path("moved"))?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let controller = Controller::on(lab, agent.rpc_addr(), &haproxy).start()?;
        let told = controller.settles("a problem", SOON, |status| {
            status.0["problems"]
                .to_string()
                .contains("would run as root")
        });
        told.await?;
        assert!(!haproxy.config().exists());
        assert_eq!(haproxy.worker().await?, worker);
        drop(controller);

        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        let named = "user = \"haproxy\"\ngroup = \"haproxy\"";
        let controller = options.haproxy(named).start()?;
        let whole =
            |status: &Status| status.0["problems"] == serde_json::json!([]) && status.is_whole();
        controller
            .settles("everything in place", SOON * 2, whole)
            .await?;
        assert_ne!(haproxy.worker().await?, worker);
        assert_eq!(account(haproxy.worker().await?.pid)?, before);
        Ok(())
    });
}
