//! Who the worker is and which text it runs, told by what does not drift and cannot be forged by accident.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::process::signal_pid;
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, TestEnv, on_each_haproxy, test, wait_for};
use rustix::process::Signal;
use tokio::time::sleep;

const OFTEN: &str = "[drift]\ninterval = \"1s\"\n";

/// Longer than any tolerance for a clock that counts in whole seconds.
const STILL: Duration = Duration::from_secs(6);

/// No reload of ours, and nobody else's either.
async fn nothing_was_reloaded(stage: &Scenario) -> Result<()> {
    let history = serde_json::to_string(&stage.controller.history().await?)?;
    let status = stage.controller.status().await?;
    assert_eq!(status.counter("reloads"), 0, "{history}");
    assert!(!history.contains("\"reload\""), "{history}");
    assert!(!history.contains("\"found\""), "{history}");
    Ok(())
}

async fn stands_still(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Scenario::start_on(lab, kind, 2, |options| options.sections(OFTEN)).await?;
    stage.settled().await?;
    let worker = stage.haproxy.worker().await?.pid;
    signal_pid(worker, Signal::STOP)?;
    sleep(STILL / 2).await;
    stage.controller.restart()?;
    sleep(STILL / 2).await;
    signal_pid(worker, Signal::CONT)?;
    stage.add(lab, 3)?;
    stage.serves_all().await?;
    stage.settled().await?;
    nothing_was_reloaded(&stage).await?;
    stage.controller.restart()?;
    stage.settled().await?;
    nothing_was_reloaded(&stage).await?;
    assert_eq!(stage.haproxy.worker().await?.pid, worker);
    Ok(())
}

on_each_haproxy! {
    a_worker_that_stood_still_is_the_same_across_a_restart_of_the_controller => stands_still;
}

#[test]
fn a_controller_that_stood_still_itself_goes_on_without_a_reload() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 2, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        stage.controller.process().signal(Signal::STOP)?;
        stage.add(lab, 3)?;
        sleep(STILL).await;
        stage.controller.process().signal(Signal::CONT)?;
        stage.serves_all().await?;
        stage.settled().await?;
        nothing_was_reloaded(&stage).await
    });
}

/// Changes a line below our first ones, as an operator would.
fn edit(stage: &Scenario) -> Result<()> {
    let path = stage.haproxy.config();
    let text = std::fs::read_to_string(&path)?;
    let edited = text.replace("balance roundrobin", "balance leastconn");
    ensure!(edited != text, "nothing to edit in {text}");
    Ok(std::fs::write(path, edited)?)
}

/// How the worker balances: by it the text that it runs is known.
async fn balance(stage: &Scenario) -> Result<String> {
    let stat = stage.haproxy.stat().await?;
    let line = stat
        .iter()
        .find(|line| line.get("pxname") == "nodes" && line.get("svname") == "BACKEND");
    Ok(line.map_or_else(String::new, |line| line.get("algo").to_owned()))
}

async fn balances(stage: &Scenario, algorithm: &str) -> Result<()> {
    wait_for(algorithm, SOON, async || {
        balance(stage).await.is_ok_and(|found| found == algorithm)
    })
    .await
}

/// The text of ours is in force again by one reload, which is explained, and no other follows.
async fn put_right_once(stage: &Scenario) -> Result<()> {
    let reloaded = |status: &Status| status.counter("reloads") >= 1;
    stage.controller.settles("a reload", SOON, reloaded).await?;
    balances(stage, "roundrobin").await?;
    stage.settled().await?;
    sleep(Duration::from_millis(2500)).await;
    let status = stage.controller.status().await?;
    let history = serde_json::to_string(&stage.controller.history().await?)?;
    assert_eq!(status.counter("reloads"), 1, "{history}");
    assert!(history.contains("it is not known which file"), "{history}");
    assert_eq!(balance(stage).await?, "roundrobin");
    Ok(())
}

async fn an_edit_is_loaded(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let stage = Scenario::start_on(lab, kind, 3, |options| options.sections(OFTEN)).await?;
    stage.settled().await?;
    let load = stage.load(lab)?;
    edit(&stage)?;
    stage.haproxy.reload().await?;
    put_right_once(&stage).await?;
    let log = stage.controller.log();
    assert!(log.contains("another hand's text in the file"), "{log}");
    load.nothing_failed(&format!("an edit loaded by hand, {kind:?}"))
        .await
}

/// Nothing can be saved into `texts` any more, or again.
fn spoil_texts(stage: &mut Scenario, spoilt: bool) -> Result<()> {
    let texts = stage.controller.options().state_dir().join("texts");
    if spoilt {
        std::fs::remove_dir_all(&texts)?;
        std::fs::write(&texts, "")?;
    } else {
        std::fs::remove_file(&texts)?;
        std::fs::create_dir(&texts)?;
    }
    Ok(())
}

