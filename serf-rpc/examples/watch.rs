//! Follows the membership: `watch [HOST:PORT]…`, the agents to try in order.

use std::io::Write;

use serf_rpc::{ConnectOptions, WatchEvent, WatchOptions, Watcher};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut agents: Vec<_> = std::env::args().skip(1).map(ConnectOptions::new).collect();
    if agents.is_empty() {
        agents.push(ConnectOptions::new("127.0.0.1:7373"));
    }
    let watcher = Watcher::spawn(WatchOptions::new(agents));
    let mut changes = watcher.changes();
    let mut out = std::io::stdout();
    while let Some(event) = changes.next().await {
        match event {
            WatchEvent::Changed { revision, change } => writeln!(out, "{revision} {change:?}")?,
            other => writeln!(out, "{other:?}")?,
        }
    }
    Ok(())
}
