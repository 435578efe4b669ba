//! The folders of examples/, taken at their word: config, template, the site's lines and the agents' files of one go in,
//! a balancer that serves comes out. HAProxy, Serf, Redis and nginx are the real ones.
//!
//! All machines of an example are on this host, so addresses, ports below 1024 and paths are replaced, in
//! [`Example::placed`] alone.

mod api_canary;
mod nginx_prometheus;
mod postgresql;
mod redis;
mod web_tls;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::agent::{Agent, RPC_PORT};
use integration::cluster::{SOON, first_file};
use integration::{Controller, Haproxy, HaproxyKind, TestEnv};
use regex::{Captures, Regex};

/// The last octet of the balancer in all examples.
const BALANCER: u8 = 2;
/// Gossip may miss somebody with a change of tags; then the next exchange of everything, every 15 s, has it.
const TOLD: Duration = Duration::from_secs(45);
/// What stands in Debian's haproxy.cfg, as far as it matters; the example's lines follow.
const SITE: &str = "defaults\n    mode http\n    option dontlognull\n    timeout connect 5000\n    \
                    timeout client 50000\n    timeout server 50000\n";

/// One of the folders.
struct Example<'a> {
    lab: &'a TestEnv,
    folder: PathBuf,
}

/// Its balancer.
struct Balancer {
    agent: Agent,
    haproxy: Haproxy,
    controller: Controller,
}

impl<'a> Example<'a> {
    fn of(lab: &'a TestEnv, name: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let example = Self {
            lab,
            folder: folder.join(name),
        };
        for entry in fs::read_dir(&example.folder)? {
            let path = entry?.path();
            let name = path.file_name().context("a name")?;
            let copy = match name.to_str() {
                Some("haproxy.cfg") => lab.path("site.cfg"),
                // The controller's own options write it.
                Some("config.toml") => continue,
                _ => lab.path("").join(name),
            };
            fs::copy(&path, &copy)?;
            let text = example.placed(&fs::read_to_string(&path)?)?;
            let is_site = copy.ends_with("site.cfg");
            let before = if is_site { SITE } else { "" };
            fs::write(&copy, format!("{before}{text}"))?;
        }
        Ok(example)
    }

    /// The text of one of its files with what one host has of all that: these are all the places.
    fn placed(&self, text: &str) -> Result<String> {
        let dir = self.lab.dir().display().to_string();
        let balancer = self.lab.net().ip(BALANCER).to_string();
        let (net, _) = balancer.rsplit_once('.').context("an address")?;
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        let rules = [
            ("10.0.0.", format!("{net}.")),
            ("127.0.0.1:7373", format!("{balancer}:{RPC_PORT}")),
            ("/etc/haproxy/haproxy.cfg", format!("{dir}/site.cfg")),
            (
                "/run/haproxy/serf-haproxy.sock",
                format!("{dir}/admin.sock"),
            ),
            (
                "/run/serf-haproxy-master.sock",
                format!("{dir}/master.sock"),
            ),
            ("/usr/share/serf-haproxy", templates.display().to_string()),
            ("/var/lib/serf-haproxy", dir.clone()),
            ("/etc/serf-haproxy", dir.clone()),
            ("/etc/haproxy", dir.clone()),
            ("/etc/nginx/serf-haproxy", dir.clone()),
            ("/etc/prometheus/serf-haproxy", dir),
            ("stats_socket_group = \"serf-haproxy\"\n", String::new()),
        ];
        let mut text = text.to_owned();
        for (from, to) in rules {
            text = text.replace(from, &to);
        }
        let ports = Regex::new(r"\*:(\d+)")?;
        let port = |found: &Captures<'_>| match found[1].parse::<u16>() {
            Ok(port) if port < 1024 => format!("{balancer}:{}", port + 8000),
            _ => format!("{balancer}:{}", &found[1]),
        };
        Ok(ports.replace_all(&text, port).into_owned())
    }

    /// An agent with one of its files.
    async fn agent(&self, file: &str, name: &str, last: u8) -> Result<Agent> {
        let text = fs::read_to_string(self.lab.path(file))?;
        let snapshot = self.lab.path(&format!("{name}.snapshot"));
        let text = text.replace("/var/lib/serf/snapshot", &snapshot.display().to_string());
        let path = self.lab.path(&format!("{name}.serf.json"));
        fs::write(&path, &text)?;
        let options = Agent::on(self.lab, name, last);
        let options = options.arg(format!("-config-file={}", path.display()));
        let says: serde_json::Value = serde_json::from_str(&text)?;
        let options = match says["rpc_auth"].as_str() {
            Some(key) => options.rpc_auth(key),
            None => options,
        };
        options.start().await
    }

    /// Agent, HAProxy with both files, and controller.
    async fn balancer(&self, kind: HaproxyKind) -> Result<Balancer> {
        let lab = self.lab;
        let agent = self.agent("balancer.json", "balancer", BALANCER).await?;
        let says: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(lab.path("balancer.json"))?)?;
        let key = says["rpc_auth"].as_str().context("a key")?;
        lab.secret("rpc.key", key)?;
        let site = lab.path("site.cfg");
        let mut haproxy = Haproxy::prepare(lab, kind).await?.after(site);
        let config = self.placed(&fs::read_to_string(self.folder.join("config.toml"))?)?;
        // Who may read the site's keys checks the file; here that is whoever runs the test.
        let check = r#"check_command = ["serf-haproxy", "check-file", "{path}"]"#;
        ensure!(config.contains(check), "no {check} in {config}");
        let checks = format!("check_command = {:?}", haproxy.check_command());
        let config = config.replace(check, &checks);
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy).config(config);
        let controller = options.start()?;
        first_file(&haproxy).await?;
        haproxy.start().await?;
        Ok(Balancer {
            agent,
            haproxy,
            controller,
        })
    }

    /// Where a machine of the example is.
    fn ip(&self, last: u8) -> Ipv4Addr {
        self.lab.net().ip(last)
    }

    /// Where the balancer listens on this port.
    fn front(&self, port: u16) -> SocketAddr {
        self.lab.net().addr(BALANCER, port)
    }
}

impl Balancer {
    /// Waits until exactly these servers of a backend have requests.
    async fn serves(&self, backend: &str, names: &[&str]) -> Result<()> {
        let served = self.haproxy.serves(backend, names, TOLD).await;
        served.with_context(|| format!("backend {backend}"))
    }

    /// All is well, `check` says so too, and all changes until now were made without a reload. What `check` said.
    async fn is_well(&mut self) -> Result<String> {
        let well = self.controller.settles("all well", SOON, |status| {
            status.0["problems"] == serde_json::json!([]) && status.is_whole()
        });
        let status = well.await?;
        ensure!(status.counter("reloads") == 0, "{status:?}");
        let checked = self.controller.options().run("check", &[]).await?;
        let said = String::from_utf8_lossy(&checked.stdout).into_owned()
            + &String::from_utf8_lossy(&checked.stderr);
        ensure!(checked.status.success(), "{said}");
        ensure!(!said.contains("needs a reload"), "{said}");
        Ok(said)
    }
}
