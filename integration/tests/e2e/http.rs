//! The HTTP listener between real daemons: what it says, to whom, and what it costs everybody else.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::controller::Status;
use integration::fake_agent::node;
use integration::http::{Events, ask, get};
use integration::scenario::Scenario;
use integration::{Controller, FakeAgent, Haproxy, HaproxyKind, Need, TestEnv, test, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

const NEEDS: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
const TOKEN: &str = "0123456789abcdef";

fn addr(lab: &TestEnv) -> SocketAddr {
    lab.net().addr(1, 9280)
}

fn section(addr: SocketAddr) -> String {
    format!("[http]\nlisten = \"{addr}\"")
}

/// A balancer with so many web servers that listens for HTTP.
async fn stage(lab: &TestEnv, webs: u8) -> Result<Scenario> {
    Scenario::start(lab, webs, |options| options.sections(&section(addr(lab)))).await
}

fn status_of(text: &str) -> Result<Status> {
    Ok(Status(serde_json::from_str(text)?))
}

/// What the control socket says and what HTTP does are the same but for the time between the two.
#[test]
fn every_endpoint_answers_and_the_status_is_that_of_the_control_socket() {
    test(&NEEDS, async |lab| {
        let stage = stage(lab, 2).await?;
        stage.settled().await?;
        wait_for("readiness", SOON, async || {
            get(addr(lab), "/readyz")
                .await
                .is_ok_and(|it| it.status == 200)
        })
        .await?;
        for path in [
            "/",
            "/status",
            "/metrics",
            "/healthz",
            "/readyz",
            "/page.js",
            "/page.css",
        ] {
            let answer = get(addr(lab), path).await?;
            ensure!(
                answer.status == 200 && !answer.body.is_empty(),
                "{path}: {answer:?}"
            );
            ensure!(
                answer
                    .head
                    .contains("content-security-policy: default-src 'none'")
            );
            let head = ask(addr(lab), "HEAD", path, "host: localhost\r\n").await?;
            ensure!(
                head.status == 200 && head.body.is_empty(),
                "{path}: {head:?}"
            );
        }
        let mut said = status_of(&get(addr(lab), "/status").await?.body)?;
        let mut meant = stage.controller.status().await?;
        for status in [&mut said, &mut meant] {
            for (part, age) in [
                ("agent", "members_age_seconds"),
                ("agent", "changed_age_seconds"),
                ("haproxy", "age_seconds"),
                ("haproxy", "checks_age_seconds"),
                ("haproxy", "old_workers_age_seconds"),
                ("file", "age_seconds"),
            ] {
                status.0[part][age] = 0.into();
            }
            status.0["time"] = 0.into();
        }
        assert_eq!(said.0, meant.0);

        let text = get(addr(lab), "/metrics").await?.body;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.with_context(|| format!("no {name} in {text}"))?;
            anyhow::Ok(value.trim().parse::<f64>()?)
        };
        assert_eq!(
            figure("serf_haproxy_backend_answering{backend=\"nodes\"}")?,
            2.0
        );
        assert_eq!(figure("serf_haproxy_members ")?, 3.0);
        for at_least_one in [
            "serf_haproxy_hints_total ",
            "serf_haproxy_fetches_total ",
            "serf_haproxy_steps_total ",
            "serf_haproxy_cycle_seconds_count ",
            "serf_haproxy_hint_to_applied_seconds_count ",
            "serf_haproxy_probes_total{result=\"good\"} ",
        ] {
            ensure!(figure(at_least_one)? >= 1.0, "{at_least_one}");
        }
        Ok(())
    });
}

#[test]
fn prometheus_reads_the_metrics_and_finds_no_fault() {
    test(&[NEEDS[0], Need::Program("promtool")], async |lab| {
        let stage = stage(lab, 2).await?;
        stage.settled().await?;
        let text = get(addr(lab), "/metrics").await?.body;
        let path = lab.path("metrics");
        fs::write(&path, text)?;
        let mut promtool = std::process::Command::new("promtool");
        promtool.args(["check", "metrics"]);
        let output = promtool.stdin(fs::File::open(path)?).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success() && said.is_empty(), "{said}");
        Ok(())
    });
}

