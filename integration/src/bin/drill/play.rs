//! What happens to a setup: joins, a leave, a weight, a move, a reload by hand, a new controller, all under load.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::{SOON, first_file};
use integration::controller::Status;
use integration::scenario::backend;
use integration::wrk::Connections;
use integration::{Controller, FakeAgent, Haproxy, HaproxyKind, TestEnv, Wrk, wait_for};
use serf_rpc::MemberStatus;

use crate::{Setup, nginx};

/// Last octets: the balancer, a server that is no member, and one less than the first web server.
const BALANCER: u8 = 1;
const STATIC: u8 = 99;
const WEBS: u8 = 100;
/// Where s3 moves.
const MOVED: u8 = 150;
/// The server whose role is asked for, and which therefore never leaves.
const PRIMARY: u8 = 2;
/// Checks of other people come every few seconds, and want several good ones.
const PATIENCE: Duration = Duration::from_secs(45);
/// Longer than any play.
const LONGEST: Duration = Duration::from_secs(600);
/// How long the load goes on where nothing happens.
const STEADY: Duration = Duration::from_secs(1);

/// How a play went.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Reloads of the controller's, by reason.
    pub(crate) reloads: String,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            failed,
            reloads,
        } = self;
        write!(f, "{requests} requests, {failed} failed, reloads {reloads}")
    }
}

/// Plays a setup once.
pub(crate) async fn play(lab: &TestEnv, kind: HaproxyKind, setup: &Setup) -> Result<Figures> {
    let addresses = [1, 2, 3, 4].map(|number| lab.net().ip(WEBS + number));
    let all: Vec<_> = addresses.into_iter().chain([lab.net().ip(MOVED)]).collect();
    let primary = lab.net().ip(WEBS + PRIMARY);
    let _nginx = nginx::start(lab, &all, primary, setup.web).await?;
    let mut stage = Scenario::start(lab, kind, setup).await?;
    for number in 1..=3 {
        stage.join(lab, number);
    }
    stage.ready(&["s1", "s2", "s3"]).await?;
    let before = stage.controller.status().await?;
    let loads = [Connections::PerRequest, Connections::KeepAlive].map(|connections| {
        let front = stage.controller.front();
        let load = Wrk::on(lab, front, connections).count(2).duration(LONGEST);
        if setup.clients_speak_tls() {
            load.tls().start()
        } else {
            load.start()
        }
    });
    stage.change(lab).await?;
    let after = stage.controller.status().await?;
    let mut figures = Figures {
        requests: 0,
        failed: 0,
        reloads: reloads(&before, &after),
    };
    for load in loads {
        let report = load?.stop().await?;
        ensure!(report.requests > 0, "nothing was answered: {report:?}");
        figures.requests += report.requests;
        figures.failed += report.failed();
    }
    Ok(figures)
}

/// What the controller reloaded for since.
fn reloads(before: &Status, after: &Status) -> String {
    let by_reason = |status: &Status| status.0["counters"]["reloads_by_reason"].clone();
    format!("{} → {}", by_reason(before), by_reason(after))
}

/// A balancer of a setup, whose agent is a fake.
struct Scenario {
    agent: FakeAgent,
    haproxy: Haproxy,
    controller: Controller,
}

impl Scenario {
    async fn start(lab: &TestEnv, kind: HaproxyKind, setup: &Setup) -> Result<Self> {
        let agent = FakeAgent::on(lab, "balancer", BALANCER).start()?;
        let mut haproxy = Haproxy::prepare(lab, kind).await?;
        let placed = |text: &str| {
            text.replace("@front@", &lab.net().ip(BALANCER).to_string())
                .replace("@static@", &lab.net().ip(STATIC).to_string())
        };
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = lab.path(name);
            std::fs::write(&path, placed(text))?;
            Ok(path)
        };
        let template = write("haproxy.cfg.j2", &setup.template)?;
        if let Some(base) = &setup.base {
            haproxy = haproxy.after(write("base.cfg", base)?);
        }
        let controller = Controller::on(lab, agent.rpc_addr(), &haproxy)
            .template(template)
            .backend(&setup.backend)
            .start()?;
        first_file(&haproxy).await?;
        haproxy.start().await?;
        Ok(Self {
            agent,
            haproxy,
            controller,
        })
    }

    fn join(&self, lab: &TestEnv, number: u8) {
        let ip = lab.net().ip(WEBS + number);
        self.agent.put(backend(format!("s{number}"), ip).build());
    }

    /// Everything that happens.
    async fn change(&mut self, lab: &TestEnv) -> Result<()> {
        tokio::time::sleep(STEADY).await;
        self.join(lab, 4);
        self.ready(&["s1", "s2", "s3", "s4"]).await?;

        self.agent.set_status("s1", MemberStatus::Leaving);
        self.agent.set_status("s1", MemberStatus::Left);
        self.ready(&["s2", "s3", "s4"]).await?;

        let s3 = |last| backend("s3", lab.net().ip(last)).tag("weight", "5").build();
        self.agent.put(s3(WEBS + 3));
        self.shows("s3", "weight", "5").await?;
        self.agent.put(s3(MOVED));
        let moved = lab.net().addr(MOVED, 3000).to_string();
        self.shows("s3", "addr", &moved).await?;
        self.ready(&["s2", "s3", "s4"]).await?;

        let worker = self.haproxy.worker().await?;
        self.haproxy.reload().await?;
        wait_for("another worker", SOON, async || {
            let now = self.haproxy.worker().await;
            now.is_ok_and(|now| now.pid != worker.pid)
        })
        .await?;
        self.ready(&["s2", "s3", "s4"]).await?;
        tokio::time::sleep(STEADY).await;

        self.controller.restart()?;
        self.ready(&["s2", "s3", "s4"]).await?;
        self.join(lab, 1);
        self.ready(&["s1", "s2", "s3", "s4"]).await?;
        tokio::time::sleep(STEADY).await;
        Ok(())
    }

    /// Waits until exactly these are in rotation by the controller's word, and HAProxy and its file agree.
    async fn ready(&self, names: &[&str]) -> Result<()> {
        let what = format!("{names:?} to be ready");
        let settled = self.controller.settles(&what, PATIENCE, |status| {
            let ready = names.iter().all(|name| status.server(name) == "ready");
            ready && status.servers("ready") == names.len() && status.is_whole()
        });
        settled.await?;
        Ok(())
    }

    /// Waits until HAProxy shows this of a server.
    async fn shows(&self, server: &str, column: &str, value: &str) -> Result<()> {
        let what = format!("{column} {value} of {server}");
        wait_for(&what, PATIENCE, async || {
            let lines = self.haproxy.stat().await.unwrap_or_default();
            let found = lines
                .iter()
                .find(|line| line.get("pxname") == "nodes" && line.get("svname") == server);
            found.is_some_and(|line| line.get(column) == value)
        })
        .await
        .with_context(|| format!("HAProxy runs {server} otherwise"))
    }
}
