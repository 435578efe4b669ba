//! Answers every query of one name: `answer NAME ANSWER`. The agent is the one at `SERF_RPC_ADDR`, its
//! key `SERF_RPC_AUTH`.

use std::io::Write;

use serf_rpc::{ConnectOptions, Event, EventFilter, EventKind, EventName};

const USAGE: &str = "usage: answer NAME ANSWER; a name has no comma";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().and_then(EventName::new).ok_or(USAGE)?;
    let answer = args.next().ok_or(USAGE)?;
    let addr = std::env::var("SERF_RPC_ADDR").unwrap_or_else(|_| "127.0.0.1:7373".into());
    let key = std::env::var("SERF_RPC_AUTH").unwrap_or_default();
    let client = ConnectOptions::new(addr).auth_key(key).connect().await?;
    let mut queries = client
        .stream(EventFilter::of([EventKind::QueryNamed(name)]))
        .await?;
    let mut out = std::io::stdout();
    while let Some(event) = queries.next().await {
        let Event::Query { id, payload, .. } = event? else {
            continue;
        };
        match client.respond(id, &answer).await {
            Ok(()) => writeln!(out, "answered {payload:?}")?,
            // Too late, or another client of this agent was faster.
            Err(error) => writeln!(out, "not answered: {error}")?,
        }
    }
    Ok(())
}
