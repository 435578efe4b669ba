//! What needs no config: the built-in templates, the completions and the manual.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::roff::{Roff, line_break, roman};
use planner::render::BUILT_IN;

use super::{Cli, Exit, print};

/// What the page of the config is called.
const CONFIG_PAGE: &str = "config";

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

/// The page of the program or of one of its commands, section 8, or that of its config, section 5.
pub(super) fn man(page: Option<&str>) -> anyhow::Result<Exit> {
    let mut root = Cli::command();
    root.build();
    let command = match page {
        None => root,
        Some(CONFIG_PAGE) => return print(&config_page()),
        Some(name) => match root.find_subcommand(name) {
            Some(command) => command.clone(),
            None => anyhow::bail!("there is no command {name}"),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .section("8")
        .render(&mut text)?;
    print(&String::from_utf8(text)?)
}

/// The sample of the config, whose comments are its manual.
fn config_page() -> String {
    let name = "serf-haproxy-config";
    let mut page = Roff::new();
    page.control("TH", [name, "5"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - the config of serf-haproxy"))]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "The file is /etc/serf-haproxy/config.toml or what --config names, in the format TOML. Below is every key with its \
         default, what it does and what it may be.",
    )]);
    page.control("PP", []);
    page.control("nf", []);
    for line in include_str!("../../config.sample.toml").lines() {
        page.text([roman(line), line_break()]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("serf-haproxy(8), serf-haproxy-check(8)")]);
    page.render()
}
