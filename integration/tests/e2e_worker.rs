//! Who the worker is and which text it runs, told by what does not drift and cannot be forged by accident.

use std::time::Duration;

use anyhow::Result;
use integration::process::signal_pid;
use integration::stage::Stage;
use integration::{HaproxyKind, Lab, Need, on_each_haproxy, test};
use rustix::process::Signal;
use tokio::time::sleep;

const OFTEN: &str = "[drift]\ninterval = \"1s\"\n";

/// Longer than any tolerance for a clock that counts in whole seconds.
const STILL: Duration = Duration::from_secs(6);

/// No reload of ours, and nobody else's either.
async fn nothing_was_reloaded(stage: &Stage) -> Result<()> {
    let history = serde_json::to_string(&stage.controller.history().await?)?;
    let status = stage.controller.status().await?;
    assert_eq!(status.counter("reloads"), 0, "{history}");
    assert!(!history.contains("\"reload\""), "{history}");
    assert!(!history.contains("\"found\""), "{history}");
    Ok(())
}

async fn stands_still(lab: &Lab, kind: HaproxyKind) -> Result<()> {
    let mut stage = Stage::start_on(lab, kind, 2, |options| options.sections(OFTEN)).await?;
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
        let mut stage = Stage::start(lab, 2, |options| options.sections(OFTEN)).await?;
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
