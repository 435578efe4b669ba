//! Each alert of `ops/prometheus/alerts.yml` in a real Prometheus that scrapes a real controller, brought about for real:
//! it fires, and is over again. The rules are those of the file but for their patience, as nobody waits a quarter of an hour.
//!
//! All of them only where `CAMPAIGN` is set.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::compose::is_campaign;
use integration::process::output;
use integration::{
    Balancer, Certificate, HaproxyKind, Need, Node, Prometheus, TestEnv, test, wait_for,
};
use regex::Regex;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::ops::{dashboard, expressions, read, rules};

const NEEDS: [Need; 3] = [
    Need::Serf,
    Need::Haproxy(HaproxyKind::Host),
    Need::Program("prometheus"),
];
/// An alert that takes longer, to fire or to be over, is none.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is seen in seconds here, and in minutes there: every `for` is one second besides.
const SHORTER: [(&str, &str); 4] = [
    (
        "loop_turn_age_seconds[5m]) > 15",
        "loop_turn_age_seconds[10s]) > 6",
    ),
    ("members_age_seconds > 120", "members_age_seconds > 8"),
    ("reloads_total[10m])) > 10", "reloads_total[30s])) > 4"),
    (
        "drift_repairs_total[15m]) > 0",
        "drift_repairs_total[10s]) > 0",
    ),
];
const SECTIONS: &str =
    "[drift]\ninterval = \"1s\"\n[reload]\nmin_interval = \"1s\"\n[timeouts]\nclient = \"30s\"";

fn shorter(rules: &str) -> Result<String> {
    let mut text = Regex::new(r"for: \w+")?
        .replace_all(rules, "for: 1s")
        .into_owned();
    for (from, to) in SHORTER {
        ensure!(text.contains(from), "no rule says {from:?}");
        text = text.replace(from, to);
    }
    Ok(text)
}

/// A balancer with its web servers, and who watches it.
struct Stage {
    balancer: Balancer,
    nodes: Vec<Node>,
    prometheus: Prometheus,
    target: SocketAddr,
    seen: BTreeSet<String>,
}

impl Stage {
    async fn start(lab: &TestEnv, webs: u8) -> Result<Self> {
        let target = lab.net().addr(1, 9280);
        let sections = format!("[http]\nlisten = \"{target}\"\n{SECTIONS}");
        let balancer = Balancer::start_with(lab, HaproxyKind::Host, |options| {
            let certs = lab.path("certs");
            fs::create_dir(&certs)?;
            fs::write(certs.join("www.pem"), Certificate::of("www.example")?.pem())?;
            let tls = lab.net().addr(1, 8443);
            let keys = format!("tls_bind = \"{tls}\"\ncertificates = {certs:?}\nforwarded = false");
            let options = options.sections(&sections).frontend(&keys);
            Ok(options.serf("resync = \"1s\""))
        });
        let balancer = balancer.await?;
        let nodes = Node::start_all(lab, 1..=webs).await?;
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        balancer
            .serves(&integration::cluster::names(&nodes))
            .await?;
        let rules = shorter(&read("ops/prometheus/alerts.yml")?)?;
        let prometheus = Prometheus::start(lab, &rules, &[target]).await?;
        let stage = Self {
            balancer,
            nodes,
            prometheus,
            target,
            seen: BTreeSet::new(),
        };
        stage.quiet().await?;
        Ok(stage)
    }

    /// Waits until nothing fires.
    async fn quiet(&self) -> Result<()> {
        let mut last = None;
        let none = wait_for("no alert", PATIENCE, async || {
            last = self.prometheus.firing().await.ok();
            last.as_ref().is_some_and(Vec::is_empty)
        });
        none.await.with_context(|| format!("{last:?}"))
    }

    /// Waits until these fire, each with what it has to say.
    async fn begins(&mut self, began: Instant, names: &[&str]) -> Result<()> {
        for alert in self.turns(began, names, true).await? {
            let name = alert["labels"]["alertname"].as_str().context("no name")?;
            let said = alert["annotations"].to_string();
            ensure!(
                !said.contains("no value") && !said.contains("error"),
                "{said}"
            );
            let is_named = alert["labels"]["instance"] == self.target.to_string();
            ensure!(is_named != (name == "SerfHaproxyNotScraped"), "{alert}");
            self.seen.insert(name.to_owned());
        }
        Ok(())
    }

