//! Admission and removal: who gets requests, who does not, and since when.

use std::time::Duration;

use anyhow::Context;
use integration::cluster::{SOON, names};
use integration::{Balancer, HaproxyKind, Need, Node, test, wait_for};

const HOST: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
/// From SIGKILL of an agent to `failed` in a small cluster.
const FAILED: Duration = Duration::from_secs(60);

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
        let (balancer, mut nodes) = Balancer::start_serving(lab, HaproxyKind::Host, 1..=5).await?;
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
