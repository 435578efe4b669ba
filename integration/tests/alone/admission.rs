//! Admission: a server gets requests as soon as it listens, and none before.

use std::time::{Duration, Instant};

use anyhow::Result;
use integration::cluster::{SOON, WITHOUT_PAUSE};
use integration::{
    Balancer, HaproxyKind, Load, Need, Node, TestEnv, test_alone, wait_for, wait_some,
};

const HOST: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
/// From the first accepted connection to the first request: 250 ms is promised, a busy machine gets twice that.
const ADMITTED: Duration = Duration::from_millis(500);

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
