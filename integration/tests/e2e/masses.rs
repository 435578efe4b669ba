//! What many members that are dead or hostile cost everybody else: next to nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::controller::{ControllerOptions, Status};
use integration::scenario::{Scenario, backend};
use integration::web::Web;
use integration::{Firewall, HaproxyKind, Need, TestEnv, test};
use serf_rpc::MemberStatus;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
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
    let seconds = number("RACK_SECONDS").unwrap_or(6);
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
    // Fifty a second after a burst of those that are watched; each that is not answered is sent again once.
    ensure!(
        asked <= 2.0 * (50.0 + 2000.0 / time.as_secs_f64()),
        "{asked} a second"
    );
    ensure!(
        after.allocated_kb < memory.allocated_kb * 5 / 4 + 2048,
        "{memory:?} → {after:?}"
    );
    Ok(())
}

/// How many members join at once; `CROWD=30000` for a campaign.
fn crowd() -> usize {
    let count = std::env::var("CROWD").ok();
    count.and_then(|value| value.parse().ok()).unwrap_or(3000)
}

/// Members join by the thousand, and nobody listens where they say; meanwhile honest servers come and go.
async fn a_crowd(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    const PORTS: std::ops::Range<u16> = 10_000..10_600;
    let configure = |options: ControllerOptions| {
        options.backend("ports = [\"3000\", \"10000-10600\"]\ncheck = \"GET /health\"")
    };
    let mut stage = Scenario::start_on(lab, kind, 10, configure).await?;
    let mut honest: Vec<String> = stage.names().map(str::to_owned).collect();
    let (before, cpu) = (stage.controller.memory()?, stage.controller.cpu_time()?);
    let began = Instant::now();
    let places = PORTS.flat_map(|port| (RACK.0..RACK.0 + RACK.1).map(move |last| (last, port)));
    for (number, (last, port)) in places.take(crowd()).enumerate() {
        let member = backend(format!("c{number}"), lab.net().ip(last));
        stage
            .agent
            .put(member.tag("port", port.to_string()).build());
    }
    println!("{} members in {:.1?}", crowd(), began.elapsed());
    for turn in 0..5_u8 {
        let began = Instant::now();
        let name = format!("s{}", 20 + turn);
        stage.add(lab, 20 + turn)?;
        honest.push(name.clone());
        let names: Vec<&str> = honest.iter().map(String::as_str).collect();
        stage.haproxy.serves("nodes", &names, SOON).await?;
        let joined = began.elapsed();
        let began = Instant::now();
        let leaver = honest.remove(0);
        stage.gossip(&leaver, MemberStatus::Left);
        let names: Vec<&str> = honest.iter().map(String::as_str).collect();
        stage.haproxy.serves("nodes", &names, SOON).await?;
        let left = began.elapsed();
        println!("an honest one is in after {joined:.1?}, another out after {left:.1?}");
    }
    let status = stage.controller.status().await?;
    let after = stage.controller.memory()?;
    let known = stage.haproxy.command("show servers state nodes").await?;
    let known = known
        .lines()
        .filter(|line| line.contains(" nodes "))
        .count();
    println!(
        "CPU of the controller: {:?}; allocated {} → {} kB; {known} servers in HAProxy",
        stage.controller.cpu_time()? - cpu,
        before.allocated_kb,
        after.allocated_kb,
    );
    ensure!(
        known <= honest.len() + 5,
        "HAProxy was told of {known} servers"
    );
    ensure!(status.counter("reloads") == 0, "reloaded for nothing");
    Ok(())
}

