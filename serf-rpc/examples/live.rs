//! Shows the membership as it changes, over the loss of agents: `live HOST:PORT…`, the agents to try in order.

use std::io::Write;

use serf_rpc::{ConnectOptions, WatchEvent, WatchOptions, Watcher};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agents: Result<Vec<ConnectOptions>, _> =
        std::env::args().skip(1).map(|addr| addr.parse()).collect();
    let watcher = Watcher::spawn(WatchOptions::new(agents?));
    let mut changes = watcher.changes();
    let mut out = std::io::stdout();
    while let Some(event) = changes.next().await {
        match event {
            WatchEvent::Changed { change, .. } => writeln!(out, "{change:?}")?,
            WatchEvent::Connected { addr } => writeln!(out, "{addr} answers")?,
            WatchEvent::Unreachable { addr, error } => writeln!(out, "{addr}: {error}")?,
            other => writeln!(out, "{other:?}")?,
        }
    }
    Ok(())
}
