//! Two members in, the round-trip time between them that Serf's network coordinates estimate out.

use std::{borrow::Cow, ffi::OsString, os::unix::ffi::OsStrExt as _};

use bstr::BString;
use clap::Args;
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use serf_rpc::{Client, Coordinate};

use crate::{
    agent::AgentArgs,
    args::Format,
    connect::connect,
    exit::Failure,
    json::{document_of, line_of},
    names,
    terminal::{escape, lossy},
};

/// Estimate the round-trip time between two members
///
/// From Serf's network coordinates, without a packet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl rtt web-1
  serfctl rtt web-1 web-2")]
pub(crate) struct RttArgs {
    /// A member's name
    #[arg(add = ArgValueCandidates::new(names::candidates))]
    node1: OsString,

    /// Another's; left out, the agent's own
    #[arg(add = ArgValueCandidates::new(names::candidates))]
    node2: Option<OsString>,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Serialize)]
struct Estimate<'a> {
    node1: Cow<'a, str>,
    node2: Cow<'a, str>,
    rtt_ms: f64,
}

/// Asks the agent for both coordinates.
///
/// # Errors
///
/// No connection, no answer, or no coordinate of one of them.
pub(crate) async fn run(agent: &AgentArgs, args: &RttArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    let first = BString::from(args.node1.as_bytes());
    let second = match &args.node2 {
        Some(name) => BString::from(name.as_bytes()),
        None => client
            .stats()
            .await?
            .agent_name()
            .map(ToOwned::to_owned)
            .unwrap_or_default(),
    };
    let (a, b) = (
        coordinate(&client, &first).await?,
        coordinate(&client, &second).await?,
    );
    let rtt = a.rtt(&b).ok_or_else(|| unknown(&second))?;
    let millis = rtt.as_secs_f64() * 1e3;
    let estimate = Estimate {
        node1: lossy(&first),
        node2: lossy(&second),
        // Serf's clocks are no finer.
        rtt_ms: (millis * 1e3).round() / 1e3,
    };
    Ok(match args.format {
        Format::Text => {
            let (first, second) = (escape(&first), escape(&second));
            format!("Estimated {first} <-> {second} rtt: {millis:.3} ms\n").into_bytes()
        }
        Format::Json => document_of(&estimate),
        Format::Ndjson => line_of(&estimate),
    })
}

async fn coordinate(client: &Client, name: &BString) -> Result<Coordinate, Failure> {
    let found = client.get_coordinate(name).await?;
    found.ok_or_else(|| unknown(name))
}

fn unknown(name: &BString) -> Failure {
    Failure::NoCoordinate(name.to_string())
}