    /// Waits until these are over.
    async fn ends(&self, mended: Instant, names: &[&str]) -> Result<()> {
        self.turns(mended, names, false).await.map(drop)
    }

    /// Waits until each of these has fired once, or has not; gives those that were seen firing.
    async fn turns(&self, since: Instant, names: &[&str], firing: bool) -> Result<Vec<Value>> {
        let (mut left, mut found) = (names.to_vec(), Vec::new());
        let outcome = wait_for("alerts", PATIENCE, async || {
            let Ok(alerts) = self.prometheus.firing().await else {
                return false;
            };
            left.retain(|name| {
                let alert = alerts.iter().find(|it| it["labels"]["alertname"] == *name);
                let is_so = alert.is_some() == firing;
                if is_so {
                    let what = if firing { "fired" } else { "was over" };
                    println!("{name} {what} after {:.1?}", since.elapsed());
                    found.extend(alert.cloned());
                }
                !is_so
            });
            left.is_empty()
        });
        outcome
            .await
            .with_context(|| format!("{left:?} of {names:?}, firing: {firing}"))?;
        Ok(found)
    }

    /// Whatever the dashboard asks has an answer.
    async fn dashboard(&self) -> Result<()> {
        for expression in expressions(&dashboard()?) {
            let of_here = expression
                .replace("$instance", ".*")
                .replace("$backend", ".*");
            let query = of_here.replace("$__rate_interval", "1m");
            let answer = self.prometheus.query(&query).await?;
            ensure!(!answer.is_empty(), "{query} finds nothing");
        }
        Ok(())
    }

    /// More members than are taken, and then one that cannot be used.
    async fn members(&mut self) -> Result<()> {
        let config = self.balancer.controller.options().path();
        let good = fs::read_to_string(&config)?;
        let began = Instant::now();
        let few = "resync = \"1s\"\nmax_members = 3";
        fs::write(&config, good.replace("resync = \"1s\"", few))?;
        self.balancer.controller.reload()?;
        self.begins(began, &["SerfHaproxyMembersRefused"]).await?;
        let mended = Instant::now();
        fs::write(&config, good)?;
        self.balancer.controller.reload()?;
        self.ends(mended, &["SerfHaproxyMembersRefused"]).await?;

        let began = Instant::now();
        self.nodes[0].agent.set_tag("port", "https").await?;
        self.begins(began, &["SerfHaproxyProblem"]).await?;
        let mended = Instant::now();
        self.nodes[0].agent.set_tag("port", "3000").await?;
        self.ends(mended, &["SerfHaproxyProblem"]).await
    }

    async fn agent(&mut self) -> Result<()> {
        let both = ["SerfHaproxyAgentLost", "SerfHaproxyMembersOld"];
        let began = Instant::now();
        self.balancer.agent.signal(Signal::STOP)?;
        self.begins(began, &both).await?;
        let mended = Instant::now();
        self.balancer.agent.signal(Signal::CONT)?;
        self.ends(mended, &both).await?;

        // It leaves, so that nobody looks for it, and is started without anything that leads it back.
        let began = Instant::now();
        self.balancer.agent.leave().await?;
        self.begins(began, &["SerfHaproxyAgentLost"]).await?;
        self.nodes[0].agent.sees_off(&["balancer"]).await?;
        let began = Instant::now();
        self.balancer.agent.restart().await?;
        self.begins(began, &["SerfHaproxyAgentAlone"]).await?;
        let mended = Instant::now();
        self.balancer.agent.join(self.nodes[0].agent.ip()).await?;
        self.ends(mended, &["SerfHaproxyAgentAlone", "SerfHaproxyAgentLost"])
            .await
    }

