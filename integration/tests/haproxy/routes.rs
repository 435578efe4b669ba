//! Random sets of routes on the real HAProxy: every request goes where `choose` says. `CAMPAIGN=1` for 10,000 sets on each
//! version, `SETS=…` for another number.
//!
//! A set has a front end and a map of its own, so that one HAProxy runs many.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use integration::compose::is_campaign;
use integration::process::find_program;
use integration::{Haproxy, HaproxyKind, TestEnv, on_each_haproxy};
use planner::config::{Config, Diagnostic};
use planner::model::Servers;
use planner::render::Renderer;
use planner::route::{Action, Request, Route, Routes, map};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::random_routes::{Sent, route};

on_each_haproxy! {
    a_request_goes_where_the_routes_say => law;
    a_client_stays_where_its_first_request_went => sticky;
    the_authority_of_http_2_is_the_host => http2;
}

/// So many sets without being asked for more, and with.
const SETS: (usize, usize) = (60, 10_000);
/// So many sets in one HAProxy.
const AT_ONCE: usize = 25;
/// Requests of a set.
const REQUESTS: usize = 12;
/// The first port.
const PORT: u16 = 20_000;
/// The backend of requests that no route takes.
const DEFAULT: &str = "b0";

/// A set of routes in a front end.
struct Set {
    /// The tables of the config.
    tables: String,
    config: Config,
    addr: SocketAddr,
    lines: String,
}

async fn law(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let asked = std::env::var("SETS")
        .ok()
        .and_then(|sets| sets.parse().ok());
    let wanted = asked.unwrap_or(if is_campaign() { SETS.1 } else { SETS.0 });
    let mut rng = Rng::with_seed(23);
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let (mut sets, mut refused, mut requests, mut taken) = (0, 0, 0, 0);
    while sets < wanted {
        let count = (wanted - sets).min(AT_ONCE);
        let mut batch = Vec::new();
        for number in 0..count {
            let (set, ambiguous) = Set::random(lab, &mut rng, number as u16)?;
            refused += ambiguous;
            batch.push(set);
        }
        start(lab, &mut haproxy, &batch).await?;
        for set in &batch {
            let sent: Vec<Sent> = (0..REQUESTS).map(|_| Sent::random(&mut rng)).collect();
            taken += set.compare(&sent).await?;
            requests += sent.len();
        }
        sets += count;
    }
    eprintln!(
        "{kind:?}: {requests} requests to {sets} random sets of routes: all as `choose` says, {taken} by a route; \
         {refused} routes refused as ambiguous"
    );
    ensure!(
        taken * 3 > requests,
        "routes take too few requests to tell much"
    );
    Ok(())
}

/// The front ends of these sets beside backends that say their names.
async fn start(lab: &TestEnv, haproxy: &mut Haproxy, sets: &[Set]) -> Result<()> {
    let mut text = format!(
        "global\n    stats socket {} mode 600 level admin\n    maxconn 2000\ndefaults\n    mode http\n    timeout client 10s\n    \
         timeout connect 1s\n    timeout server 10s\n",
        haproxy.stats_socket().display()
    );
    for set in sets {
        text += &set.lines;
        let entries = map::entries(&set.config.routing);
        std::fs::write(set.config.haproxy.routes_map(), map::text(&entries))?;
    }
    for number in 0..10 {
        let _ = writeln!(
            text,
            "backend b{number}\n    http-request return status 200 content-type text/plain hdr X-Path %[path] string b{number}"
        );
    }
    std::fs::write(haproxy.config(), text)?;
    haproxy
        .start()
        .await
        .with_context(|| format!("{:?}", lab.dir()))
}

