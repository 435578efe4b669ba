//! The worst situations of docs/operations.md that need no agent of their own: what is printed is what stands there.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::mount::Mount;
use integration::scenario::{Scenario, backend};
use integration::{HaproxyKind, Need, TestEnv, test, wait_for};
use serf_rpc::MemberStatus;

use crate::documented::{documented, said};

const NEEDS: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
const WITH_MOUNTS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Mounts];
const OFTEN: &str = "[drift]\ninterval = \"1s\"\n";
const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");

/// Waits until `status` has a problem of that kind alone, in which these words stand, and compares all that it prints then.
async fn shows(stage: &mut Scenario, what: &str, words: &str, situation: &str) -> Result<()> {
    let there = |status: &Status| {
        let problems = status.0["problems"].as_array();
        let problems = problems.map(Vec::as_slice).unwrap_or_default();
        let [problem] = problems else { return false };
        problem["what"] == what && problem["problem"].to_string().contains(words)
    };
    let controller = &mut stage.controller;
    let settled = controller.settles(situation, Duration::from_secs(10), there);
    settled.await?;
    let read = |status: &Status| {
        let servers = status.0["backends"]["nodes"]["servers"].as_object();
        let mut servers = servers.into_iter().flat_map(|servers| servers.values());
        servers.all(|server| server["check"] == "up" && server["suspected"] == false)
    };
    controller.settles("all checks up", SOON, read).await?;
    let (text, code) = said(controller, "status").await?;
    assert_eq!(code, 1, "{text}");
    documented(situation, "serf-haproxy status", &text)
}

/// Compares all that `check` prints.
async fn checks(stage: &mut Scenario, code: i32, situation: &str) -> Result<()> {
    let (text, ended) = said(&mut stage.controller, "check").await?;
    assert_eq!(ended, code, "{text}");
    documented(situation, "serf-haproxy check", &text)
}

async fn own_template(lab: &TestEnv, webs: u8) -> Result<Scenario> {
    let template = lab.path("haproxy.cfg.j2");
    fs::copy(BUILT_IN, &template)?;
    let stage = Scenario::start(lab, webs, |options| {
        options.template(template).sections(OFTEN)
    });
    let stage = stage.await?;
    let there = |status: &Status| status.servers("ready") == usize::from(webs);
    stage.controller.settles("all ready", SOON, there).await?;
    stage.settled().await?;
    Ok(stage)
}

#[test]
fn members_that_cannot_be_used_and_servers_that_are_held() {
    test(&NEEDS, async |lab| {
        let mut stage = own_template(lab, 4).await?;
        for name in ["s1", "s2", "s3"] {
            stage.gossip(name, MemberStatus::Failed);
        }
        let situation = "The guard holds servers: a split of gossip";
        shows(
            &mut stage,
            "held nodes",
            "3 answer whose agents are gone",
            situation,
        )
        .await?;
        for name in ["s1", "s2", "s3"] {
            stage.gossip(name, MemberStatus::Alive);
        }
        stage.settled().await?;
        let odd = backend("s9", stage.ip(lab, 9)).tag("port", "https");
        stage.agent.put(odd.build());
        shows(&mut stage, "members", "https", "A member cannot be used").await
    });
}

#[test]
fn a_typo_in_the_config_and_a_template_that_haproxy_refuses() {
    test(&NEEDS, async |lab| {
        let mut stage = own_template(lab, 2).await?;
        let config = stage.controller.options().path();
        let good = fs::read_to_string(&config)?;
        fs::write(&config, good.replace("interval", "intervall"))?;
        stage.controller.reload()?;
        wait_for("the typo to be read", SOON, async || {
            stage.controller.log().contains("intervall")
        })
        .await?;
        checks(&mut stage, 78, "A typo in the config").await?;
        fs::write(&config, &good)?;
        shows(&mut stage, "config", "intervall", "A typo in the config").await?;
        stage.controller.reload()?;
        stage.settled().await?;

        let template = lab.path("haproxy.cfg.j2");
        let text = fs::read_to_string(&template)?;
        fs::write(
            &template,
            format!("{text}\nbackend more\n    timeout quue 7s\n"),
        )?;
        stage.controller.reload()?;
        shows(&mut stage, "design", "quue", "HAProxy refuses the template").await?;
        checks(&mut stage, 1, "HAProxy refuses the template").await?;
        fs::write(&template, text)?;
        stage.controller.reload()?;
        stage.settled().await
    });
}

#[test]
fn a_file_that_somebody_else_has_changed_is_written_again_and_that_is_in_the_history() {
    test(&NEEDS, async |lab| {
        let mut stage = own_template(lab, 2).await?;
        let path = stage.haproxy.config();
        let ours = fs::read_to_string(&path)?;
        fs::write(&path, format!("{ours}\n# tuned by hand\n"))?;
        wait_for("our text again", SOON, async || {
            fs::read_to_string(&path).is_ok_and(|text| text == ours)
        })
        .await?;
        stage.settled().await?;
        let output = stage.controller.options().run("history", &["-n", "1"]);
        let text = String::from_utf8(output.await?.stdout)?;
        let situation = "Somebody else has changed the file";
        documented(situation, "serf-haproxy history -n 1", &text)?;
        fs::write(&path, "global\n    description \"the site's own\"\n")?;
        checks(&mut stage, 1, situation).await
    });
}

#[test]
fn a_disk_that_is_full() {
    test(&WITH_MOUNTS, async |lab| {
        let dir = lab.path("haproxy");
        fs::create_dir(&dir)?;
        let _mount = Mount::small(&dir, 256)?;
        let mut stage = Scenario::start_in(lab, &dir, 2).await?;
        stage.settled().await?;
        let filler = dir.join("filler");
        let full = fs::write(&filler, vec![0; 512 * 1024]);
        full.err().context("the file system is not small")?;
        stage.add(lab, 3)?;
        stage.serves_all().await?;
        shows(&mut stage, "file", "", "The disk is full").await?;
        fs::remove_file(&filler)?;
        stage.settled().await
    });
}
