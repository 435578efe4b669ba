//! Answers every query of one name, over restarts of the agent: `answer NAME ANSWER`. Agent and key are those of
//! `SERF_RPC_ADDR` and `SERF_RPC_AUTH`.

use serf_rpc::{ConnectOptions, Event, EventFilter, EventKind, EventName, ManagedClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().and_then(EventName::new).ok_or("no name")?;
    let answer = args.next().ok_or("usage: answer NAME ANSWER")?;
    let client = ManagedClient::spawn(ConnectOptions::from_env()?);
    let filter = EventFilter::of([EventKind::QueryNamed(name)]);
    let mut queries = client.stream(filter).await?;
    while let Some(event) = queries.next().await {
        if let Event::Query { id, .. } = event
            && let Err(error) = client.respond(id, &answer).await
        {
            tracing::warn!(%error, refusal = ?error.refusal(), "not answered");
        }
    }
    Ok(())
}
