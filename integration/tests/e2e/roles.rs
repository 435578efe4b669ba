//! Checks that tell a role: a primary and its standbys, which answer 503 by design and are in the file all the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::{SOON, WEB_PORT, WITHOUT_PAUSE};
use integration::scenario::Scenario;
use integration::{HaproxyKind, Load, TestEnv, Web, on_each_haproxy, wait_for, web};
use serf_rpc::MemberStatus;

/// Where the role is asked for, as Patroni's REST API is.
const ROLE_PORT: u16 = 8008;

const TEMPLATE: &str = r#"global
    description "serf-haproxy {{ stamp }}"
    stats socket {{ haproxy.stats_socket }} mode 600 level admin expose-fd listeners
    hard-stop-after {{ hard_stop_after }}

defaults
    mode http
    timeout connect 500ms
    timeout client 10s
    timeout server 10s

frontend main
    bind {{ frontend.bind | first }}
    default_backend nodes

backend nodes
    option httpchk GET /primary
    http-check expect status 200
    default-server inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions
{% for backend in backends if backend.name == "nodes" %}
{% for server in backend.servers %}
    server {{ server.name }} {{ server.addr }} check port 8008{% if not server.ready %} disabled{% endif +%}
{% endfor %}
{% endfor %}
"#;

/// A primary and standbys: the stage has their services, here are the pages with their roles.
struct Cluster {
    stage: Scenario,
    roles: Vec<Web>,
}

impl Cluster {
    /// A balancer before a primary.
    async fn start(lab: &TestEnv, kind: HaproxyKind) -> Result<Self> {
        let path = lab.path("template.j2");
        std::fs::write(&path, TEMPLATE)?;
        let stage = Scenario::start_on(lab, kind, 0, |options| {
            options.template(path).backend("probe = \"check\"")
        });
        let mut cluster = Self {
            stage: stage.await?,
            roles: Vec::new(),
        };
        cluster.join(lab, false)?;
        cluster.is_ready("s1").await?;
        cluster.is_primary("s1").await?;
        Ok(cluster)
    }

    fn join(&mut self, lab: &TestEnv, standby: bool) -> Result<()> {
        let number = u8::try_from(self.roles.len() + 1)?;
        let name = format!("s{number}");
        let ip = lab.net().ip(100 + number);
        let role = Web::start(name.clone(), (ip, ROLE_PORT).into())?;
        role.set_standby(standby);
        self.roles.push(role);
        let service = Web::new(name, (ip, WEB_PORT).into());
        self.stage.join(service, "backend")
    }

    /// Waits until a server is ready in HAProxy and in its file.
    async fn is_ready(&self, name: &str) -> Result<()> {
        let controller = &self.stage.controller;
        let settles = controller.settles("it to be ready", SOON, |status| {
            status.server(name) == "ready" && status.is_whole()
        });
        settles.await?;
        let file = std::fs::read_to_string(self.stage.haproxy.config())?;
        let line = file
            .lines()
            .find(|line| line.trim().starts_with(&format!("server {name} ")));
        let line = line.with_context(|| format!("no line of {name}"))?;
        ensure!(!line.contains("disabled"), "{line}");
        Ok(())
    }

    /// Waits until a server gets the requests.
    async fn is_primary(&self, name: &str) -> Result<()> {
        let front = self.stage.controller.front();
        wait_for("the primary to answer", SOON, async || {
            web::ask(front).await.as_deref() == Some(name)
        })
        .await
    }

    fn promote(&self, number: usize) {
        for (index, role) in self.roles.iter().enumerate() {
            role.set_standby(index + 1 != number);
        }
    }
}

/// Standbys join under load: they are ready at once, and not one request is theirs.
async fn standbys_join(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut cluster = Cluster::start(lab, kind).await?;
    let load = Load::start(cluster.stage.controller.front(), WITHOUT_PAUSE);
    cluster.join(lab, true)?;
    cluster.join(lab, true)?;
    cluster.is_ready("s2").await?;
    cluster.is_ready("s3").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = load.stop();
    let theirs: Vec<u64> = cluster.stage.webs.iter().map(Web::requests).collect();
    println!(
        "{kind:?}: {} answers of {:?}, requests {theirs:?}",
        seen.total(),
        seen.answers
    );
    ensure!(seen.failed == 0 && seen.total() > 100, "{seen:?}");
    ensure!(theirs[1..] == [0, 0], "requests by server: {theirs:?}");
    let status = cluster.stage.controller.status().await?;
    ensure!(status.counter("reloads") == 0, "{status:?}");
    let backend = &status.0["backends"]["nodes"];
    ensure!(
        backend["in_rotation"] == 3 && backend["answering"] == 1 && backend["roles"] == true,
        "{backend}"
    );
    Ok(())
}

/// Whoever is promoted gets the requests, without a controller too, and after a start of HAProxy.
async fn failover(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut cluster = Cluster::start(lab, kind).await?;
    cluster.join(lab, true)?;
    cluster.is_ready("s2").await?;
    cluster.promote(2);
    cluster.is_primary("s2").await?;
    cluster.stage.controller.stop().await?;
    cluster.promote(1);
    cluster.is_primary("s1").await?;
    cluster.stage.haproxy.start().await?;
    cluster.promote(2);
    cluster.is_primary("s2").await
}

/// A standby whose agent is gone stays while it listens, and is cut when it does not.
async fn agentless_standby(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut cluster = Cluster::start(lab, kind).await?;
    cluster.join(lab, true)?;
    cluster.is_ready("s2").await?;
    cluster.stage.gossip("s2", MemberStatus::Failed);
    let controller = &cluster.stage.controller;
    let kept = controller.settles("its probe", SOON, |status| {
        status.of_server("s2", "gossip") == "failed"
            && status.of_server("s2", "probe") == "good"
            && status.of_server("s2", "check") == "down"
    });
    let kept = kept.await?;
    ensure!(kept.server("s2") == "ready", "{kept:?}");
    cluster.roles[1].close();
    let controller = &cluster.stage.controller;
    let cut = controller.settles("it to be cut", SOON, |status| status.server("s2") == "out");
    cut.await?;
    // It is back before its agent: HAProxy's check lets it in, as at first.
    cluster.roles[1].listen()?;
    cluster.is_ready("s2").await?;
    ensure!(
        cluster.stage.webs[1].requests() == 0,
        "a standby had requests"
    );
    Ok(())
}

on_each_haproxy! {
    standbys_that_join_under_load_are_ready_and_get_no_request => standbys_join;
    a_failover_needs_no_controller => failover;
    a_standby_whose_agent_is_gone_is_cut_only_when_it_does_not_listen => agentless_standby;
}
