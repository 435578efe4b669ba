//! Lists the members an agent knows: `members [HOST:PORT]`. The key is taken from `SERF_RPC_AUTH`.

use std::io::Write;

use serf_rpc::ConnectOptions;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7373".into());
    let key = std::env::var("SERF_RPC_AUTH").unwrap_or_default();
    let client = ConnectOptions::new(addr).auth_key(key).connect().await?;
    let mut members = client.members().await?;
    members.sort_by(|a, b| a.name().cmp(b.name()));
    let mut out = std::io::stdout().lock();
    for member in members {
        let addr = member
            .addr()
            .map_or_else(|| "-".to_owned(), |addr| addr.to_string());
        write!(
            out,
            "{:?} {addr}:{} {}",
            member.name(),
            member.port(),
            member.status()
        )?;
        for (key, value) in member.tags() {
            write!(out, " {key:?}={value:?}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
