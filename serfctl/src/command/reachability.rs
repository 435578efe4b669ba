//! A question to every live member in, who does not answer out.

use std::{collections::BTreeSet, fmt::Write as _, time::Instant};

use bstr::BString;
use clap::Args;
use serf_rpc::{MemberStatus, Query, QueryReply};

use crate::{
    cli::{AgentArgs, go_bool},
    connect::connect,
    exit::Failure,
    output,
    terminal::escape,
};

/// What every agent acknowledges.
const PING: &str = "_serf_ping";

/// Find live members that a question does not reach, or whose answer gets lost
#[derive(Debug, Args)]
pub(crate) struct ReachabilityArgs {
    /// Print each acknowledgement
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true,
        value_parser = go_bool)]
    verbose: bool,
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
    output::line(&format!(
        "Total members: {}, live members: {}\nStarting reachability test...",
        members.len(),
        alive.len()
    ))?;
    let started = Instant::now();
    let mut last = started;
    let mut replies = client.query(&Query::new(PING).request_ack(true)).await?;
    let mut acks: Vec<BString> = Vec::new();
    while let Some(reply) = replies.next().await {
        if let QueryReply::Ack { from } = reply? {
            last = Instant::now();
            if args.verbose {
                output::line(&format!("\tAck from '{}'", escape(&from)))?;
            }
            acks.push(from);
        }
    }
    if args.verbose {
        output::line(&format!(
            "Query time: {:.2} sec, time to last response: {:.2} sec",
            started.elapsed().as_secs_f64(),
            last.duration_since(started).as_secs_f64()
        ))?;
    }
    judge(&alive, &acks)
}

fn judge(alive: &BTreeSet<BString>, acks: &[BString]) -> Result<Vec<u8>, Failure> {
    let heard: BTreeSet<&BString> = acks.iter().collect();
    let missing: Vec<&BString> = alive.iter().filter(|name| !heard.contains(name)).collect();
    let strangers: Vec<&&BString> = heard
        .iter()
        .filter(|name| !alive.contains(**name))
        .collect();
    let mut out = String::new();
    if !strangers.is_empty() {
        out.push_str("Received more acks than live nodes! Acks from non-live nodes:\n");
        for name in strangers {
            writeln!(out, "\t{}", escape(name)).unwrap_or_default();
        }
    }
    if missing.is_empty() {
        out.push_str("Successfully contacted all live nodes\n");
        return Ok(out.into_bytes());
    }
    out.push_str("Received less acks than live nodes! Missing acks from:\n");
    for name in &missing {
        writeln!(out, "\t{}", escape(name)).unwrap_or_default();
    }
    output::write(out.as_bytes())?;
    Err(Failure::Unreachable(missing.len()))
}
