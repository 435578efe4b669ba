//! Joins and leaves at random, for long: nothing grows, no request fails. `SOAK=600` for ten minutes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use integration::cluster::SOON;
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, TestEnv, process, test};
use serf_rpc::MemberStatus;

/// Without being asked for more.
const SECONDS: u64 = 15;
const WEBS: u8 = 20;
/// 1,000 changes in ten minutes.
const PAUSE: Duration = Duration::from_millis(600);

/// What must stay flat.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    controller_descriptors: usize,
    controller_kib: u64,
    haproxy_descriptors: usize,
    /// What its pools have allocated.
    haproxy_kib: u64,
    servers: usize,
}

async fn size(stage: &mut Scenario) -> Result<Size> {
    let controller = stage.controller.process().pid();
    let stat = stage.haproxy.stat().await?;
    let descriptors = stage.haproxy.command("show fd").await?;
    let pools = stage.haproxy.command("show pools").await?;
    // `Total: 62 pools, 1234 bytes allocated, …`
    let total = pools
        .lines()
        .find_map(|line| line.trim().strip_prefix("Total: "));
    let allocated = total.and_then(|total| total.split(' ').nth(2)?.parse::<u64>().ok());
    Ok(Size {
        controller_descriptors: process::descriptors(controller)?,
        controller_kib: process::memory(controller)?.resident_kb,
        haproxy_descriptors: descriptors.lines().count(),
        haproxy_kib: allocated.context("the total of the pools")? / 1024,
        servers: stat.iter().filter(|line| line.is_server()).count(),
    })
}

async fn soak(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let seconds = std::env::var("SOAK")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    let duration = Duration::from_secs(seconds.unwrap_or(SECONDS));
    // Who comes and goes once a minute flaps by design.
    let sections = "[damping]\nmax_penalty = \"0s\"\n";
    let mut stage =
        Scenario::start_on(lab, kind, WEBS, |options| options.sections(sections)).await?;
    stage.settled().await?;
    let load = stage.load(lab)?;
    let mut rng = Rng::with_seed(6);
    let mut gone = [false; WEBS as usize];
    let started = Instant::now();
    let (mut changes, mut warm, mut most) = (0, None, Size::default());
    while started.elapsed() < duration {
        let number = rng.usize(1..gone.len());
        gone[number] = !gone[number];
        let status = if gone[number] {
            MemberStatus::Left
        } else {
            MemberStatus::Alive
        };
        stage.gossip(&format!("s{}", number + 1), status);
        changes += 1;
        tokio::time::sleep(PAUSE.mul_f64(rng.f64() * 2.0)).await;
        let now = size(&mut stage).await?;
        most.servers = most.servers.max(now.servers);
        if warm.is_none() && started.elapsed() > duration / 4 {
            warm = Some(now);
        }
    }
    for number in 1..=WEBS {
        stage.gossip(&format!("s{number}"), MemberStatus::Alive);
    }
    stage
        .haproxy
        .serves("nodes", &stage.names().collect::<Vec<_>>(), SOON * 2)
        .await?;
    stage.settled().await?;
    let end = size(&mut stage).await?;
    let warm = warm.unwrap_or(end);
    let status = stage.controller.status().await?;
    println!(
        "{kind:?}: {changes} joins and leaves in {:?}; at a quarter {warm:?}, at the end {end:?}, never more than {} servers, {} reloads",
        started.elapsed(),
        most.servers,
        status.counter("reloads")
    );
    assert!(most.servers <= usize::from(WEBS));
    assert!(end.controller_descriptors <= warm.controller_descriptors + 8);
    assert!(end.haproxy_descriptors <= warm.haproxy_descriptors + 64);
    assert!(
        end.controller_kib <= warm.controller_kib * 5 / 4 + 1024,
        "{warm:?} {end:?}"
    );
    assert!(
        end.haproxy_kib <= warm.haproxy_kib * 5 / 4 + 4096,
        "{warm:?} {end:?}"
    );
    load.nothing_failed("joins and leaves at random").await
}

#[test]
fn joins_and_leaves_at_random_on_the_hosts_haproxy() {
    let needs = [Need::Haproxy(HaproxyKind::Host), Need::Wrk];
    test(&needs, async |lab| soak(lab, HaproxyKind::Host).await);
}

#[test]
fn joins_and_leaves_at_random_on_trixies_haproxy() {
    let needs = [Need::Haproxy(HaproxyKind::Trixie), Need::Wrk];
    test(&needs, async |lab| soak(lab, HaproxyKind::Trixie).await);
}