impl Set {
    /// Some that do not clash, and how many more were refused.
    fn random(lab: &TestEnv, rng: &mut Rng, number: u16) -> Result<(Self, usize)> {
        let mut tables: Vec<String> = Vec::new();
        let mut refused = 0;
        let drawn: Vec<String> = (0..rng.usize(1..20)).map(|_| route(rng)).collect();
        let whole = parsed(lab, number, &drawn.concat());
        for table in &drawn {
            tables.push(table.clone());
            if whole.is_ok() {
                continue;
            }
            let Err(diagnostics) = parsed(lab, number, &tables.concat()) else {
                continue;
            };
            for diagnostic in diagnostics {
                let message = &diagnostic.message;
                ensure!(
                    message.contains("neither is more specific"),
                    "{diagnostic:?}\n{}",
                    tables.concat()
                );
            }
            refused += 1;
            tables.pop();
        }
        let config = parsed(lab, number, &tables.concat());
        let config = config.map_err(|diagnostics| anyhow::anyhow!("{diagnostics:?}"))?;
        let lines = frontend(&config, number)?;
        rng.shuffle(&mut tables);
        let shuffled = parsed(lab, number, &tables.concat());
        let shuffled = shuffled.map_err(|diagnostics| anyhow::anyhow!("{diagnostics:?}"))?;
        ensure!(
            frontend(&shuffled, number)? == lines,
            "the order matters:\n{}",
            tables.concat()
        );
        ensure!(map::entries(&shuffled.routing) == map::entries(&config.routing));
        let tables = tables.concat();
        let set = Self {
            tables,
            config,
            addr: addr(lab, number),
            lines,
        };
        Ok((set, refused))
    }

    /// Sends requests over one connection; returns how many a route has taken.
    async fn compare(&self, sent: &[Sent]) -> Result<usize> {
        let mut stream = BufReader::new(TcpStream::connect(self.addr).await?);
        let mut taken = 0;
        for (index, request) in sent.iter().enumerate() {
            let text = request.text(index + 1 == sent.len());
            stream.write_all(text.as_bytes()).await?;
            let (said, _) = answer(&mut stream).await.with_context(|| text.clone())?;
            let (expected, by_route) = expected(&self.config.routing, request);
            taken += usize::from(by_route);
            if said != expected {
                bail!(
                    "HAProxy: {said}, expected {expected}\n{text}\n{}\n{}",
                    self.tables,
                    self.lines
                );
            }
        }
        Ok(taken)
    }
}

fn addr(lab: &TestEnv, number: u16) -> SocketAddr {
    (lab.net().ip(1), PORT + number).into()
}

/// A config with these routes, ten backends and a map of its own.
fn parsed(lab: &TestEnv, number: u16, tables: &str) -> Result<Config, Vec<Diagnostic>> {
    let backends = (0..10)
        .map(|n| format!("[[backend]]\nname = \"b{n}\"\ntags = {{ role = \"x\" }}\nport = 3000\n"));
    let text = format!(
        "[haproxy]\nconfig = {:?}\n[frontend]\nbind = [\"{}\"]\ndefault_backend = {DEFAULT:?}\n{}{tables}",
        lab.path(&format!("set{number}.cfg")),
        addr(lab, number),
        backends.collect::<String>(),
    );
    Config::parse(&text, [])
}

/// The lines of the front end as the built-in template has them.
fn frontend(config: &Config, number: u16) -> Result<String> {
    let rendered = Renderer::built_in()?.render(config, &Servers::new())?;
    let (_, rest) = rendered
        .text
        .split_once("\nfrontend main\n")
        .context("no front end")?;
    let (lines, _) = rest.split_once("\nbackend ").context("no backend")?;
    Ok(format!("frontend f{number}\n{lines}\n"))
}

/// What comes back: the status, and where a server would have answered its backend, or where the client is sent.
fn expected(routes: &Routes, sent: &Sent) -> (String, bool) {
    let mut request = Request::new(sent.method, sent.host, sent.path);
    let headers = sent.headers.iter();
    request.headers = headers
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    request.from = Some([127, 0, 0, 1].into());
    let Ok(choice) = routes.choose(&request) else {
        return ("400".to_owned(), false);
    };
    let Some(winner) = choice.winner else {
        return (format!("200 {DEFAULT}"), false);
    };
    if winner.refusal.is_some() {
        return ("403".to_owned(), true);
    }
    let said = match &winner.route.action {
        Action::Backend { backend, .. } => format!("200 {backend}"),
        Action::Redirect(redirect) => format!("{} {}", redirect.status, redirect.to.as_str()),
        Action::Respond(response) => response.status.to_string(),
    };
    (said, true)
}

