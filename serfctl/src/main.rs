//! Command line for looking into a Serf cluster: arguments in, data on stdout and an exit code out.

mod cli;
mod connect;
mod exit;
mod members;
mod reference;
mod terminal;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use cli::{Cli, Command};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(usage) => usage.exit(),
    };
    let exit = match run(&cli).and_then(|output| print(&output)) {
        Ok(()) => Exit::Ok,
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
        Command::Members(args) => block_on(members::run(&cli.agent, args)),
        Command::Completions { shell } => Ok(reference::completions(*shell)),
        Command::Man { command } => reference::man(command.as_deref()),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?
        .block_on(work)
}

/// Writes the whole output. A reader that has seen enough (`| head`) is no failure.
fn print(output: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(output).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}