#[test]
fn who_joins_and_leaves_is_seen_at_once_by_whoever_listens() {
    test(&NEEDS, async |lab| {
        let mut stage = stage(lab, 1).await?;
        stage.settled().await?;
        let mut events = Events::open(addr(lab), "/events").await?;
        let mut page = Events::open(addr(lab), "/events?page").await?;
        assert_eq!(
            status_of(&events.next("status").await?)?.server("s1"),
            "ready"
        );
        let number = page.next("body").await?;

        stage.add(lab, 2)?;
        let joined = Instant::now();
        while status_of(&events.next("status").await?)?.server("s2") != "ready" {}
        let seen = joined.elapsed();
        ensure!(page.next("body").await? != number);
        let status = status_of(&get(addr(lab), "/status").await?.body)?;
        assert_eq!(status.server("s2"), "ready");
        eprintln!("a join was seen {seen:?} after it");

        stage.gossip("s2", serf_rpc::MemberStatus::Left);
        let left = Instant::now();
        let goes = |status: &Status| !matches!(status.server("s2"), "ready" | "pending");
        while !goes(&status_of(&events.next("status").await?)?) {}
        eprintln!("a leave was seen {:?} after it", left.elapsed());
        // About a second, on a machine that does other things, too.
        ensure!(seen < Duration::from_secs(5) && left.elapsed() < Duration::from_secs(5));
        Ok(())
    });
}

#[test]
fn hostile_members_are_shown_and_do_no_harm() {
    test(&NEEDS, async |lab| {
        let stage = stage(lab, 1).await?;
        let evil = "<script>alert(1)</script>\"'>\n# HELP evil\n{{7*7}}";
        let member = node(evil, stage.ip(lab, 7)).tag("role", "backend");
        stage.agent.put(member.build());
        let tags = node("s8", stage.ip(lab, 8)).tag("role", "backend");
        stage.agent.put(tags.tag("port", "<img src=x>").build());
        let seen = |status: &Status| {
            let left_out = status.0["quarantined"].as_object();
            left_out.is_some_and(|left_out| left_out.len() == 2)
        };
        stage
            .controller
            .settles("both to be left out", SOON, seen)
            .await?;
        let page = get(addr(lab), "/").await?.body;
        ensure!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        ensure!(
            !page.contains("<script>alert") && !page.contains("<img") && !page.contains(">49<")
        );
        assert_eq!(page.matches("<script").count(), 1, "the page's own");
        let metrics = get(addr(lab), "/metrics").await?.body;
        ensure!(
            metrics.contains("serf_haproxy_quarantined_members 2") && !metrics.contains("evil")
        );
        let data = Events::open(addr(lab), "/events")
            .await?
            .next("status")
            .await?;
        ensure!(seen(&status_of(&data)?));
        Ok(())
    });
}

#[test]
fn only_who_has_the_token_and_asks_by_its_name_is_answered() {
    test(&NEEDS, async |lab| {
        let token = lab.secret("http.token", TOKEN)?;
        let lines = format!(
            "{}\ntoken_file = {token:?}\nhosts = [\"lb1.example.com\"]",
            section(addr(lab))
        );
        let stage = Scenario::start(lab, 1, |options| options.sections(&lines)).await?;
        let asked = async |method: &str, host: &str, word: &str| {
            let headers = format!("host: {host}\r\nauthorization: Bearer {word}\r\n");
            anyhow::Ok(ask(addr(lab), method, "/status", &headers).await?.status)
        };
        for (method, host, word, status) in [
            ("GET", "lb1.example.com", TOKEN, 200),
            ("GET", "localhost:8080", TOKEN, 200),
            ("HEAD", "[::1]:80", TOKEN, 200),
            ("GET", "lb1.example.com", "0123456789abcdeF", 401),
            ("GET", "evil.example", TOKEN, 421),
            ("POST", "localhost", TOKEN, 405),
            ("BREW", "localhost", TOKEN, 405),
        ] {
            assert_eq!(
                asked(method, host, word).await?,
                status,
                "{method} {host} {word}"
            );
        }
        let log = stage.controller.log();
        ensure!(!log.contains(TOKEN), "{log}");

        // Another word holds from the next reload on; one that is none leaves the one before in force.
        let said = async |word: &str, status: u16| {
            wait_for("the word to hold", SOON, async || {
                asked("GET", "localhost", word)
                    .await
                    .is_ok_and(|it| it == status)
            })
            .await
        };
        fs::write(&token, "fedcba9876543210")?;
        stage.controller.reload()?;
        said("fedcba9876543210", 200).await?;
        said(TOKEN, 401).await?;
        fs::write(&token, "short")?;
        stage.controller.reload()?;
        let told = |status: &Status| problem(status).contains("less than 16 characters");
        stage
            .controller
            .settles("the flaw to be told", SOON, told)
            .await?;
        said("fedcba9876543210", 200).await?;
        Ok(())
    });
}

/// What is wrong with the listener; empty where nothing is.
fn problem(status: &Status) -> String {
    let problems = status.0["problems"].as_array();
    let found = problems
        .into_iter()
        .flatten()
        .find(|it| it["what"] == "http");
    found.map_or_else(String::new, |it| {
        it["problem"].to_string() + &it["advice"].to_string()
    })
}

