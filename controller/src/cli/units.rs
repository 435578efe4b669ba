//! `init` and `check-file`: what the units of the package call.

use std::io::{stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use controller::{check_file, config};

use super::{Exit, environment, print, runtime};

#[derive(Debug, Args)]
pub(super) struct CheckFileArgs {
    /// The file
    #[arg(value_name = "FILE", required_unless_present = "answer")]
    file: Option<PathBuf>,
    /// Who checks it
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/serf-haproxy-check.sock"
    )]
    socket: PathBuf,
    /// Be the other side: a text on standard input, what HAProxy says of it on standard output. These files go before it,
    /// as in a command line of HAProxy
    #[arg(long, value_name = "FILES", conflicts_with = "file")]
    answer: Option<String>,
}

pub(super) fn init(path: &Path) -> anyhow::Result<Exit> {
    let config = config::load(path, environment())?;
    let ready = runtime()?.block_on(controller::init::init(config))?;
    print(&format!("{ready}\n"))
}

pub(super) fn check_file(args: &CheckFileArgs) -> anyhow::Result<Exit> {
    if let Some(files) = &args.answer {
        runtime()?.block_on(check_file::answer(files, stdin(), stdout()))?;
        return Ok(Exit::Done);
    }
    let file = args.file.as_deref().context("no file")?;
    let said = check_file::ask(file, &args.socket)?;
    print(&said.output)?;
    Ok(Exit::Called(said.code))
}