    async fn haproxy(&mut self) -> Result<()> {
        let began = Instant::now();
        self.balancer.haproxy.kill().await?;
        self.begins(began, &["SerfHaproxyHaproxyUnreachable"])
            .await?;
        let mended = Instant::now();
        self.balancer.haproxy.start().await?;
        self.ends(mended, &["SerfHaproxyHaproxyUnreachable"])
            .await?;

        let began = Instant::now();
        let command = "disable server nodes/s1";
        self.balancer.haproxy.command(command).await?;
        self.begins(began, &["SerfHaproxyForeignHand"]).await?;
        // It is mended by itself, and told for a while.
        self.ends(Instant::now(), &["SerfHaproxyForeignHand"]).await
    }

    async fn webs(&mut self) -> Result<()> {
        let began = Instant::now();
        self.nodes[0].web.close();
        self.begins(began, &["SerfHaproxyServersDown"]).await?;
        let mended = Instant::now();
        self.nodes[0].web.listen()?;
        self.ends(mended, &["SerfHaproxyServersDown"]).await?;
        self.all_webs().await
    }

    async fn all_webs(&mut self) -> Result<()> {
        let began = Instant::now();
        self.nodes.iter_mut().for_each(|node| node.web.close());
        self.begins(began, &["SerfHaproxyBackendDown"]).await?;
        let mended = Instant::now();
        for node in &mut self.nodes {
            node.web.listen()?;
        }
        self.ends(mended, &["SerfHaproxyBackendDown"]).await
    }

    /// Agents of web servers that go on are gone.
    async fn held(&mut self) -> Result<()> {
        let began = Instant::now();
        for node in &mut self.nodes[..2] {
            node.agent.kill();
        }
        self.begins(began, &["SerfHaproxyServersHeld"]).await?;
        let mended = Instant::now();
        for node in &mut self.nodes[..2] {
            node.agent.restart().await?;
            node.join(&self.balancer.agent).await?;
        }
        self.ends(mended, &["SerfHaproxyServersHeld"]).await
    }

    /// One that has expired, and is renewed.
    async fn certificates(&mut self, lab: &TestEnv) -> Result<()> {
        let file = lab.path("certs").join("www.pem");
        let both = ["SerfHaproxyCertificateExpires", "SerfHaproxyProblem"];
        let began = Instant::now();
        fs::write(&file, Certificate::until("www.example", 2020, 1, 1)?.pem())?;
        self.begins(began, &both).await?;
        let mended = Instant::now();
        fs::write(&file, Certificate::of("www.example")?.pem())?;
        self.ends(mended, &both).await
    }

    async fn files(&mut self) -> Result<()> {
        let file = self.balancer.haproxy.config();
        let began = Instant::now();
        fs::write(&file, "global\n    description \"the site's own\"\n")?;
        self.begins(began, &["SerfHaproxyFileBehind"]).await?;
        let mended = Instant::now();
        fs::remove_file(&file)?;
        self.ends(mended, &["SerfHaproxyFileBehind"]).await?;

        let config = self.balancer.controller.options().path();
        let good = fs::read_to_string(&config)?;
        let began = Instant::now();
        fs::write(&config, format!("{good}\n[drifft]\n"))?;
        self.balancer.controller.reload()?;
        self.begins(began, &["SerfHaproxyConfigNotInForce"]).await?;
        let mended = Instant::now();
        fs::write(&config, good)?;
        self.balancer.controller.reload()?;
        self.ends(mended, &["SerfHaproxyConfigNotInForce"]).await
    }

    /// The config changes every few seconds, while requests last that began before.
    async fn reloads(&mut self) -> Result<()> {
        let both = ["SerfHaproxyReloadStorm", "SerfHaproxyOldWorkers"];
        let config = self.balancer.controller.options().path();
        let text = fs::read_to_string(&config)?;
        let (began, mut requests) = (Instant::now(), Vec::new());
        for number in 1..=7_u64 {
            let mut request = TcpStream::connect(self.balancer.controller.front()).await?;
            let head = b"GET /slow?ms=60000 HTTP/1.1\r\nhost: x\r\n\r\n";
            request.write_all(head).await?;
            requests.push(request);
            // HAProxy has the request by then.
            sleep(Duration::from_millis(200)).await;
            let other = format!("client = \"{}s\"", 30 + number);
            fs::write(&config, text.replace("client = \"30s\"", &other))?;
            self.balancer.controller.reload()?;
            let reloaded = |status: &integration::controller::Status| {
                status.counter("reloads") >= number && status.is_whole()
            };
            let controller = &self.balancer.controller;
            controller.settles("a reload", SOON, reloaded).await?;
        }
        self.begins(began, &both).await?;
        let mended = Instant::now();
        drop(requests);
        self.ends(mended, &both).await
    }

