//! The controller: how long a join takes beside the agent's own event, memory, and what idling costs.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use integration::cluster::{SOON, names};
use integration::measure::{Join, joins, median, percentile};
use integration::{Balancer, HaproxyKind, Need, Node, TestEnv};

const JOINS: u8 = 20;
const MEMBERS: u8 = 20;
const IDLE: Duration = Duration::from_secs(30);

pub(crate) async fn run() -> Result<()> {
    let needs = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
    if let Some(missing) = needs.into_iter().find_map(Need::missing) {
        bail!("{missing}: make setup");
    }
    let mut out = std::io::stdout().lock();
    let measured = joins(&TestEnv::new("joins")?, HaproxyKind::Host, JOINS).await?;
    report_joins(&mut out, &measured)?;

    let lab = TestEnv::new("idle")?;
    let balancer = Balancer::start(&lab, HaproxyKind::Host).await?;
    let nodes = Node::start_all(&lab, 1..=MEMBERS).await?;
    for node in &nodes {
        node.join(&balancer.agent).await?;
    }
    balancer.serves(&names(&nodes)).await?;
    balancer
        .controller
        .settles("all parts", SOON, |status| status.is_whole())
        .await?;
    let before = balancer.controller.cpu_time()?;
    tokio::time::sleep(IDLE).await;
    let spent = balancer.controller.cpu_time()? - before;
    let share = 100.0 * spent.as_secs_f64() / IDLE.as_secs_f64();
    writeln!(
        out,
        "idle, {MEMBERS} members    {share:.3} % of a core over {} s",
        IDLE.as_secs()
    )?;
    let resident = balancer.controller.memory()?.resident_kb;
    writeln!(
        out,
        "resident memory     {}.{} MB with {MEMBERS} members",
        resident / 1024,
        resident % 1024 * 10 / 1024
    )?;
    Ok(())
}

fn report_joins(out: &mut impl Write, joins: &[Join]) -> Result<()> {
    let served = || joins.iter().map(|join| join.served);
    let events = || joins.iter().map(|join| join.event);
    let middle = median(served()).context("no join was measured")?;
    let event = median(events()).context("no event was measured")?;
    let last = percentile(served(), 95).context("no join was measured")?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    writeln!(
        out,
        "join known → served median {:.2} ms, p95 {:.2} ms, {} joins, one client, 3 servers",
        ms(middle),
        ms(last),
        joins.len()
    )?;
    writeln!(out, "the agent's event   median {:.0} ms", ms(event))?;
    writeln!(
        out,
        "ratio               {:.0}",
        event.as_secs_f64() / middle.as_secs_f64()
    )?;
    Ok(())
}
