//! Command line for looking into a Serf cluster: arguments in, data on stdout and an exit code out.

mod agent;
mod args;
mod cli;
mod command;
mod completion;
mod connect;
mod duration;
mod exit;
mod go_flags;
mod json;
mod manual;
mod member;
mod names;
mod output;
mod progress;
mod selection;
mod signals;
mod table;
mod terminal;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use cli::{Cli, Command};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    signals::end_as_the_first_process();
    completion::complete();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(usage) => usage.exit(),
    };
    let exit = match run(&cli).and_then(|output| output::write(&output)) {
        Ok(()) | Err(Failure::Closed) => Exit::Ok,
        Err(failure) => {
            // Nobody is left to tell if stderr is closed too.
            io::stderr()
                .write_all(failure.report().as_bytes())
                .unwrap_or_default();
            failure.exit()
        }
    };
    exit.into()
}

fn run(cli: &Cli) -> Result<Vec<u8>, Failure> {
    match &cli.command {
        Command::Members(args) => block_on(command::members::run(&cli.agent, args)),
        Command::Doctor(args) => block_on(command::doctor::run(&cli.agent, args)),
        Command::Info(args) => block_on(command::info::run(&cli.agent, args)),
        Command::Event(args) => block_on(command::cluster::event(&cli.agent, args)),
        Command::Join(args) => block_on(command::cluster::join(&cli.agent, args)),
        Command::Leave => block_on(command::cluster::leave(&cli.agent)),
        Command::ForceLeave(args) => block_on(command::cluster::force_leave(&cli.agent, args)),
        Command::Tags(args) => block_on(command::cluster::tags(&cli.agent, args)),
        Command::Query(args) => block_on(command::query::run(&cli.agent, args)),
        Command::Reachability(args) => block_on(command::reachability::run(&cli.agent, args)),
        Command::Rtt(args) => block_on(command::rtt::run(&cli.agent, args)),
        Command::Keys(args) => block_on(command::keys::run(&cli.agent, args)),
        Command::Keygen => command::keys::generate(),
        Command::Monitor(args) => block_on(command::monitor::run(&cli.agent, args)),
        Command::Watch(args) => block_on(command::watch::run(&cli.agent, args)),
        Command::Wait(args) => block_on(command::wait::run(&cli.agent, args)),
        Command::Version => Ok(command::info::version()),
        Command::Completions { shell } => completion::completions(*shell),
        Command::Man { command } => manual::man(command.as_deref()),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?
        .block_on(work)
}
