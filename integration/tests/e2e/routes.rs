//! Routes, on each HAProxy: they come and go without a reload under load, file and worker say the same whatever happens, and
//! each key of a route does what it says to right requests and to wrong ones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::cluster::{SOON, WEB_PORT};
use integration::controller::{ControllerOptions, Status};
use integration::http::{self, Answer};
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, TestEnv, Web, on_each_haproxy, test_alone, wait_for};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

on_each_haproxy! {
    file_and_worker_say_the_same_after_a_restart_of_everything => restarts;
    another_hand_on_the_map_is_put_right => drift;
    many_routes_at_once_are_one_change => many;
    each_key_does_what_it_says => keys;
    a_share_goes_elsewhere => split;
}

macro_rules! under_load {
    ($($module:ident: $kind:ident;)+) => {$(
        mod $module {
            #[test]
            fn a_route_comes_and_goes_without_a_reload() {
                let kind = super::HaproxyKind::$kind;
                super::test_alone(&[super::Need::Haproxy(kind), super::Need::Wrk], async |lab| super::under_load(lab, kind).await);
            }
        }
    )+};
}
under_load! { load_host: Host; load_trixie: Trixie; load_sid: Sid; }

const BACKENDS: &str = r#"
[[backend]]
name = "api"
tags = { role = "api" }
port = 3000
[[backend]]
name = "other"
tags = { role = "other" }
port = 3000
"#;
const FIRST: &str = "[[route]]\nhost = \"api.test\"\nbackend = \"api\"\n";
const NEW: &str =
    "[[route]]\nhost = [\"new.test\", \"*.new.test\"]\npath = \"/v2\"\nbackend = \"api\"\n";

/// A balancer with a server in each of three backends, and routes.
struct Stage {
    scenario: Scenario,
    base: ControllerOptions,
}

impl Stage {
    async fn start(lab: &TestEnv, kind: HaproxyKind, routes: &str) -> Result<Self> {
        let mut base = None;
        let mut scenario = Scenario::start_on(lab, kind, 2, |options| {
            let options = options
                .sections(BACKENDS)
                .sections("[drift]\ninterval = \"1s\"");
            base = Some(options.clone());
            options.sections(routes)
        })
        .await?;
        for (number, role) in [(11, "api"), (12, "other")] {
            let addr = SocketAddr::from((lab.net().ip(100 + number), WEB_PORT));
            scenario.join(Web::new(role, addr), role)?;
            scenario.haproxy.serves(role, &[role], SOON).await?;
        }
        let base = base.context("no options")?;
        let mut stage = Self { scenario, base };
        stage.settled().await?;
        Ok(stage)
    }

    fn front(&self) -> SocketAddr {
        self.scenario.controller.front()
    }

    /// Lets the config have these routes.
    fn set(&mut self, routes: &str) -> Result<()> {
        let options = self.base.clone().sections(routes);
        options.write()?;
        *self.scenario.controller.options() = options;
        self.scenario.controller.reload()
    }

    async fn ask(&self, method: &str, host: &str, path: &str, headers: &str) -> Result<Answer> {
        let headers = format!("host: {host}\r\nx-echo: 1\r\n{headers}");
        http::ask(self.front(), method, path, &headers).await
    }

    async fn get(&self, host: &str, path: &str) -> Result<Answer> {
        self.ask("GET", host, path, "").await
    }

