//! What happens in the demo, act by act: a stage goes in, the figures come out.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Result;
use integration::measure::{median, percentile};
use tokio::time::sleep;

use crate::stage::{SERVERS, Stage};
use crate::view::View;

/// Between two events, so that eyes can follow.
const BEAT: Duration = Duration::from_millis(2500);
/// From SIGKILL of an agent until the others have given it up.
const GIVEN_UP: Duration = Duration::from_secs(40);
/// From the begin of a leave until HAProxy has let go.
const LET_GO: Duration = Duration::from_secs(15);

const SINGLE: RangeInclusive<u8> = 1..=4;
const BURST: RangeInclusive<u8> = 5..=SERVERS;
const LEAVING: [u8; 3] = [2, 6, 7];
const KILLED: u8 = 4;
const CRASHED_AGENT: u8 = 9;

/// What the demo ends with.
pub(crate) struct Figures {
    requests: u64,
    pub(crate) failed: u64,
    reasons: Vec<String>,
    reloads: u64,
    applies: u64,
    alone: Vec<Duration>,
    burst: Vec<Duration>,
}

impl Figures {
    /// Prints them.
    pub(crate) fn print(&self) {
        println!("\nrequests               {}", self.requests);
        println!("failed                 {}", self.failed);
        for reason in &self.reasons {
            println!("                       {reason}");
        }
        println!("reloads of HAProxy     {}", self.reloads);
        println!("applies                {}", self.applies);
        for (company, served) in [("alone", &self.alone), ("in a burst", &self.burst)] {
            let served = || served.iter().copied();
            println!(
                "join known → served    median {}, slowest {}, {} joins {company}",
                ms(median(served()).unwrap_or_default()),
                ms(percentile(served(), 100).unwrap_or_default()),
                served().count(),
            );
        }
    }
}

/// Plays all acts.
pub(crate) async fn play(stage: &mut Stage, view: &View) -> Result<Figures> {
    let mut alone = one_by_one(stage, view).await?;
    let burst = burst(stage, view).await?;
    leave(stage, view).await?;
    kill(stage, view).await?;
    alone.extend(come_back(stage, view).await?);
    view.act("The end");
    sleep(BEAT).await;
    let seen = stage.end_load(view)?;
    let status = stage.balancer.controller.status().await?;
    Ok(Figures {
        requests: seen.total() + seen.failed,
        failed: seen.failed,
        reasons: seen.reasons,
        reloads: status.counter("reloads"),
        applies: status.counter("applies"),
        alone,
        burst,
    })
}

async fn one_by_one(stage: &mut Stage, view: &View) -> Result<Vec<Duration>> {
    view.act("Web servers join one by one");
    let mut times = Vec::new();
    for number in SINGLE {
        stage.prepare(number).await?;
        let known = stage.join(number).await?;
        if number == *SINGLE.start() {
            // Nobody could be answered before there is a server.
            stage.balancer.serves(&["s1"]).await?;
            stage.load(view);
            view.tell("s1 has joined; four clients begin to ask".to_owned());
        } else {
            let served = stage.is_served(number, known).await?;
            view.tell(format!(
                "s{number} has joined: first request {}",
                after(served)
            ));
            times.push(served);
        }
        sleep(BEAT).await;
    }
    Ok(times)
}

async fn burst(stage: &mut Stage, view: &View) -> Result<Vec<Duration>> {
    view.act("A burst of joins");
    for number in BURST {
        stage.prepare(number).await?;
    }
    let mut known = Vec::new();
    for number in BURST {
        known.push((number, stage.join(number).await?));
    }
    let mut times = Vec::new();
    for (number, known) in known {
        times.push(stage.is_served(number, known).await?);
    }
    let slowest = times.iter().copied().max().unwrap_or_default();
    let (first, last) = (BURST.start(), BURST.end());
    view.tell(format!(
        "s{first} to s{last} have joined at once: the last first request {}",
        after(slowest)
    ));
    sleep(BEAT * 2).await;
    Ok(times)
}

async fn leave(stage: &mut Stage, view: &View) -> Result<()> {
    view.act("Some leave gracefully");
    for number in LEAVING {
        stage.leave(number)?;
    }
    stay(stage, |number| !LEAVING.contains(&number), LET_GO).await?;
    for number in LEAVING {
        stage.has_left(number).await?;
        view.tell(format!(
            "s{number} has left: no more requests, its web server stops"
        ));
    }
    sleep(BEAT * 2).await;
    Ok(())
}

async fn kill(stage: &mut Stage, view: &View) -> Result<()> {
    view.act("Two are killed");
    stage.close(KILLED)?;
    stage.crash_agent(KILLED)?;
    view.tell(format!(
        "s{KILLED} is dead, web server and agent: HAProxy goes round it"
    ));
    stage.crash_agent(CRASHED_AGENT)?;
    view.tell(format!(
        "the agent of s{CRASHED_AGENT} is dead, its web server is not: it stays"
    ));
    stage.agent().knows(2, "failed", GIVEN_UP).await?;
    let remain = |number| !LEAVING.contains(&number) && number != KILLED;
    stay(stage, remain, LET_GO).await?;
    view.tell("the cluster has given both agents up".to_owned());
    sleep(BEAT * 2).await;
    Ok(())
}

async fn come_back(stage: &mut Stage, view: &View) -> Result<Vec<Duration>> {
    view.act("They come back");
    let mut times = Vec::new();
    for number in LEAVING.into_iter().chain([KILLED]) {
        stage.prepare(number).await?;
        let known = stage.join(number).await?;
        let served = stage.is_served(number, known).await?;
        view.tell(format!(
            "s{number} is back: first request {}",
            after(served)
        ));
        times.push(served);
        sleep(BEAT).await;
    }
    stage.prepare(CRASHED_AGENT).await?;
    stage.join(CRASHED_AGENT).await?;
    view.tell(format!(
        "the agent of s{CRASHED_AGENT} is back; nothing else changes"
    ));
    stay(stage, |_| true, LET_GO).await?;
    sleep(BEAT * 2).await;
    Ok(times)
}

/// Waits until exactly these of all servers get requests.
async fn stay(stage: &Stage, remains: impl Fn(u8) -> bool, timeout: Duration) -> Result<()> {
    let names: Vec<String> = (1..=SERVERS)
        .filter(|number| remains(*number))
        .map(|number| format!("s{number}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage
        .balancer
        .haproxy
        .serves("nodes", &names, timeout)
        .await
}

fn after(time: Duration) -> String {
    format!("{} after its agent was known", ms(time))
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
