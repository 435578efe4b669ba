//! Asks all members and shows who answers what: `query NAME [PAYLOAD]`. Agent and key are those of `SERF_RPC_ADDR` and
//! `SERF_RPC_AUTH`.

use std::io::Write;
use std::time::Duration;

use serf_rpc::{ConnectOptions, MemberFilter, MemberStatus, Query};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let query = Query::new(args.next().ok_or("usage: query NAME [PAYLOAD]")?)
        .payload(args.next().unwrap_or_default())
        .request_ack(true);
    let client = ConnectOptions::from_env()?.connect().await?;
    let alive = MemberFilter::new().status_is(MemberStatus::Alive);
    let members = client.members_filtered(&alive).await?;
    let mut answers = client.query(&query).await?;
    let names = members.iter().map(|member| member.name());
    let replies = answers
        .gather_from(names, Duration::from_secs(15), |_, _| {})
        .await;
    let mut out = std::io::stdout();
    for (name, payload) in &replies.responses {
        writeln!(out, "{name:?}: {payload:?}")?;
    }
    for name in replies.missing() {
        let got_it = replies.acks.iter().any(|ack| ack == name);
        writeln!(out, "{name:?}: no answer, got it: {got_it}")?;
    }
    Ok(())
}
