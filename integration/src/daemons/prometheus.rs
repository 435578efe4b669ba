//! A real Prometheus on the loopback: rules and targets in, the alerts that fire out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::environment::TestEnv;
use crate::environment::process::{Process, find_program};
use crate::environment::wait::wait_for;
use crate::traffic::http::get_whole;

const START: Duration = Duration::from_secs(20);

/// A running Prometheus, which scrapes and evaluates its rules every second.
#[derive(Debug)]
pub struct Prometheus {
    addr: SocketAddr,
    config: PathBuf,
    rules: PathBuf,
    process: Process,
}

impl Prometheus {
    /// One on the lab's `.1:9090`, with this text for its rules, that scrapes these targets as the job `serf-haproxy`.
    ///
    /// # Errors
    /// When it does not start; its log says why.
    pub async fn start(lab: &TestEnv, rules: &str, targets: &[SocketAddr]) -> Result<Self> {
        let addr = lab.net().addr(1, 9090);
        let (config, path) = (lab.path("prometheus.yml"), lab.path("alerts.yml"));
        std::fs::write(&path, rules)?;
        let mut command = Command::new(find_program("prometheus").context("prometheus")?);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                lab.path("prometheus").display()
            ))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--log.level=warn");
        write(&config, &path, targets)?;
        let process = Process::start("prometheus", &command, lab.path("prometheus.log"))?;
        let prometheus = Self {
            addr,
            config,
            rules: path,
            process,
        };
        wait_for("prometheus", START, async || {
            let ready = get_whole(addr, "/-/ready").await;
            ready.is_ok_and(|answer| answer.status == 200)
        })
        .await?;
        Ok(prometheus)
    }

    /// Scrapes these from now on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn scrape(&self, targets: &[SocketAddr]) -> Result<()> {
        write(&self.config, &self.rules, targets)?;
        self.process.signal(Signal::HUP)
    }

    /// The alerts that fire now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn firing(&self) -> Result<Vec<Value>> {
        let mut alerts = self.ask("/api/v1/alerts", "alerts").await?;
        alerts.retain(|alert| alert["state"] == "firing");
        Ok(alerts)
    }

    /// What an expression comes to now.
    ///
    /// # Errors
    /// When it does not answer, or does not understand it.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let escape = |byte: u8| format!("%{byte:02x}");
        let escaped: String = expression.bytes().map(escape).collect();
        let path = format!("/api/v1/query?query={escaped}");
        self.ask(&path, "result").await
    }

    async fn ask(&self, path: &str, what: &str) -> Result<Vec<Value>> {
        let answer = get_whole(self.addr, path).await?;
        let mut answer: Value = serde_json::from_str(&answer.body)?;
        let Value::Array(items) = answer["data"][what].take() else {
            bail!("{path}: {answer}");
        };
        Ok(items)
    }
}

fn write(config: &Path, rules: &Path, targets: &[SocketAddr]) -> Result<()> {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{rules:?}]\n\
         scrape_configs:\n  - job_name: serf-haproxy\n    static_configs: [{{targets: {targets:?}}}]\n"
    );
    Ok(std::fs::write(config, text)?)
}
