//! An agent's name with several addresses, as a resolver gives them: `/etc/hosts` of a mount namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::agent::RPC_PORT;
use integration::controller::binary;
use integration::process::{Process, output};
use integration::{Agent, Need, TestEnv, test, wait_for};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

const NEEDS: [Need; 3] = [Need::Serf, Need::Mounts, Need::Program("unshare")];
const SOON: Duration = Duration::from_secs(10);

/// A `serfctl` for which the name `agent.test` has the addresses of a file.
fn serfctl(hosts: &Path, words: &[&str]) -> Result<Command> {
    let script = r#"mount --bind "$0" /etc/hosts; exec "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(hosts)
        .arg(binary("serfctl")?)
        .args(words)
        .args(["--rpc-addr", &format!("agent.test:{RPC_PORT}")]);
    Ok(command)
}

fn hosts(lab: &TestEnv, last: &[u8]) -> Result<PathBuf> {
    let path = lab.path("hosts");
    let lines = last
        .iter()
        .map(|last| format!("{} agent.test\n", lab.net().ip(*last)));
    // In place: the file is mounted.
    fs::write(&path, lines.collect::<String>())?;
    Ok(path)
}

/// An RPC port whose packets vanish: its queue of connections is full.
async fn swallows(lab: &TestEnv, last: u8) -> Result<(TcpListener, TcpStream)> {
    let addr = lab.net().addr(last, RPC_PORT);
    let socket = TcpSocket::new_v4()?;
    socket.bind(addr)?;
    let listener = socket.listen(0)?;
    let queued = TcpStream::connect(addr).await?;
    let more = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await;
    ensure!(more.is_err(), "the queue is not full");
    Ok((listener, queued))
}

#[test]
fn an_agent_is_found_though_the_first_address_of_its_name_swallows_packets() {
    test(&NEEDS, async |lab| {
        let _swallowing = swallows(lab, 1).await?;
        let _agent = Agent::on(lab, "here", 2).start().await?;
        for addresses in [[1, 2], [2, 1]] {
            let hosts = hosts(lab, &addresses)?;
            let members = output(&mut serfctl(&hosts, &["members"])?).await?;
            ensure!(members.contains("here"), "{members}");
        }
        Ok(())
    });
}

#[test]
fn a_name_is_resolved_anew_whenever_the_agent_is_lost() {
    test(&NEEDS, async |lab| {
        let mut old = Agent::on(lab, "old", 1).start().await?;
        let _new = Agent::on(lab, "new", 2).start().await?;
        let hosts_file = hosts(lab, &[1])?;
        let watch = serfctl(&hosts_file, &["watch"])?;
        let watch = Process::start("watch", &watch, lab.path("watch.log"))?;
        let says = async |word: &str| {
            let what = format!("watch to speak of {word}");
            wait_for(&what, SOON, async || watch.log().contains(word)).await
        };
        says("old").await?;
        hosts(lab, &[2])?;
        old.kill();
        says("new").await
    });
}
