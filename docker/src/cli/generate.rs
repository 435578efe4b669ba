//! What needs no config: the completions and the manual.

use clap::CommandFactory as _;
use clap_mangen::roff::{Roff, line_break, roman};

use super::{Cli, Exit, print};

/// What the page of the config is called.
const CONFIG_PAGE: &str = "config";

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "serf-docker", &mut script);
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
    let name = "serf-docker-config";
    let mut page = Roff::new();
    page.control("TH", [name, "5"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - the config of serf-docker"))]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "The file is /etc/serf-docker/config.toml or what --config names, in the format TOML. Below is every key with its \
         default, what it does and what it may be.",
    )]);
    page.control("PP", []);
    page.control("nf", []);
    for line in include_str!("../../config.sample.toml").lines() {
        page.text([roman(line), line_break()]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("serf-docker(8), serf-haproxy(8)")]);
    page.render()
}
