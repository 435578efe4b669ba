//! The fake HAProxy against the real ones: the same commands and reloads on both, the same replies and states.
//!
//! `HISTORIES=200` plays so many for each version.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use fake_haproxy::{FakeHaproxy, Version};
use fastrand::Rng;
use integration::compose::is_campaign;
use integration::on_each_haproxy;
use integration::{Haproxy, HaproxyKind, HealthAgent, TestEnv, Web, wait_for, wait_some, web};
use planner::model::{State, Worker};
use planner::runtime::reply;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

const SOON: Duration = Duration::from_secs(10);
const STEPS: usize = 12;

on_each_haproxy! {
    histories_are_the_same_on_the_fake => histories;
    dialogues_are_the_same_on_the_fake => dialogues;
    requests_in_flight_count_alike_on_the_fake => in_flight;
    agents_say_the_same_on_the_fake => agents;
}

/// A real HAProxy and the fake, started with the same file.
struct Twins {
    real: Haproxy,
    fake: FakeHaproxy,
    places: Places,
    /// Somebody who answers, without whom the checks fail.
    _web: Web,
}

/// Where a history's servers may be.
#[derive(Clone, Copy)]
struct Places {
    front: SocketAddr,
    answers: SocketAddr,
    refuses: SocketAddr,
}

impl Twins {
    async fn start(
        lab: &TestEnv,
        kind: HaproxyKind,
        text: impl Fn(Places) -> String,
    ) -> Result<Self> {
        let places = Places {
            front: lab.net().addr(1, 8080),
            answers: lab.net().addr(2, 3000),
            refuses: lab.net().addr(3, 3000),
        };
        let mut real = Haproxy::prepare(lab, kind).await?;
        let text = with_socket(&real, &text(places));
        std::fs::write(real.config(), &text)?;
        real.start().await?;
        let version = real.worker().await?.version;
        let version = Version::ALL
            .into_iter()
            .find(|known| version.get(..3) == known.text().get(..3))
            .with_context(|| format!("no fake of HAProxy {version}"))?;
        let fake = FakeHaproxy::start(version, &text)?;
        fake.with(|fake| fake.answers(places.refuses, false));
        Ok(Self {
            real,
            fake,
            places,
            _web: Web::start("web", places.answers)?,
        })
    }

    /// What both answer to a line in a connection of its own.
    async fn ask(&self, line: &str) -> Result<[String; 2]> {
        let real = UnixStream::connect(self.real.stats_socket()).await?;
        Ok([
            hear(real, line).await?,
            hear(self.fake.stats()?, line).await?,
        ])
    }

    /// The same on their masters' sockets, which 2.6 closes while it loads.
    async fn ask_masters(&self, line: &str) -> Result<[String; 2]> {
        let path = self.real.master_socket();
        let real = wait_some("the master", SOON, async || {
            UnixStream::connect(&path).await.ok()
        });
        let fake = wait_some("the fake master", SOON, async || self.fake.master().ok());
        Ok([
            hear(real.await?, line).await?,
            hear(fake.await?, line).await?,
        ])
    }

    async fn states(&self) -> Result<[State; 2]> {
        let line = "show info;show servers state;show stat -1 6 -1\n";
        let [real, fake] = self.ask(line).await?;
        Ok([comparable(&real)?, comparable(&fake)?])
    }

