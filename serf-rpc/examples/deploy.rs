//! Tells the web servers to deploy and waits until they say what they run: `deploy VERSION`. Agent and key are those of
//! `SERF_RPC_ADDR` and `SERF_RPC_AUTH`.

use std::io::Write;
use std::time::Duration;

use serf_rpc::{ConnectOptions, MemberFilter, MemberStatus, Query, UserEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let version = std::env::args().nth(1).ok_or("usage: deploy VERSION")?;
    let client = ConnectOptions::from_env()?.connect().await?;
    client
        .event(&UserEvent::new("deploy").payload(&version))
        .await?;

    let alive = MemberFilter::new().status_is(MemberStatus::Alive);
    let web = client
        .members_filtered(&alive.tag_is("role", "web"))
        .await?;
    let question = Query::new("version").tag_is("role", "web");
    let mut answers = client.query(&question).await?;
    let names = web.iter().map(|member| member.name());
    let mut out = std::io::stdout();
    let replies = answers
        .gather_from(names, Duration::from_secs(5), |_, missing| {
            tracing::info!(missing);
        })
        .await;
    for (name, running) in &replies.responses {
        writeln!(out, "{name}: {running}")?;
    }
    for name in replies.missing() {
        writeln!(out, "{name}: no answer")?;
    }
    Ok(())
}
