//! Admission and removal: who gets requests, who does not, and since when.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::cluster::{SOON, WITHOUT_PAUSE, names};
use integration::{
    Balancer, HaproxyKind, Load, Need, Node, TestEnv, test, test_alone, wait_for, wait_some,
};

const HOST: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
/// From the first accepted connection to the first request: 250 ms is promised, a busy machine gets twice that.
const ADMITTED: Duration = Duration::from_millis(500);
/// From SIGKILL of an agent to `failed` in a small cluster.
const FAILED: Duration = Duration::from_secs(60);

/// A node that joined deaf, beside one that serves, while a client asks without pause.
struct Deaf {
    balancer: Balancer,
    serving: Node,
    deaf: Node,
    load: Load,
}

impl Deaf {
    async fn start(lab: &TestEnv) -> Result<Self> {
        let balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let serving = Node::start(lab, 1).await?;
        serving.join(&balancer.agent).await?;
        balancer.serves(&["s1"]).await?;
        let deaf = Node::start_deaf(lab, 2).await?;
        deaf.join(&balancer.agent).await?;
        let load = Load::start(balancer.controller.front(), WITHOUT_PAUSE);
        let deaf = Self {
            balancer,
            serving,
            deaf,
            load,
        };
        deaf.waits().await?;
        Ok(deaf)
    }

    /// Waits until the controller has it waiting and its file is written, and the client was answered.
    async fn waits(&self) -> Result<()> {
        let what = "s2 to wait for its web server";
        let waiting = self.balancer.controller.settles(what, SOON, |status| {
            status.server("s2") == "waiting" && status.is_whole()
        });
        waiting.await?;
        let asked = self.serving.web.requests();
        wait_for("requests", SOON, async || {
            self.serving.web.requests() > asked + 100
        })
        .await
    }

    async fn hears_and_is_served(mut self) -> Result<()> {
        assert_eq!(self.deaf.web.requests(), 0);
        let heard = Instant::now();
        self.deaf.web.listen()?;
        let first = wait_some("s2 to be asked", SOON, async || {
            self.deaf.web.first_request()
        })
        .await?;
        println!("asked {:?} after it listened", first - heard);
        assert!(
            first - heard <= ADMITTED,
            "asked {:?} after it listened",
            first - heard
        );
        let seen = self.load.stop();
        assert_eq!(seen.failed, 0, "{seen:?}");
        Ok(())
    }
}

#[test]
fn a_web_server_that_does_not_listen_yet_is_asked_nothing_until_it_does() {
    test_alone(&HOST, async |lab| {
        Deaf::start(lab).await?.hears_and_is_served().await
    });
}

#[test]
fn a_reload_does_not_admit_a_web_server_that_does_not_listen_yet() {
    test_alone(&HOST, async |lab| {
        let deaf = Deaf::start(lab).await?;
        let before = deaf.balancer.haproxy.worker().await?;
        deaf.balancer.haproxy.master_command("reload").await?;
        wait_for("another worker", SOON, async || {
            deaf.balancer
                .haproxy
                .worker()
                .await
                .is_ok_and(|worker| worker.pid != before.pid)
        })
        .await?;
        deaf.waits().await?;
        deaf.hears_and_is_served().await
    });
}

#[test]
fn a_restart_of_haproxy_does_not_admit_a_web_server_that_does_not_listen_yet() {
    test_alone(&HOST, async |lab| {
        let mut deaf = Deaf::start(lab).await?;
        let front = deaf.balancer.controller.front();
        // Nobody can be answered meanwhile.
        assert_eq!(deaf.load.stop().failed, 0);
        deaf.balancer.haproxy.start().await?;
        deaf.load = Load::start(front, WITHOUT_PAUSE);
        deaf.waits().await?;
        deaf.hears_and_is_served().await
    });
}

#[test]
fn a_request_in_flight_survives_the_leave_of_its_server() {
    test(&HOST, async |lab| {
        let balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let mut node = Node::start(lab, 1).await?;
        node.join(&balancer.agent).await?;
        balancer.serves(&["s1"]).await?;
        let front = balancer.controller.front();
        let slow = tokio::spawn(integration::web::get(front, "/slow?ms=3000"));
        wait_for("the slow request", SOON, async || node.web.requests() == 1).await?;
        let other = Node::start(lab, 2).await?;
        other.join(&balancer.agent).await?;
        balancer.serves(&["s1", "s2"]).await?;
        node.agent.begin_leave()?;
        balancer.serves(&["s2"]).await?;
        // As an application does that is told to stop: the running request is its last.
        node.web.stop_listening();
        assert!(
            !slow.is_finished(),
            "the server was out before its request ended"
        );
        assert_eq!(slow.await?, Some((200, "s1".to_owned())));
        Ok(())
    });
}

#[test]
fn a_dead_server_is_removed_once_its_agent_has_failed_and_a_crashed_agent_alone_removes_nothing() {
    test(&HOST, async |lab| {
        let balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let mut nodes = Node::start_all(lab, 1..=5).await?;
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        balancer.serves(&names(&nodes)).await?;
        let (dead, crashed) = (0, 1);
        nodes[dead].agent.kill();
        nodes[dead].web.close();
        nodes[crashed].agent.kill();
        balancer.agent.knows(2, "failed", FAILED).await?;
        let gone = balancer.controller.settles("s1 to be out", SOON, |status| {
            matches!(status.server("s1"), "out" | "maint" | "") && status.is_whole()
        });
        gone.await?;
        balancer.serves(&["s2", "s3", "s4", "s5"]).await?;

        // It answers, so it stays, and a reload keeps it.
        let line = |text: &str| {
            text.lines()
                .find(|line| line.trim().starts_with("server s2 "))
                .map(str::to_owned)
        };
        let written = std::fs::read_to_string(balancer.haproxy.config())?;
        let line = line(&written).context("a line for s2")?;
        assert!(!line.contains("disabled"), "{line}");

        nodes[dead].web.listen()?;
        nodes[dead].agent.restart().await?;
        nodes[dead].join(&balancer.agent).await?;
        balancer.serves(&names(&nodes)).await
    });
}
