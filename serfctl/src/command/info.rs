//! Figures of the agent, and the version of this program.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use clap::Args;
use serf_rpc::Stats;

use crate::{
    cli::{AgentArgs, Format},
    connect::connect,
    exit::Failure,
    json::document_of,
    terminal::{escape, lossy},
};

/// Print the agent's figures: members, queues, clocks, runtime, tags
#[derive(Debug, Args)]
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
        Format::Json => json(&stats),
    })
}

/// The version of this program and of the protocol it speaks.
pub(crate) fn version() -> Vec<u8> {
    concat!("serfctl ", env!("CARGO_PKG_VERSION"), "\nRPC protocol: 1\n").into()
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

fn json(stats: &Stats) -> Vec<u8> {
    let groups: BTreeMap<Cow<'_, str>, BTreeMap<Cow<'_, str>, Cow<'_, str>>> = stats
        .groups()
        .iter()
        .map(|(group, figures)| {
            let figures = figures.iter();
            let figures = figures.map(|(key, value)| (lossy(key), lossy(value)));
            (lossy(group), figures.collect())
        })
        .collect();
    document_of(&groups)
}
