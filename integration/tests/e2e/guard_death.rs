//! When servers and agents die or leave: the living stay, and so do running requests.

use std::time::Duration;

use integration::cluster::{SOON, names};
use integration::wrk::Loads;
use integration::{Balancer, HaproxyKind, Need, Node, test, wait_for};
use tokio::time::sleep;

const HOST: [Need; 3] = [Need::Serf, Need::Haproxy(HaproxyKind::Host), Need::Wrk];
/// From SIGKILL of an agent to `failed` in a small cluster.
const FAILED: Duration = Duration::from_secs(90);

#[test]
fn an_agent_killed_alone_while_its_web_server_answers() {
    test(&HOST, async |lab| {
        let balancer = Balancer::start_with(lab, HaproxyKind::Host, |options| {
            Ok(options.sections("[guard]\nhold = \"5s\"\n"))
        })
        .await?;
        let mut nodes = Node::start_all(lab, 1..=3).await?;
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        balancer.serves(&names(&nodes)).await?;
        let load = Loads::start(lab, balancer.controller.front())?;
        nodes[0].agent.kill();
        balancer.agent.knows(1, "failed", FAILED).await?;
        let kept = balancer
            .controller
            .settles("s1 to be kept", SOON, |status| {
                status.server("s1") == "ready" && status.of_server("s1", "gossip") == "failed"
            });
        let kept = kept.await?;
        let why = kept.of_server("s1", "why");
        assert!(why.contains("kept"), "{why}");
        let drained = balancer
            .controller
            .settles("s1 to be out after hold", SOON, |status| {
                status.server("s1") == "out"
            });
        let drained = drained.await?;
        let why = drained.of_server("s1", "why").to_owned();
        assert!(why.contains("`hold`"), "{why}");
        balancer.serves(&["s2", "s3"]).await?;
        sleep(Duration::from_secs(3)).await;
        balancer.serves(&["s2", "s3"]).await?;
        load.nothing_failed("agent killed alone, hold 5 s").await
    });
}

#[test]
fn a_running_request_of_a_server_that_leaves_and_closes_its_listener_on_trixies_haproxy() {
    let needs = [Need::Serf, Need::Haproxy(HaproxyKind::Trixie)];
    test(&needs, async |lab| {
        let balancer = Balancer::start(lab, HaproxyKind::Trixie).await?;
        let mut node = Node::start(lab, 1).await?;
        node.join(&balancer.agent).await?;
        balancer.serves(&["s1"]).await?;
        let front = balancer.controller.front();
        let slow = tokio::spawn(integration::web::get(front, "/slow?ms=3000"));
        wait_for("the slow request", SOON, async || node.web.requests() == 1).await?;
        node.web.stop_listening();
        node.agent.begin_leave()?;
        balancer.serves(&[]).await?;
        assert_eq!(slow.await?, Some((200, "s1".to_owned())));
        Ok(())
    });
}
