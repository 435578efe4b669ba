//! Load by `wrk`: an address and a way go in, its figures come out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;

use crate::environment::TestEnv;
use crate::environment::process::Process;

/// Connections of each of two loads: little enough to leave the others their turn.
const CLIENTS: usize = 2;
/// Longer than any scenario, each of which ends its loads itself.
const LONGEST: Duration = Duration::from_secs(900);

/// Whether a client keeps its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// A connection for every request.
    PerRequest,
    /// As many requests on a connection as the server allows.
    KeepAlive,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct WrkOptions {
    url: String,
    host: Option<String>,
    connections: Connections,
    count: usize,
    threads: usize,
    duration: Duration,
    log: PathBuf,
}

impl WrkOptions {
    /// This many connections instead of 16.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Over TLS, whatever the certificate.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.url = self.url.replacen("http:", "https:", 1);
        self
    }

    /// Asks for this path of this host.
    #[must_use]
    pub fn asking(mut self, host: &str, path: &str) -> Self {
        self.url = self.url.trim_end_matches('/').to_owned() + path;
        self.host = Some(host.to_owned());
        self
    }

    /// At most this long instead of two minutes; in whole seconds.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Starts the load.
    ///
    /// # Errors
    /// When wrk cannot be started.
    pub fn start(self) -> Result<Wrk> {
        // It takes what the others leave of the machine, those that run beside this test too.
        let mut command = Command::new("nice");
        command
            .arg("wrk")
            .arg(format!("--connections={}", self.count))
            .arg(format!("--threads={}", self.threads))
            .arg(format!("--duration={}s", self.duration.as_secs()))
            .args(["--timeout=5s", "--latency"]);
        if self.connections == Connections::PerRequest {
            command.arg("--header=Connection: close");
        }
        if let Some(host) = &self.host {
            command.arg(format!("--header=Host: {host}"));
        }
        command.arg(&self.url);
        let process = Process::start("wrk", &command, self.log)?;
        Ok(Wrk {
            process,
            duration: self.duration,
        })
    }
}

/// A running load.
#[derive(Debug)]
pub struct Wrk {
    process: Process,
    duration: Duration,
}

impl Wrk {
    /// Load on this address.
    #[must_use]
    pub fn on(lab: &TestEnv, addr: SocketAddr, connections: Connections) -> WrkOptions {
        WrkOptions {
            url: format!("http://{addr}/"),
            host: None,
            connections,
            count: 16,
            threads: 1,
            duration: Duration::from_secs(120),
            log: lab.path(&format!("wrk-{}-{connections:?}.log", addr.ip())),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time or its report cannot be read.
    pub async fn finish(mut self) -> Result<WrkReport> {
        let status = self
            .process
            .exited(self.duration + Duration::from_secs(10))
            .await?;
        let log = self.process.log();
        // Loads before this one have written there too.
        let own = log.rfind("Running ").unwrap_or_default();
        let text = log.get(own..).unwrap_or_default();
        ensure!(status.success(), "wrk: {status}\n{text}");
        WrkReport::parse(text)
    }

    /// Ends it now (SIGINT, on which wrk still reports).
    ///
    /// # Errors
    /// As [`Wrk::finish`].
    pub async fn stop(self) -> Result<WrkReport> {
        self.process.signal(Signal::INT)?;
        self.finish().await
    }
}

/// Two loads on one front end: a connection for every request, and keep-alive.
#[derive(Debug)]
pub struct Loads([Wrk; 2]);

impl Loads {
    /// Starts them.
    ///
    /// # Errors
    /// When wrk cannot be started.
    pub fn start(lab: &TestEnv, addr: SocketAddr) -> Result<Self> {
        let load = |connections| {
            Wrk::on(lab, addr, connections)
                .count(CLIENTS)
                .duration(LONGEST)
                .start()
        };
        Ok(Self([
            load(Connections::PerRequest)?,
            load(Connections::KeepAlive)?,
        ]))
    }

    /// Ends them.
    ///
    /// # Errors
    /// When a report cannot be read.
    pub async fn stop(self) -> Result<[WrkReport; 2]> {
        let [per_request, keep_alive] = self.0;
        Ok([per_request.stop().await?, keep_alive.stop().await?])
    }

    /// Ends them, says how many requests there were, and fails if one of them did.
    ///
    /// # Errors
    /// When a report cannot be read.
    ///
    /// # Panics
    /// When a request has failed.
    pub async fn nothing_failed(self, what: &str) -> Result<()> {
        let [per_request, keep_alive] = self.stop().await?;
        println!(
            "{what}: {} requests connection per request, {} keep-alive; {} and {} failed",
            per_request.requests,
            keep_alive.requests,
            per_request.failed(),
            keep_alive.failed()
        );
        assert!(per_request.requests > 0 && keep_alive.requests > 0);
        assert_eq!(per_request.failed(), 0, "{per_request:?}");
        assert_eq!(keep_alive.failed(), 0, "{keep_alive:?}");
        Ok(())
    }
}

/// What wrk counted. It does not count what a proxy's retries hide, nor its last requests in flight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrkReport {
    /// Responses received.
    pub requests: u64,
    /// Connections that could not be opened.
    pub connect_errors: u64,
    /// Connections that broke while reading.
    pub read_errors: u64,
    /// Connections that broke while writing.
    pub write_errors: u64,
    /// Requests not answered within five seconds, which are long for a client that gets little of the machine.
    pub timeouts: u64,
    /// Responses other than 2xx and 3xx.
    pub bad_status: u64,
    /// Half of the requests took at most this long.
    pub median: Duration,
    /// 99 of 100 requests took at most this long.
    pub p99: Duration,
}

impl WrkReport {
    /// All requests that failed in any way.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.connect_errors + self.read_errors + self.write_errors + self.timeouts + self.bad_status
    }