#[test]
fn nothing_is_served_that_everybody_could_read_by_mistake() {
    test(&NEEDS, async |lab| {
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let refused = async |lines: &str| {
            let options = Controller::on(lab, agent.rpc_addr(), &haproxy).sections(lines);
            options.write()?;
            let output = options.run("run", &[]).await?;
            ensure!(!output.status.success());
            Ok(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let said = refused("[http]\nlisten = \"0.0.0.0:9280\"").await?;
        ensure!(
            said.contains("http.listen: others could read everything"),
            "{said}"
        );
        ensure!(said.contains("set token_file"), "{said}");
        let token = lab.secret("http.token", TOKEN)?;
        fs::set_permissions(&token, fs::Permissions::from_mode(0o644))?;
        let said = refused(&format!("{}\ntoken_file = {token:?}", section(addr(lab)))).await?;
        ensure!(said.contains("([http] token_file); chmod 0640"), "{said}");
        Ok(())
    });
}

#[test]
fn a_port_that_is_taken_is_a_problem_and_no_outage_and_another_is_taken_on_sighup() {
    test(&NEEDS, async |lab| {
        let squatter = TcpListener::bind(addr(lab))?;
        let mut stage = stage(lab, 1).await?;
        let taken = |status: &Status| problem(status).contains("who has that port");
        stage
            .controller
            .settles("the port to be missed", SOON, taken)
            .await?;
        stage.add(lab, 2)?;
        stage.serves_all().await?;
        drop(squatter);
        let healthy = async |addr: SocketAddr, answers: bool| {
            wait_for("the listener to be as it should", SOON, async || {
                let answer = get(addr, "/healthz").await;
                answer.is_ok_and(|it| it.status == 200) == answers
            })
            .await
        };
        healthy(addr(lab), true).await?;
        stage.settled().await?;

        let other = lab.net().addr(1, 9281);
        let write = |stage: &mut Scenario, addr: SocketAddr, to: &str| {
            let path = stage.controller.options().path();
            let text = fs::read_to_string(&path)?.replace(&section(addr), to);
            fs::write(&path, text)?;
            stage.controller.reload()
        };
        write(&mut stage, addr(lab), &section(other))?;
        healthy(other, true).await?;
        healthy(addr(lab), false).await?;
        write(&mut stage, other, "")?;
        healthy(other, false).await?;
        stage.settled().await
    });
}

/// Joins somebody, and says how long that took until HAProxy sent him requests.
async fn join(lab: &TestEnv, stage: &mut Scenario, number: u8) -> Result<Duration> {
    // One that follows another at once gathers with it.
    sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    stage.add(lab, number)?;
    stage.serves_all().await?;
    Ok(began.elapsed())
}

async fn joins(
    lab: &TestEnv,
    stage: &mut Scenario,
    numbers: std::ops::Range<u8>,
) -> Result<Duration> {
    let mut took = Vec::new();
    for number in numbers {
        took.push(join(lab, stage, number).await?);
    }
    took.sort();
    Ok(took[took.len() / 2])
}

#[test]
fn a_thousand_who_say_nothing_and_readers_who_do_not_read_hold_nobody_up() {
    test(&NEEDS, async |lab| {
        let mut stage = stage(lab, 1).await?;
        stage.settled().await?;
        let before = joins(lab, &mut stage, 2..9).await?;
        let memory = stage.controller.memory()?;

        // Readers of events and pages that take nothing, and one that asks with a head that has no end.
        let mut lazy = Vec::new();
        for path in ["/events", "/events?page", "/", "/status"]
            .iter()
            .cycle()
            .take(20)
        {
            let mut stream = TcpStream::connect(addr(lab)).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            stream.write_all(request.repeat(20).as_bytes()).await?;
            lazy.push(stream);
        }
        let mut endless = TcpStream::connect(addr(lab)).await?;
        let head = format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}",
            "y".repeat(100_000)
        );
        // It may be closed before all of it is written.
        let _ = endless.write_all(head.as_bytes()).await;
        let mut refused = String::new();
        let _ = endless.read_to_string(&mut refused).await;
        ensure!(refused.starts_with("HTTP/1.1 431"), "{refused}");

        let mut silent = Vec::new();
        for _ in 0..1000 {
            silent.push(TcpStream::connect(addr(lab)).await?);
        }
        let during = joins(lab, &mut stage, 9..16).await?;
        eprintln!("a join took {before:?}, and {during:?} beside them");
        // A look at HAProxy and a busy machine are the test's own; whoever is held up waits for those who say nothing.
        ensure!(
            during < 3 * before + Duration::from_secs(1),
            "{before:?} {during:?}"
        );
        let grown = stage
            .controller
            .memory()?
            .resident_kb
            .saturating_sub(memory.resident_kb);
        ensure!(grown < 30_000, "{grown} KiB");

        // Those who say nothing are sent away, and there is a place for others again.
        wait_for("a place", SOON, async || {
            get(addr(lab), "/healthz")
                .await
                .is_ok_and(|it| it.status == 200)
        })
        .await?;
        let mut byte = [0];
        for stream in &mut silent {
            assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0);
        }
        Ok(())
    });
}