    /// Waits until requests go to a server of this name, and says how long that took.
    async fn reaches(&self, host: &str, path: &str, server: &str) -> Result<Duration> {
        let started = Instant::now();
        while started.elapsed() < SOON {
            let found = self.get(host, path).await?.body;
            if found == server || (server == "s" && found.starts_with('s')) {
                return Ok(started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::bail!("{host}{path} does not reach {server}")
    }

    fn map(&self) -> PathBuf {
        self.scenario.haproxy.config().with_extension("routes.map")
    }

    fn on_disk(&self) -> Result<BTreeMap<String, String>> {
        let text = std::fs::read_to_string(self.map())?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pair = |line: &str| {
            line.split_once(' ')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        Ok(lines.filter_map(pair).collect())
    }

    async fn in_worker(&self) -> Result<BTreeMap<String, String>> {
        let shown = self
            .scenario
            .haproxy
            .command(&format!("show map {}", self.map().display()))
            .await?;
        let pair = |line: &str| {
            let mut words = line.split(' ').skip(1).map(str::to_owned);
            Some((words.next()?, words.next()?))
        };
        Ok(shown.lines().filter_map(pair).collect())
    }

    /// Waits until file and worker have the same entries, so many.
    async fn are_equal(&self, count: usize) -> Result<()> {
        wait_for("file and worker to say the same", SOON * 2, async || {
            let (file, worker) = (self.on_disk(), self.in_worker().await);
            matches!((file, worker), (Ok(file), Ok(worker)) if file == worker && file.len() == count)
        })
        .await
    }

    async fn settled(&mut self) -> Result<()> {
        let well =
            |status: &Status| status.0["problems"] == serde_json::json!([]) && status.is_whole();
        self.scenario
            .controller
            .settles("everything well", SOON * 3, well)
            .await
            .map(drop)
    }

    async fn reloads(&self) -> Result<u64> {
        Ok(self.scenario.controller.status().await?.counter("reloads"))
    }
}

fn median(mut took: Vec<f64>) -> (f64, f64) {
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() - 1])
}

async fn under_load(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    const ROUNDS: usize = 20;
    let mut stage = Stage::start(lab, kind, FIRST).await?;
    let worker = stage.scenario.haproxy.worker().await?;
    let reloads = stage.reloads().await?;
    let load = stage.scenario.load(lab)?;
    ensure!(stage.get("new.test", "/v2/x").await?.body.starts_with('s'));
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        stage.set(&format!("{FIRST}{NEW}"))?;
        came.push(
            stage
                .reaches("new.test", "/v2/x", "api")
                .await?
                .as_secs_f64()
                * 1000.0,
        );
        ensure!(stage.get("one.new.test", "/v2").await?.body == "api");
        ensure!(
            stage
                .get("one.new.test", "/v20")
                .await?
                .body
                .starts_with('s')
        );
        stage.set(FIRST)?;
        went.push(stage.reaches("new.test", "/v2/x", "s").await?.as_secs_f64() * 1000.0);
        ensure!(stage.get("api.test", "/").await?.body == "api");
    }
    stage.are_equal(1).await?;
    ensure!(
        stage.scenario.haproxy.worker().await? == worker,
        "another worker"
    );
    ensure!(stage.reloads().await? == reloads, "a reload");
    let history = stage.scenario.controller.history().await?;
    let of_routes = history
        .iter()
        .filter(|entry| entry["changes"].to_string().contains("route new.test"));
    let changed: Vec<f64> = of_routes
        .filter_map(|entry| entry["took_ms"].as_f64())
        .collect();
    ensure!(changed.len() >= 2 * ROUNDS, "{} changes", changed.len());
    let ((came, slowest), (went, slowest_went), (changed, slowest_change)) =
        (median(came), median(went), median(changed));
    eprintln!(
        "{kind:?}: from SIGHUP to the first answer by a new route {came:.1} ms (at most {slowest:.1}), by none {went:.1} ms \
         (at most {slowest_went:.1}); the change of the map itself {changed:.2} ms (at most {slowest_change:.2}); 0 reloads"
    );
    load.nothing_failed(&format!("{kind:?}: a route came and went {ROUNDS} times"))
        .await
}

async fn restarts(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Stage::start(lab, kind, FIRST).await?;
    stage.set(&format!("{FIRST}{NEW}"))?;
    stage.reaches("new.test", "/v2", "api").await?;
    stage.are_equal(3).await?;
    let before = stage.on_disk()?;
    stage.scenario.controller.kill();
    stage.scenario.haproxy.kill().await?;
    stage.scenario.haproxy.start().await?;
    ensure!(
        stage.in_worker().await? == before,
        "HAProxy alone knows other routes"
    );
    stage.scenario.controller.restart()?;
    stage.reaches("new.test", "/v2", "api").await?;
    stage.settled().await?;
    stage.are_equal(3).await?;
    ensure!(stage.on_disk()? == before);
    ensure!(stage.reloads().await? == 0, "a restart reloaded");
    // a HAProxy that starts without a map gets one before it starts
    stage.scenario.controller.kill();
    stage.scenario.haproxy.kill().await?;
    std::fs::remove_file(stage.map())?;
    let output = stage.scenario.controller.options().run("init", &[]).await?;
    ensure!(output.status.success(), "{output:?}");
    stage.scenario.haproxy.start().await?;
    ensure!(stage.in_worker().await? == before, "init made another map");
    Ok(())
}

async fn drift(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Stage::start(lab, kind, &format!("{FIRST}{NEW}")).await?;
    stage.are_equal(3).await?;
    let map = stage.map().display().to_string();
    let wanted = stage.on_disk()?;
    for line in [
        format!("del map {map} api.test/"),
        format!("set map {map} api.test/ 1/other"),
        format!("add map {map} evil.test/ 999999/other"),
        format!("add map {map} api.test/ 999999/other"),
        format!("clear map {map}"),
    ] {
        stage.scenario.haproxy.command(&line).await?;
        stage.are_equal(3).await.with_context(|| line.clone())?;
        ensure!(stage.in_worker().await? == wanted, "{line}");
    }
    let edited = std::fs::read_to_string(stage.map())? + "evil.test/ 999999/other\n";
    std::fs::write(stage.map(), edited)?;
    stage.are_equal(3).await?;
    stage.reaches("api.test", "/", "api").await?;
    std::fs::remove_file(stage.map())?;
    stage.are_equal(3).await?;
    ensure!(stage.reloads().await? == 0);
    stage.settled().await
}

async fn many(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut stage = Stage::start(lab, kind, FIRST).await?;
    let hosts: Vec<String> = (0..1000).map(|n| format!("\"h{n}.test\"")).collect();
    let many = format!(
        "[[route]]\nhost = [{}]\nbackend = \"api\"\n",
        hosts.join(", ")
    );
    stage.set(&format!("{FIRST}{many}"))?;
    stage.reaches("h999.test", "/", "api").await?;
    stage.are_equal(1001).await?;
    stage.set(FIRST)?;
    stage.reaches("h999.test", "/", "s").await?;
    stage.are_equal(1).await?;
    ensure!(stage.reloads().await? == 0);
    stage.settled().await
}

/// A password for each hash of `secret`.
const USERS: &str = "anna:$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.\n";

const KEYS: &str = r#"
[[route]]
host = "strip.test"
path = "/api/v1"
strip_prefix = true
backend = "api"
request_headers = { set = { X-Env = "it's 100% $HOME \"x\"" }, remove = ["X-Debug"] }
response_headers = { set = { X-Frame-Options = "DENY" }, remove = ["Echo-X-Debug"] }
[[route]]
host = "inside.test"
allow_from = ["10.0.0.0/8"]
backend = "api"
[[route]]
host = "here.test"
allow_from = ["10.0.0.0/8", "127.0.0.0/8"]
backend = "api"
[[route]]
host = "auth.test"
basic_auth_file = "{users}"
backend = "api"
[[route]]
host = "rate.test"
rate_limit = "5/10s"
backend = "api"
[[route]]
host = "old.test"
redirect = "https://new.test"
[[route]]
host = "old.test"
path = "/here"
redirect = { to = "https://new.test/50%", status = 308 }
[[route]]
path = "=/teapot"
respond = { status = 418, body = "I'm\na 'teapot' 100%\n" }
[[route]]
host = "canary.test"
backend = "api"
[[route]]
host = "canary.test"
headers = { X-Canary = "it's 1" }
backend = "other"
[[route]]
host = "canary.test"
path = "/d"
methods = ["DELETE"]
respond = { status = 405 }
"#;

async fn keys(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let users = lab.path("users");
    std::fs::write(&users, USERS)?;
    let routes = KEYS.replace("{users}", &users.display().to_string());
    let stage = Stage::start(lab, kind, &routes).await?;
    strip_and_headers(&stage).await?;
    access(&stage).await?;
    answers(&stage).await
}

async fn strip_and_headers(stage: &Stage) -> Result<()> {
    for (path, seen) in [
        ("/api/v1", "/"),
        ("/api/v1/", "/"),
        ("/api/v1/x/y?z=/api/v1", "/x/y?z=/api/v1"),
        ("//api//v1//x%2fy", "/x%2fy"),
        ("/%61pi%2Fv%31/x", "/x"),
    ] {
        let answer = stage
            .ask("GET", "strip.test", path, "x-debug: 1\r\nx-env: test\r\n")
            .await?;
        ensure!(answer.body == "api", "{path}: {answer:?}");
        ensure!(
            answer
                .head
                .contains(&format!("echo: get {} http", seen.to_lowercase())),
            "{path}: {answer:?}"
        );
        ensure!(
            answer
                .head
                .contains("echo-x-env: it's 100% $home \"x\"\r\n"),
            "{answer:?}"
        );
        ensure!(
            answer.head.contains("echo-x-forwarded-prefix: /api/v1\r\n"),
            "{answer:?}"
        );
        ensure!(answer.head.contains("x-frame-options: deny"), "{answer:?}");
        ensure!(!answer.head.contains("x-debug"), "{answer:?}");
    }
    let other = stage
        .ask("GET", "strip.test", "/api/v10", "x-debug: 1\r\n")
        .await?;
    ensure!(
        other.head.contains("echo: get /api/v10 http") && other.head.contains("echo-x-debug: 1"),
        "{other:?}"
    );
    ensure!(!other.head.contains("x-frame-options"), "{other:?}");
    Ok(())
}

async fn access(stage: &Stage) -> Result<()> {
    ensure!(stage.get("inside.test", "/").await?.status == 403);
    ensure!(stage.get("here.test", "/").await?.body == "api");
    for (given, status) in [
        ("", 401),
        // anna:secret, anna:wrong, berta:secret
        ("authorization: Basic YW5uYTpzZWNyZXQ=\r\n", 200),
        ("authorization: Basic YW5uYTp3cm9uZw==\r\n", 401),
        ("authorization: Basic YmVydGE6c2VjcmV0\r\n", 401),
    ] {
        let answer = stage.ask("GET", "auth.test", "/", given).await?;
        ensure!(answer.status == status, "{given}: {answer:?}");
    }
    for _ in 0..5 {
        ensure!(stage.get("rate.test", "/").await?.body == "api");
    }
    let beyond = stage.get("rate.test", "/").await?;
    ensure!(
        beyond.status == 429 && beyond.head.contains("retry-after: 10"),
        "{beyond:?}"
    );
    ensure!(
        stage.get("here.test", "/").await?.body == "api",
        "others have no limit"
    );
    Ok(())
}

async fn answers(stage: &Stage) -> Result<()> {
    for (path, status, location) in [
        ("/a%20b?c=1", 302, "https://new.test/a%20b?c=1"),
        ("/here/x", 308, "https://new.test/50%"),
    ] {
        let answer = stage.get("old.test", path).await?;
        ensure!(answer.status == status, "{answer:?}");
        ensure!(
            answer.head.contains(&format!("location: {location}\r\n")),
            "{answer:?}"
        );
    }
    let teapot = stage.get("any.test", "/teapot").await?;
    ensure!(
        (teapot.status, teapot.body.as_str()) == (418, "I'm\na 'teapot' 100%\n"),
        "{teapot:?}"
    );
    ensure!(
        stage
            .get("any.test", "/teapot/")
            .await?
            .body
            .starts_with('s')
    );
    ensure!(stage.get("any.test", "/../teapot").await?.status == 400);
    ensure!(stage.get("canary.test", "/").await?.body == "api");
    let canary = stage
        .ask("GET", "canary.test", "/", "X-Canary: it's 1\r\n")
        .await?;
    ensure!(canary.body == "other", "{canary:?}");
    let wrong = stage
        .ask("GET", "canary.test", "/", "X-Canary: 2\r\n")
        .await?;
    ensure!(wrong.body == "api", "{wrong:?}");
    ensure!(stage.ask("DELETE", "canary.test", "/d", "").await?.status == 405);
    Ok(())
}

async fn split(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    const REQUESTS: u32 = 20_000;
    let routes = "[[route]]\nhost = \"shop.test\"\nbackend = \"api\"\nsplit = { other = 5 }\n";
    let stage = Stage::start(lab, kind, routes).await?;
    let mut stream = BufReader::new(TcpStream::connect(stage.front()).await?);
    let mut others = 0;
    let (mut line, mut body) = (String::new(), Vec::new());
    for _ in 0..REQUESTS {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")
            .await?;
        let mut length = 0;
        loop {
            line.clear();
            ensure!(
                stream.read_line(&mut line).await? > 0,
                "the connection ended"
            );
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse()?
                }
                _ if line == "\r\n" => break,
                _ => {}
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        match body.as_slice() {
            b"other" => others += 1,
            b"api" => {}
            other => anyhow::bail!("{:?} answered", String::from_utf8_lossy(other)),
        }
    }
    let share = f64::from(others) * 100.0 / f64::from(REQUESTS);
    eprintln!("{kind:?}: {share:.2} % of {REQUESTS} requests went to the backend with 5 %");
    ensure!((4.0..=6.0).contains(&share), "{share} %");
    Ok(())
}