async fn reloads_without_room(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Scenario::start_on(lab, kind, 2, |options| options.sections(OFTEN)).await?;
    stage.settled().await?;
    spoil_texts(&mut stage, true)?;
    // A text that was never saved, and a worker that starts with it by another hand.
    stage.add(lab, 3)?;
    stage.serves_all().await?;
    let told = |status: &Status| {
        let problems = status.0["problems"].to_string();
        problems.contains("state texts") && status.is_whole()
    };
    stage.controller.settles("the problem", SOON, told).await?;
    stage.haproxy.reload().await?;
    sleep(STILL / 2).await;
    nothing_of_ours_was_reloaded(&stage).await?;
    // One of ours brings a worker whose text cannot be saved either.
    let config = stage.controller.options().path();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{text}\n[timeouts]\nserver = \"41s\"\n"))?;
    stage.controller.reload()?;
    let once = |status: &Status| status.counter("reloads") == 1;
    stage.controller.settles("our reload", SOON, once).await?;
    sleep(STILL / 2).await;
    assert_eq!(stage.controller.status().await?.counter("reloads"), 1);
    // As soon as it can be saved, it is, and nothing is wrong any more.
    spoil_texts(&mut stage, false)?;
    stage.settled().await?;
    stage.controller.restart()?;
    stage.settled().await?;
    assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
    Ok(())
}

/// A text that was cut in the middle, as by a crash of the machine, is not believed: HAProxy gets one that is known.
#[test]
fn a_torn_text_costs_one_reload() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 2, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        let texts = stage.controller.options().state_dir().join("texts");
        stage.controller.kill();
        for text in std::fs::read_dir(&texts)? {
            let path = text?.path();
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(&path, &text[..text.len() / 2])?;
        }
        stage.controller.restart()?;
        stage.settled().await?;
        stage.add(lab, 3)?;
        stage.serves_all().await?;
        stage.settled().await?;
        sleep(STILL / 2).await;
        let status = stage.controller.status().await?;
        assert_eq!(status.counter("reloads"), 1, "{}", stage.controller.log());
        Ok(())
    });
}

async fn nothing_of_ours_was_reloaded(stage: &Scenario) -> Result<()> {
    let history = serde_json::to_string(&stage.controller.history().await?)?;
    assert_eq!(
        stage.controller.status().await?.counter("reloads"),
        0,
        "{history}"
    );
    Ok(())
}

#[test]
fn a_text_that_cannot_be_saved_costs_no_reload() {
    let kind = HaproxyKind::Host;
    test(&[Need::Haproxy(kind)], async |lab| {
        reloads_without_room(lab, kind).await
    });
}

fn with_load(kind: HaproxyKind) -> [Need; 2] {
    [Need::Haproxy(kind), Need::Wrk]
}

#[test]
fn an_edit_that_is_loaded_by_hand_is_put_right_by_one_reload() {
    for kind in [HaproxyKind::Host, HaproxyKind::Trixie, HaproxyKind::Sid] {
        test(&with_load(kind), async |lab| {
            an_edit_is_loaded(lab, kind).await
        });
    }
}

#[test]
fn an_edit_that_is_loaded_while_the_controller_is_away_is_put_right_by_one_reload() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 2, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        stage.controller.stop().await?;
        edit(&stage)?;
        stage.haproxy.reload().await?;
        balances(&stage, "leastconn").await?;
        stage.controller.restart()?;
        put_right_once(&stage).await
    });
}

#[test]
fn what_nobody_has_edited_is_known_whoever_loads_it() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 2, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        let reloaded = async |stage: &Scenario, times: usize| {
            wait_for("the new worker", SOON, async || {
                let history = stage.controller.history().await.unwrap_or_default();
                history.iter().filter(|it| it["how"] == "found").count() >= times
            })
            .await?;
            stage.serves_all().await?;
            stage.settled().await?;
            let history = serde_json::to_string(&stage.controller.history().await?)?;
            assert!(!history.contains("\"reload\""), "{history}");
            anyhow::Ok(())
        };
        stage.haproxy.reload().await?;
        reloaded(&stage, 1).await?;
        stage.haproxy.kill().await?;
        stage.haproxy.start().await?;
        reloaded(&stage, 2).await?;
        stage.controller.restart()?;
        stage.settled().await?;
        reloaded(&stage, 2).await?;
        stage.controller.kill();
        stage.haproxy.reload().await?;
        stage.controller.restart()?;
        stage.settled().await?;
        reloaded(&stage, 2).await
    });
}

#[test]
fn an_edit_that_nobody_has_loaded_is_written_over_without_a_reload() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 2, |options| options.sections(OFTEN)).await?;
        stage.settled().await?;
        let text = std::fs::read_to_string(stage.haproxy.config())?;
        let written_over = async |stage: &Scenario| {
            wait_for("our text", SOON, async || {
                std::fs::read_to_string(stage.haproxy.config()).is_ok_and(|now| now == text)
            })
            .await?;
            stage.settled().await?;
            nothing_was_reloaded(stage).await
        };
        edit(&stage)?;
        written_over(&stage).await?;
        stage.controller.kill();
        edit(&stage)?;
        stage.controller.restart()?;
        written_over(&stage).await
    });
}
