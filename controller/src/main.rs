//! `serf-haproxy`: its command line in, an exit code out.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use controller::config::ConfigError;
use controller::logging;
use controller::preview::PreviewError;
use controller::reconcile::RunError;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() {
                cli::Exit::Usage
            } else {
                cli::Exit::Done
            };
            // Whoever called it in a wrong way and does not listen gets the code all the same.
            let _ = error.print();
            return code.into();
        }
    };
    match cli::run(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            logging::fail(&error);
            exit_of(&error).into()
        }
    }
}

/// Whether trying again may help.
fn exit_of(error: &anyhow::Error) -> cli::Exit {
    let of_the_config = error.is::<ConfigError>()
        || error.downcast_ref().is_some_and(RunError::is_of_the_config)
        || matches!(error.downcast_ref(), Some(PreviewError::Template(_)));
    if of_the_config {
        cli::Exit::Config
    } else {
        cli::Exit::Failed
    }
}
