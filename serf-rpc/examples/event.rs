//! Sends a user event to all members: `event NAME [PAYLOAD]`. The agent is the one at `SERF_RPC_ADDR`,
//! its key `SERF_RPC_AUTH`.

use serf_rpc::{ConnectOptions, UserEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("usage: event NAME [PAYLOAD]")?;
    let addr = std::env::var("SERF_RPC_ADDR").unwrap_or_else(|_| "127.0.0.1:7373".into());
    let key = std::env::var("SERF_RPC_AUTH").unwrap_or_default();
    let client = ConnectOptions::new(addr).auth_key(key).connect().await?;
    let event = UserEvent::new(name).payload(args.next().unwrap_or_default());
    client.event(&event).await?;
    Ok(())
}
