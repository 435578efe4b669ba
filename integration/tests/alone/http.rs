//! What it costs to be looked at: a scrape each second and ten open pages.
//!
//! Only where `CAMPAIGN` is set, and to be said of a release build: `SERF_HAPROXY_BIN_DIR=$PWD/target/release`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::cluster::{SOON, first_file};
use integration::compose::is_campaign;
use integration::controller::Status;
use integration::fake_agent::node;
use integration::http::{Events, get};
use integration::{Controller, FakeAgent, Haproxy, HaproxyKind, Need, TestEnv, test_alone};
use serf_rpc::Member;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

const NEEDS: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
const PORT: u16 = 3999;
const PAGES: usize = 10;
const LONG: Duration = Duration::from_secs(30);

/// So many members on addresses of their own, where nobody listens: to let ten thousand in would take minutes, and in the
/// status they stand as those that serve do.
fn members(count: u32) -> impl Iterator<Item = Member> {
    let first = u32::from(Ipv4Addr::new(127, 200, 0, 1));
    (0..count).map(move |number| {
        let member = node(format!("web-{number:05}"), Ipv4Addr::from(first + number));
        let member = member.tag("role", "backend");
        member.tag("port", PORT.to_string()).build()
    })
}

/// A page as its script keeps it new.
async fn page(addr: SocketAddr) -> Result<()> {
    get(addr, "/").await?;
    let mut events = Events::open(addr, "/events?page").await?;
    loop {
        events.next("body").await?;
        get(addr, "/body").await?;
    }
}

async fn scrape(addr: SocketAddr) -> Result<()> {
    let mut second = interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        ensure!(get(addr, "/metrics").await?.status == 200);
    }
}

/// The share of a core that the controller takes meanwhile.
async fn share(controller: &Controller) -> Result<f64> {
    let (began, before) = (Instant::now(), controller.cpu_time()?);
    sleep(LONG).await;
    let spent = controller.cpu_time()?.saturating_sub(before);
    Ok(spent.as_secs_f64() / began.elapsed().as_secs_f64())
}

async fn cost(lab: &TestEnv, count: u32) -> Result<f64> {
    let addr = lab.net().addr(1, 9280);
    let mut tasks: JoinSet<()> = JoinSet::new();
    let lines = format!("ports = [3000, {PORT}]");
    let agent = FakeAgent::on(lab, "balancer", 1);
    let agent = agent.members(members(count)).start()?;
    let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
    let http = format!("[http]\nlisten = \"{addr}\"");
    let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
    let controller = options.backend(&lines).sections(&http).start()?;
    first_file(&haproxy).await?;
    haproxy.start().await?;
    let all = |status: &Status| status.servers("waiting") == count as usize && status.is_whole();
    controller
        .settles("all to be there", 10 * SOON, all)
        .await?;
    sleep(Duration::from_secs(15)).await;
    let idle = share(&controller).await?;
    for _ in 0..PAGES {
        tasks.spawn(async move { drop(page(addr).await) });
    }
    tasks.spawn(async move { drop(scrape(addr).await) });
    sleep(Duration::from_secs(3)).await;
    let looked_at = share(&controller).await?;
    let began = Instant::now();
    let length = get(addr, "/").await?.body.len();
    eprintln!(
        "{count} members: idle {:.2} % of a core, looked at {:.2} %, a page of {length} bytes takes {:?}",
        100.0 * idle,
        100.0 * looked_at,
        began.elapsed()
    );
    Ok(looked_at - idle)
}

fn test_cost(count: u32, most: f64) {
    if !is_campaign() {
        eprintln!("SKIPPED: CAMPAIGN is not set");
        return;
    }
    test_alone(&NEEDS, async |lab| {
        let cost = cost(lab, count).await?;
        ensure!(cost <= most, "{:.2} % of a core", 100.0 * cost);
        Ok(())
    });
}

#[test]
fn ten_pages_and_a_scrape_a_second_cost_a_hundredth_of_a_core_at_a_hundred_members() {
    test_cost(100, 0.01);
}

#[test]
fn ten_pages_and_a_scrape_a_second_cost_three_hundredths_at_ten_thousand() {
    test_cost(10_000, 0.03);
}
