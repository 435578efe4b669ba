//! Asks all members and shows who answers what: `query NAME [PAYLOAD]`. The agent is the one at
//! `SERF_RPC_ADDR`, its key `SERF_RPC_AUTH`.

use std::io::Write;
use std::time::Duration;

use serf_rpc::{ConnectOptions, Expected, MemberStatus, Query};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("usage: query NAME [PAYLOAD]")?;
    let addr = std::env::var("SERF_RPC_ADDR").unwrap_or_else(|_| "127.0.0.1:7373".into());
    let key = std::env::var("SERF_RPC_AUTH").unwrap_or_default();
    let client = ConnectOptions::new(addr).auth_key(key).connect().await?;
    let members = client.members().await?;
    let alive = members
        .iter()
        .filter(|member| member.status() == MemberStatus::Alive);
    let everybody = Expected::responses_of(alive);

    let query = Query::new(name)
        .payload(args.next().unwrap_or_default())
        .request_ack(true);
    let mut answers = client.query(&query).await?;
    let gathered = answers.gather(everybody, Duration::from_secs(15)).await;
    let mut out = std::io::stdout();
    for (name, payload) in &gathered.responses {
        writeln!(out, "{name:?}: {payload:?}")?;
    }
    let silent = gathered
        .acks
        .iter()
        .filter(|name| !gathered.responses.iter().any(|(from, _)| from == *name));
    for name in silent {
        writeln!(out, "{name:?} got it and has no answer")?;
    }
    Ok(())
}