/// A thousand members take each connection and never say a word, while somebody joins and leaves.
async fn tar_pits(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let configure = |options: ControllerOptions| {
        options.backend("ports = [\"3000-3020\"]\ncheck = \"GET /health\"")
    };
    let mut stage = Scenario::start_on(lab, kind, 2, configure).await?;
    let mut pits = JoinSet::new();
    let ports = 3000..3020;
    let all = ports.flat_map(|port| (RACK.0..RACK.0 + RACK.1).map(move |last| (last, port)));
    for (number, (last, port)) in all.enumerate() {
        let listener = TcpListener::bind(lab.net().addr(last, port)).await?;
        pits.spawn(async move {
            let mut taken = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                taken.push(connection);
            }
        });
        let member = backend(format!("p{number}"), lab.net().ip(last));
        let member = member.tag("port", port.to_string());
        stage.agent.put(member.build());
    }
    let mut before = None;
    for turn in 0..3_u8 {
        let began = Instant::now();
        let name = format!("s{}", 10 + turn);
        stage.add(lab, 10 + turn)?;
        let with = ["s1", "s2", &name];
        stage.haproxy.serves("nodes", &with, 4 * SOON).await?;
        let joined = began.elapsed();
        let began = Instant::now();
        stage.gossip(&name, MemberStatus::Left);
        stage
            .haproxy
            .serves("nodes", &["s1", "s2"], 4 * SOON)
            .await?;
        let left = began.elapsed();
        println!(
            "{} pits: in after {joined:.1?}, out after {left:.1?}",
            pits.len()
        );
        // All of them are known, and asked, by the first turn.
        before.get_or_insert(stage.controller.memory()?);
    }
    let after = stage.controller.memory()?;
    let flat = before.is_some_and(|it| after.allocated_kb < it.allocated_kb * 5 / 4 + 2048);
    ensure!(flat, "{before:?} → {after:?}");
    Ok(())
}

/// An agent lists more members than may be, and then fewer again.
async fn too_many(lab: &TestEnv) -> Result<()> {
    let configure = |options: ControllerOptions| options.serf("max_members = 50");
    let mut stage = Scenario::start(lab, 3, configure).await?;
    for number in 0..100_u8 {
        let member = backend(format!("c{number}"), lab.net().ip(RACK.0));
        stage.agent.put(member.tag("role", "else").build());
    }
    let status = stage
        .controller
        .settles("the list refused", SOON, |status: &Status| {
            status.0["problems"]
                .to_string()
                .contains("max_members = 50")
        });
    status.await?;
    // Whatever else is in that list, nothing of it is believed.
    stage.gossip("s1", MemberStatus::Left);
    sleep(SOON / 10).await;
    stage.serves_all().await?;
    for number in 0..100_u8 {
        stage.agent.remove(&format!("c{number}"));
    }
    stage.haproxy.serves("nodes", &["s2", "s3"], SOON).await?;
    stage.webs.remove(0);
    stage.settled().await
}

/// The limit is raised while the agent has nothing new to tell.
async fn more_may_be(lab: &TestEnv) -> Result<()> {
    let configure = |options: ControllerOptions| options.serf("max_members = 5");
    let mut stage = Scenario::start(lab, 3, configure).await?;
    for number in 4..=6 {
        stage.add(lab, number)?;
    }
    let refused = |status: &Status| status.0["problems"].to_string().contains("max_members");
    let controller = &mut stage.controller;
    controller
        .settles("the list refused", SOON, refused)
        .await?;
    let config = controller.options().path();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("max_members = 5", "max_members = 9"))?;
    controller.reload()?;
    stage.serves_all().await?;
    stage.settled().await
}

#[test]
fn a_list_that_was_refused_is_taken_once_more_members_may_be() {
    test(&NEEDS, more_may_be);
}

#[test]
fn a_list_of_more_members_than_may_be_is_refused_as_a_whole() {
    test(&NEEDS, too_many);
}

#[test]
fn a_crowd_that_never_answers() {
    test(&NEEDS, async |lab| a_crowd(lab, HaproxyKind::Host).await);
}

#[test]
fn a_thousand_that_take_connections_and_never_answer() {
    test(&NEEDS, async |lab| tar_pits(lab, HaproxyKind::Host).await);
}

#[test]
fn a_dead_rack_whose_servers_haproxy_checks() {
    test(&NEEDS, async |lab| {
        dead_rack(lab, "check = \"GET /health\"").await
    });
}

#[test]
fn a_dead_rack_whose_servers_haproxy_connects_to() {
    test(&NEEDS, async |lab| dead_rack(lab, "check = \"tcp\"").await);
}

#[test]
fn a_dead_rack_whose_servers_nobody_checks() {
    test(&NEEDS, async |lab| dead_rack(lab, "check = \"off\"").await);
}
