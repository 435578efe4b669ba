//! Several balancers of one cluster, and whether they do the same.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration::cluster::{SOON, names};
use integration::{Balancer, Firewall, HaproxyKind, Need, Node, TestEnv, test};
use serde_json::Value;

use crate::documented::documented;

const NEEDS: [Need; 3] = [Need::Serf, Need::Firewall, Need::Haproxy(HaproxyKind::Host)];
/// Serf's own time to notice who has gone, who is back, and whose join was lost among those of others: agents compare all
/// they know every 15 s and more.
const GOSSIP: Duration = Duration::from_secs(60);

/// Code and text of `fleet`, asked on one of the balancers.
async fn fleet(balancer: &mut Balancer, args: &[&str]) -> Result<(Option<i32>, String)> {
    let output = balancer.controller.options().run("fleet", args).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{text}{said}");
    ensure!(!text.is_empty(), "fleet printed nothing: {said}");
    Ok((output.status.code(), text))
}

async fn three(lab: &TestEnv) -> Result<(Vec<Balancer>, Vec<Node>)> {
    let mut balancers = Vec::new();
    for number in 1..=3 {
        balancers.push(Balancer::start_one(lab, HaproxyKind::Host, number).await?);
    }
    let nodes = Node::start_all(lab, 1..=2).await?;
    let first = &balancers[0];
    let others = balancers.iter().skip(1).map(|balancer| &balancer.agent);
    for agent in others.chain(nodes.iter().map(|node| &node.agent)) {
        agent.join(first.agent.ip()).await?;
    }
    for balancer in &balancers {
        let served = names(&nodes);
        balancer.haproxy.serves("nodes", &served, GOSSIP).await?;
    }
    Ok((balancers, nodes))
}

const TAG: [&str; 2] = ["--tag", "role=balancer"];

#[test]
fn three_balancers_say_of_each_other_what_they_do_and_who_is_cut_off() {
    test(&NEEDS, async |lab| {
        let (mut balancers, _nodes) = three(lab).await?;
        let wait = ["--wait", "8s"];
        let (code, text) = fleet(&mut balancers[0], &[TAG, wait].concat()).await?;
        ensure!(code == Some(0) && text.contains("all agree"), "{text}");
        ensure!(text.matches("nodes 2").count() == 3, "{text}");

        // A config that was changed on one of them alone.
        let options = balancers[2].controller.options();
        *options = options.clone().backend("max_weight = 20");
        options.write()?;
        balancers[2].controller.reload()?;
        let config = async |balancers: &mut Vec<Balancer>| fleet(&mut balancers[1], &[]).await;
        let mut said = config(&mut balancers).await?;
        let until = tokio::time::Instant::now() + SOON;
        while said.0 == Some(0) && tokio::time::Instant::now() < until {
            said = config(&mut balancers).await?;
        }
        let other = "PROBLEM  lb-3: another config than most";
        ensure!(said.0 == Some(1) && said.1.contains(other), "{}", said.1);
        let (code, text) = fleet(&mut balancers[1], &["--ignore-config", wait[0], wait[1]]).await?;
        ensure!(code == Some(0), "{text}");

        // One that nobody reaches, and that reaches nobody.
        let firewall = Firewall::new(lab)?;
        firewall.isolate(&[balancers[1].agent.ip()])?;
        let (code, text) = fleet(
            &mut balancers[0],
            &[&TAG[..], &["--ignore-config"]].concat(),
        )
        .await?;
        ensure!(code == Some(1), "{text}");
        let command = "serf-haproxy fleet --tag role=balancer --ignore-config";
        documented("Several balancers that do not agree", command, &text)?;
        let args = ["--ignore-config", "--expect", "3", "--format", "json"];
        let (code, text) = fleet(&mut balancers[0], &args).await?;
        let json: Value = serde_json::from_str(&text)?;
        ensure!(code == Some(1) && json["agree"] == false, "{text}");
        let problems = json["problems"].as_array().context("no problems")?;
        ensure!(problems[0] == "2 answer of 3", "{text}");

        firewall.heal()?;
        let args = [&TAG[..], &["--ignore-config"]].concat();
        let healed = tokio::time::Instant::now() + GOSSIP;
        let mut said = fleet(&mut balancers[0], &args).await?;
        while said.0 != Some(0) && tokio::time::Instant::now() < healed {
            said = fleet(&mut balancers[0], &args).await?;
        }
        ensure!(said.0 == Some(0), "{}", said.1);
        Ok(())
    });
}
