//! The commands of `serf-haproxy`: what was typed in, data on standard output and an [`Exit`] out.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use controller::check::{Asked, TextReport};
use controller::config::Config;
use controller::control::{Answer, Approve, ControlError, PendingPlan, Request, ask};
use controller::given;
use controller::notify::Notifier;
use controller::preview::{Preview, preview};
use controller::reconcile::{self, RunOptions};
use controller::render::BUILT_IN;
use serf_rpc::Member;
use tracing_subscriber::filter::Targets;

use crate::logging;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Done,
    /// It failed, or `check` or `status` found something wrong.
    Failed,
    /// `plan` found something to do.
    Pending,
    /// It was called in a wrong way.
    Usage,
    /// Config or template cannot be used, or the file is somebody else's: trying again is of no use.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Pending => 2,
            Exit::Usage => 64,
            Exit::Config => 78,
        })
    }
}

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
Data goes to standard output, everything else to standard error.
Exit codes: 0 done, 1 failed or something is wrong, 2 plan: something to do, 64 wrong usage,
78 config or template cannot be used.";

/// Lets the servers of HAProxy follow the members of a Serf cluster.
#[derive(Debug, Parser)]
#[command(name = "serf-haproxy", version, after_help = EXAMPLES, max_term_width = 100, arg_required_else_help = true)]
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
    Status(FormatArgs),
    /// Say what was done, why, how, and how long it took; the latest last
    ///
    /// Asks the running controller through its control socket. The book is bounded and survives a restart.
    History(HistoryArgs),
    /// Let servers go that are held in rotation
    ///
    /// A server whose agent is gone stays while it answers, and so does one that only one witness calls dead once too
    /// many have gone. `status` shows whom the guard holds and why. Exits 0 if somebody goes, 1 if not.
    Approve(ApproveArgs),
    /// Say what would be done, with a diff of the file
    ///
    /// Asks the running controller; without one, asks agent and HAProxy itself and changes nothing. Exits 0 where there
    /// is nothing to do, 2 where there is something, 1 where that cannot be found out.
    Plan(PlanArgs),
    /// Say whether `run` would work; touch nothing
    ///
    /// Looks at config, template, files and rights, HAProxy's sockets and the agent. Renders the file with the servers
    /// that are there, and with one more in each backend, and has HAProxy check it. Everything that is wrong is told at
    /// once, with file, line and key, and what to do. Says of each backend whether it can change without a reload.
    /// Exits 0 if `run` would work, 1 if not.
    Check(CheckArgs),
    /// Print the file as HAProxy would get it
    ///
    /// Asks the running controller; without one, asks agent and HAProxy itself.
    Render(RenderArgs),
    /// Print the completions for a shell
    #[command(
        after_help = "Example:\n  serf-haproxy completions bash > /etc/bash_completion.d/serf-haproxy"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  serf-haproxy man check | man -l -")]
    Man {
        /// The page of this command alone
        command: Option<String>,
    },
}

#[derive(Debug, Args)]
struct DaemonArgs {
    #[command(flatten)]
    run: RunArgs,

    /// Write a newline to this file descriptor once HAProxy and its file are as they should be, as s6 wants it
    /// (`notification-fd`). systemd, which NOTIFY_SOCKET names, is told that it is ready as soon as `status` answers,
    /// whatever is missing, and how things stand from then on
    #[arg(long, value_name = "NUMBER")]
    notification_fd: Option<u32>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Replace a configuration file that somebody else wrote; a copy of it is kept beside it
    #[arg(long)]
    adopt: bool,
}

#[derive(Debug, Args)]
struct HistoryArgs {
    /// Only the last so many entries
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serf-haproxy approve nodes/web-3
      one server
  serf-haproxy approve nodes --revision 17
      all that are held in a backend, if nothing has changed since that status")]
struct ApproveArgs {
    /// A backend, or one server of it
    #[arg(value_name = "BACKEND[/SERVER]", required_unless_present = "all")]
    targets: Vec<String>,
    /// All that are held, in all backends
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// Only if nothing has changed since this revision of the status
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Look as before `run --adopt`: a haproxy.cfg of somebody else's is no error
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    given: GivenArgs,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    given: GivenArgs,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serf-haproxy render
      the whole file
  serf-haproxy render --print-template
      the built-in template
  serf-haproxy render --print-template backends.cfg.j2
      a part that any template may include")]
struct RenderArgs {
    /// Print a built-in template instead
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = BUILT_IN[0].0, value_parser = BUILT_IN.map(|(name, _)| name))]
    print_template: Option<String>,
    #[command(flatten)]
    given: GivenArgs,
}

