//! So many members in, an end as soon as they are there out. For scripts.

use std::time::{Duration, Instant};

use clap::Args;
use serf_rpc::MemberFilter;

use crate::{
    cli::{AgentArgs, key_value},
    command::duration,
    connect::connect,
    exit::Failure,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Wait until there are so many members of a kind
///
/// An agent that is not there yet is waited for too. Exits 5 if they are not there in time.
/// Example: serfctl wait --count 3 --role backend --timeout 30s
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// So many at least
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    count: usize,

    /// Only members whose name matches
    #[arg(long, value_name = "REGEXP")]
    name: Option<String>,

    /// The same as --tag role=REGEXP
    #[arg(long, value_name = "REGEXP")]
    role: Option<String>,

    /// Only members whose status matches (alive, leaving, left, failed)
    #[arg(long, value_name = "REGEXP", default_value = "alive")]
    status: String,

    /// Only members whose tag matches; may be repeated
    #[arg(long = "tag", value_name = "KEY=REGEXP", value_parser = key_value)]
    tags: Vec<(String, String)>,

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
    let filter = filter(args);
    let mut found = 0;
    loop {
        match look(agent, &filter).await {
            Ok(now) if now >= args.count => return Ok(format!("{now}\n").into_bytes()),
            Ok(now) => found = now,
            Err(failure) if is_final(&failure) => return Err(failure),
            Err(_) => {}
        }
        if started.elapsed() + LOOK > args.timeout {
            return Err(Failure::TooFew {
                waited: humantime::format_duration(args.timeout),
                wanted: args.count,
                found,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether no time mends it.
fn is_final(failure: &Failure) -> bool {
    use crate::exit::Exit;
    matches!(failure.exit(), Exit::Usage | Exit::Refused)
}

async fn look(agent: &AgentArgs, filter: &MemberFilter) -> Result<usize, Failure> {
    let members = connect(agent).await?.members_filtered(filter).await?;
    Ok(members.len())
}

fn filter(args: &WaitArgs) -> MemberFilter {
    let status = MemberFilter::new().status(&args.status);
    let named = match &args.name {
        Some(name) => status.name(name),
        None => status,
    };
    let tagged = args
        .tags
        .iter()
        .fold(named, |filter, (key, pattern)| filter.tag(key, pattern));
    match &args.role {
        Some(role) => tagged.tag("role", role),
        None => tagged,
    }
}
