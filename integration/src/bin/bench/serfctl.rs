//! The command line beside `serf`: start to end, one after the other in each round.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use integration::TestEnv;
use integration::fake_agent::{FakeAgent, nodes};

use crate::rpc::{Report, middle};

const ROUNDS: usize = 15;
const MANY: u32 = 10_000;
const FEW: u32 = 3;

pub(crate) fn run() -> Result<()> {
    let lab = TestEnv::new("serfctl")?;
    let ours = beside()?;
    let mut report = Report::default();

    let many = FakeAgent::on(&lab, "many", 1)
        .members(nodes(MANY))
        .start()?;
    let (mut theirs, mut us) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(millis(Path::new("serf"), &["members"], &many)?);
        us.push(millis(&ours, &["members"], &many)?);
    }
    let (theirs, us) = (middle(theirs), middle(us));
    report.at_most("serfctl members of 10,000, times serf's", us / theirs, 0.5);
    report.note(&format!("{us:.1} ms, serf {theirs:.1} ms"));

    let few = FakeAgent::on(&lab, "few", 2).members(nodes(FEW)).start()?;
    let (mut start, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        start.push(millis(&ours, &["version"], &few)?);
        whole.push(millis(&ours, &["members"], &few)?);
    }
    let (start, whole) = (middle(start), middle(whole));
    report.at_most(
        "serfctl members of 3, ms beyond its start",
        whole - start,
        5.0,
    );
    report.note(&format!("{whole:.2} ms, a start {start:.2} ms"));
    report.end()
}

/// The binary beside this one.
fn beside() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("serfctl");
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

fn millis(program: &Path, args: &[&str], agent: &FakeAgent) -> Result<f64> {
    let started = Instant::now();
    let status = Command::new(program)
        .args(args)
        .env("SERF_RPC_ADDR", agent.rpc_addr().to_string())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{}", program.display()))?;
    ensure!(status.success(), "{} {args:?}: {status}", program.display());
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
