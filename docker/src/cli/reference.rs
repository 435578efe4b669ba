//! docs/reference/serf-docker.md, from the definition of the command line. A test.

use clap::CommandFactory as _;

use super::{Cli, Exit};

#[test]
fn every_command_is_documented_with_its_flags_and_nothing_else() {
    let codes = Exit::TOLD.map(|(exit, meaning)| [exit.code().to_string(), meaning.to_owned()]);
    let codes = reference::table(["code", "when"], codes);
    let commands = reference::commands(Cli::command());
    reference::hold(
        "serf-docker.md",
        &format!("## Exit codes\n\n{codes}\n{commands}"),
    );
}
