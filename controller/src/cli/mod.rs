//! The commands of `serf-haproxy`: what was typed in, data on standard output and an [`Exit`] out.

mod ask;
mod check;
mod exit;
mod fleet;
mod follow;
mod generate;
mod migrate;
mod plan;
#[cfg(test)]
mod reference;
mod route;
mod setup;
mod units;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use controller::command_line::{self, environment, runtime};
use controller::config;
use controller::given;
use serf_rpc::Member;
use tracing_subscriber::filter::Targets;

use crate::logging;
use ask::{ApproveArgs, HistoryArgs, StatusArgs};
use check::CheckArgs;
pub(crate) use exit::Exit;
use fleet::FleetArgs;
use follow::{DaemonArgs, RunArgs};
use migrate::MigrateArgs;
use plan::{PlanArgs, RenderArgs};
use route::RouteArgs;
use setup::SetupArgs;
use units::CheckFileArgs;

const EXAMPLES: &str = "\
Examples:
  serf-haproxy check
      is everything right in /etc/serf-haproxy/config.toml?
  serf-haproxy check --member web-1=192.0.2.7:3000,role=backend
      and with this member, who is not there yet?
  serf-haproxy render -c ./config.toml
      what does the file of HAProxy look like?
  serf-haproxy render --print-template > my.cfg.j2
      begin a template of your own with the built-in one

A variable sets a key of the config: SERF_HAPROXY_GUARD_WINDOW=10m that of [guard] window.
Data goes to standard output, everything else to standard error.";

/// Lets the servers of HAProxy follow the members of a Serf cluster.
#[derive(Debug, Parser)]
#[command(name = "serf-haproxy", version, after_help = format!("{EXAMPLES}\n\n{}", Exit::help()), max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The config file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "SERF_HAPROXY_CONFIG",
        hide_env_values = true,
        default_value = "/etc/serf-haproxy/config.toml"
    )]
    config: PathBuf,
    /// How the log looks
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "SERF_HAPROXY_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    log_format: logging::Format,
    /// What is logged: off, error, warn, info, debug or trace; by module as in `info,serf_rpc=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "SERF_HAPROXY_LOG_LEVEL", hide_env_values = true, default_value = "info", value_parser = logging::levels)]
    log_level: Targets,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set it up beside the HAProxy and Serf of this host
    ///
    /// Finds the agent, its key and members, HAProxy's unit and files; shows the config and the drop-in that it would write
    /// and what would be done then, and does it after a yes. No file of the site's is touched: HAProxy reads a second one.
    /// Exits 2 where nobody said yes.
    Setup(SetupArgs),
    /// Make a template and a config of a site's haproxy.cfg, whose servers are to be members
    ///
    /// Keeps every byte outside the backends that are named, and says what becomes of each of their server lines and why;
    /// compares their addresses with the members of the agent, shows that HAProxy reads the same servers of the outcome, and
    /// names the word for which joins would need reloads. Reads only, unless --out names a folder; overwrites nothing.
    /// Exits 0 if all is the same for HAProxy, 1 if not.
    Migrate(MigrateArgs),
    /// Follow the cluster and keep HAProxy up to date, until SIGTERM
    ///
    /// SIGHUP reads config and template again. HAProxy goes on as it is when this ends.
    Run(DaemonArgs),
    /// Bring HAProxy and the files up to date, and end
    ///
    /// Does what `run` would do now, waits for drains, and leaves servers that do not answer out. Refuses beside a
    /// running controller. Exits 1 if something does not work; what could be done is done all the same.
    Once(RunArgs),
    /// Say how everything stands
    ///
    /// Asks the running controller through its control socket. Exits 1 if there is a problem, or no controller.
    Status(StatusArgs),
    /// Say what was done, why, how, and how long it took; the latest last
    ///
    /// Asks the running controller through its control socket. The book is bounded and survives a restart.
    History(HistoryArgs),
    /// Let servers go that are held in rotation
    ///
    /// A server whose agent is gone stays while it answers, and so does one that only one witness calls dead once too
    /// many have gone. `status` shows whom the guard holds and why. Exits 0 if somebody goes, 1 if not.
    Approve(ApproveArgs),
    /// Say whether all balancers of the cluster do the same
    ///
    /// Asks the cluster itself, by a Serf query that every controller answers: no balancer has to be known or reached
    /// otherwise. Shows each with its version, config, HAProxy, members and servers, and in what one differs from most.
    /// Exits 0 only if all are well and agree.
    Fleet(FleetArgs),
    /// Say what would be done, with a diff of the file
    ///
    /// Takes config and template as they are in their files now. A running controller is asked what it would do with
    /// them, and says which of them it has not read yet; where they are wrong, what it still does with those before.
    /// Without one, agent and HAProxy are asked. Nothing is changed. Exits 0 where there is nothing to do, 2 where there
    /// is something, 1 where that cannot be found out, 78 where the files are wrong.
    Plan(PlanArgs),
    /// Say whether `run` would work; touch nothing
    ///
    /// Looks at config, template, files and rights, HAProxy's sockets and the agent. Renders the file with the servers
    /// that are there, and with one more in each backend, and has HAProxy check it. Everything that is wrong is told at
    /// once, with file, line and key, and what to do. Says of each backend whether it can change without a reload.
    /// Exits 0 if `run` would work, 1 if not.
    Check(CheckArgs),
    /// Say which route a request takes, which backend it goes to, and why
    ///
    /// Goes by the routes of the config, and by those of services where a controller runs; HAProxy is not asked. Says what
    /// else the route does, and of every other route why it does not win.
    Route(RouteArgs),
    /// Print the file as HAProxy would get it
    ///
    /// Takes config and template as they are in their files now, and the members as `plan` does.
    Render(RenderArgs),
    /// See to it that HAProxy can start
    ///
    /// A file that passes the check command stays as it is. One that is missing or does not pass is written anew, with the
    /// servers that were in rotation last, or else with none. Asks neither agent nor HAProxy. What serf-haproxy-init.service
    /// calls before each start of HAProxy. Exits 1 if no text passes.
    Init,
    /// Have a file checked as root would check it
    ///
    /// A check_command for a controller that is not root, where the site's files name keys that it may not read:
    /// ["serf-haproxy", "check-file", "{path}"]. Sends the text to serf-haproxy-check.socket, prints what HAProxy says of it
    /// beside the site's files, and exits with HAProxy's code.
    CheckFile(CheckFileArgs),
    /// Print the completions for a shell
    #[command(
        after_help = "Example:\n  serf-haproxy completions bash > /etc/bash_completion.d/serf-haproxy"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    #[command(
        after_help = "Examples:\n  serf-haproxy man check | man -l -\n  serf-haproxy man config | man -l -"
    )]
    Man {
        /// The page of this command alone, or `config` for that of the config
        page: Option<String>,
    },
}

