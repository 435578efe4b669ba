//! Two members in, the round-trip time between them that Serf's network coordinates estimate out.

use std::{borrow::Cow, ffi::OsString, iter, os::unix::ffi::OsStrExt as _, time::Duration};

use bstr::BString;
use clap::Args;
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use serf_rpc::Coordinate;

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
    let coordinates = [
        client.get_coordinate(&first).await?,
        client.get_coordinate(&second).await?,
    ];
    let rtt = between([&first, &second], coordinates)?;
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

/// The time between two, or who is to blame that there is none.
fn between(names: [&BString; 2], found: [Option<Coordinate>; 2]) -> Result<Duration, Failure> {
    let missing: Vec<_> = iter::zip(names, &found)
        .filter(|(_, found)| found.is_none())
        .collect();
    let [Some(a), Some(b)] = &found else {
        return Err(Failure::NoCoordinate(quoted(missing)));
    };
    a.rtt(b).ok_or_else(|| {
        let both = || iter::zip(names, [a, b]);
        let mut faulty: Vec<_> = both().filter(|(_, it)| !it.is_valid()).collect();
        if faulty.is_empty() {
            faulty = both().collect();
        }
        Failure::BadCoordinate(quoted(faulty))
    })
}

/// The names in quotes, each once.
fn quoted<T>(names: Vec<(&BString, T)>) -> String {
    let mut names: Vec<String> = names
        .iter()
        .map(|(name, _)| format!("\"{}\"", escape(name)))
        .collect();
    names.dedup();
    names.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(found: [Option<Coordinate>; 2]) -> String {
        let names = ["a", "b"].map(BString::from);
        let fault = between([&names[0], &names[1]], found).unwrap_err();
        fault.to_string()
    }

    fn at(figure: f64) -> Option<Coordinate> {
        let coordinate = Coordinate {
            vec: vec![figure; 8],
            ..Coordinate::default()
        };
        Some(coordinate)
    }

    #[test]
    fn who_has_no_coordinate_or_a_bad_one_is_named() {
        let none = "Could not find a coordinate for node";
        for (found, blamed) in [
            ([None, at(0.0)], format!("{none} \"a\"")),
            ([at(0.0), None], format!("{none} \"b\"")),
            ([None, None], format!("{none} \"a\" and \"b\"")),
        ] {
            assert_eq!(fault(found), blamed);
        }
        let bad = "No time can be told from the coordinate of";
        for (found, blamed) in [
            ([at(f64::NAN), at(0.0)], format!("{bad} \"a\"")),
            ([at(0.0), at(f64::INFINITY)], format!("{bad} \"b\"")),
            ([at(1e300), at(0.0)], format!("{bad} \"a\" and \"b\"")),
        ] {
            assert_eq!(fault(found), blamed);
        }
    }

    #[test]
    fn a_node_and_itself_are_blamed_once() {
        let a = BString::from("a");
        let fault = between([&a, &a], [None, None]).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "Could not find a coordinate for node \"a\""
        );
    }
}
