//! The commands of `serf-docker`: what was typed in, data on standard output and an [`Exit`] out.

mod exit;
mod generate;
#[cfg(test)]
mod reference;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use controller::command_line::{self, environment, runtime};
use controller::logging;
use controller::notify::Notifier;
use serf_docker::config::{self, Config};
use serf_docker::run::{self, Source};
use serf_docker::status::Status;
use serf_docker::{check, control};
use tracing_subscriber::filter::Targets;

pub(crate) use exit::Exit;

/// What of this program has a level of its own in the log.
const MODULES: [&str; 4] = ["serf_docker", "serf_rpc", "controller", "bollard"];

const EXAMPLES: &str = "\
Examples:
  docker run --detach --publish 3000 --label serf.service=shop shop
      on every balancer of the cluster that allows it, this is a server of the service shop
  serf-docker check
      would `run` work, and what would each container be?
  serf-docker status
      what is each container, and why is one not there?

A variable sets a key of the config: SERF_DOCKER_LABELS_PREFIX=lb. that of [labels] prefix.
Data goes to standard output, everything else to standard error.";

/// Turns the labels of this host's containers into tags of its Serf agent.
#[derive(Debug, Parser)]
#[command(name = "serf-docker", version, after_help = format!("{EXAMPLES}\n\n{}", Exit::help()), max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The config file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "SERF_DOCKER_CONFIG",
        hide_env_values = true,
        default_value = config::PATH
    )]
    config: PathBuf,
    /// How the log looks
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "SERF_DOCKER_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    log_format: logging::Format,
    /// What is logged: off, error, warn, info, debug or trace; by module as in `info,serf_docker=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "SERF_DOCKER_LOG_LEVEL", hide_env_values = true, default_value = "info", value_parser = levels)]
    log_level: Targets,
    #[command(subcommand)]
    command: Command,
}

fn levels(text: &str) -> Result<Targets, String> {
    logging::levels_of(&MODULES, text)
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the containers and keep the agent's tags, until SIGTERM
    ///
    /// SIGTERM takes them away, unless the config keeps them; SIGUSR1 ends and leaves them, for a restart. SIGHUP reads the
    /// config again. Whatever is lost meanwhile, Docker or the agent, the tags stay as they are.
    Run,
    /// Bring the agent's tags up to date, and end
    ///
    /// Exits 1 if Docker or the agent does not answer.
    Once(FormatArgs),
    /// Say what each container is, and why one is not there
    ///
    /// Asks the one that runs. Exits 1 if there is a problem, or none runs.
    Status(StatusArgs),
    /// Say whether `run` would work, and what it would write; touch nothing
    ///
    /// Looks at the config, Docker and the agent. Exits 0 if it would, 1 if not.
    Check(FormatArgs),
    /// Print the completions for a shell
    #[command(
        after_help = "Example:\n  serf-docker completions bash > /etc/bash_completion.d/serf-docker"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    #[command(
        after_help = "Examples:\n  serf-docker man status | man -l -\n  serf-docker man config | man -l -"
    )]
    Man {
        /// The page of this command alone, or `config` for that of the config
        page: Option<String>,
    },
}

#[derive(Debug, Args)]
struct FormatArgs {
    /// For people or for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    format: FormatArgs,
    /// The control socket of the one that runs; left out: the one that the config names
    #[arg(
        long,
        value_name = "PATH",
        env = "SERF_DOCKER_CONTROL_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Does what was asked for.
///
/// # Errors
/// When it cannot be done; the chain says why.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let log = logging::init(cli.log_format, cli.log_level.clone())?;
    let load = || Config::load(&cli.config, environment());
    match &cli.command {
        Command::Run => {
            let notifier = Notifier::new(None).context("cannot notify")?;
            let config = load()?;
            let source = Source {
                path: cli.config.clone(),
                env: environment().collect(),
            };
            let runtime = runtime()?;
            runtime.spawn(log.tell());
            runtime.block_on(run::run(config, source, notifier))?;
            Ok(Exit::Done)
        }
        Command::Once(args) => {
            let config = load()?;
            let status = runtime()?.block_on(run::once(&config))?;
            told(&status, args.format)
        }
        Command::Status(args) => {
            let socket = args.socket.clone();
            let socket =
                socket.unwrap_or_else(|| Config::control_socket(&cli.config, environment()));
            let status = runtime()?.block_on(control::ask(&socket));
            told(
                &status.context("serf-docker does not answer")?,
                args.format.format,
            )
        }
        Command::Check(args) => {
            let config = load()?;
            let (status, findings) = runtime()?.block_on(check::check(&config));
            for finding in &findings {
                tell(finding);
            }
            if let Some(status) = &status {
                told(status, args.format)?;
            }
            Ok(if findings.is_empty() {
                Exit::Done
            } else {
                Exit::Failed
            })
        }
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man { page } => generate::man(page.as_deref()),
    }
}

fn told(status: &Status, format: Format) -> anyhow::Result<Exit> {
    let text = match format {
        Format::Text => status.to_string(),
        Format::Json => serde_json::to_string_pretty(status)? + "\n",
    };
    print(&text)?;
    Ok(if status.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Writes data to standard output; see [`command_line::print`].
fn print(text: &str) -> anyhow::Result<Exit> {
    command_line::print(text).map(|()| Exit::Done)
}

/// Writes a line for people to standard error. That nobody reads it is no reason to end.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
