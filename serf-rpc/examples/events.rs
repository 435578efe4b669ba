//! Follows events, queries included: `events [HOST:PORT]`. The key is taken from `SERF_RPC_AUTH`.

use std::io::Write;

use serf_rpc::{ConnectOptions, Event, EventFilter};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7373".into());
    let key = std::env::var("SERF_RPC_AUTH").unwrap_or_default();
    let client = ConnectOptions::new(addr).auth_key(key).connect().await?;
    let mut events = client.stream(EventFilter::all()).await?;
    let mut out = std::io::stdout();
    while let Some(event) = events.next().await {
        match event? {
            Event::Member { kind, members } => {
                let names: Vec<_> = members.iter().map(|member| member.name()).collect();
                writeln!(out, "{} {names:?}", kind.as_str())?;
            }
            Event::User { name, payload, .. } => writeln!(out, "user {name:?} {payload:?}")?,
            Event::Query { name, payload, .. } => writeln!(out, "query {name:?} {payload:?}")?,
            other => writeln!(out, "{other:?}")?,
        }
    }
    Ok(())
}
