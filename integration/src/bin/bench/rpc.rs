//! The library: beside HashiCorp's client in Go, beside a bare socket, and beside itself.
//!
//! Everything is measured in rounds, one contender after the other in each, and only medians of
//! one run are compared. A promise that is not kept ends the program with an error.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use integration::fake_agent::{FakeAgent, nodes};
use integration::{TestEnv, process};
use serde::de::DeserializeOwned;

use crate::client::{Beside, Spent};

const ROUNDS: usize = 5;
const MEMBERS: u32 = 10_000;
const EVENTS: u64 = 200_000;
const CALLS: u64 = 20;
const SMALL_CALLS: u64 = 2_000;
/// Members whose list measures a megabyte.
const MEGABYTE: u32 = 6_850;
const CHUNK: NonZeroUsize = NonZeroUsize::new(1000).expect("not zero");

pub(crate) fn run() -> Result<()> {
    let lab = TestEnv::new("rpc")?;
    let (ours, go) = (std::env::current_exe()?, build_go(lab.dir())?);
    let mut report = Report::default();

    let agent = FakeAgent::on(&lab, "many", 1)
        .members(nodes(MEMBERS))
        .start()?;
    let (ours_members, go_members) = in_turn(|of_go| {
        let program = if of_go { &go } else { &ours };
        measure(program, "members", &agent, CALLS)
    })?;
    report.ratio(
        "members of 10,000, CPU, times Go's",
        &ours_members,
        &go_members,
        5.0,
    );

    let flooded = |program: &Path| {
        let mut child = start(program, "events", &agent, EVENTS)?;
        ensure!(
            line(&mut child)?.trim() == "ready",
            "the client is not ready"
        );
        agent.flood("deploy", b"a payload of thirty-two bytes...", EVENTS);
        finish::<Spent>(child)
    };
    let (ours_events, go_events) = in_turn(|of_go| flooded(if of_go { &go } else { &ours }))?;
    report.ratio(
        "200,000 user events, CPU, times Go's",
        &ours_events,
        &go_events,
        8.0,
    );
    let lost = |rounds: &[Spent]| rounds.iter().map(|spent| EVENTS - spent.items).sum::<u64>();
    report.at_most("events lost", lost(&ours_events) as f64, 0.0);
    report.note(&format!("events lost by Go: {}", lost(&go_events)));
    drop(agent);

    let small = FakeAgent::on(&lab, "small", 2).members(nodes(2)).start()?;
    let rounds = (0..ROUNDS)
        .map(|_| finish::<Beside>(start(&ours, "beside", &small, SMALL_CALLS)?))
        .collect::<Result<Vec<_>>>()?;
    let ratio = |ours: fn(&Beside) -> u64, bare: fn(&Beside) -> u64| {
        middle(
            rounds
                .iter()
                .map(|round| ours(round) as f64 / bare(round) as f64),
        )
    };
    let p50 = ratio(|round| round.ours_p50_ns, |round| round.bare_p50_ns);
    report.at_most("members of 3, p50, times a bare socket's", p50, 1.5);
    let cpu = ratio(|round| round.ours_cpu_ns, |round| round.bare_cpu_ns);
    report.at_most("members of 3, CPU, times a bare socket's", cpu, 1.5);
    let micros = middle(rounds.iter().map(|round| round.ours_p50_ns as f64 / 1e3));
    report.note(&format!("p50 of a call of ours: {micros:.0} µs"));
    drop(small);

    let one = FakeAgent::on(&lab, "one", 3)
        .members(nodes(MEGABYTE))
        .start()?;
    let ten = FakeAgent::on(&lab, "ten", 4)
        .members(nodes(10 * MEGABYTE))
        .start()?;
    for agent in [&one, &ten] {
        agent.behave(|behaviour| behaviour.chunk = Some(CHUNK));
    }
    let (ones, tens) =
        in_turn(|of_ten| measure(&ours, "members", if of_ten { &ten } else { &one }, 5))?;
    let cost = |rounds: &[Spent]| middle(rounds.iter().map(|spent| spent.cpu_ns as f64));
    report.at_most(
        "10 MB in chunks of 1 kB, CPU, times 1 MB's",
        cost(&tens) / cost(&ones),
        12.0,
    );
    report.end()
}

