//! What needs no config: the built-in templates, the completions and the manual.

use anyhow::Context as _;
use clap::CommandFactory as _;
use planner::render::BUILT_IN;

use super::{Cli, Exit, print};

pub(super) fn print_template(name: &str) -> anyhow::Result<Exit> {
    let (_, source) = BUILT_IN
        .into_iter()
        .find(|(known, _)| *known == name)
        .context("no such template")?;
    print(source)
}

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "serf-haproxy", &mut script);
    print(&String::from_utf8(script)?)
}

pub(super) fn man(command: Option<&str>) -> anyhow::Result<Exit> {
    let mut root = Cli::command();
    root.build();
    let page = match command {
        Some(name) => match root.find_subcommand(name) {
            Some(command) => command.clone(),
            None => anyhow::bail!("there is no command {name}"),
        },
        None => root,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    print(&String::from_utf8(text)?)
}
