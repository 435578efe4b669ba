//! A configuration of several files, of which one is ours: what servers inherit from the others holds for those added
//! at runtime too, as the running worker has read it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::Scenario;
use integration::{Haproxy, HaproxyKind, Need, TestEnv, on_each_haproxy, test, wait_for};
use tokio::time::sleep;

on_each_haproxy! {
    a_server_added_at_runtime_has_what_the_running_worker_has_read_elsewhere => inherits;
}

const OFTEN: &str = "[drift]\ninterval = \"1s\"";

const OURS: &str = r#"global
    description "serf-haproxy {{ stamp }}"
    stats socket {{ haproxy.stats_socket }} mode 600 level admin
    hard-stop-after {{ hard_stop_after }}

frontend main
    bind {{ frontend.bind[0] }}
    option idle-close-on-response
    default_backend nodes

backend nodes
{% for backend in backends if backend.name == "nodes" %}
{% for server in backend.servers %}
    server {{ server.name }} {{ server.addr }} check{% if not server.ready %} disabled{% endif +%}
{% endfor %}
{% endfor %}
"#;

fn base(maxconn: u32) -> String {
    format!(
        "defaults\n    mode http\n    default-server maxconn {maxconn} inter 3s slowstart 5s\n    \
         timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n"
    )
}

struct Files {
    base: PathBuf,
    ours: PathBuf,
}

/// The site's file in a directory of its own, and our template.
fn files(lab: &TestEnv) -> Result<Files> {
    let dir = lab.path("site.d");
    fs::create_dir(&dir)?;
    let (base, ours) = (dir.join("10-base.cfg"), lab.path("ours.cfg.j2"));
    fs::write(&base, self::base(7))?;
    fs::write(&ours, OURS)?;
    Ok(Files { base, ours })
}

/// The limit of every server, as HAProxy shows it.
async fn limits(haproxy: &Haproxy) -> Result<Vec<String>> {
    let stat = haproxy.stat().await?;
    let lines = stat
        .iter()
        .filter(|line| line.get("pxname") == "nodes" && line.is_server());
    let mut limits: Vec<String> = lines
        .map(|line| format!("{} {}", line.get("svname"), line.get("slim")))
        .collect();
    limits.sort();
    Ok(limits)
}

/// Reloads as the site does, and waits until the controller knows.
async fn reload(stage: &Scenario) -> Result<()> {
    let before = stage.haproxy.worker().await?.pid;
    stage.haproxy.reload().await?;
    let found = async || {
        let worker = stage.haproxy.worker().await?;
        let status = stage.controller.status().await?;
        let known = status.0["haproxy"]["pid"] == worker.pid;
        anyhow::Ok(known && worker.pid != before && status.is_whole())
    };
    wait_for("the new worker to be found", SOON, async || {
        found().await.unwrap_or(false)
    })
    .await
}

async fn inherits(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let Files { base, ours } = files(lab)?;
    let haproxy = Haproxy::prepare(lab, kind).await?.after(base.clone());
    let mut stage = Scenario::start_with(lab, haproxy, 2, &[], |options| {
        options.template(ours).sections(OFTEN)
    })
    .await?;
    stage.settled().await?;
    let load = stage.load(lab)?;
    assert_eq!(limits(&stage.haproxy).await?, ["s1 7", "s2 7"]);
    let history = serde_json::to_string(&stage.controller.history().await?)?;
    assert!(history.contains("check inter 3s slowstart 5s"), "{history}");

    // A reload by the site finds them as they are in the file, and nothing is left to be done.
    reload(&stage).await?;
    stage.serves_all().await?;
    stage.settled().await?;
    assert_eq!(limits(&stage.haproxy).await?, ["s1 7", "s2 7"]);

    // An edit counts from the site's own reload on, whether the controller was there all the time or not.
    fs::write(&base, self::base(9))?;
    stage.add(lab, 3)?;
    stage.serves_all().await?;
    stage.controller.stop().await?;
    stage.controller.restart()?;
    stage.add(lab, 4)?;
    stage.serves_all().await?;
    assert_eq!(
        limits(&stage.haproxy).await?,
        ["s1 7", "s2 7", "s3 7", "s4 7"]
    );
    stage.settled().await?;
    reload(&stage).await?;
    wait_for("the edit to be in force", SOON, async || {
        let found = limits(&stage.haproxy).await;
        found.is_ok_and(|limits| limits == ["s1 9", "s2 9", "s3 9", "s4 9"])
    })
    .await?;
    stage.settled().await?;
    stage.add(lab, 5)?;
    stage.serves_all().await?;
    assert!(limits(&stage.haproxy).await?.contains(&"s5 9".to_owned()));
    assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
    load.nothing_failed("a site's own edits and reloads")
        .await?;
    unseen(lab, &mut stage, &base).await
}

/// What cannot be told is not guessed: a join is a reload then, after which it can be told again.
async fn unseen(lab: &TestEnv, stage: &mut Scenario, base: &PathBuf) -> Result<()> {
    wait_for("the file to have all servers", SOON, async || {
        let text = fs::read_to_string(stage.haproxy.config());
        text.is_ok_and(|text| text.contains("server s5"))
    })
    .await?;
    reload(stage).await?;
    stage.settled().await?;
    stage.controller.stop().await?;
    fs::remove_file(lab.path("state/others.json"))?;
    // HAProxy tells its start in whole seconds.
    sleep(Duration::from_millis(1100)).await;
    fs::write(base, self::base(11))?;
    stage.controller.restart()?;
    let said =
        "has changed since HAProxy started; backends that may inherit from it change with a reload";
    stage
        .controller
        .settles("the edit to be said", SOON, |status| {
            status.0["problems"].to_string().contains(said)
        })
        .await?;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.controller.status().await?.counter("reloads"), 0);
    stage.add(lab, 6)?;
    stage.serves_all().await?;
    let once = |status: &Status| status.counter("reloads") == 1;
    stage.controller.settles("one reload", SOON, once).await?;
    stage.settled().await?;
    assert!(limits(&stage.haproxy).await?.contains(&"s6 11".to_owned()));
    stage.add(lab, 7)?;
    stage.serves_all().await?;
    assert!(limits(&stage.haproxy).await?.contains(&"s7 11".to_owned()));
    stage.settled().await?;
    assert_eq!(stage.controller.status().await?.counter("reloads"), 1);
    Ok(())
}

#[test]
fn a_haproxy_of_our_own_gets_the_files_of_a_directory_too() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let Files { base, ours } = files(lab)?;
        let dir = base.parent().unwrap_or(&base).to_owned();
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?.after(dir);
        let stage = Scenario::start_with(lab, haproxy, 2, &[], |options| {
            options.template(ours).sections(OFTEN).spawn_haproxy()
        })
        .await?;
        stage.settled().await?;
        assert_eq!(limits(&stage.haproxy).await?, ["s1 7", "s2 7"]);
        let status = stage.controller.status().await?;
        assert_eq!(status.counter("reloads"), 0);
        Ok(())
    });
}