/// Rounds of two contenders in turn; the task is told whether it is the second's turn.
fn in_turn(mut task: impl FnMut(bool) -> Result<Spent>) -> Result<(Vec<Spent>, Vec<Spent>)> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        first.push(task(false)?);
        second.push(task(true)?);
    }
    Ok((first, second))
}

fn measure(program: &Path, what: &str, agent: &FakeAgent, count: u64) -> Result<Spent> {
    finish(start(program, what, agent, count)?)
}

fn start(program: &Path, what: &str, agent: &FakeAgent, count: u64) -> Result<Child> {
    let mut command = Command::new(program);
    if program.file_stem().is_some_and(|name| name == "bench") {
        command.arg("client");
    }
    let args = [what, &agent.rpc_addr().to_string(), &count.to_string()];
    Ok(command.args(args).stdout(Stdio::piped()).spawn()?)
}

fn line(child: &mut Child) -> Result<String> {
    let out = child.stdout.as_mut().context("the output is piped")?;
    // One byte at a time: what follows the line is still to be read.
    let mut line = String::new();
    BufReader::with_capacity(1, out).read_line(&mut line)?;
    Ok(line)
}

fn finish<T: DeserializeOwned>(mut child: Child) -> Result<T> {
    let result = line(&mut child)?;
    ensure!(child.wait()?.success(), "a client has failed");
    serde_json::from_str(&result).with_context(|| format!("not a measurement: {result}"))
}

/// HashiCorp's client, of Debian's package.
fn build_go(dir: &Path) -> Result<PathBuf> {
    if process::find_program("go").is_none() {
        bail!("go is missing: scripts/setup --bench");
    }
    let program = dir.join("go-client");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/go/main.go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(source);
    build
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode");
    build
        .env("GOCACHE", dir.join("go-cache"))
        .env("GOFLAGS", "");
    ensure!(
        build.status()?.success(),
        "HashiCorp's client cannot be built"
    );
    Ok(program)
}

/// The median.
pub(crate) fn middle(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Items in a second of CPU time.
fn rate(rounds: &[Spent]) -> f64 {
    middle(
        rounds
            .iter()
            .map(|spent| spent.items as f64 / spent.cpu_ns as f64 * 1e9),
    )
}

/// Promises, kept or not.
#[derive(Default)]
pub(crate) struct Report {
    missed: usize,
}

impl Report {
    fn ratio(&mut self, what: &str, ours: &[Spent], go: &[Spent], at_least: f64) {
        let (ours, go) = (rate(ours), rate(go));
        self.row(
            what,
            ours / go,
            &format!("≥ {at_least}"),
            ours / go >= at_least,
        );
        self.note(&format!(
            "{:.2} M a CPU second, Go {:.2} M",
            ours / 1e6,
            go / 1e6
        ));
    }

    pub(crate) fn at_most(&mut self, what: &str, found: f64, most: f64) {
        self.row(what, found, &format!("≤ {most}"), found <= most);
    }

    fn row(&mut self, what: &str, found: f64, bound: &str, kept: bool) {
        self.missed += usize::from(!kept);
        let verdict = if kept { "ok" } else { "MISSED" };
        self.note(&format!("{what:<44}{found:>7.2}   {bound:<6}{verdict}"));
    }

    /// Where the output cannot be written nobody reads it.
    pub(crate) fn note(&self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    pub(crate) fn end(self) -> Result<()> {
        ensure!(
            self.missed == 0,
            "{} of the promises are not kept",
            self.missed
        );
        Ok(())
    }
}