    fn parse(text: &str) -> Result<Self> {
        let mut report = Self::default();
        let mut seen = false;
        for line in text.lines().map(str::trim) {
            if let Some((count, _)) = line.split_once(" requests in ") {
                report.requests = count.parse()?;
                seen = true;
            } else if let Some(errors) = line.strip_prefix("Socket errors: ") {
                for part in errors.split(", ") {
                    let (kind, count) = part.split_once(' ').context("a wrk error count")?;
                    *report.errors_of(kind)? = count.parse()?;
                }
            } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses: ") {
                report.bad_status = count.parse()?;
            } else if let Some(time) = line.strip_prefix("50%") {
                report.median = parse_time(time.trim())?;
            } else if let Some(time) = line.strip_prefix("99%") {
                report.p99 = parse_time(time.trim())?;
            }
        }
        ensure!(seen, "no report of wrk in:\n{text}");
        Ok(report)
    }

    fn errors_of(&mut self, kind: &str) -> Result<&mut u64> {
        match kind {
            "connect" => Ok(&mut self.connect_errors),
            "read" => Ok(&mut self.read_errors),
            "write" => Ok(&mut self.write_errors),
            "timeout" => Ok(&mut self.timeouts),
            _ => Err(anyhow!("wrk counts unknown errors: {kind}")),
        }
    }
}

fn parse_time(text: &str) -> Result<Duration> {
    let (number, scale) = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)]
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))
        .with_context(|| format!("{text} is no time"))?;
    Ok(Duration::from_secs_f64(number.parse::<f64>()? * scale))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::WrkReport;

    #[test]
    fn a_report_with_errors_is_read_whole() {
        let report = WrkReport::parse(concat!(
            "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 4 connections\n",
            "  Latency Distribution\n     50%  612.00us\n     99%    1.05s\n",
            "  15804 requests in 1.10s, 1.2MB read\n",
            "  Socket errors: connect 1, read 2, write 3, timeout 4\n",
            "  Non-2xx or 3xx responses: 5\nRequests/sec:  14367.27\n",
        ))
        .unwrap();
        assert_eq!(report.requests, 15804);
        assert_eq!(report.failed(), 15);
        assert_eq!(report.median, Duration::from_micros(612));
        assert_eq!(report.p99, Duration::from_millis(1050));
    }

    #[test]
    fn an_output_without_a_report_is_an_error() {
        assert!(WrkReport::parse("unable to connect to 127.0.0.1:1 Connection refused\n").is_err());
    }
}
