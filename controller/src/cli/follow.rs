//! `run` and `once`: a config in, HAProxy kept or brought up to date.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use controller::config;
use controller::notify::Notifier;
use controller::reconcile::{self, Adopt, RunOptions};
use planner::config::Config;

use super::{Exit, environment, runtime};
use crate::logging::Log;

#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    #[command(flatten)]
    run: RunArgs,

    /// Write a newline to this file descriptor once HAProxy and its file are as they should be, as s6 wants it
    /// (`notification-fd`). systemd, which NOTIFY_SOCKET names, is told that it is ready as soon as `status` answers,
    /// whatever is missing, and how things stand from then on
    #[arg(long, value_name = "NUMBER")]
    notification_fd: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Take over a configuration file that somebody else wrote; a copy of it is kept beside it. If anything of it would
    /// be lost, that is listed, and nothing is done
    #[arg(long)]
    adopt: bool,
    /// Take it over though something of it is lost
    #[arg(long, requires = "adopt")]
    yes: bool,
}

impl RunArgs {
    fn adopts(&self) -> Adopt {
        match (self.adopt, self.yes) {
            (false, _) => Adopt::Never,
            (true, false) => Adopt::Lossless,
            (true, true) => Adopt::Anyway,
        }
    }
}

/// Follows the cluster until SIGTERM.
pub(super) fn follow(path: &Path, args: &DaemonArgs, log: &Log) -> anyhow::Result<Exit> {
    let (config, options) = read(path, args.run.adopts(), args.notification_fd)?;
    let runtime = runtime()?;
    runtime.spawn(log.tell());
    runtime.block_on(reconcile::run(config, options))?;
    Ok(Exit::Done)
}

/// Brings everything up to date once.
pub(super) fn once(path: &Path, args: &RunArgs) -> anyhow::Result<Exit> {
    let (config, options) = read(path, args.adopts(), None)?;
    runtime()?.block_on(reconcile::once(config, options))?;
    Ok(Exit::Done)
}

fn read(
    path: &Path,
    adopt: Adopt,
    notification_fd: Option<u32>,
) -> anyhow::Result<(Config, RunOptions)> {
    // First of all, before anything else is opened under that number.
    let notifier = Notifier::new(notification_fd)
        .context("cannot write to the file descriptor of --notification-fd")?;
    let env: Vec<_> = environment().collect();
    let config = config::load(path, env.clone())?;
    let options = RunOptions {
        config_path: path.to_owned(),
        env,
        adopt,
        notifier,
    };
    Ok((config, options))
}
