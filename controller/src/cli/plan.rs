//! `plan` and `render`: what would be done, and the text of the file.

use std::path::Path;

use clap::Args;
use controller::config;
use controller::control::{Answer, ControlError, Request, ask};
use controller::preview::{Preview, preview};
use planner::pending::PendingPlan;
use planner::render::BUILT_IN;
use serf_rpc::Member;

use super::{
    Exit, Format, FormatArgs, GivenArgs, SocketArgs, environment, print, print_json, runtime, tell,
};

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    socket: SocketArgs,
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
pub(super) struct RenderArgs {
    /// Print a built-in template instead
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = BUILT_IN[0].0, value_parser = BUILT_IN.map(|(name, _)| name))]
    pub(super) print_template: Option<String>,
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn plan(path: &Path, args: &PlanArgs) -> anyhow::Result<Exit> {
    let pending = pending(path, &args.socket, &args.given.members)?;
    match args.format.format {
        Format::Text => print(&pending.to_string())?,
        Format::Json => print_json(&pending)?,
    };
    Ok(if pending.is_of_before() {
        Exit::Config
    } else if pending.is_empty() {
        Exit::Done
    } else {
        Exit::Pending
    })
}

pub(super) fn render(path: &Path, args: &RenderArgs) -> anyhow::Result<Exit> {
    let pending = pending(path, &args.socket, &args.given.members)?;
    let unread = pending
        .unread
        .iter()
        .filter(|unread| unread.error.is_some());
    for unread in unread {
        tell(unread.to_string().trim_end());
    }
    print(&pending.wanted)?;
    Ok(if pending.is_of_before() {
        Exit::Config
    } else {
        Exit::Done
    })
}

/// What the running controller would do with the files of now; what is found out from here without one, where it has
/// another config, or where members are given that it does not know.
fn pending(path: &Path, socket: &SocketArgs, given: &[Member]) -> anyhow::Result<PendingPlan> {
    let runtime = runtime()?;
    if !given.is_empty() {
        return runtime.block_on(foresee(path, given));
    }
    let named = socket.socket.is_some();
    let socket = socket.find(path);
    runtime.block_on(async {
        match ask(&socket, Request::Plan).await {
            Ok(Answer::Plan { config, plan }) if named || is_same(path, &config) => Ok(plan),
            Ok(Answer::Plan { config, .. }) => {
                tell(&format!(
                    "note: the running controller has another config, {}; this is found out without it",
                    config.display()
                ));
                foresee(path, given).await
            }
            Ok(Answer::Refused(why)) => anyhow::bail!(why),
            Ok(_) => anyhow::bail!("the controller answered something else"),
            Err(ControlError::NotRunning { .. }) => foresee(path, given).await,
            Err(error) => Err(error.into()),
        }
    })
}

/// What would be done, without a controller; says which of the given members have no part in it.
async fn foresee(path: &Path, given: &[Member]) -> anyhow::Result<PendingPlan> {
    let config = config::load(path, environment())?;
    let Preview { pending, left_out } = preview(&config, given).await?;
    for line in left_out {
        tell(&format!("warning: {line}"));
    }
    Ok(pending)
}

/// Whether the controller's config is this file; one that is not here is taken to be.
fn is_same(path: &Path, controllers: &Path) -> bool {
    path == controllers || path.canonicalize().map_or(true, |path| path == controllers)
}
