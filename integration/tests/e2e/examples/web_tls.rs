//! Clients speak TLS; web servers come and go meanwhile.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, ensure};
use base64::Engine as _;
use integration::wrk::{Connections, Wrk};
use integration::{Agent, HaproxyKind, Manners, TestEnv, Web, on_each_haproxy, web};

use super::Example;

on_each_haproxy! {
    clients_speak_tls_while_web_servers_join_and_leave => tls;
}

const HOST: &str = "www.example.com";

/// What answers on HTTPS, by a certificate that is looked at.
async fn ask(lab: &TestEnv, front: SocketAddr) -> Result<String> {
    let url = format!("https://{HOST}:{}/", front.port());
    let resolve = format!("{HOST}:{}:{}", front.port(), front.ip());
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "5", "--resolve", &resolve, &url]);
    command.arg("--cacert").arg(lab.path("site.pem"));
    integration::process::output(&mut command).await
}

/// Certificate and key in one file, as HAProxy takes them.
fn certificate(lab: &TestEnv) -> Result<()> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let block = |kind: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    };
    let key = block("PRIVATE KEY", &made.signing_key.serialize_der());
    let both = block("CERTIFICATE", made.cert.der()) + &key;
    lab.secret("site.pem", &both).map(drop)
}

/// A web server whose check wants to be asked for the site.
async fn join(example: &Example<'_>, name: &str, last: u8) -> Result<(Agent, Web)> {
    let manners = Manners::default().host(HOST);
    let mut web = Web::with_manners(name, (example.ip(last), 8080).into(), manners);
    web.listen()?;
    Ok((example.agent("web.json", name, last).await?, web))
}

async fn tls(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let example = Example::of(lab, "web-tls")?;
    certificate(lab)?;
    let mut balancer = example.balancer(kind).await?;
    let front = example.front(8443);
    let (mut first, _web1) = join(&example, "web1", 3).await?;
    balancer.serves("web", &["web1"]).await?;
    ensure!(ask(lab, front).await? == "web1", "over TLS");
    let plain = web::get(example.front(8080), "/").await;
    ensure!(
        plain.as_ref().is_some_and(|(status, _)| *status == 301),
        "{plain:?}"
    );

    let load = Wrk::on(lab, front, Connections::KeepAlive)
        .tls()
        .count(4)
        .start()?;
    let (_second, _web2) = join(&example, "web2", 4).await?;
    balancer.serves("web", &["web1", "web2"]).await?;
    first.leave().await?;
    balancer.serves("web", &["web2"]).await?;
    ensure!(ask(lab, front).await? == "web2", "the one that is left");
    let report = load.stop().await?;
    println!(
        "{kind:?}: {} requests, {} failed",
        report.requests,
        report.failed()
    );
    ensure!(report.requests > 0 && report.failed() == 0, "{report:?}");
    let said = balancer.is_well().await?;
    ensure!(!said.contains("warning"), "{said}");
    Ok(())
}
