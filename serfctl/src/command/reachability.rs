//! A question to every live member in, who does not answer out.

use std::{borrow::Cow, collections::BTreeSet, fmt::Write as _, time::Instant};

use bstr::BString;
use clap::Args;
use serde::Serialize;
use serf_rpc::{Client, MemberStatus, QueryReply};

use crate::{
    agent::AgentArgs,
    args::{Format, go_bool},
    command::answers,
    connect::connect,
    exit::Failure,
    json::{base64_of, document_of, line_of},
    output,
    progress::Progress,
    terminal::{escape, lossy},
};

/// Find live members that a question does not reach, or whose answer gets lost
///
/// Exits 1 if there are any.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl reachability
  serfctl reachability --verbose")]
pub(crate) struct ReachabilityArgs {
    /// Print each acknowledgement
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true,
        value_parser = go_bool)]
    verbose: bool,

    /// How to print what is found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What was found, in JSON.
#[derive(Serialize)]
struct Found<'a> {
    members: usize,
    alive: usize,
    missing: Vec<Cow<'a, str>>,
    strangers: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_base64: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    strangers_base64: Vec<String>,
}

/// Asks everybody, and prints who is missing.
///
/// # Errors
///
/// No connection, the agent is lost meanwhile, or live members do not answer.
pub(crate) async fn run(agent: &AgentArgs, args: &ReachabilityArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    let members = client.members().await?;
    let alive = members
        .iter()
        .filter(|member| member.status() == MemberStatus::Alive);
    let alive: BTreeSet<BString> = alive.map(|member| member.name().to_owned()).collect();
    let text = args.format == Format::Text;
    if text {
        output::line(&format!(
            "Total members: {}, live members: {}\nStarting reachability test...",
            members.len(),
            alive.len()
        ))?;
    }
    let acks = acks(&client, args.verbose && text, alive.len()).await?;
    let missing: Vec<&BString> = alive.difference(&acks).collect();
    let strangers: Vec<&BString> = acks.difference(&alive).collect();
    let found = match args.format {
        Format::Text => verdict(&missing, &strangers),
        Format::Json | Format::Ndjson => {
            let found = found(members.len(), alive.len(), &missing, &strangers);
            if args.format == Format::Json {
                document_of(&found)
            } else {
                line_of(&found)
            }
        }
    };
    output::write(&found)?;
    match missing.len() {
        0 => Ok(Vec::new()),
        missing => Err(Failure::Unreachable(missing)),
    }
}

/// Who answers.
async fn acks(client: &Client, verbose: bool, alive: usize) -> Result<BTreeSet<BString>, Failure> {
    let started = Instant::now();
    let mut last = started;
    let progress = Progress::new();
    let mut acks = BTreeSet::new();
    let mut replies = client.query(&answers::ping()).await?;
    progress.show(&format!("0 of {alive} answered"));
    while let Some(reply) = answers::next(client, &mut replies).await? {
        if let QueryReply::Ack { from } = reply {
            last = Instant::now();
            if verbose {
                progress.clear();
                output::line(&format!("\tAck from '{}'", escape(&from)))?;
            }
            acks.insert(from);
            progress.show(&format!("{} of {alive} answered", acks.len()));
        }
    }
    progress.clear();
    if verbose {
        output::line(&format!(
            "Query time: {:.2} sec, time to last response: {:.2} sec",
            started.elapsed().as_secs_f64(),
            last.duration_since(started).as_secs_f64()
        ))?;
    }
    Ok(acks)
}

fn found<'a>(
    members: usize,
    alive: usize,
    missing: &[&'a BString],
    strangers: &[&'a BString],
) -> Found<'a> {
    let names = |names: &[&'a BString]| names.iter().map(|name| lossy(name)).collect();
    let base64 = |names: &[&BString]| names.iter().filter_map(|name| base64_of(name)).collect();
    Found {
        members,
        alive,
        missing: names(missing),
        strangers: names(strangers),
        missing_base64: base64(missing),
        strangers_base64: base64(strangers),
    }
}

fn verdict(missing: &[&BString], strangers: &[&BString]) -> Vec<u8> {
    let mut out = String::new();
    if !strangers.is_empty() {
        out.push_str("Received more acks than live nodes! Acks from non-live nodes:\n");
        for name in strangers {
            writeln!(out, "\t{}", escape(name)).unwrap_or_default();
        }
    }
    if missing.is_empty() {
        out.push_str("Successfully contacted all live nodes\n");
    } else {
        out.push_str("Received less acks than live nodes! Missing acks from:\n");
    }
    for name in missing {
        writeln!(out, "\t{}", escape(name)).unwrap_or_default();
    }
    out.into_bytes()
}