    /// Waits until no check is to change anything, and makes sure that the states are the same.
    async fn agree(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let settled = self.fake.with(|fake| fake.is_settled());
            let [real, fake] = self.states().await?;
            if settled && real == fake {
                return Ok(());
            }
            if started.elapsed() > SOON / 2 {
                let [real, fake] = [lines(&real), lines(&fake)];
                let differ = |a: &[String], b: &[String]| -> String {
                    let odd = a.iter().filter(|line| !b.contains(line));
                    odd.map(|line| format!("\n  {line}")).collect()
                };
                let (ours, theirs) = (differ(&real, &fake), differ(&fake, &real));
                return Err(anyhow!("settled: {settled}\nreal:{ours}\nfake:{theirs}"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Puts a text in place and reloads both; says whether both or neither have loaded it.
    async fn reload(&self, text: &str) -> Result<()> {
        let text = with_socket(&self.real, text);
        std::fs::write(self.real.config(), &text)?;
        self.fake.with(|fake| fake.write(text));
        let [before, _] = self.masters().await?;
        let said = self.ask_masters("reload\n").await?;
        let [real, fake] = said.map(|said| said.lines().next().unwrap_or_default().to_owned());
        ensure!(real == fake, "reload: {real:?}, but {fake:?}");
        wait_some("the reload", SOON, async || {
            let [real, fake] = self.masters().await.ok()?;
            (real != before && fake != before).then_some(())
        })
        .await?;
        let [real, fake] = self.masters().await?;
        ensure!(real == fake, "the masters: {real}, but {fake}");
        Ok(())
    }

    /// What the masters say of themselves: how many reloads there were, and how many failed.
    async fn masters(&self) -> Result<[String; 2]> {
        let counts = |proc: String| {
            let mut words = proc.split_ascii_whitespace();
            let _ = words.by_ref().find(|word| *word == "master");
            words.take(3).collect::<Vec<_>>().join(" ")
        };
        Ok(self.ask_masters("show proc;quit\n").await?.map(counts))
    }
}

/// A state without what is another in each process.
fn comparable(text: &str) -> Result<State> {
    let mut state = reply::state(text, true)?;
    let worker = state.worker;
    state.worker = Worker {
        pid: 0,
        uptime: Duration::ZERO,
        start: None,
        ..worker
    };
    Ok(state)
}

/// A state, a server a line.
fn lines(state: &State) -> Vec<String> {
    let servers = state.servers.iter().flat_map(|(backend, servers)| {
        let line = move |(name, server)| format!("{backend}/{name} {server:?}");
        servers.iter().map(line)
    });
    let rest = format!("{} {:?}", state.worker, state.down);
    servers.chain([rest]).collect()
}

async fn hear(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> Result<String> {
    stream.write_all(line.as_bytes()).await?;
    let mut text = String::new();
    let read = tokio::time::timeout(SOON, stream.read_to_string(&mut text));
    read.await
        .with_context(|| format!("{line:?} has no end"))??;
    Ok(text)
}

fn with_socket(real: &Haproxy, text: &str) -> String {
    let socket = real.stats_socket();
    format!(
        "global\n  stats socket {} mode 600 level admin\n{text}",
        socket.display()
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn histories(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let count: u64 = number("HISTORIES").unwrap_or(if is_campaign() { 200 } else { 20 });
    let first: u64 = number("SEED").unwrap_or(0);
    let twins = Twins::start(lab, kind, |places| text(&mut Rng::with_seed(first), places)).await?;
    let started = Instant::now();
    let mut commands = 0;
    for seed in first..first + count {
        let mut told = Vec::new();
        let played = play(&twins, seed, &mut told).await;
        played.with_context(|| format!("SEED={seed}, after\n{}", told.join("\n")))?;
        commands += told.len();
    }
    eprintln!(
        "{kind:?}: {count} histories of {commands} steps in {:?}",
        started.elapsed()
    );
    Ok(())
}

async fn play(twins: &Twins, seed: u64, told: &mut Vec<String>) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let change = |rng: &mut Rng| text(rng, twins.places);
    let first = change(&mut rng);
    told.push(first.clone());
    twins.reload(&first).await?;
    twins.agree().await.context("as started")?;
    for _ in 0..STEPS {
        if rng.u8(..20) == 0 {
            let mut text = change(&mut rng);
            if rng.bool() {
                text.push_str("  nonsense\n");
            }
            told.push(text.clone());
            twins.reload(&text).await?;
        } else {
            let line = command(&mut rng, twins.places);
            told.push(line.clone());
            let [real, fake] = twins.ask(&format!("{line}\n")).await?;
            ensure!(real == fake, "{line}: {real:?}, but {fake:?}");
        }
        twins.agree().await?;
    }
    Ok(())
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    rng.choice(from).copied().unwrap_or_default()
}

/// A file with two backends and up to eight servers.
fn text(rng: &mut Rng, places: Places) -> String {
    let mut text = format!(
        "  description \"serf-haproxy {:016x}\"\ndefaults\n  mode http\n  timeout connect 500ms\n  timeout client 5s\n  \
         timeout server 5s\n  cookie SRV insert indirect nocache\n  default-server {}\nfrontend front\n  bind {}\n  default_backend one\n",
        rng.u64(..),
        pick(
            rng,
            &[
                "",
                "inter 10ms rise 1 fall 1",
                "check inter 10ms rise 1 fall 1",
                "weight 5"
            ]
        ),
        places.front,
    );
    for backend in ["one", "two"] {
        let balance = [
            "",
            "balance roundrobin",
            "balance leastconn",
            "balance static-rr",
            "balance uri",
            "balance uri\n  hash-type consistent",
            "balance random(2)",
        ];
        text += &format!("backend {backend}\n  {}\n", pick(rng, &balance));
        if rng.u8(..3) == 0 {
            text += &format!(
                "  default-server {}\n",
                pick(rng, &["weight 9", "maxconn 3", "no-check"])
            );
        }
        for n in 1..=rng.u8(..5) {
            let addr = if rng.u8(..3) > 0 {
                places.answers
            } else {
                places.refuses
            };
            let options = [
                "",
                "weight 7",
                "weight 0",
                "maxconn 5",
                "disabled",
                "backup",
                "cookie c",
                "check inter 10ms rise 1 fall 1",
                "check inter 10ms rise 2 fall 2 disabled",
                "check inter 10ms fall 2 weight 3",
                "check inter 1h",
                "agent-check agent-port 1 agent-inter 1h",
            ];
            text += &format!("  server s{n} {addr} {}\n", pick(rng, &options));
        }
    }
    if rng.u8(..4) == 0 && text.contains("  server s1 ") && text.ends_with('\n') {
        let last = text.rfind("backend two").unwrap_or_default();
        if text[last..].contains("server s1 ") {
            text += "  use-server s1 if { always_false }\n";
        }
    }
    text
}

/// A command for one of the servers that may be there.
fn command(rng: &mut Rng, places: Places) -> String {
    let backend = pick(rng, &["one", "one", "one", "two", "two", "none"]);
    let server = pick(rng, &["s1", "s2", "s3", "s4", "d1", "d2", "d3"]);
    let addr = if rng.u8(..3) > 0 {
        places.answers
    } else {
        places.refuses
    };
    let target = format!("{backend}/{server}");
    match rng.u8(..20) {
        0..=1 => format!("set server {target} state ready"),
        2 => format!("set server {target} state drain"),
        3..=4 => format!("set server {target} state maint"),
        5 => {
            let weight = pick(rng, &["0", "1", "7", "256", "300", "50%", "0%", "100%"]);
            format!("set server {target} weight {weight}")
        }
        6 => format!(
            "set server {target} addr {} port {}",
            addr.ip(),
            addr.port()
        ),
        7 => {
            let health = pick(rng, &["up", "down"]);
            format!("set server {target} health {health}")
        }
        8 => {
            let limit = pick(rng, &["0", "9"]);
            format!("set maxconn server {target} {limit}")
        }
        9 => format!("{} agent {target}", pick(rng, &["enable", "disable"])),
        10..=11 => format!(
            "{} health {target}",
            pick(rng, &["enable", "enable", "disable"])
        ),
        12 => format!("shutdown sessions server {target}"),
        13..=14 => format!("del server {target}"),
        _ => {
            let options = [
                "",
                "check inter 10ms rise 1 fall 1",
                "check inter 10ms",
                "check inter 1h",
                "weight 3",
                "weight 300",
                "weight abc",
                "maxconn 4",
                "cookie c",
                "disabled",
                "resolvers r",
                "bogus",
                "backup",
                "agent-check agent-port 1 agent-inter 1h",
                "ssl verify none",
                "ca-file /nonexistent ssl",
                "init-state up",
            ];
            let options = pick(rng, &options);
            let number = rng.u8(1..4);
            let addr = if rng.u8(..12) == 0 {
                String::new()
            } else {
                addr.to_string()
            };
            format!("add server {backend}/d{number} {addr} {options}")
                .trim_end()
                .to_owned()
        }
    }
}

/// Byte for byte, what is said on both sockets in prompt mode and without.
async fn dialogues(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let twins = Twins::start(lab, kind, |places| {
        let Places { front, answers, .. } = places;
        format!(
            "  description \"serf-haproxy 0123456789abcdef\"\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  \
             timeout server 5s\nfrontend front\n  bind {front}\n  default_backend one\nbackend one\n  server s1 {answers} weight 3\n\
             backend fixed\n  balance static-rr\n"
        )
    })
    .await?;
    for line in [
        "show cli level\n",
        "show cli level;set server one/s1 weight 4;show cli level\n",
        "prompt\nset server one/s1 weight 2\nadd server one/d1 127.0.0.1:80\nadd server one/d1\nadd server fixed/d1\n\
         add server one\nadd server none/d1\ndel server one/s1\ndel server one/d1\ndel server one/d1\ndel server none/d1\n\
         del server one\nset server one/gone state maint\nset server none/s1 state maint\nenable health one/s1\n\
         enable agent one/s1\nset server one/s1 weight 999\nadd server one/a#b 127.0.0.1:80\nadd server one/d1 127.0.0.1:99999\n\
         add server one/d1 127.0.0.1:80 odd\nadd server one/d1 127.0.0.1:80 resolvers r\nset server one/s1 state odd\n\
         set server one/s1 health odd\nshow servers state none\nset server one/s1 addr odd\nquit\n",
    ] {
        let [real, fake] = twins.ask(line).await?;
        assert_eq!(real, fake, "{line}");
    }
    let mut by_master = vec![
        "@1 show cli level;quit\n",
        "@1 show cli level;@1 set server one/s1 weight 4;quit\n",
        "prompt\n@1 show cli level\n@1 set server one/s1 weight 5\nquit\n",
    ];
    if twins.fake.with(|fake| fake.version()) == Version::V2_6 {
        // later ones leave the connection open
        by_master.push("@!1 show info;quit\n");
    }
    for line in by_master {
        let [real, fake] = twins.ask_masters(line).await?;
        assert_eq!(real, fake, "{line}");
    }
    Ok(())
}

async fn in_flight(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let with_servers = |places: Places| {
        let Places { front, answers, .. } = places;
        format!(
            "  description \"serf-haproxy 0123456789abcdef\"\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 20s\n  \
             timeout server 20s\nfrontend front\n  bind {front}\n  default_backend one\nbackend one\n  server s1 {answers}\n"
        )
    };
    let twins = Twins::start(lab, kind, with_servers).await?;
    let begin = async || {
        let front = twins.places.front;
        let request = tokio::spawn(async move { web::get(front, "/slow?ms=10000").await });
        wait_some("the request", SOON, async || {
            let [real, _] = twins.states().await.ok()?;
            (real.servers["one"]["s1"].stat.as_ref()?.in_flight == 1).then_some(())
        })
        .await?;
        twins.fake.with(|fake| fake.in_flight("one", "s1", 1));
        anyhow::Ok(request)
    };
    let same = async |line: &str| {
        let [real, fake] = twins.ask(line).await?;
        ensure!(real == fake, "{line}: {real:?}, but {fake:?}");
        twins.agree().await.context(line.to_owned())
    };
    let _first = begin().await?;
    same("set server one/s1 state maint\n").await?;
    same("del server one/s1\n").await?;
    same("shutdown sessions server one/s1\n").await?;
    same("set server one/s1 state ready\n").await?;
    let _second = begin().await?;
    let text = with_servers(twins.places);
    for text in [text.clone(), text + "  nonsense\n"] {
        twins.reload(&text).await?;
        let [real, fake] = twins.ask_masters("show proc;quit\n").await?;
        let old = |proc: &str| anyhow::Ok(reply::master(proc)?.old_workers.len());
        ensure!(
            old(&real)? == 1 && old(&fake)? == 1,
            "one old worker: {real}\n{fake}"
        );
    }
    Ok(())
}

/// What an agent says, and what others do meanwhile, changes both alike.
async fn agents(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let agent_addr = lab.net().addr(4, 3001);
    let options = format!(
        "weight 10 agent-check agent-addr {} agent-port {} agent-inter 10ms",
        agent_addr.ip(),
        agent_addr.port()
    );
    let twins = Twins::start(lab, kind, |places| {
        let Places { front, answers, .. } = places;
        format!(
            "  description \"serf-haproxy 0123456789abcdef\"\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  \
             timeout server 5s\nfrontend front\n  bind {front}\n  default_backend one\nbackend one\n  server s1 {answers} {options}\n  \
             server s2 {answers} check inter 10ms rise 1 fall 1 {options}\n"
        )
    })
    .await?;
    let agent = HealthAgent::start(agent_addr, "").await?;
    let mut rng = Rng::with_seed(number("SEED").unwrap_or(0));
    let mut told = vec![format!(
        "add server one/d1 {} {options}",
        twins.places.answers
    )];
    twins.ask(&format!("{}\n", told[0])).await?;
    for _ in 0..number("STEPS").unwrap_or(40) {
        let line = if rng.bool() {
            let says = [
                "",
                "ready up",
                "ready",
                "drain",
                "maint",
                "up",
                "down",
                "50%",
                "100%",
                "up ready 100%",
            ];
            let words = pick(&mut rng, &says);
            agent.say(words);
            twins.fake.with(|fake| {
                for server in ["s1", "s2", "d1"] {
                    fake.agent_says("one", server, words);
                }
            });
            format!("the agent says {words}")
        } else {
            let server = pick(&mut rng, &["s1", "s2", "d1"]);
            let what = ["state ready", "state drain", "state maint", "weight 5"];
            let line = match rng.u8(..6) {
                0..=3 => format!("set server one/{server} {}", pick(&mut rng, &what)),
                4 => format!("enable agent one/{server}"),
                _ => format!("disable agent one/{server}"),
            };
            let [real, fake] = twins.ask(&format!("{line}\n")).await?;
            ensure!(real == fake, "{line}: {real:?}, but {fake:?}");
            line
        };
        told.push(line);
        // what was said before may still be on its way
        let asked = agent.asked();
        let _ = wait_for("the agent", Duration::from_millis(30), async || {
            agent.asked() > asked + 5
        })
        .await;
        twins.agree().await.with_context(|| told.join("\n"))?;
    }
    Ok(())
}
