//! Two tasks on one client: one shows user events, the other counts the members every ten seconds. Agent and key are those
//! of `SERF_RPC_ADDR` and `SERF_RPC_AUTH`.

use std::io::Write;
use std::time::Duration;

use serf_rpc::{ConnectOptions, Event, EventFilter, EventKind, ManagedClient};

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn events(client: ManagedClient) -> Done {
    let mut events = client.stream(EventFilter::of([EventKind::User])).await?;
    while let Some(event) = events.next().await {
        if let Event::User { name, payload, .. } = event {
            writeln!(std::io::stdout(), "{name:?} {payload:?}")?;
        }
    }
    Ok(())
}

async fn count(client: ManagedClient) -> Done {
    loop {
        let members = client.members().await?.len();
        writeln!(std::io::stdout(), "{members} members")?;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let client = ManagedClient::spawn(ConnectOptions::from_env()?);
    tokio::try_join!(events(client.clone()), count(client))?;
    Ok(())
}
