//! Two members in, the round-trip time between them that Serf's network coordinates estimate out.

use bstr::BString;
use clap::Args;
use serf_rpc::{Client, Coordinate};

use crate::{cli::AgentArgs, connect::connect, exit::Failure, terminal::escape};

/// Estimate the round-trip time between two members
#[derive(Debug, Args)]
pub(crate) struct RttArgs {
    /// A member's name
    node1: String,

    /// Another's; left out, the agent's own
    node2: Option<String>,
}

/// Asks the agent for both coordinates.
///
/// # Errors
///
/// No connection, no answer, or no coordinate of one of them.
pub(crate) async fn run(agent: &AgentArgs, args: &RttArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    let first = BString::from(args.node1.as_str());
    let second = match &args.node2 {
        Some(name) => BString::from(name.as_str()),
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
    let (first, second) = (escape(&first), escape(&second));
    Ok(format!("Estimated {first} <-> {second} rtt: {millis:.3} ms\n").into_bytes())
}

async fn coordinate(client: &Client, name: &BString) -> Result<Coordinate, Failure> {
    let found = client.get_coordinate(name).await?;
    found.ok_or_else(|| unknown(name))
}

fn unknown(name: &BString) -> Failure {
    Failure::NoCoordinate(name.to_string())
}
