//! Random policies on the real HAProxy: what the built-in template prints of them is valid and gives no warning, servers with
//! them are added at runtime, and have the same cookies as in the file. `POLICIES=1000` for a campaign.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use controller::haproxy::runtime::RuntimeApi;
use fastrand::Rng;
use integration::manners::Certificate;
use integration::{Haproxy, HaproxyKind, TestEnv, on_each_haproxy};
use planner::config::Config;
use planner::model::Servers;
use planner::plan::ReloadReason;
use planner::render::{Renderer, with_invented};
use planner::syntax::ConfigText;

use crate::follow::follow;

on_each_haproxy! {
    every_policy_is_valid_and_had_by_servers_that_are_added => law;
}

/// So many without being asked for more.
const POLICIES: usize = 80;

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

/// Keys of a backend, of which about half are there.
fn policy(lab: &TestEnv, rng: &mut Rng) -> String {
    let page = lab.path(pick(rng, &["page.html", "page.http", "page.json"]));
    let ca = lab.path("ca.pem");
    let limit = rng.bool();
    let keys = [
        ("sticky", format!("{{ {} }}", some(rng, &[
            "cookie = \"KEEP-me_1\"",
            "max_idle = \"90s\"",
            "max_life = \"8h\"",
            "same_site = \"Strict\"",
            "secure = true",
            "key = \"not-to-be-guessed\"",
        ]))),
        ("retry", format!("{{ {} }}", some(rng, &[
            "attempts = 100",
            "on = [\"conn-failure\", \"junk-response\", \"response-timeout\", 401, \"425\", 504]",
            "methods = [\"GET\", \"PUT\", \"PROPFIND\"]",
        ]))),
        ("eject", pick(rng, &["false", "{ errors = 1000, on = \"layer7\" }", "{ errors = 1 }"]).to_owned()),
        ("breaker", format!("{{ status = 503, {} }}", some(rng, &[
            "ratio = \"1%\"",
            "min_requests = 1000000",
            "window = \"1h\"",
            "retry_after = \"1500ms\"",
            &format!("page = {page:?}"),
        ]))),
        ("slow_start", pick(rng, &["\"1ms\"", "\"1h\"", "\"0s\""]).to_owned()),
        ("maintenance_page", format!("{page:?}")),
        ("max_queue", pick(rng, &["1", "2147483647"]).to_owned()),
        ("overload", pick(rng, &["true", "{ queue = 0, status = 599 }", "{ status = 400 }"]).to_owned()),
        ("tls", pick(rng, &[
            "{ verify = \"none\" }",
            "{ verify = \"none\", sni = \"a.example\" }",
            &format!("{{ ca_file = {ca:?}, sni = \"host\" }}"),
            &format!("{{ ca_file = {ca:?}, verify_host = \"b.example\" }}"),
        ]).to_owned()),
        ("proto", pick(rng, &["\"h1\"", "\"h2\""]).to_owned()),
        ("compress", pick(rng, &["\"text/html\"", "[\"text/css\", \"application/ld+json\", \"image/svg+xml\"]"]).to_owned()),
        ("timeouts", pick(rng, &["{ connect = \"1ms\" }", "{ server = \"24h\", queue = \"1h\", tunnel = \"7d\" }"]).to_owned()),
        ("check", pick(rng, &[
            "\"HEAD /\"",
            "{ path = \"/\", host = \"c.example\", status = \"2xx,3xx\", port = 81, timeout = \"10ms\", rise = 100, fall = 1 }",
            "{ path = \"/\", tls = false }",
            "\"tcp\"",
        ]).to_owned()),
        ("balance", pick(rng, &["\"leastconn\"", "\"uri\"", "\"first\"", "\"random\""]).to_owned()),
    ];
    let mut lines = String::new();
    if limit {
        lines.push_str("max_conn = 7\n");
    }
    for (key, value) in keys {
        let waits = matches!(key, "max_queue" | "overload");
        if rng.bool() && (limit || !waits) {
            let _ = writeln!(lines, "{key} = {value}");
        }
    }
    lines
}

