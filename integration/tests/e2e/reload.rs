//! The three ways to reload: the same result, the same history; and what reloads leave behind is bounded.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::{ControllerOptions, Status};
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, TestEnv, test, wait_for};

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Wrk];
/// In seconds.
const HARD_STOP: u64 = 5;

/// The built-in template, with a line that is another in every version of it.
fn template(lab: &TestEnv) -> Result<PathBuf> {
    let path = lab.path("haproxy.cfg.j2");
    write(&path, 0)?;
    Ok(path)
}

fn write(path: &Path, version: u64) -> Result<()> {
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");
    let text = std::fs::read_to_string(built_in)?.replace(
        "timeout client {{ timeouts.client }}",
        &format!("timeout client {}ms", 30_000 + version),
    );
    Ok(std::fs::write(path, text)?)
}

/// The reloads of the history: why, and how they ended.
async fn reloads(stage: &Scenario) -> Result<Vec<(String, bool)>> {
    let entries = stage.controller.history().await?;
    let reloads = entries.iter().filter(|entry| entry["how"] == "reload");
    let reload =
        |entry: &serde_json::Value| (entry["reasons"].to_string(), entry["error"].is_null());
    Ok(reloads.map(reload).collect())
}

/// So many, 20 unless `RELOADS` says otherwise.
fn count() -> u64 {
    let count = std::env::var("RELOADS").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(20)
}

async fn reload_often(
    lab: &TestEnv,
    way: &str,
    configure: impl FnOnce(ControllerOptions) -> ControllerOptions,
) -> Result<()> {
    let path = template(lab)?;
    let times = format!(
        "[reload]\nmin_interval = \"0s\"\n[drift]\ninterval = \"1s\"\n[drain]\ntimeout = \"{HARD_STOP}s\"\n"
    );
    let stage = Scenario::start(lab, 3, |options| {
        let options = options.template(path.clone()).sections(&times);
        configure(options.haproxy(&format!("hard_stop_after = \"{HARD_STOP}s\"")))
    })
    .await?;
    stage.settled().await?;
    let load = stage.load(lab)?;
    let mut long = Vec::new();
    let mut most = 0;
    let count = count();
    for version in 1..=count {
        // A request that does not end: its worker stays.
        let mut client = TcpStream::connect(stage.controller.front())?;
        client.write_all(b"GET / HTTP/1.1\r\n")?;
        long.push(client);
        write(&path, version)?;
        stage.controller.reload()?;
        let reloaded = |status: &Status| status.counter("reloads") >= version && status.is_whole();
        let status = stage.controller.settles("a reload", SOON, reloaded).await?;
        most = most.max(stage.haproxy.old_workers()?);
        assert_eq!(status.0["problems"], serde_json::json!([]));
    }
    load.nothing_failed(&format!("{count} reloads by {way}"))
        .await?;
    let entries = reloads(&stage).await?;
    assert_eq!(entries.len() as u64, count);
    let expected = "[\"defaults: changed in more than its servers\"]".to_owned();
    println!("{way}: at most {most} old workers");
    assert!(
        entries
            .iter()
            .all(|entry| *entry == (expected.clone(), true)),
        "{:?}",
        entries.first()
    );
    assert!(most > 1, "long connections keep old workers");
    let wait = std::time::Duration::from_secs(HARD_STOP) + SOON;
    wait_for("old workers to end", wait, async || {
        stage.haproxy.old_workers().is_ok_and(|old| old == 0)
    })
    .await?;
    if way != "command" {
        let none = |status: &Status| status.0["haproxy"]["old_workers"] == 0;
        stage
            .controller
            .settles("no old worker", SOON, none)
            .await?;
    }
    drop(long);
    Ok(())
}

#[test]
fn by_the_masters_socket() {
    test(&NEEDS, async |lab| {
        reload_often(lab, "master socket", |options| options).await
    });
}

#[test]
fn by_a_command() {
    test(&NEEDS, async |lab| {
        let pid_file = lab.path("haproxy.pid");
        let script = format!("kill -USR2 $(cat {})", pid_file.display());
        let command = ["sh", "-c", &script];
        reload_often(lab, "command", |options| options.reload_command(&command)).await
    });
}

#[test]
fn of_a_child() {
    test(&NEEDS, async |lab| {
        reload_often(lab, "child", ControllerOptions::spawn_haproxy).await
    });
}
