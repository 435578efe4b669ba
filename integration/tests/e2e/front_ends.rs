//! What front ends do with requests and connections, right ones and wrong ones, on every HAProxy.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::controller::ControllerOptions;
use integration::http::{Answer, ask_from, get, get_whole};
use integration::scenario::Scenario;
use integration::tls::shake;
use integration::{Certificate, HaproxyKind, Manners, TestEnv, Web, on_each_haproxy, wait_for};
use tokio::net::UdpSocket;

on_each_haproxy! {
    an_edge_redirects_forwards_and_answers_challenges => edge;
    only_who_may_begins_with_proxy => proxy;
    several_front_ends_send_connections_by_their_names => names;
}

const PLAIN: u16 = 8080;
const TLS: u16 = 8443;
/// The last octets of a proxy whose word counts, of the responder, and of whoever reads the log.
const PROXY: u8 = 50;
const RESPONDER: u8 = 51;
const LOG: u8 = 52;
/// A stranger.
const CLIENT: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The value of a header of the request that a server got; several are parted by `|`.
fn header(answer: &Answer, name: &str) -> String {
    let values = answer.body.lines().filter_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    values.collect::<Vec<_>>().join("|")
}

fn edge_keys(lab: &TestEnv, options: ControllerOptions) -> Result<ControllerOptions> {
    let certs = lab.path("certs");
    fs::create_dir(&certs)?;
    fs::write(certs.join("a.pem"), Certificate::of("a.example")?.pem())?;
    let net = lab.net();
    let keys = format!(
        "tls_bind = \"{}\"\ncertificates = {certs:?}\nhttps_redirect = true\nhsts = {{ max_age = \"1day\", subdomains = true }}\n\
         trusted_proxies = \"{}\"\nacme = \"{}\"\nlog = \"{} local0\"\nlog_format = \"json\"\nexporter_bind = \"{}\"\n",
        net.addr(1, TLS),
        net.ip(PROXY),
        net.addr(RESPONDER, 80),
        net.addr(LOG, 5140),
        net.addr(1, 8405),
    );
    Ok(options.frontend(&keys))
}

async fn edge(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let net = lab.net();
    let log = UdpSocket::bind(net.addr(LOG, 5140)).await?;
    let _responder = Web::start("responder", net.addr(RESPONDER, 80))?;
    let mut keys = Ok(());
    let stage = Scenario::start_on(lab, kind, 1, |options| {
        edge_keys(lab, options.clone()).unwrap_or_else(|error| {
            keys = Err(error);
            options
        })
    })
    .await?;
    keys?;
    stage.settled().await?;
    let (plain, tls) = (net.addr(1, PLAIN), net.addr(1, TLS));
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n";

    // TLS, from a stranger who says what is not so
    let shaken = shake(tls, "a.example", &["http/1.1"]).await?;
    let answer = shaken.ask("a.example", "/head", forged).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-port", "8443"),
        ("forwarded", ""),
    ] {
        assert_eq!(header(&answer, name), value, "{name}: {answer:?}");
    }
    let hsts = "strict-transport-security: max-age=86400; includesubdomains";
    ensure!(answer.head.contains(hsts), "{answer:?}");
    assert_eq!(
        shake(tls, "a.example", &["h2", "http/1.1"]).await?.alpn,
        Some("h2".to_owned())
    );

    // plain HTTP is sent to TLS, whatever a stranger says
    let request =
        format!("GET /x?y=1 HTTP/1.1\r\nHost: a.example:8080\r\n{forged}Connection: close\r\n\r\n");
    let answer = ask_from(CLIENT, plain, request.as_bytes()).await?;
    assert_eq!(answer.status, 308, "{answer:?}");
    ensure!(
        answer
            .head
            .contains("location: https://a.example:8443/x?y=1\r\n"),
        "{answer:?}"
    );
    ensure!(!answer.head.contains("strict-transport"), "{answer:?}");
    let answer = ask_from(CLIENT, plain, b"GET / HTTP/1.0\r\n\r\n").await?;
    assert_eq!(answer.status, 400);

    // a proxy is believed, on each request of a connection by itself
    let request = |more: &str, end: &str| {
        format!(
            "GET /head HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n{more}{end}\r\n"
        )
    };
    let two =
        request("", "") + &request("X-Forwarded-Host: b.example\r\n", "Connection: close\r\n");
    let answer = ask_from(net.ip(PROXY), plain, two.as_bytes()).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let (_, second) = answer
        .body
        .split_once("HTTP/1.1 200")
        .context("two answers")?;
    let second = Answer {
        body: second.to_owned(),
        ..answer.clone()
    };
    let from = format!("192.0.2.9|{}", net.ip(PROXY));
    assert_eq!(header(&second, "x-forwarded-for"), from, "{answer:?}");
    assert_eq!(header(&second, "x-forwarded-proto"), "https");
    assert_eq!(header(&second, "x-forwarded-host"), "b.example");
    let plainly = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let answer = ask_from(net.ip(PROXY), plain, plainly.as_bytes()).await?;
    assert_eq!(answer.status, 308);

    // challenges are answered before any redirect
    let request = "GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let answer = ask_from(CLIENT, plain, request.as_bytes()).await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "responder"));

    is_logged(&log, tls).await?;
    let metrics = get_whole(net.addr(1, 8405), "/metrics").await?;
    ensure!(
        metrics
            .body
            .contains("haproxy_frontend_http_requests_total"),
        "{metrics:?}"
    );
    assert_eq!(get(net.addr(1, 8405), "/").await?.status, 404);
    Ok(())
}

