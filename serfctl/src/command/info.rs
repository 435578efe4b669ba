//! Figures of the agent, and the version of this program.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use clap::Args;
use serf_rpc::Stats;

use crate::{
    agent::AgentArgs,
    args::Format,
    connect::connect,
    exit::Failure,
    json::{base64_pair, document_of, line_of},
    terminal::{escape, lossy},
};

/// The version of this program, and on a line of its own that of the protocol.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nRPC protocol: 1");

/// Print the agent's figures: members, queues, clocks, runtime, tags
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl info
  serfctl info --format json | jq -r .serf.failed")]
pub(crate) struct InfoArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Asks the agent for its figures.
///
/// # Errors
///
/// No connection, or no answer.
pub(crate) async fn run(agent: &AgentArgs, args: &InfoArgs) -> Result<Vec<u8>, Failure> {
    let stats = connect(agent).await?.stats().await?;
    Ok(match args.format {
        Format::Text => text(&stats).into_bytes(),
        Format::Json => document_of(&json(&stats)),
        Format::Ndjson => line_of(&json(&stats)),
    })
}

/// The version of this program and of the protocol it speaks, as `-v` has it too.
pub(crate) fn version() -> Vec<u8> {
    format!("serfctl {VERSION}\n").into_bytes()
}

/// Groups and figures in the order of their names, as `serf info` has them.
fn text(stats: &Stats) -> String {
    let mut out = String::new();
    for (group, figures) in stats.groups() {
        writeln!(out, "{}:", escape(group)).unwrap_or_default();
        for (key, value) in figures {
            writeln!(out, "\t{} = {}", escape(key), escape(value)).unwrap_or_default();
        }
    }
    out
}

/// Groups as they are; what of one is not UTF-8 again in base64, in a group of its own.
fn json(stats: &Stats) -> BTreeMap<String, BTreeMap<Cow<'_, str>, Cow<'_, str>>> {
    let mut groups: BTreeMap<_, BTreeMap<Cow<'_, str>, Cow<'_, str>>> = BTreeMap::new();
    for (group, figures) in stats.groups() {
        let name = lossy(group);
        let mut base64 = BTreeMap::new();
        let texts = groups.entry(name.clone().into_owned()).or_default();
        for (key, value) in figures {
            texts.insert(lossy(key), lossy(value));
            if let Some((key, value)) = base64_pair(key, value) {
                base64.insert(Cow::Owned(key), Cow::Owned(value));
            }
        }
        if !base64.is_empty() {
            groups.insert(format!("{name}_base64"), base64);
        }
    }
    groups
}
