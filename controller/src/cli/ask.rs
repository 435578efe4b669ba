//! `status`, `history` and `approve`: what the running controller answers.

use std::path::Path;

use clap::Args;
use controller::control::{Answer, Request, ask};
use controller::published::Approve;

use super::{Exit, Format, FormatArgs, SocketArgs, print, print_json, runtime};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only the last so many entries
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serf-haproxy approve nodes/web-3
      one server
  serf-haproxy approve nodes --revision 17
      all that are held in a backend, if nothing has changed since that status")]
pub(super) struct ApproveArgs {
    /// A backend, or one server of it
    #[arg(value_name = "BACKEND[/SERVER]", required_unless_present = "all")]
    targets: Vec<String>,
    /// All that are held, in all backends
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// Only if nothing has changed since this revision of the status
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn status(path: &Path, args: &StatusArgs) -> anyhow::Result<Exit> {
    let socket = args.socket.find(path);
    let answer = runtime()?.block_on(ask(&socket, Request::Status))?;
    let Answer::Status(status) = answer else {
        anyhow::bail!("the controller answered something else")
    };
    match args.format.format {
        Format::Text => print(&status.to_string())?,
        Format::Json => print_json(&*status)?,
    };
    Ok(if status.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

pub(super) fn history(path: &Path, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let socket = args.socket.find(path);
    let answer = runtime()?.block_on(ask(&socket, Request::History))?;
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

pub(super) fn approve(path: &Path, args: &ApproveArgs) -> anyhow::Result<Exit> {
    let socket = args.socket.find(path);
    let request = Request::Approve(Approve {
        targets: args.targets.clone(),
        revision: args.revision,
    });
    match runtime()?.block_on(ask(&socket, request))? {
        Answer::Approved(servers) => print(&(servers.join("\n") + "\n")),
        Answer::Refused(why) => anyhow::bail!(why),
        _ => anyhow::bail!("the controller answered something else"),
    }
}
