//! `serf-haproxy`: its command line in, an exit code out.

mod cli;
mod logging;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() {
                cli::Exit::Usage
            } else {
                cli::Exit::Done
            };
            return error
                .print()
                .map_or_else(|_| cli::Exit::Failed.into(), |()| code.into());
        }
    };
    match cli::run(&cli) {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => cli::Exit::Done.into(),
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(anstream::stderr().lock(), "{error:#}");
            cli::Exit::Failed.into()
        }
    }
}

/// Whoever read our output has read enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