#[derive(Debug, Args)]
struct GivenArgs {
    /// A member beside those that are there, or in place of one, as in web-1=192.0.2.7:3000,role=backend; may be
    /// repeated
    #[arg(long = "member", value_name = "NAME=ADDR:PORT[,TAG=VALUE]", value_parser = given::parse)]
    members: Vec<Member>,
}

#[derive(Debug, Args)]
struct FormatArgs {
    /// For people or for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

/// Where the running controller is to be found.
#[derive(Debug, Args)]
struct SocketArgs {
    /// The control socket of the running controller; left out: the one that the config names
    #[arg(
        long,
        value_name = "PATH",
        env = "SERF_HAPROXY_CONTROL_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
}

impl SocketArgs {
    /// The socket. Of the config nothing else counts: a controller goes on while its file is wrong, and has to be asked
    /// just then.
    fn find(&self, config: &Path) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.clone();
        }
        let (socket, error) = config::control_socket(config);
        if let Some(error) = error {
            let error = anyhow::Error::new(error);
            tell(&format!(
                "note: {error:#}; asking the controller at {}",
                socket.display()
            ));
        }
        socket
    }
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
    let config = cli.config.as_path();
    match &cli.command {
        Command::Run(args) => follow::follow(config, args, &log),
        Command::Once(args) => follow::once(config, args),
        Command::Status(args) => ask::status(config, args),
        Command::History(args) => ask::history(config, args),
        Command::Approve(args) => ask::approve(config, args),
        Command::Fleet(args) => fleet::fleet(config, args),
        Command::Plan(args) => plan::plan(config, args),
        Command::Check(args) => check::check(config, args),
        Command::Route(args) => route::route(config, args),
        Command::Render(args) => match &args.print_template {
            Some(name) => generate::print_template(name),
            None => plan::render(config, args),
        },
        Command::Migrate(args) => migrate::migrate(args),
        Command::Setup(args) => setup::setup(config, args),
        Command::Init => units::init(config),
        Command::CheckFile(args) => units::check_file(args),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man { page } => generate::man(page.as_deref()),
    }
}

fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<Exit> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes data to standard output; see [`command_line::print`].
fn print(text: &str) -> anyhow::Result<Exit> {
    command_line::print(text).map(|()| Exit::Done)
}

/// Writes a line for people to standard error. That nobody reads it is no reason to end.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}
