//! The controller's file and its reloads against the real HAProxy.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controller::haproxy::file::{ConfigFile, FileError, Owner};
use controller::haproxy::message::Level;
use controller::haproxy::reload::{ReloadError, ReloadWay, reload};
use controller::haproxy::runtime::RuntimeApi;
use integration::on_each_haproxy;
use integration::{Haproxy, HaproxyKind, TestEnv, Web, web};
use planner::model::Worker;
use planner::stamp::Stamp;

const FIRST_LINE: &str = "# ours";
const LONG: Duration = Duration::from_secs(20);

on_each_haproxy! {
    a_reload_ends_with_the_worker_that_runs_the_new_text => new_text;
    a_reload_of_the_same_text_ends_with_another_worker => same_text;
    a_text_that_passes_the_check_but_cannot_bind_fails_and_the_old_worker_serves => unbindable;
    a_command_reloads_or_says_why_not => command;
    a_worker_with_another_stamp_is_no_success => other_stamp;
    a_bad_text_is_refused_with_its_lines_before_it_is_in_place => bad_text;
    a_file_of_somebody_else_is_refused_until_adopted => foreign;
    mode_and_symlink_survive_what_haproxy_loads => symlinked;
}

async fn new_text(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let place = Place::start(lab, kind).await?;
    let mut before = place.api.worker().await?;
    for n in 2..5 {
        place.write(n, front(lab)).await?;
        let worker = place.reload(Some(&before), n).await?;
        ensure!(
            worker.pid != before.pid && worker.stamp == Some(stamp(n)),
            "{worker}"
        );
        before = worker;
    }
    assert_eq!(web::ask(front(lab)).await.as_deref(), Some("s1"));
    Ok(())
}

async fn same_text(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let place = Place::start(lab, kind).await?;
    let before = place.api.worker().await?;
    let worker = place.reload(Some(&before), 1).await?;
    ensure!(!before.is_same(&worker), "{before}, {worker}");
    Ok(())
}

async fn unbindable(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let place = Place::start(lab, kind).await?;
    let before = place.api.worker().await?;
    // nobody here has this address (RFC 5737)
    let file = place.file();
    let staged = file.stage(place.text(2, "192.0.2.1:80".parse()?)).await?;
    let checked = staged.check(&place.haproxy.check_command(), LONG).await?;
    ensure!(checked.valid, "{checked:?}");
    staged.commit(|_| true).await?;
    let started = Instant::now();
    let error = place
        .reload(Some(&before), 2)
        .await
        .err()
        .context("an error")?;
    let ReloadError::Failed { messages } = &error else {
        anyhow::bail!("{error}")
    };
    ensure!(
        started.elapsed() < LONG / 2,
        "known after {:?}",
        started.elapsed()
    );
    if before.version.major >= 3 {
        let alert = messages
            .iter()
            .find(|complaint| complaint.level == Level::Alert)
            .context("an alert")?;
        ensure!(alert.text.contains("cannot bind socket"), "{alert}");
        ensure!(
            alert
                .location
                .as_ref()
                .is_some_and(|(path, _)| *path == place.haproxy.config()),
            "{alert:?}"
        );
        ensure!(error.to_string().contains("cannot bind socket"), "{error}");
    }
    let now = place.api.worker().await?;
    ensure!(before.is_same(&now), "{now}");
    assert_eq!(web::ask(front(lab)).await.as_deref(), Some("s1"));

    place.write(3, front(lab)).await?;
    place.reload(Some(&now), 3).await?;
    assert_eq!(web::ask(front(lab)).await.as_deref(), Some("s1"));
    Ok(())
}

async fn command(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let place = Place::start(lab, kind).await?;
    let before = place.api.worker().await?;
    let shell = |script: String| ["sh".to_owned(), "-c".to_owned(), script];
    let by = async |script: String, timeout| {
        reload(
            &ReloadWay::Command(shell(script).into()),
            &place.api,
            Some(&before),
            &stamp(2),
            timeout,
        )
        .await
    };
    place.write(2, front(lab)).await?;
    let error = by("echo no such unit >&2; exit 5".to_owned(), LONG)
        .await
        .err()
        .context("an error")?;
    assert_eq!(
        error.to_string(),
        "the reload command failed with exit code 5: no such unit"
    );
    let error = by("true".to_owned(), Duration::from_millis(300))
        .await
        .err()
        .context("an error")?;
    ensure!(
        matches!(&error, ReloadError::SameWorker { worker, .. } if worker.pid == before.pid),
        "{error}"
    );
    let error = by("sleep 1000".to_owned(), Duration::from_millis(300))
        .await
        .err()
        .context("an error")?;
    ensure!(matches!(error, ReloadError::Command(_)), "{error}");
    let worker = by(format!("kill -USR2 {}", place.haproxy.master_pid()?), LONG).await?;
    ensure!(
        worker.pid != before.pid && worker.stamp == Some(stamp(2)),
        "{worker}"
    );
    Ok(())
}

async fn other_stamp(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut place = Place::start(lab, kind).await?;
    let before = place.api.worker().await?;
    place.write(2, front(lab)).await?;
    let error = place
        .reload(Some(&before), 3)
        .await
        .err()
        .context("an error")?;
    ensure!(
        matches!(&error, ReloadError::OtherStamp { worker, .. } if worker.stamp == Some(stamp(2))),
        "{error}"
    );
    place.haproxy.kill().await?;
    let error = place
        .reload(Some(&before), 2)
        .await
        .err()
        .context("an error")?;
    ensure!(matches!(error, ReloadError::Master(_)), "{error}");
    let command = ["true".to_owned()];
    let way = &ReloadWay::Command(command.into());
    let gone = reload(way, &place.api, None, &stamp(2), Duration::from_millis(200)).await;
    ensure!(
        matches!(gone, Err(ReloadError::NoWorker { .. })),
        "{gone:?}"
    );
    Ok(())
}

