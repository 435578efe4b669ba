//! Lists the members that an agent knows: `members`. Agent and key are those of `SERF_RPC_ADDR` and `SERF_RPC_AUTH`.

use std::io::Write;

use serf_rpc::ConnectOptions;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = ConnectOptions::from_env()?.connect().await?;
    let mut members = client.members().await?;
    members.sort_by(|a, b| a.name().cmp(b.name()));
    let mut out = std::io::stdout().lock();
    for member in members {
        let (name, addr, status) = (member.name(), member.addr(), member.status());
        write!(out, "{name:?} {addr:?}:{} {status}", member.port())?;
        for (key, value) in member.tags() {
            write!(out, " {key:?}={value:?}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
