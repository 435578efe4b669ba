//! What needs no config: the completions and the manual.

use clap::CommandFactory as _;
use controller::command_line;

use super::{Cli, Exit, print};

const SAMPLE: &str = include_str!("../../config.sample.toml");

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    print(&command_line::completions(Cli::command(), shell)?)
}

pub(super) fn man(page: Option<&str>) -> anyhow::Result<Exit> {
    let see_also = "serf-docker(8), serf-haproxy(8)";
    print(&command_line::manual(
        Cli::command(),
        page,
        SAMPLE,
        see_also,
    )?)
}
