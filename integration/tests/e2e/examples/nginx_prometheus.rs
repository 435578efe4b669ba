//! The same members for HAProxy, nginx and Prometheus.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::process::{find_program, output};
use integration::{Agent, HaproxyKind, Need, Process, TestEnv, Web, test, wait_for, web};
use serde_json::{Value, json};

use super::Example;

/// nginx with the example's own lines.
struct Nginx {
    conf: PathBuf,
    front: SocketAddr,
    _process: Process,
}

impl Nginx {
    async fn start(example: &Example<'_>) -> Result<Self> {
        let (lab, front) = (example.lab, example.front(8081));
        let site = lab.path("site.conf");
        let lines = fs::read_to_string(&site)?.replace("listen 8081", &format!("listen {front}"));
        fs::write(&site, lines)?;
        let conf = lab.path("nginx.conf");
        let dir = lab.dir().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
            .collect();
        let text = format!(
            "daemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.error;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}include {};\n}}\n",
            site.display()
        );
        fs::write(&conf, text)?;
        let mut command = Command::new(find_program("nginx").context("nginx")?);
        command.arg("-c").arg(&conf);
        let process = Process::start("nginx", &command, lab.path("nginx.log"))?;
        let nginx = Self {
            conf,
            front,
            _process: process,
        };
        wait_for("nginx", SOON, async || web::ask(front).await.is_some()).await?;
        Ok(nginx)
    }

    /// What nginx-upstreams.service does, which its path unit starts when the file has changed.
    async fn reads(&self, example: &Example<'_>) -> Result<()> {
        let unit = fs::read_to_string(example.lab.path("nginx-upstreams.service"))?;
        for line in unit
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart="))
        {
            let line = line.replace("/usr/bin/systemctl reload nginx.service", "nginx -s reload");
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{line} -c {}", self.conf.display())]);
            output(&mut command).await?;
        }
        Ok(())
    }
}

async fn join(example: &Example<'_>, name: &str, last: u8) -> Result<(Agent, Web)> {
    let web = Web::start(name, (example.ip(last), 8080).into())?;
    Ok((example.agent("web.json", name, last).await?, web))
}

/// Waits until both files have these servers, and no other.
async fn written(example: &Example<'_>, lasts: &[u8]) -> Result<()> {
    let addrs: Vec<String> = lasts
        .iter()
        .map(|last| format!("{}:8080", example.ip(*last)))
        .collect();
    let targets = json!([{"labels": {"backend": "web"}, "targets": addrs}]);
    let what = format!("files with {addrs:?}");
    wait_for(&what, SOON, async || {
        let read = |name: &str| fs::read_to_string(example.lab.path(name)).unwrap_or_default();
        let upstreams = read("upstreams.conf");
        let servers: Vec<&str> = upstreams
            .lines()
            .filter_map(|line| line.trim().strip_prefix("server "))
            .collect();
        let wanted: Vec<String> = addrs
            .iter()
            .map(|addr| format!("{addr} weight=1;"))
            .collect();
        let are_targets = serde_json::from_str::<Value>(&read("targets.json"))
            .is_ok_and(|value| value == targets);
        servers == wanted && are_targets
    })
    .await
}

async fn follow(lab: &TestEnv) -> Result<()> {
    let example = Example::of(lab, "nginx-prometheus")?;
    let mut balancer = example.balancer(HaproxyKind::Host).await?;
    let (mut first, _web1) = join(&example, "web1", 3).await?;
    balancer.serves("web", &["web1"]).await?;
    written(&example, &[3]).await?;
    let nginx = Nginx::start(&example).await?;
    ensure!(
        web::ask(example.front(8080)).await.as_deref() == Some("web1"),
        "HAProxy"
    );
    ensure!(
        web::ask(nginx.front).await.as_deref() == Some("web1"),
        "nginx"
    );

    let (_second, second) = join(&example, "web2", 4).await?;
    balancer.serves("web", &["web1", "web2"]).await?;
    written(&example, &[3, 4]).await?;
    nginx.reads(&example).await?;
    let before = second.requests();
    wait_for("nginx to ask the new one", SOON, async || {
        web::ask(nginx.front).await.as_deref() == Some("web2")
    })
    .await?;
    ensure!(second.requests() > before, "it was asked");
    first.leave().await?;
    balancer.serves("web", &["web2"]).await?;
    written(&example, &[4]).await?;
    nginx.reads(&example).await?;
    let prometheus = lab.path("prometheus.yml");
    let mut promtool = Command::new("promtool");
    output(promtool.args(["check", "config"]).arg(prometheus)).await?;
    let said = balancer.is_well().await?;
    ensure!(!said.contains("warning"), "{said}");
    Ok(())
}

#[test]
fn nginx_and_prometheus_have_the_servers_of_haproxy() {
    let needs = [
        Need::Haproxy(HaproxyKind::Host),
        Need::Program("nginx"),
        Need::Program("promtool"),
    ];
    test(&needs, async |lab| follow(lab).await);
}
