//! What is promised holds in the backend, whatever the front end and the defaults say, on every HAProxy; and so does
//! what a reload leaves behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::Scenario;
use integration::{Firewall, HaproxyKind, Need, TestEnv, on_each_haproxy, test};
use tokio::net::UnixStream;

/// A template with a front end of its own, and nothing in its defaults that would keep a promise.
fn template(lab: &TestEnv, more: &str) -> Result<PathBuf> {
    let path = lab.path("own.cfg.j2");
    write(&path, lab.net().addr(1, 8080), more)?;
    Ok(path)
}

fn write(path: &Path, front: SocketAddr, more: &str) -> Result<()> {
    let text = format!(
        "global\n    description \"serf-haproxy {{{{ stamp }}}}\"\n    \
         stats socket {{{{ haproxy.stats_socket }}}} mode 600 level admin expose-fd listeners\n    \
         hard-stop-after {{{{ hard_stop_after }}}}\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
         frontend own\n    bind {front}\n    default_backend nodes\n{more}\
         {{% include \"backends.cfg.j2\" %}}\n"
    );
    Ok(std::fs::write(path, text)?)
}

/// The status of the response to one request, 0 where none came.
fn status(front: SocketAddr, method: &str, path: &str) -> Result<u16> {
    let mut client = TcpStream::connect(front)?;
    client.set_read_timeout(Some(SOON * 2))?;
    write!(
        client,
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    )?;
    let mut reply = Vec::new();
    let _ = client.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let status = reply
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    Ok(status.and_then(|status| status.parse().ok()).unwrap_or(0))
}

async fn is_sent_once(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let own = template(lab, "")?;
    let stage = Scenario::start_on(lab, kind, 3, |options| options.template(own)).await?;
    let requests = || -> u64 { stage.webs.iter().map(integration::Web::requests).sum() };
    for (method, times) in [("POST", 1), ("DELETE", 1), ("GET", 9), ("OPTIONS", 9)] {
        let before = requests();
        assert_eq!(status(stage.controller.front(), method, "/close")?, 502);
        assert_eq!(requests() - before, times, "{method}");
    }
    Ok(())
}

async fn costs_no_request(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let own = template(lab, "")?;
    let stage = Scenario::start_on(lab, kind, 3, |options| options.template(own)).await?;
    let firewall = Firewall::new(lab)?;
    firewall.isolate(&[stage.ip(lab, 1)])?;
    let front = stage.controller.front();
    let clients: Vec<_> = (0..9)
        .map(|_| {
            std::thread::spawn(move || {
                let started = Instant::now();
                (status(front, "GET", "/").ok(), started.elapsed())
            })
        })
        .collect();
    for client in clients {
        let (status, took) = client.join().expect("no client panics");
        assert_eq!(status, Some(200));
        assert!(took < Duration::from_secs(4), "took {took:?}");
    }
    let errors = stage.haproxy.errors().await?;
    assert!(errors.redispatches > 0, "nothing was lost: {errors:?}");
    Ok(())
}

async fn is_not_tried(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let own = template(lab, "")?;
    let stage = Scenario::start_on(lab, kind, 1, |options| options.template(own.clone())).await?;
    stage.settled().await?;
    let taken = lab.net().addr(1, 5432);
    let _other = TcpListener::bind(taken)?;
    let more = format!("    .if streq(\"$SITE\",blue)\n    bind {taken}\n    .endif\n");
    write(&own, stage.controller.front(), &more)?;
    stage.controller.reload()?;
    let reloaded = |status: &Status| status.counter("reloads") == 1 && status.is_whole();
    let status = stage.controller.settles("a reload", SOON, reloaded).await?;
    assert_eq!(status.0["problems"], serde_json::json!([]));
    Ok(())
}

async fn are_told(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let own = template(lab, "")?;
    let stage = Scenario::start_on(lab, kind, 1, |options| {
        let often = "[drift]\ninterval = \"1s\"\n";
        options.template(own.clone()).sections(often)
    })
    .await?;
    stage.settled().await?;
    let front = stage.controller.front();
    let slow: Vec<_> = (0..3)
        .map(|_| std::thread::spawn(move || status(front, "GET", "/slow?ms=7000").ok()))
        .collect();
    // A client that is connected and silent is one too.
    let idle = TcpStream::connect(front)?;
    let held = |status: &Status| {
        let old = status.0["haproxy"]["old"].as_array()?;
        Some((old.len(), old.first()?["sessions"].as_u64()?))
    };
    let running = |lines: Vec<integration::haproxy::StatLine>| {
        let lines = lines.into_iter();
        let front = lines.filter(|line| line.get("svname") == "FRONTEND");
        front.map(|line| line.count("scur")).sum::<u64>()
    };
    integration::wait_for("the clients", SOON, async || {
        stage
            .haproxy
            .stat()
            .await
            .is_ok_and(|lines| running(lines) == 4)
    })
    .await?;
    write(&own, front, "    option dontlognull\n")?;
    stage.controller.reload()?;
    let four = |status: &Status| held(status) == Some((1, 4));
    stage
        .controller
        .settles("four sessions", SOON, four)
        .await?;
    let text = stage.controller.status_text().await?;
    assert!(
        text.contains("old      1 worker of earlier reloads, with 4 sessions"),
        "{text}"
    );
    for client in slow {
        assert_eq!(client.join().expect("no client panics"), Some(200));
    }
    drop(idle);
    let none = |status: &Status| status.0["haproxy"]["old"] == serde_json::json!([]);
    stage
        .controller
        .settles("no old worker", SOON, none)
        .await?;
    Ok(())
}

async fn are_borne_with(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Scenario::start_on(lab, kind, 1, |options| options).await?;
    let mut idle = Vec::new();
    for _ in 0..30 {
        idle.push(UnixStream::connect(stage.haproxy.stats_socket()).await?);
    }
    assert!(stage.haproxy.worker().await.is_ok(), "nobody gets in");
    stage.add(lab, 2)?;
    stage.serves_all().await?;
    stage.settled().await
}

on_each_haproxy! {
    a_post_whose_server_closes_is_sent_once => is_sent_once;
    a_port_in_a_false_condition_is_not_tried => is_not_tried;
    the_sessions_of_an_old_worker_are_told => are_told;
    idle_clients_of_the_stats_socket_are_borne_with => are_borne_with;
}

fn dead_host(kind: HaproxyKind) {
    test(&[Need::Haproxy(kind), Need::Firewall], async |lab| {
        costs_no_request(lab, kind).await
    });
}

#[test]
fn a_dead_host_costs_no_request_on_the_hosts_haproxy() {
    dead_host(HaproxyKind::Host);
}

#[test]
fn a_dead_host_costs_no_request_on_that_of_trixie() {
    dead_host(HaproxyKind::Trixie);
}

#[test]
fn a_dead_host_costs_no_request_on_that_of_sid() {
    dead_host(HaproxyKind::Sid);
}
