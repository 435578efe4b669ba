//! Joins: who is registered.

use anyhow::Result;
use integration::cluster::{SOON, WEB_PORT};
use integration::web::Web;
use integration::{Balancer, HaproxyKind, Need, Node, test, wait_for};

const HOST: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];

#[test]
fn only_members_whose_tags_match_are_registered() {
    test(&HOST, async |lab| {
        let balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let nodes = Node::start_all(lab, 1..=1).await?;
        let mut bystander = integration::Agent::on(lab, "bystander", 90).start().await?;
        let _web = Web::start("bystander", (bystander.ip(), WEB_PORT).into())?;
        bystander.join(balancer.agent.ip()).await?;
        nodes[0].join(&balancer.agent).await?;
        balancer.serves(&["s1"]).await?;
        assert_eq!(registered(&balancer).await?, ["s1"]);

        bystander.set_tag("role", "backend").await?;
        let what = "the bystander to be registered once its tag matches";
        wait_for(what, SOON, async || {
            registered(&balancer)
                .await
                .is_ok_and(|names| names == ["bystander", "s1"])
        })
        .await?;
        bystander.kill();
        Ok(())
    });
}

/// All servers of the backend, whatever their state.
async fn registered(balancer: &Balancer) -> Result<Vec<String>> {
    let lines = balancer.haproxy.stat().await?;
    let servers = lines
        .iter()
        .filter(|line| line.get("pxname") == "nodes" && line.is_server());
    let mut names: Vec<String> = servers.map(|line| line.get("svname").to_owned()).collect();
    names.sort();
    Ok(names)
}
