//! Of several real Redis the master alone is written to, whoever that is.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::{Agent, HaproxyKind, Need, Process, TestEnv, test, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Example;

const PORT: u16 = 6379;

/// What a Redis, or what answers in its name, says to one command.
async fn say(addr: SocketAddr, command: &str) -> Result<String> {
    let exchange = async {
        let mut socket = TcpStream::connect(addr).await?;
        let lines = format!("{command}\r\nQUIT\r\n");
        socket.write_all(lines.as_bytes()).await?;
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await?;
        anyhow::Ok(reply)
    };
    let reply = tokio::time::timeout(Duration::from_secs(2), exchange).await;
    reply.with_context(|| format!("{command} on {addr}"))?
}

/// A host with a Redis.
struct Redis {
    agent: Agent,
    addr: SocketAddr,
    _process: Process,
}

impl Redis {
    async fn join(
        example: &Example<'_>,
        name: &str,
        last: u8,
        master: Option<Ipv4Addr>,
    ) -> Result<Self> {
        let ip = example.ip(last);
        let mut command = Command::new("redis-server");
        command.args(["--port", &PORT.to_string(), "--bind", &ip.to_string()]);
        command.args(["--save", "", "--repl-diskless-sync-delay", "0"]);
        command.arg("--dir").arg(example.lab.dir());
        if let Some(master) = master {
            command.args(["--replicaof", &master.to_string(), &PORT.to_string()]);
        }
        let log = example.lab.path(&format!("{name}.log"));
        let process = Process::start(name, &command, log)?;
        let addr = SocketAddr::from((ip, PORT));
        wait_for("Redis", SOON, async || say(addr, "PING").await.is_ok()).await?;
        Ok(Self {
            agent: example.agent("redis.json", name, last).await?,
            addr,
            _process: process,
        })
    }

    async fn follows(&self, master: &str) -> Result<()> {
        let said = say(self.addr, &format!("REPLICAOF {master}")).await?;
        ensure!(said.starts_with("+OK"), "{said}");
        Ok(())
    }

    /// How many writes it has refused because it is a replica.
    async fn refused(&self) -> Result<bool> {
        Ok(say(self.addr, "INFO errorstats")
            .await?
            .contains("READONLY"))
    }
}

/// Writes, and reads what was written.
async fn writes(front: SocketAddr, times: usize) -> Result<()> {
    for time in 0..times {
        let set = say(front, &format!("SET key {time}")).await?;
        ensure!(set.starts_with("+OK"), "{set}");
        let read = say(front, "GET key").await?;
        ensure!(read.contains(&format!("\r\n{time}\r\n")), "{read}");
    }
    Ok(())
}

async fn master(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let example = Example::of(lab, "redis")?;
    let mut balancer = example.balancer(kind).await?;
    let front = example.front(PORT);
    let mut one = Redis::join(&example, "redis1", 3, None).await?;
    balancer.serves("redis", &["redis1"]).await?;
    writes(front, 10).await?;
    let two = Redis::join(&example, "redis2", 4, Some(example.ip(3))).await?;
    // It is ready, and its role keeps it from being asked.
    balancer
        .controller
        .settles("the replica", SOON, |status| {
            status.0["backends"]["redis"]["servers"]["redis2"]["state"] == "ready"
        })
        .await?;
    balancer.serves("redis", &["redis1"]).await?;
    writes(front, 100).await?;
    ensure!(!two.refused().await?, "the replica was written to");

    two.follows("NO ONE").await?;
    one.follows(&format!("{} {PORT}", example.ip(4))).await?;
    balancer.serves("redis", &["redis2"]).await?;
    writes(front, 100).await?;
    ensure!(!one.refused().await?, "the old master was written to");
    one.agent.leave().await?;
    balancer.agent.sees_off(&["redis1"]).await?;
    writes(front, 10).await?;
    println!("{kind:?}: 220 writes, none to a replica");
    let said = balancer.is_well().await?;
    ensure!(said.contains("shutdown-sessions"), "{said}");
    Ok(())
}

fn on(kind: HaproxyKind) {
    let needs = [Need::Haproxy(kind), Need::Program("redis-server")];
    test(&needs, async |lab| master(lab, kind).await);
}

#[test]
fn the_master_alone_is_written_to_on_host() {
    on(HaproxyKind::Host);
}

#[test]
fn the_master_alone_is_written_to_on_trixie() {
    on(HaproxyKind::Trixie);
}

#[test]
fn the_master_alone_is_written_to_on_sid() {
    on(HaproxyKind::Sid);
}