fn some(rng: &mut Rng, from: &[&str]) -> String {
    let picked: Vec<&str> = from.iter().copied().filter(|_| rng.bool()).collect();
    picked.join(", ")
}

async fn law(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let count = std::env::var("POLICIES")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(POLICIES);
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(23);
    let mut rng = Rng::with_seed(seed);
    std::fs::write(lab.path("page.html"), "<p>")?;
    std::fs::write(lab.path("page.json"), "{}")?;
    std::fs::write(
        lab.path("page.http"),
        "HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\nbusy",
    )?;
    std::fs::write(lab.path("ca.pem"), Certificate::new("a.example")?.pem())?;
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let mut text = format!(
        "[haproxy]\nstats_socket = {:?}\n[frontend]\nbind = [\"{}\"]\n",
        haproxy.stats_socket(),
        lab.net().addr(1, 8080)
    );
    for number in 0..count {
        let policy = policy(lab, &mut rng);
        let _ = writeln!(
            text,
            "[[backend]]\nname = \"b{number}\"\ntags = {{ role = \"b\" }}\nport = 80\n{policy}"
        );
    }
    let config = Config::parse(&text, []).map_err(|found| anyhow!("{found:#?}\n{text}"))?;
    let renderer = Renderer::built_in()?;
    let bare = renderer.render(&config, &Servers::new())?.text;
    let servers = with_invented(&config, &Servers::new(), true, |_| true);
    let full = renderer.render(&config, &servers)?.text;
    for (name, text) in [("bare", &bare), ("full", &full)] {
        is_valid(&haproxy, &lab.path(&format!("{name}.cfg")), text)?;
    }
    std::fs::write(haproxy.config(), &bare)?;
    haproxy.start().await?;
    let api = RuntimeApi::new(haproxy.stats_socket());
    let left = follow(&api, &ConfigText::parse(&bare), &ConfigText::parse(&full)).await?;
    let is_old = api.worker().await?.version.major < 3;
    for reason in &left.reload {
        let known =
            matches!(reason, ReloadReason::KeywordNotDynamic { keyword, .. } if keyword == "proto");
        ensure!(known && is_old, "{reason}");
    }
    let runtime = cookies(&haproxy).await?;
    haproxy.kill().await?;
    std::fs::write(haproxy.config(), &full)?;
    haproxy.start().await?;
    let file = cookies(&haproxy).await?;
    let sticky = file.values().filter(|cookie| !cookie.is_empty()).count();
    ensure!(sticky > count / 4, "{sticky} of {count} have a cookie");
    for (backend, cookie) in &runtime {
        ensure!(
            file.get(backend) == Some(cookie),
            "{backend}: {cookie} and {:?}",
            file.get(backend)
        );
    }
    ensure!(
        runtime.len() + left.reload.len() == count,
        "{} servers",
        runtime.len()
    );
    println!(
        "{kind:?}: {count} policies, {sticky} sticky, {} reloads by right",
        left.reload.len()
    );
    Ok(())
}

/// The value of the cookie of each backend's server.
async fn cookies(haproxy: &Haproxy) -> Result<BTreeMap<String, String>> {
    let lines = haproxy.stat().await?;
    let servers = lines.iter().filter(|line| line.get("svname") == "invented");
    Ok(servers
        .map(|line| (line.get("pxname").to_owned(), line.get("cookie").to_owned()))
        .collect())
}

/// HAProxy takes it, and has nothing to say of it.
fn is_valid(haproxy: &Haproxy, path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    let command = haproxy.check_command();
    let words = command
        .iter()
        .map(|word| word.replace("{path}", &path.display().to_string()));
    let words: Vec<String> = words.collect();
    let (program, args) = words.split_first().context("a check command")?;
    let with_sbin = format!("{}:/usr/sbin", std::env::var("PATH")?);
    let output = Command::new(program)
        .args(args)
        .env("PATH", with_sbin)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let warned = said
        .lines()
        .find(|line| line.contains("WARNING") || line.contains("ALERT"));
    ensure!(
        output.status.success() && warned.is_none(),
        "{said}\n{text}"
    );
    Ok(())
}