/// Does what was asked for.
///
/// # Errors
/// When it cannot be done; the chain says why.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<Exit> {
    logging::init(cli.log_format, cli.log_level.clone())?;
    match &cli.command {
        Command::Run(args) => follow(&cli.config, args.run.adopt, args.notification_fd, false),
        Command::Once(args) => follow(&cli.config, args.adopt, None, true),
        Command::Status(args) => status(&cli.config, args.format),
        Command::History(args) => history(&cli.config, args),
        Command::Approve(args) => approve(&cli.config, args),
        Command::Plan(args) => plan(&cli.config, args),
        Command::Check(args) => check(&cli.config, args),
        Command::Render(RenderArgs {
            print_template: Some(name),
            ..
        }) => print_template(name),
        Command::Render(args) => render(&cli.config, &args.given.members),
        Command::Completions { shell } => completions(*shell),
        Command::Man { command } => man(command.as_deref()),
    }
}

/// The environment, for [`Config::load`]; bytes that are no text are replaced.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn check(path: &Path, args: &CheckArgs) -> anyhow::Result<Exit> {
    let config = Config::load(path, environment())?;
    print(&format!("config {}: ok\n", path.display()))?;
    let asked = Asked {
        config_path: path.to_owned(),
        adopt: args.adopt,
        members: args.given.members.clone(),
    };
    let report = runtime()?.block_on(controller::check::check(&config, &asked));
    let mut stderr = anstream::stderr().lock();
    for finding in &report.findings {
        writeln!(stderr, "{finding}")?;
    }
    if let Some(text) = &report.text {
        print(&checked(&config, text))?;
    }
    Ok(if report.is_good() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// What `check` says of the text, a line for each thing.
fn checked(config: &Config, text: &TextReport) -> String {
    let mut lines = Vec::new();
    if text.template_is_good {
        let template = config.haproxy.template.as_ref();
        let template =
            template.map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
        lines.push(format!("template {template}: ok"));
    }
    if text.file_is_good {
        lines.push(format!("file {}: ok", config.haproxy.config.display()));
    }
    for (backend, admission) in &text.admissions {
        lines.push(format!("backend {backend}: {admission}"));
    }
    let version = text.version;
    for (backend, obstacles) in &text.backends {
        if obstacles.is_empty() {
            lines.push(format!(
                "backend {backend}: changes without a reload on HAProxy {version}"
            ));
        }
        for obstacle in obstacles {
            lines.push(format!(
                "backend {backend}: needs a reload on HAProxy {version}: {obstacle}"
            ));
        }
        if let Some(fixed) = text.fixed.get(backend).filter(|fixed| **fixed > 0) {
            lines.push(format!(
                "backend {backend}: server lines of the template's own, left alone: {fixed}"
            ));
        }
    }
    for other in &text.others {
        lines.push(format!("{other}: not in the config, left alone"));
    }
    lines.join("\n") + "\n"
}

fn follow(
    path: &Path,
    adopt: bool,
    notification_fd: Option<u32>,
    once: bool,
) -> anyhow::Result<Exit> {
    // First of all, before anything else is opened under that number.
    let notifier = Notifier::new(notification_fd)
        .context("cannot write to the file descriptor of --notification-fd")?;
    let env: Vec<_> = environment().collect();
    let config = Config::load(path, env.clone())?;
    let options = RunOptions {
        config_path: path.to_owned(),
        env,
        adopt,
        notifier,
    };
    let runtime = runtime()?;
    if once {
        runtime.block_on(reconcile::once(config, options))?;
    } else {
        runtime.block_on(reconcile::run(config, options))?;
    }
    Ok(Exit::Done)
}

fn status(path: &Path, format: Format) -> anyhow::Result<Exit> {
    let config = Config::load(path, environment())?;
    let answer = runtime()?.block_on(ask(&config.control.socket, Request::Status))?;
    let Answer::Status(status) = answer else {
        anyhow::bail!("the controller answered something else")
    };
    match format {
        Format::Text => print(&status.to_string())?,
        Format::Json => print_json(&*status)?,
    };
    Ok(if status.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn history(path: &Path, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let config = Config::load(path, environment())?;
    let answer = runtime()?.block_on(ask(&config.control.socket, Request::History))?;
    let Answer::History(entries) = answer else {
        anyhow::bail!("the controller answered something else")
    };
    let skipped = entries
        .len()
        .saturating_sub(args.last.unwrap_or(usize::MAX));
    let entries: Vec<_> = entries.into_iter().skip(skipped).collect();
    match args.format.format {
        Format::Text => {
            let lines: String = entries.iter().map(ToString::to_string).collect();
            print(&lines)
        }
        Format::Json => print_json(&entries),
    }
}

fn approve(path: &Path, args: &ApproveArgs) -> anyhow::Result<Exit> {
    let config = Config::load(path, environment())?;
    let request = Request::Approve(Approve {
        targets: args.targets.clone(),
        revision: args.revision,
    });
    match runtime()?.block_on(ask(&config.control.socket, request))? {
        Answer::Approved(servers) => print(&(servers.join("\n") + "\n")),
        Answer::Refused(why) => anyhow::bail!(why),
        _ => anyhow::bail!("the controller answered something else"),
    }
}

fn plan(path: &Path, args: &PlanArgs) -> anyhow::Result<Exit> {
    let config = Config::load(path, environment())?;
    let given = &args.given.members;
    let pending = runtime()?.block_on(async {
        if !given.is_empty() {
            return foresee(&config, given).await;
        }
        match ask(&config.control.socket, Request::Plan).await {
            Ok(Answer::Plan(pending)) => Ok(pending),
            Ok(_) => anyhow::bail!("the controller answered something else"),
            Err(ControlError::NotRunning { .. }) => foresee(&config, given).await,
            Err(error) => Err(error.into()),
        }
    })?;
    match args.format.format {
        Format::Text => print(&pending.to_string())?,
        Format::Json => print_json(&pending)?,
    };
    Ok(if pending.is_empty() {
        Exit::Done
    } else {
        Exit::Pending
    })
}

/// What would be done, without a controller; says which of the given members have no part in it.
async fn foresee(config: &Config, given: &[Member]) -> anyhow::Result<PendingPlan> {
    let Preview { pending, left_out } = preview(config, given).await?;
    let mut stderr = anstream::stderr().lock();
    for line in left_out {
        writeln!(stderr, "warning: {line}")?;
    }
    Ok(pending)
}

fn render(path: &Path, given: &[Member]) -> anyhow::Result<Exit> {
    let config = Config::load(path, environment())?;
    let text = runtime()?.block_on(async {
        if !given.is_empty() {
            return Ok(foresee(&config, given).await?.wanted);
        }
        match ask(&config.control.socket, Request::Render).await {
            Ok(Answer::Render(text)) => Ok(text),
            Ok(_) => anyhow::bail!("the controller answered something else"),
            Err(ControlError::NotRunning { .. }) => Ok(foresee(&config, given).await?.wanted),
            Err(error) => Err(error.into()),
        }
    })?;
    print(&text)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<Exit> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

fn print_template(name: &str) -> anyhow::Result<Exit> {
    let (_, source) = BUILT_IN
        .into_iter()
        .find(|(known, _)| *known == name)
        .context("no such template")?;
    print(source)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "serf-haproxy", &mut script);
    print(&String::from_utf8(script)?)
}

fn man(command: Option<&str>) -> anyhow::Result<Exit> {
    let mut root = Cli::command();
    root.build();
    let page = match command {
        Some(name) => match root.find_subcommand(name) {
            Some(command) => command.clone(),
            None => anyhow::bail!("there is no command {name}"),
        },
        None => root,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    print(&String::from_utf8(text)?)
}

/// Writes data to standard output.
fn print(text: &str) -> anyhow::Result<Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(Exit::Done)
}