    /// A config that is a pipe nobody writes to, as a file on a file system that hangs.
    async fn stuck(&mut self, lab: &TestEnv) -> Result<()> {
        let config = self.balancer.controller.options().path();
        let aside = lab.path("config.aside");
        fs::rename(&config, &aside)?;
        output(Command::new("mkfifo").args(["-m", "600"]).arg(&config)).await?;
        let began = Instant::now();
        self.balancer.controller.reload()?;
        self.begins(began, &["SerfHaproxyLoopStuck"]).await?;
        let mended = Instant::now();
        pour(&aside, &config).await?;
        fs::rename(&aside, &config)?;
        self.balancer.controller.reload()?;
        self.ends(mended, &["SerfHaproxyLoopStuck"]).await
    }

    async fn scrapes(&mut self) -> Result<()> {
        let began = Instant::now();
        self.balancer.controller.kill();
        self.begins(began, &["SerfHaproxyDown"]).await?;
        let mended = Instant::now();
        self.balancer.controller.restart()?;
        self.ends(mended, &["SerfHaproxyDown"]).await?;
        let began = Instant::now();
        self.prometheus.scrape(&[])?;
        self.begins(began, &["SerfHaproxyNotScraped"]).await?;
        let mended = Instant::now();
        self.prometheus.scrape(&[self.target])?;
        self.ends(mended, &["SerfHaproxyNotScraped"]).await
    }
}

/// Writes a file into a pipe that somebody reads.
async fn pour(from: &Path, to: &Path) -> Result<()> {
    let (text, to) = (fs::read(from)?, to.to_owned());
    let write = tokio::task::spawn_blocking(move || fs::write(to, text));
    let written = tokio::time::timeout(SOON, write).await;
    Ok(written.context("nobody reads the pipe")???)
}

#[test]
fn an_agent_that_is_lost_and_a_backend_that_is_down_are_told_by_a_real_prometheus() {
    test(&NEEDS, async |lab| {
        let mut stage = Stage::start(lab, 1).await?;
        let began = Instant::now();
        stage.balancer.agent.kill();
        stage.begins(began, &["SerfHaproxyAgentLost"]).await?;
        stage.all_webs().await?;
        let mended = Instant::now();
        stage.balancer.agent.restart().await?;
        stage.nodes[0].join(&stage.balancer.agent).await?;
        stage.ends(mended, &["SerfHaproxyAgentLost"]).await
    });
}

#[test]
fn every_alert_fires_and_is_over_again() {
    if !is_campaign() {
        return;
    }
    test(&NEEDS, async |lab| {
        let mut stage = Stage::start(lab, 3).await?;
        stage.agent().await?;
        stage.quiet().await?;
        stage.members().await?;
        stage.quiet().await?;
        stage.haproxy().await?;
        stage.quiet().await?;
        stage.webs().await?;
        stage.quiet().await?;
        stage.files().await?;
        stage.quiet().await?;
        stage.certificates(lab).await?;
        stage.quiet().await?;
        stage.reloads().await?;
        stage.dashboard().await?;
        stage.quiet().await?;
        stage.stuck(lab).await?;
        stage.quiet().await?;
        stage.held().await?;
        stage.quiet().await?;
        stage.scrapes().await?;
        stage.quiet().await?;
        let all = rules(&read("ops/prometheus/alerts.yml")?);
        let all: BTreeSet<String> = all.into_iter().map(|rule| rule.name).collect();
        ensure!(stage.seen == all, "{:?} of {all:?}", stage.seen);
        Ok(())
    });
}
