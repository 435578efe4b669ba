//! Faults at random on real parts: members that come, go and die, a HAProxy that stands still, a controller that is
//! killed, other hands and a bad disk. Whoever is untouched is in use all the time, no request fails, everything
//! converges, and HAProxy is reloaded no more often than what was played may cause, for reasons that are true.
//!
//! `make chaos` plays twenty seeds on every HAProxy and prints two lines for each, `SEEDS=7..9` those; a failure names its seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::compose::is_campaign;
use integration::load::{LoadProfile, Seen};
use integration::mount::Mount;
use integration::scenario::Scenario;
use integration::{HaproxyKind, Load, Need, TestEnv, test, wait_some};
use tokio::time::sleep;

mod faults;
mod ledger;

use faults::{Chaos, Fault, STATE_KIB, UNTOUCHED, WEBS};
use ledger::strings;

/// So long things go wrong, in a test and in a campaign.
const SHORT: Duration = Duration::from_secs(8);
const LONG: Duration = Duration::from_secs(30);
/// Between two faults, at most.
const PAUSE: u64 = 500;
/// Within this every untouched server gets a request, whatever stands still meanwhile.
const WINDOW: Duration = Duration::from_secs(4);
/// A reload that is still to come has come by then.
const QUIET: Duration = Duration::from_secs(3);
const PROFILE: LoadProfile = LoadProfile {
    clients: 3,
    per_connection: 50,
    pause: Duration::from_millis(4),
};
const SECTIONS: &str = "[drift]\ninterval = \"1s\"\n\
    [damping]\nmax_penalty = \"0s\"\n\
    [timeouts]\nserver = \"30s\"\n";

/// How often HAProxy's master has been reloaded, by whomever.
async fn reloads(stage: &Scenario) -> Result<usize> {
    wait_some("the master to say its reloads", SOON, async || {
        let shown = stage.haproxy.master_command("show proc").await.ok()?;
        let words = shown.lines().map(|line| line.split_whitespace());
        // `1271 master 3 0d00h01m28s 2.6.12`
        let mut master = words
            .into_iter()
            .find_map(|mut words| (words.nth(1) == Some("master")).then_some(words))?;
        master.next()?.parse().ok()
    })
    .await
}

/// Who has been in use since the last look.
struct Use {
    looked: Instant,
    before: Seen,
    idle: Vec<String>,
}

impl Use {
    /// Takes what the clients have seen, if a window is over.
    fn look(&mut self, load: &Load, played: &[Fault]) {
        if self.looked.elapsed() < WINDOW {
            return;
        }
        let now = load.seen();
        let answers = |seen: &Seen, name: &str| seen.answers.get(name).copied().unwrap_or(0);
        for number in 1..=UNTOUCHED {
            let name = format!("s{number}");
            if answers(&now, &name) == answers(&self.before, &name) {
                let last = &played[played.len().saturating_sub(20)..];
                self.idle.push(format!("{name} after {last:?}"));
            }
        }
        (self.looked, self.before) = (Instant::now(), now);
    }
}

