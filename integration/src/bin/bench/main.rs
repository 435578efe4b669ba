//! `make bench`: what the project promises of its speed and memory, measured. `bench join`, `bench rpc`
//! and `bench serfctl` are its parts.

mod client;
mod join;
mod rpc;
mod serfctl;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match args[..] {
        [] => runtime.block_on(async {
            join::run().await?;
            rpc::run()?;
            serfctl::run()
        }),
        ["join"] => runtime.block_on(join::run()),
        ["rpc"] => rpc::run(),
        ["serfctl"] => serfctl::run(),
        // A process of its own for each measurement, so that what the agent spends is not counted.
        ["client", what, addr, count] => client::run(what, addr, count.parse()?),
        _ => bail!("usage: bench [join | rpc | serfctl]"),
    }
}