/// A line of the log is JSON, whatever a client sends.
async fn is_logged(log: &UdpSocket, tls: std::net::SocketAddr) -> Result<()> {
    let path = "/quote\"s{%7B}\\x";
    let shaken = shake(tls, "a.example", &[]).await?;
    let _ = shaken.ask("a.example", path, "").await;
    let mut buffer = vec![0; 4096];
    let found = async {
        loop {
            let length = log.recv(&mut buffer).await?;
            let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let Some((_, json)) = line.split_once(": {") else {
                // of a connection that failed before any request
                continue;
            };
            let line: serde_json::Value = serde_json::from_str(&format!("{{{json}"))
                .with_context(|| format!("no JSON: {json}"))?;
            if line["uri"]
                .as_str()
                .is_some_and(|uri| uri.contains("quote"))
            {
                return anyhow::Ok(line);
            }
        }
    };
    let line = tokio::time::timeout(SOON, found).await??;
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    assert_eq!(line["host"], "a.example", "{line}");
    assert_eq!(line["method"], "GET", "{line}");
    assert_eq!(line["uri"], path, "{line}");
    assert!(
        line["status"].is_number() && line["total_ms"].is_number(),
        "{line}"
    );
    Ok(())
}

async fn proxy(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let net = lab.net();
    let keys = format!("accept_proxy = \"{}\"\nforwarded = true", net.ip(PROXY));
    let stage = Scenario::start_on(lab, kind, 1, |options| options.frontend(&keys)).await?;
    let front = stage.controller.front();
    let request = "GET /head HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let line = "PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\n";
    let with = format!("{line}{request}");
    let answer = ask_from(net.ip(PROXY), front, with.as_bytes()).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(header(&answer, "x-forwarded-for"), "192.0.2.7");
    assert_eq!(header(&answer, "x-forwarded-port"), "80");
    let without = ask_from(net.ip(PROXY), front, request.as_bytes()).await;
    ensure!(without.is_err(), "{without:?}");
    let stranger = ask_from(CLIENT, front, with.as_bytes()).await;
    ensure!(
        stranger.as_ref().map_or(true, |it| it.status == 400),
        "{stranger:?}"
    );
    let answer = ask_from(CLIENT, front, request.as_bytes()).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(header(&answer, "x-forwarded-for"), "127.0.0.1");
    Ok(())
}

async fn names(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let net = lab.net();
    let (db, inside) = (net.addr(1, 5432), net.addr(1, 5433));
    let sni = "{ \"db.example.com\" = \"db\", \"*.example.com\" = \"cache\" }";
    let certs = lab.path("certs");
    fs::create_dir(&certs)?;
    fs::write(
        certs.join("a.pem"),
        Certificate::of("db.example.com")?.pem(),
    )?;
    let tables = format!(
        "[[frontend]]\nname = \"web\"\nbind = \"{}\"\ndefault_backend = \"nodes\"\n\
         [[frontend]]\nname = \"db-in\"\nbind = \"{db}\"\nsni = {sni}\n\
         [[frontend]]\nname = \"ends-here\"\ntls_bind = \"{inside}\"\ncertificates = {certs:?}\nmode = \"tcp\"\n\
         default_backend = \"nodes\"\nsni = {{ \"db.example.com\" = \"plain\" }}\n",
        net.addr(1, PLAIN)
    );
    let backends = ["db", "cache", "plain"].map(|name| {
        format!("[[backend]]\nname = \"{name}\"\nmode = \"tcp\"\ntags = {{ role = \"{name}\" }}\nport = 3000\n")
    });
    let mut stage = Scenario::start_on(lab, kind, 1, |options| {
        options.front_ends(&tables).sections(&backends.concat())
    })
    .await?;
    for (number, name) in [(11, "db"), (12, "cache")] {
        let manners = Manners::default().tls("inside.example")?;
        let web = Web::with_manners(name, net.addr(200 + number, 3000), manners);
        stage.join(web, name)?;
    }
    stage.join(Web::new("plain", net.addr(220, 3000)), "plain")?;
    for name in ["db", "cache", "plain"] {
        stage.haproxy.serves(name, &[name], SOON).await?;
    }
    let says = async |addr, host: &str| {
        let answer = shake(addr, host, &[]).await?.ask(host, "/", "").await?;
        anyhow::Ok(answer.body)
    };
    assert_eq!(says(db, "db.example.com").await?, "db");
    assert_eq!(says(db, "DB.Example.Com").await?, "db");
    assert_eq!(says(db, "x.example.com").await?, "cache");
    for stranger in [
        "example.com",
        "a.b.example.com",
        "xdb.example.comm",
        "nobody.example",
    ] {
        let refused = says(db, stranger).await;
        ensure!(refused.is_err(), "{stranger}: {refused:?}");
    }
    assert_eq!(says(inside, "db.example.com").await?, "plain");
    assert_eq!(says(inside, "x.example.com").await?, "s1");
    assert_eq!(get(net.addr(1, PLAIN), "/").await?.body, "s1");
    wait_for("no old worker", Duration::from_secs(60), async || {
        stage.haproxy.old_workers().is_ok_and(|old| old < 3)
    })
    .await
}
