//! Certificates of a directory, on every HAProxy: what changes there is in force without a reload and without a failed
//! handshake; what is broken changes nothing, is named, and keeps nobody from starting.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::cluster::{SOON, first_file};
use integration::controller::{ControllerOptions, Status};
use integration::scenario::Scenario;
use integration::tls::{Clients, shake};
use integration::{Certificate, HaproxyKind, TestEnv, on_each_haproxy, wait_for};

on_each_haproxy! {
    certificates_change_under_load_without_a_reload => change;
    a_broken_file_changes_nothing_and_keeps_nobody_from_starting => broken;
}

fn directory(lab: &TestEnv) -> Result<PathBuf> {
    let directory = lab.path("certs");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn front(lab: &TestEnv) -> SocketAddr {
    lab.net().addr(1, 8443)
}

fn configure(lab: &TestEnv, options: ControllerOptions) -> ControllerOptions {
    let keys = format!(
        "tls_bind = \"{}\"\ncertificates = {:?}",
        front(lab),
        lab.path("certs")
    );
    options.frontend(&keys)
}

/// Puts a file there as the usual tools do: whole.
fn put(lab: &TestEnv, name: &str, text: &str) -> Result<()> {
    let (new, path) = (lab.path("certs").join(".new"), lab.path("certs").join(name));
    fs::write(&new, text)?;
    Ok(fs::rename(new, path)?)
}

/// Waits until who asks for this host is shown that certificate; how long that took.
async fn shows(lab: &TestEnv, host: &str, certificate: &Certificate) -> Result<Duration> {
    let started = Instant::now();
    wait_for("the certificate", SOON, async || {
        let shaken = shake(front(lab), host, &[]).await;
        shaken.is_ok_and(|shaken| shaken.certificate == certificate.der)
    })
    .await?;
    Ok(started.elapsed())
}

async fn change(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let directory = directory(lab)?;
    let first = Certificate::of("www.example")?;
    put(lab, "www.pem", &first.pem())?;
    let mut stage = Scenario::start_on(lab, kind, 2, |options| configure(lab, options)).await?;
    stage.settled().await?;
    shows(lab, "www.example", &first).await?;
    // whoever asks for nobody known gets the first
    shows(lab, "nobody.example", &first).await?;
    let reloads = stage.controller.status().await?.counter("reloads");
    let clients = Clients::start(front(lab), "www.example", 4);

    let second = Certificate::of("www.example")?;
    put(lab, "www.pem", &second.pem())?;
    let took = shows(lab, "www.example", &second).await?;
    println!("{kind:?}: replaced after {took:?}");
    shows(lab, "nobody.example", &second).await?;
    let other = Certificate::of("other.example")?;
    put(lab, "other.pem", &other.pem())?;
    let took = shows(lab, "other.example", &other).await?;
    println!("{kind:?}: added after {took:?}");
    // as Certbot does it: its directory has links, and a renewal sets others
    let certbot = directory.join("certbot.example");
    fs::create_dir(&certbot)?;
    let mut live = Vec::new();
    for number in 1..=2 {
        let made = Certificate::of("certbot.example")?;
        fs::write(lab.path(&format!("fullchain{number}.pem")), made.chain())?;
        fs::write(lab.path(&format!("privkey{number}.pem")), made.key())?;
        for file in ["fullchain", "privkey"] {
            let link = certbot.join(format!("{file}.pem"));
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(lab.path(&format!("{file}{number}.pem")), link)?;
        }
        shows(lab, "certbot.example", &made).await?;
        live.push(made);
    }
    fs::remove_file(directory.join("other.pem"))?;
    shows(lab, "other.example", &live[1]).await?;

    let (done, failed) = clients.stop().await;
    println!("{kind:?}: {done} handshakes, {} failed", failed.len());
    ensure!(
        failed.is_empty(),
        "{} of {done} failed: {:?}",
        failed.len(),
        failed.first()
    );
    ensure!(done > 20, "only {done} handshakes");
    stage.settled().await?;
    let status = stage.controller.status().await?;
    assert_eq!(status.counter("reloads"), reloads);
    let names: Vec<&str> = status.0["certificates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|certificate| certificate["name"].as_str())
        .collect();
    assert_eq!(names, ["certbot.example", "www"]);

    // what a worker starts with is what was in force
    stage.haproxy.kill().await?;
    stage.haproxy.start().await?;
    shows(lab, "www.example", &second).await?;
    shows(lab, "certbot.example", &live[1]).await?;
    stage.controller.restart()?;
    stage.settled().await?;
    stage.haproxy.reload().await?;
    shows(lab, "www.example", &second).await?;
    Ok(())
}

/// What `serf-haproxy check` says.
async fn checks_say(stage: &mut Scenario) -> Result<String> {
    let output = stage.controller.options().run("check", &[]).await?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn names_it(status: &Status) -> bool {
    let problems = status.0["problems"].as_array();
    problems.is_some_and(|problems| {
        let of_www = |problem: &&serde_json::Value| problem["what"] == "certificate main/www";
        problems.iter().find(of_www).is_some()
    })
}

async fn broken(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    directory(lab)?;
    let (good, other) = (
        Certificate::of("www.example")?,
        Certificate::of("other.example")?,
    );
    put(lab, "www.pem", &good.pem())?;
    let mut stage = Scenario::start_on(lab, kind, 1, |options| configure(lab, options)).await?;
    stage.settled().await?;
    shows(lab, "www.example", &good).await?;
    let reloads = stage.controller.status().await?.counter("reloads");
    let cut = &good.pem()[..300];
    for text in [
        "nonsense",
        cut,
        &good.chain(),
        &(good.chain() + &other.key()),
    ] {
        put(lab, "www.pem", text)?;
        let told = stage.controller.settles("it to be named", SOON, names_it);
        let told = told.await?;
        assert_eq!(told.0["certificates"][0]["state"], "kept", "{told:?}");
        shows(lab, "www.example", &good).await?;
        assert!(
            checks_say(&mut stage)
                .await?
                .contains("certs/www cannot be used")
        );
        put(lab, "www.pem", &good.pem())?;
        stage.settled().await?;
    }
    let said = checks_say(&mut stage).await?;
    ensure!(!said.contains("certs/www"), "{said}");
    assert_eq!(stage.controller.status().await?.counter("reloads"), reloads);

    // a restart of all with the broken file there: the one before is in force
    put(lab, "www.pem", &(good.chain() + &other.key()))?;
    stage
        .controller
        .settles("it to be named", SOON, names_it)
        .await?;
    stage.controller.kill();
    stage.haproxy.kill().await?;
    stage.haproxy.start().await?;
    shows(lab, "www.example", &good).await?;
    stage.controller.restart()?;
    stage
        .controller
        .settles("it to be named", SOON, names_it)
        .await?;
    shows(lab, "www.example", &good).await?;

    // and a first start with nothing but that
    stage.controller.kill();
    stage.haproxy.kill().await?;
    fs::remove_file(stage.haproxy.config())?;
    fs::remove_dir_all(stage.haproxy.config().with_extension("certificates"))?;
    stage.controller.restart()?;
    first_file(&stage.haproxy).await?;
    stage.haproxy.start().await?;
    stage
        .controller
        .settles("it to be named", SOON, names_it)
        .await?;
    let shaken = shake(front(lab), "www.example", &["h2", "http/1.1"]).await?;
    ensure!(shaken.certificate != good.der, "it was to be gone");
    put(lab, "www.pem", &good.pem())?;
    shows(lab, "www.example", &good).await?;
    stage.settled().await
}
