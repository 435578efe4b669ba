//! Keeps the addresses of the web servers and shows them: `pool`. Its tests need no agent. Agent and key are those of
//! `SERF_RPC_ADDR` and `SERF_RPC_AUTH`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use serf_rpc::{BString, ConnectOptions, Entry, SetChange, Watcher};

/// The servers that take requests.
type Pool = BTreeMap<BString, IpAddr>;

fn web_server(entry: &Entry) -> Option<IpAddr> {
    let is_web = entry.member.tag("role").is_some_and(|role| role == "web");
    (is_web && entry.usable(Duration::from_secs(10))).then(|| entry.member.addr())?
}

/// Keeps the pool, and shows it after each change.
async fn keep(watcher: &Watcher, mut show: impl FnMut(&Pool)) {
    let (mut pool, mut servers) = (Pool::new(), watcher.select(web_server));
    while let Some(change) = servers.next().await {
        match change {
            SetChange::Insert(name, addr) => drop(pool.insert(name, addr)),
            SetChange::Remove(name) => drop(pool.remove(&name)),
        }
        show(&pool);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let watcher = Watcher::spawn(ConnectOptions::from_env()?);
    keep(&watcher, |pool| {
        let _ = writeln!(std::io::stdout(), "{pool:?}");
    })
    .await;
    watcher.ready().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serf_rpc::testing::{FakeWatcher, errors};
    use serf_rpc::{Member, MemberBuilder, MemberStatus};

    use super::*;

    fn server(name: &str) -> MemberBuilder {
        let server = Member::builder(name).addr([10, 0, 0, 1].into(), 7946);
        server.tag("role", "web")
    }

    /// The names in the pool when all of this has happened.
    async fn names(happen: impl FnOnce(&mut FakeWatcher)) -> Vec<String> {
        let (watcher, mut fake) = FakeWatcher::new();
        happen(&mut fake);
        drop(fake);
        let mut last = Pool::new();
        keep(&watcher, |pool| last = pool.clone()).await;
        last.keys().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_have_failed_take_no_requests() {
        let failed = server("b").status(MemberStatus::Failed);
        let pool = names(|fake| fake.set([server("a").build(), failed.build()])).await;
        assert_eq!(pool, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn servers_stay_while_the_agent_is_gone() {
        let pool = names(|fake| {
            fake.set([server("a").build()]);
            fake.lose(errors::refused("10.0.0.9:7373"));
        });
        assert_eq!(pool.await, ["a"]);
    }
}