async fn reigns(lab: &TestEnv, kind: HaproxyKind, seed: u64, time: Duration) -> Result<()> {
    let state = lab.path("state");
    std::fs::create_dir(&state)?;
    let _mount = Mount::small(&state, STATE_KIB)?;
    closed(&state)?;
    let stage = Scenario::start_on(lab, kind, WEBS, |options| options.sections(SECTIONS)).await?;
    stage.settled().await?;
    let begun = stage.controller.history().await?.len();
    let mut chaos = Chaos::new(lab, stage, seed);
    let load = Load::start(chaos.stage.controller.front(), PROFILE);
    let mut used = Use {
        looked: Instant::now(),
        before: Seen::default(),
        idle: Vec::new(),
    };
    let (started, mut played) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let fault = chaos.play().await;
        played.push(fault.with_context(|| format!("after {played:?}"))?);
        sleep(Duration::from_millis(chaos.rng.u64(..PAUSE))).await;
        used.look(&load, &played);
    }
    chaos.mend()?;
    let mended = Instant::now();
    let stage = &chaos.stage;
    let names: Vec<&str> = stage.names().collect();
    let converges = async {
        stage.haproxy.serves("nodes", &names, SOON * 2).await?;
        stage.settled().await
    };
    converges
        .await
        .with_context(|| format!("after {played:?}"))?;
    let converged = mended.elapsed();
    sleep(QUIET).await;
    let seen = load.stop();
    let history = stage.controller.history().await?;
    let (all, foreign) = (reloads(stage).await?, chaos.foreign);
    let ours = all.saturating_sub(foreign);
    println!(
        "{kind:?} seed {seed}: {} faults, {ours} reloads of {} that were called for, {foreign} by other hands, \
         {} requests, {} failed, converged after {converged:.1?}",
        played.len(),
        chaos.ledger.allowed(),
        seen.total(),
        seen.failed
    );
    let mut counts = BTreeMap::new();
    for fault in &played {
        *counts.entry(fault).or_insert(0) += 1;
    }
    println!("    {counts:?}");
    let touched = |change: &&str| (1..=UNTOUCHED).any(|it| change.contains(&format!("/s{it}: ")));
    let steps = history.iter().skip(begun);
    let steps = steps.filter(|entry| entry["how"] == "runtime");
    let touched: Vec<&str> = steps
        .flat_map(|entry| strings(entry, "changes"))
        .filter(touched)
        .collect();
    let untrue = chaos.ledger.untrue(&history);
    let say = || format!("seed {seed}: {played:?}\n{}", stage.controller.log());
    ensure!(untrue.is_empty(), "{untrue:?}: {}", say());
    ensure!(ours <= chaos.ledger.allowed(), "{history:#?}: {}", say());
    ensure!(used.idle.is_empty(), "{:?}: {}", used.idle, say());
    ensure!(touched.is_empty(), "{touched:?}: {}", say());
    ensure!(seen.failed <= borne(kind, foreign), "{seen:?}: {}", say());
    ensure!(!stage.controller.log().contains("panicked"), "{}", say());
    Ok(())
}

/// Requests that may fail. HAProxy 3.2 resets what is open when another reload comes within some 50 ms of one, as a
/// signal of another hand may beside ours: measured with 3.2.26 alone, and neither with 2.6 nor with 3.0.
fn borne(kind: HaproxyKind, foreign: usize) -> u64 {
    let open = u64::try_from(PROFILE.clients * foreign).unwrap_or_default();
    if kind == HaproxyKind::Sid { open } else { 0 }
}

/// A file system of one's own is everybody's at first.
fn closed(dir: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o700);
    Ok(std::fs::set_permissions(dir, mode)?)
}

fn needs(kind: HaproxyKind) -> [Need; 2] {
    [Need::Haproxy(kind), Need::Mounts]
}

fn short(kind: HaproxyKind, seed: u64) {
    test(&needs(kind), async |lab| {
        reigns(lab, kind, seed, SHORT).await
    });
}

#[test]
fn faults_at_random_on_the_hosts_haproxy() {
    short(HaproxyKind::Host, 1);
}

#[test]
fn faults_at_random_on_trixies_haproxy() {
    short(HaproxyKind::Trixie, 2);
}

#[test]
fn faults_at_random_on_sids_haproxy() {
    short(HaproxyKind::Sid, 3);
}

#[test]
fn a_campaign_of_faults() {
    if !is_campaign() {
        eprintln!("SKIPPED: CAMPAIGN is not set");
        return;
    }
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "1..21".to_owned());
    let (first, end) = seeds.split_once("..").expect("SEEDS=FIRST..END");
    let number = |text: &str| text.parse::<u64>().expect("a number in SEEDS");
    for seed in number(first)..number(end) {
        for kind in [HaproxyKind::Host, HaproxyKind::Trixie, HaproxyKind::Sid] {
            test(&needs(kind), async |lab| {
                reigns(lab, kind, seed, LONG).await
            });
        }
    }
}
