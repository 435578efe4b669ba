//! So many members in, an end as soon as they are there out. For scripts.

use std::time::{Duration, Instant};

use clap::Args;
use tokio::time::timeout;

use crate::{
    agent::AgentArgs,
    duration,
    exit::{Failure, chain},
    progress::Progress,
    selection::{self, Filter, Selection},
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Wait until there are so many members of a kind
///
/// Alive ones are counted, unless --status says otherwise. An agent that is not there yet is waited for too. Exits 5 if
/// they are not there in time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl wait --count 3 --role backend --timeout 30s
  serfctl wait --name web-1 && curl http://web-1:3000/")]
pub(crate) struct WaitArgs {
    /// So many at least
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    count: usize,

    #[command(flatten)]
    selection: Selection,

    /// For so long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
}

/// Looks until they are there.
///
/// # Errors
///
/// They are not there in time, the agent refuses the key, or cannot read an expression.
pub(crate) async fn run(agent: &AgentArgs, args: &WaitArgs) -> Result<Vec<u8>, Failure> {
    let started = Instant::now();
    let filters = args.selection.filters_or_status("alive");
    let progress = Progress::new();
    let mut found = 0;
    loop {
        let left = args.timeout.saturating_sub(started.elapsed());
        let (at, last) = match look(agent, &filters, left).await {
            Ok(now) if now >= args.count => return Ok(format!("{now}\n").into_bytes()),
            Ok(now) => {
                found = now;
                (format!("{found} of {} members", args.count), None)
            }
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => (chain(&failure), Some(Box::new(failure))),
        };
        let elapsed = started.elapsed();
        if elapsed + LOOK > args.timeout {
            return Err(Failure::TooFew {
                waited: humantime::format_duration(args.timeout),
                wanted: args.count,
                found,
                last,
            });
        }
        progress.show(&format!("{at}, {} s", elapsed.as_secs()));
        tokio::time::sleep(LOOK).await;
    }
}

/// How many there are now, or why that is not known after so long.
async fn look(agent: &AgentArgs, filters: &[Filter], left: Duration) -> Result<usize, Failure> {
    let members = timeout(left, selection::members(agent, filters)).await;
    Ok(members.map_err(|_| Failure::Late { after: left })??.len())
}
