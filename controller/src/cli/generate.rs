//! What needs no config: the built-in templates, the completions and the manual.

use anyhow::Context as _;
use clap::CommandFactory as _;
use controller::command_line;
use planner::render::BUILT_IN;

use super::{Cli, Exit, print};

const SAMPLE: &str = include_str!("../../config.sample.toml");

pub(super) fn print_template(name: &str) -> anyhow::Result<Exit> {
    let (_, source) = BUILT_IN
        .into_iter()
        .find(|(known, _)| *known == name)
        .context("no such template")?;
    print(source)
}

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    print(&command_line::completions(Cli::command(), shell)?)
}

pub(super) fn man(page: Option<&str>) -> anyhow::Result<Exit> {
    let see_also = "serf-haproxy(8), serf-haproxy-check(8)";
    print(&command_line::manual(
        Cli::command(),
        page,
        SAMPLE,
        see_also,
    )?)
}
