//! Balances gRPC over the members that have a tag `grpc` with their port: `balance HOST:PORT…`, the agents to try in
//! order. Asks one of the servers each second whether it is healthy.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serf_rpc::{ConnectOptions, Entry, SetChange, WatchOptions, Watcher};
use tonic::transport::Channel;
use tonic::transport::channel::Change;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn server(entry: &Entry) -> Option<SocketAddr> {
    let port = entry.member.tag("grpc")?.to_string().parse().ok()?;
    let is_usable = entry.usable(Duration::from_secs(10));
    is_usable.then_some(SocketAddr::new(entry.member.addr()?, port))
}

/// A channel over the servers there are. It ends with the watcher.
fn channel(watcher: &Watcher) -> Channel {
    let (channel, balancer) = Channel::balance_channel(16);
    let mut servers = watcher.select(server);
    tokio::spawn(async move {
        while let Some(change) = servers.next().await {
            let change = match change {
                SetChange::Remove(name) => Change::Remove(name),
                SetChange::Insert(name, addr) => {
                    match Channel::from_shared(format!("http://{addr}")) {
                        Ok(endpoint) => Change::Insert(name, endpoint),
                        Err(_) => continue,
                    }
                }
            };
            if balancer.send(change).await.is_err() {
                return;
            }
        }
    });
    channel
}

#[tokio::main]
async fn main() -> Result<()> {
    let agents = std::env::args().skip(1).map(|addr| addr.parse());
    let agents: std::result::Result<Vec<ConnectOptions>, _> = agents.collect();
    let watcher = Watcher::spawn(WatchOptions::new(agents?));
    watcher.ready().await?;
    let mut health = HealthClient::new(channel(&watcher));
    loop {
        let answer = health.check(HealthCheckRequest::default()).await;
        writeln!(std::io::stdout(), "{answer:?}")?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serf_rpc::Member;
    use serf_rpc::testing::FakeWatcher;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tonic::service::Routes;
    use tonic::transport::Server;

    use super::*;

    /// A server that is healthy, and the service that only it has.
    async fn serve(name: &'static str) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter
            .set_service_status(name, tonic_health::ServingStatus::Serving)
            .await;
        let serving = Server::builder()
            .add_routes(Routes::new(health))
            .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
        (addr, tokio::spawn(async move { drop(serving.await) }))
    }

    /// Which of the servers answer, in so many calls.
    async fn answering(health: &mut HealthClient<Channel>, names: &[&str]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for _ in 0..60 {
            for name in names {
                let service = (*name).to_owned();
                if health.check(HealthCheckRequest { service }).await.is_ok() {
                    found.insert((*name).to_owned());
                }
            }
        }
        found
    }

    #[tokio::test]
    async fn calls_go_to_all_servers_and_to_none_that_has_left() {
        let names = ["a", "b", "c"];
        let (watcher, mut fake) = FakeWatcher::new();
        let mut members = Vec::new();
        let mut servers = Vec::new();
        for name in names {
            let (addr, serving) = serve(name).await;
            let member = Member::builder(name).addr(addr.ip(), 7946);
            members.push(member.tag("grpc", addr.port().to_string()).build());
            servers.push(serving);
        }
        fake.set(members.clone());
        let mut health = HealthClient::new(channel(&watcher));
        assert_eq!(answering(&mut health, &names).await.len(), 3);
        fake.set(members.drain(..2));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let left = answering(&mut health, &names).await;
        assert_eq!(left, ["a", "b"].map(str::to_owned).into());
    }
}
