//! `serf-docker`: its command line in, an exit code out.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use controller::config::ConfigError;
use controller::logging;

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
            let exit = if error.is::<ConfigError>() {
                cli::Exit::Config
            } else {
                cli::Exit::Failed
            };
            exit.into()
        }
    }
}