/// What came back, and the cookie that it sets.
async fn answer(stream: &mut BufReader<TcpStream>) -> Result<(String, Option<String>)> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).context("no answer")?.to_owned();
    let (mut length, mut location, mut cookie) = (0, None, None);
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse()?,
            "location" => location = Some(value.to_owned()),
            "set-cookie" => cookie = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let said = match (status.as_str(), location) {
        ("200", _) => format!("200 {}", String::from_utf8_lossy(&body)),
        (_, Some(location)) => format!("{status} {location}"),
        _ => status,
    };
    Ok((said, cookie))
}

/// A share of some percent that keeps its clients.
async fn sticky(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let mut sets = Vec::new();
    for (number, percent) in [(0, 50), (1, 0)] {
        let tables = format!(
            "[[route]]\nhost = \"a.test\"\nbackend = \"b1\"\nsplit = {{ b2 = {percent} }}\n"
        );
        let mut config =
            parsed(lab, number, &tables).map_err(|found| anyhow::anyhow!("{found:?}"))?;
        let mut routes: Vec<Route> = config.routing.iter().cloned().collect();
        for route in &mut routes {
            if let Action::Backend { split, .. } = &mut route.action {
                split.sticky = true;
            }
        }
        config.routing = Routes::new(routes).map_err(|found| anyhow::anyhow!("{found:?}"))?;
        let lines = frontend(&config, number)?;
        let addr = addr(lab, number);
        sets.push(Set {
            tables,
            config,
            addr,
            lines,
        });
    }
    start(lab, &mut haproxy, &sets).await?;
    let ask = async |set: &Set, cookie: &str| {
        let mut stream = BufReader::new(TcpStream::connect(set.addr).await?);
        let request = format!(
            "GET / HTTP/1.1\r\nhost: a.test\r\ncookie: x=y; {cookie}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        answer(&mut stream).await
    };
    let mut seen = BTreeMap::new();
    for _ in 0..60 {
        let (first, cookie) = ask(&sets[0], "").await?;
        let cookie = cookie.context("no cookie")?;
        ensure!(
            cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        let (pair, _) = cookie.split_once(';').unwrap_or_default();
        for _ in 0..5 {
            ensure!(
                ask(&sets[0], pair).await? == (first.clone(), None),
                "{pair} moved"
            );
        }
        let (name, _) = pair.split_once('=').unwrap_or_default();
        let (_, again) = ask(&sets[0], &format!("{name}=b3")).await?;
        ensure!(again.is_some(), "b3 has no share, and keeps a client");
        // one whose share is none any more takes nobody back
        let (moved, _) = ask(&sets[1], &format!("{name}=b2")).await?;
        ensure!(moved == "200 b1", "{moved}");
        *seen.entry(first).or_insert(0) += 1;
    }
    ensure!(seen.len() == 2, "{seen:?}");
    eprintln!("{kind:?}: 60 clients of two halves stayed where their first request went: {seen:?}");
    Ok(())
}

/// What curl says in HTTP/2, whose requests have `:authority` and may have no `Host`.
async fn http2(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    if find_program("curl").is_none() {
        eprintln!("SKIPPED http2 on {kind:?}: curl not found");
        return Ok(());
    }
    let tables = "[[route]]\nhost = \"a.test\"\npath = \"/a\"\nbackend = \"b1\"\n[[route]]\nhost = \"*.a.test\"\nbackend = \"b2\"\n";
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let config = parsed(lab, 0, tables).map_err(|found| anyhow::anyhow!("{found:?}"))?;
    let addr = addr(lab, 0);
    let bind = format!("bind {addr}");
    let lines = frontend(&config, 0)?.replace(&bind, &format!("{bind} proto h2"));
    let tables = tables.to_owned();
    start(
        lab,
        &mut haproxy,
        &[Set {
            tables,
            config,
            addr,
            lines,
        }],
    )
    .await?;
    for (url, said) in [
        ("http://a.test/a/x", "b1"),
        ("http://A.Test:8080/a//x", "b1"),
        ("http://a.test/ab", "b0"),
        ("http://x.a.test/", "b2"),
        ("http://x.y.a.test/", "b0"),
    ] {
        let mut curl = tokio::process::Command::new("curl");
        curl.args([
            "--silent",
            "--max-time",
            "10",
            "--http2-prior-knowledge",
            "--path-as-is",
        ]);
        let output = curl
            .args(["--connect-to", &format!("::{addr}"), url])
            .output()
            .await?;
        let body = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(body == said, "{url}: {body:?}, expected {said}; {output:?}");
    }
    Ok(())
}