async fn bad_text(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let place = Place::start(lab, kind).await?;
    let text = place.text(2, front(lab)).replace(
        "    balance roundrobin\n",
        "    balance roundrobin\n    nonsense\n",
    );
    let line = text
        .lines()
        .position(|line| line.contains("nonsense"))
        .context("its line")?
        + 1;
    let staged = place
        .file()
        .stage(text + "backend nodes2\n    server s1 127.0.0.1:99999\n")
        .await?;
    let checked = staged.check(&place.haproxy.check_command(), LONG).await?;
    assert!(
        !checked.valid && checked.status == "exit code 1",
        "{checked:?}"
    );
    let lines: Vec<usize> = checked
        .messages
        .iter()
        .filter_map(|message| message.location.clone())
        .map(|(path, line)| {
            assert_eq!(path, place.haproxy.config());
            line
        })
        .collect();
    assert_eq!(lines, [line, line + 3], "{checked:?}");
    drop(staged);
    assert_eq!(
        fs::read_to_string(place.haproxy.config())?,
        place.text(1, front(lab))
    );
    Ok(())
}

async fn foreign(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let place = Place::start(lab, kind).await?;
    let theirs = place.text(1, front(lab)).replace(FIRST_LINE, "# theirs");
    fs::write(place.haproxy.config(), &theirs)?;
    let mut file = place.file();
    assert_eq!(file.owner().await?, Owner::Foreign);
    let refused = file
        .stage(place.text(2, front(lab)))
        .await?
        .commit(|_| true)
        .await;
    ensure!(
        matches!(refused, Err(FileError::Foreign { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read_to_string(place.haproxy.config())?, theirs);
    file.adopt().await?;
    let before = place.api.worker().await?;
    file.stage(place.text(2, front(lab)))
        .await?
        .commit(|_| true)
        .await?;
    place.reload(Some(&before), 2).await?;
    assert_eq!(
        fs::read_to_string(lab.path("haproxy.cfg.before-serf-haproxy"))?,
        theirs
    );
    assert_eq!(file.owner().await?, Owner::Ours);
    Ok(())
}

async fn symlinked(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let place = Place::start(lab, kind).await?;
    let real = lab.path("real.cfg");
    fs::rename(place.haproxy.config(), &real)?;
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600))?;
    symlink("real.cfg", place.haproxy.config())?;
    let before = place.api.worker().await?;
    place.write(2, front(lab)).await?;
    place.reload(Some(&before), 2).await?;
    assert!(fs::symlink_metadata(place.haproxy.config())?.is_symlink());
    assert_eq!(fs::metadata(&real)?.mode() & 0o7777, 0o600);
    assert_eq!(fs::read_to_string(&real)?, place.text(2, front(lab)));
    Ok(())
}

/// A HAProxy that runs a file of ours with stamp 1 and one web server.
struct Place {
    haproxy: Haproxy,
    api: RuntimeApi,
    web: Web,
}

impl Place {
    async fn start(lab: &TestEnv, kind: HaproxyKind) -> Result<Self> {
        let haproxy = Haproxy::prepare(lab, kind).await?;
        let api = RuntimeApi::new(haproxy.stats_socket());
        let web = Web::start("s1", lab.net().addr(2, 3000))?;
        let mut place = Self { haproxy, api, web };
        place.write(1, front(lab)).await?;
        place.haproxy.start().await?;
        Ok(place)
    }

    fn file(&self) -> ConfigFile {
        ConfigFile::new(self.haproxy.config(), FIRST_LINE)
    }

    /// The text with this stamp, checked and put in place.
    async fn write(&self, n: u8, bind: SocketAddr) -> Result<()> {
        let staged = self.file().stage(self.text(n, bind)).await?;
        let checked = staged.check(&self.haproxy.check_command(), LONG).await?;
        ensure!(checked.valid, "{checked:?}");
        staged.commit(|_| true).await?;
        Ok(())
    }

    fn text(&self, n: u8, bind: SocketAddr) -> String {
        format!(
            "{FIRST_LINE}\nglobal\n    description serf-haproxy {}\n    stats socket {} mode 600 level admin\n    hard-stop-after 2s\n\
             defaults\n    mode http\n    timeout connect 500ms\n    timeout client 10s\n    timeout server 10s\n\
             frontend front\n    bind {bind}\n    default_backend nodes\n\
             backend nodes\n    balance roundrobin\n    server s1 {}\n",
            stamp(n),
            self.haproxy.stats_socket().display(),
            self.web.addr(),
        )
    }

    async fn reload(&self, before: Option<&Worker>, n: u8) -> Result<Worker, ReloadError> {
        reload(
            &ReloadWay::MasterSocket(self.haproxy.master_socket().into()),
            &self.api,
            before,
            &stamp(n),
            LONG,
        )
        .await
    }
}

fn front(lab: &TestEnv) -> SocketAddr {
    lab.net().addr(1, 8080)
}

fn stamp(n: u8) -> Stamp {
    Stamp(format!("{n:016x}"))
}
