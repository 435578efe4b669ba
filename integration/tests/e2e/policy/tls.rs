//! Servers that are spoken to over TLS and HTTP/2.
//!
//! The servers are HAProxy's of the same version: they answer with what they heard, the version of HTTP and the name.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::http;
use integration::manners::Certificate;
use integration::scenario::{Scenario, backend};
use integration::{Haproxy, HaproxyKind, Manners, TestEnv, Web, on_each_haproxy, wait_for};

use super::{get, reloads};

/// A certificate's file, and one with its key too.
struct Files {
    cert: PathBuf,
    both: PathBuf,
}

fn certificate(lab: &TestEnv, name: &str) -> Result<Files> {
    let made = Certificate::new(name)?;
    let (cert, both) = (
        lab.path(&format!("{name}.crt")),
        lab.path(&format!("{name}.pem")),
    );
    std::fs::write(&cert, made.pem())?;
    std::fs::write(&both, made.pem() + &made.key_pem())?;
    Ok(Files { cert, both })
}

/// Servers on the places of `s1`, over TLS, and `s2`, in clear HTTP/2.
async fn echo(lab: &TestEnv, kind: HaproxyKind, certificate: &Files) -> Result<Haproxy> {
    let dir = lab.path("echo");
    std::fs::create_dir(&dir)?;
    let mut haproxy = Haproxy::prepare_in(&dir, kind).await?;
    // In the container its directory alone is seen.
    let pem = dir.join("site.pem");
    std::fs::copy(&certificate.both, &pem)?;
    let answer = "http-request return status 200 content-type text/plain lf-string \"%[fc_http_major] %[ssl_fc_sni]\"";
    let text = format!(
        "global\n    stats socket {} mode 600 level admin\n\
         defaults\n    mode http\n    timeout client 10s\n    timeout connect 1s\n    timeout server 1s\n\
         frontend tls\n    bind {} ssl crt {} alpn h2,http/1.1\n    {answer}\n\
         frontend clear\n    bind {} proto h2\n    {answer}\n",
        haproxy.stats_socket().display(),
        lab.net().addr(101, 3000),
        pem.display(),
        lab.net().addr(102, 3000),
    );
    std::fs::write(haproxy.config(), text)?;
    haproxy.start().await?;
    Ok(haproxy)
}

/// What the server hears of a request for this host.
async fn heard(stage: &Scenario, host: &str) -> Result<String> {
    let headers = format!("host: {host}\r\n");
    let answer = http::ask(stage.controller.front(), "GET", "/", &headers).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.body.trim().to_owned())
}

async fn served(stage: &Scenario, name: &str) -> Result<()> {
    stage.haproxy.serves("nodes", &[name], SOON).await
}

/// A backend of one server, over TLS, from its first join on; says what was heard.
async fn over_tls(lab: &TestEnv, kind: HaproxyKind, config: &str) -> Result<Scenario> {
    let stage = Scenario::start_on(lab, kind, 0, |options| options.backend(config)).await?;
    stage.agent.put(backend("s1", stage.ip(lab, 1)).build());
    served(&stage, "s1").await?;
    ensure!(reloads(&stage).await? == 0, "the first join reloaded");
    Ok(stage)
}

/// The name of the request goes into the handshake, the certificate has to have it, and the check is asked the same way.
async fn by_host(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let made = certificate(lab, "web.example")?;
    let _echo = echo(lab, kind, &made).await?;
    let config = format!(
        "tls = {{ ca_file = {:?}, sni = \"host\" }}\nretry = {{ attempts = 1 }}\neject = false\n\
         check = {{ method = \"HEAD\", path = \"/\", host = \"web.example\" }}",
        made.cert
    );
    let stage = over_tls(lab, kind, &config).await?;
    ensure!(heard(&stage, "web.example:8080").await? == "1 web.example");
    let other = http::ask(
        stage.controller.front(),
        "GET",
        "/",
        "host: other.example\r\n",
    )
    .await?;
    ensure!(
        other.status == 503,
        "a certificate for another name is taken: {other:?}"
    );
    Ok(())
}

/// A fixed name, HTTP/2, and a certificate that nobody looks at.
async fn by_name(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let made = certificate(lab, "web.example")?;
    let _echo = echo(lab, kind, &made).await?;
    let config =
        "tls = { verify = \"none\", sni = \"fixed.example\" }\nproto = \"h2\"\ncheck = \"HEAD /\"";
    let stage = over_tls(lab, kind, config).await?;
    ensure!(heard(&stage, "web.example").await? == "2 fixed.example");
    Ok(())
}

/// HTTP/2 in clear: a join is a reload on 2.6, which takes no such server at runtime for sure, and none since.
async fn clear(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let made = certificate(lab, "web.example")?;
    let _echo = echo(lab, kind, &made).await?;
    let config = "proto = \"h2\"\ncheck = \"HEAD /\"";
    let stage = Scenario::start_on(lab, kind, 0, |options| options.backend(config)).await?;
    stage.agent.put(backend("s2", stage.ip(lab, 2)).build());
    served(&stage, "s2").await?;
    ensure!(heard(&stage, "web.example").await? == "2");
    let version = stage.haproxy.worker().await?.version;
    let reloaded = reloads(&stage).await?;
    ensure!(
        (reloaded > 0) == version.starts_with("2."),
        "{reloaded} reloads on {version}"
    );
    Ok(())
}

/// Without a word about it, it is HTTP/1.1.
async fn plain(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let made = certificate(lab, "web.example")?;
    let _echo = echo(lab, kind, &made).await?;
    let config = "tls = { verify = \"none\" }\ncheck = { path = \"/\" }";
    let stage = over_tls(lab, kind, config).await?;
    ensure!(heard(&stage, "web.example").await? == "1");
    Ok(())
}

/// A server whose certificate nobody has signed that is trusted gets no request; one with the right one does.
async fn verified(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let made = Certificate::new("web.example")?;
    let manners = Manners::default().certified(&made)?;
    let ca = lab.path("ca.pem");
    std::fs::write(&ca, made.pem())?;
    let config = format!(
        "tls = {{ ca_file = {ca:?}, verify_host = \"web.example\" }}\ncheck = \"HEAD /health\""
    );
    let mut stage = Scenario::start_on(lab, kind, 0, |options| options.backend(&config)).await?;
    let place = |last| lab.net().addr(last, integration::cluster::WEB_PORT);
    let wrong = Manners::default().tls("web.example")?;
    stage.join(Web::with_manners("wrong", place(101), wrong), "backend")?;
    wait_for("its check to have failed", SOON, async || {
        let lines = stage.haproxy.stat().await.unwrap_or_default();
        let mut own = lines.iter().filter(|line| line.get("svname") == "wrong");
        own.any(|line| line.get("check_status") == "L6RSP")
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.join(Web::with_manners("right", place(102), manners), "backend")?;
    served(&stage, "right").await?;
    for _ in 0..10 {
        let answer = get(stage.controller.front(), "/", "").await?;
        ensure!(
            (answer.status, answer.body.as_str()) == (200, "right"),
            "{answer:?}"
        );
    }
    ensure!(stage.webs[0].requests() == 0, "the wrong one got requests");
    ensure!(reloads(&stage).await? == 0, "a join reloaded");
    Ok(())
}

on_each_haproxy! {
    the_name_of_a_request_goes_into_the_handshake => by_host;
    http2_is_spoken_over_tls_under_a_fixed_name => by_name;
    http2_is_spoken_in_clear => clear;
    http1_is_spoken_where_nothing_is_said => plain;
    a_server_with_another_certificate_gets_no_request => verified;
}
