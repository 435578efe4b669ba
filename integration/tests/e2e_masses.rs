//! What many members that are dead or hostile cost everybody else: next to nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::controller::ControllerOptions;
use integration::scenario::{Scenario, backend};
use integration::web::Web;
use integration::{Firewall, HaproxyKind, Need, TestEnv, test_alone};
use serf_rpc::MemberStatus;
use tokio::time::sleep;

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Firewall];
/// The controller's group, by which its packets are told.
const GROUP: u32 = 4711;
/// Addresses of a rack, from this last octet on, and servers on each.
const RACK: (u8, u8) = (50, 50);
const EACH: u16 = 12;

/// How many servers are dead, and how long that is looked at.
fn extent() -> (usize, Duration) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    let dead = number("RACK").unwrap_or(150);
    let seconds = number("RACK_SECONDS").unwrap_or(15);
    (dead, Duration::from_secs(seconds as u64))
}

/// All servers of a rack, of whom some are addressed under several ports.
fn rack(lab: &TestEnv, count: usize) -> Vec<SocketAddr> {
    let ports = 3000..3000 + EACH;
    let all = ports.flat_map(|port| (RACK.0..RACK.0 + RACK.1).map(move |last| (last, port)));
    let all = all.map(|(last, port)| lab.net().addr(last, port));
    all.take(count).collect()
}

/// A rack dies, gossip says so of all of them, and somebody joins and leaves.
async fn dead_rack(lab: &TestEnv, lines: &str) -> Result<()> {
    let (count, time) = extent();
    let configure = |options: ControllerOptions| {
        let ports = format!("ports = [\"3000-{}\"]", 3000 + EACH);
        options.group(GROUP).backend(&ports).backend(lines)
    };
    let mut stage = Scenario::start(lab, 2, configure).await?;
    let rack = rack(lab, count);
    for (number, addr) in rack.iter().enumerate() {
        let (name, IpAddr::V4(ip)) = (format!("r{number}"), addr.ip()) else {
            continue;
        };
        stage.webs.push(Web::start(&*name, *addr)?);
        let member = backend(&name, ip).tag("port", addr.port().to_string());
        stage.agent.put(member.build());
    }
    stage.serves_all().await?;

    let firewall = Firewall::new(lab)?;
    let addresses: Vec<_> = (RACK.0..RACK.0 + RACK.1)
        .map(|last| lab.net().ip(last))
        .collect();
    firewall.isolate_counting(&addresses, GROUP)?;
    for number in 0..count {
        stage.gossip(&format!("r{number}"), MemberStatus::Failed);
    }
    stage
        .haproxy
        .serves("nodes", &["s1", "s2"], 4 * SOON)
        .await?;
    let (memory, asked, from) = (
        stage.controller.memory()?,
        firewall.counted()?,
        Instant::now(),
    );
    for turn in 0..3_u8 {
        sleep(time / 3).await;
        let began = Instant::now();
        let name = format!("s{}", 10 + turn);
        stage.add(lab, 10 + turn)?;
        stage
            .haproxy
            .serves("nodes", &["s1", "s2", &name], SOON)
            .await?;
        let joined = began.elapsed();
        let began = Instant::now();
        stage.gossip(&name, MemberStatus::Left);
        stage.haproxy.serves("nodes", &["s1", "s2"], SOON).await?;
        let left = began.elapsed();
        println!(
            "{count} dead, {lines:?}: a newcomer is in after {joined:.1?}, and out after {left:.1?}"
        );
    }
    let asked = (firewall.counted()? - asked) as f64 / from.elapsed().as_secs_f64();
    let after = stage.controller.memory()?;
    println!(
        "{asked:.1} connections a second tried; allocated {} → {} kB",
        memory.allocated_kb, after.allocated_kb
    );
    // Each that is not answered is sent again once.
    ensure!(
        asked <= 2.0 * 50.0 + 200.0 / time.as_secs_f64(),
        "{asked} a second"
    );
    ensure!(
        after.allocated_kb < memory.allocated_kb * 5 / 4 + 2048,
        "{memory:?} → {after:?}"
    );
    Ok(())
}

#[test]
fn a_dead_rack_whose_servers_haproxy_checks() {
    test_alone(&NEEDS, async |lab| {
        dead_rack(lab, "check = \"GET /health\"").await
    });
}

#[test]
fn a_dead_rack_whose_servers_haproxy_connects_to() {
    test_alone(&NEEDS, async |lab| dead_rack(lab, "check = \"tcp\"").await);
}

#[test]
fn a_dead_rack_whose_servers_nobody_checks() {
    test_alone(&NEEDS, async |lab| dead_rack(lab, "check = \"off\"").await);
}
