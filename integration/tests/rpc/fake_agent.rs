//! The fake agent beside the real one: byte for byte what was recorded, and every fault it is told to have.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::fake_agent::{Delivery, Fault, node};
use integration::{FakeAgent, TestEnv, test, wait_for};
use serf_rpc::{MemberEventKind, MemberStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn recorded(version: &str, name: &str) -> Result<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../serf-rpc/tests/fixtures")
        .join(version)
        .join(name);
    std::fs::read(&path).with_context(|| path.display().to_string())
}

/// A client that knows nothing but bytes.
struct Raw(TcpStream);

impl Raw {
    async fn connect(agent: &FakeAgent) -> Result<Self> {
        Ok(Self(TcpStream::connect(agent.rpc_addr()).await?))
    }

    /// The same after the handshake.
    async fn shaken(agent: &FakeAgent) -> Result<Self> {
        let mut raw = Self::connect(agent).await?;
        raw.exchange("0.10.1", "handshake").await?;
        Ok(raw)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    async fn read(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = timeout(SOON, self.0.read_exact(&mut bytes)).await;
        read.context("the agent is silent")??;
        Ok(bytes)
    }

    async fn expect(&mut self, bytes: &[u8]) -> Result<()> {
        let read = self.read(bytes.len()).await?;
        ensure!(
            read == bytes,
            "{:?} instead of {:?}",
            String::from_utf8_lossy(&read),
            String::from_utf8_lossy(bytes)
        );
        Ok(())
    }

    /// Asks what was asked, and must get what was got.
    async fn exchange(&mut self, version: &str, name: &str) -> Result<()> {
        self.send(&recorded(version, &format!("{name}.req.bin"))?)
            .await?;
        let answer = recorded(version, &format!("{name}.resp.bin"))?;
        let done = self.expect(&answer).await;
        done.with_context(|| format!("{version}/{name}"))
    }

    /// What comes up to the end, and the error it ends with.
    async fn rest(&mut self) -> Result<(Vec<u8>, Option<std::io::ErrorKind>)> {
        let mut bytes = Vec::new();
        let read = timeout(SOON, self.0.read_to_end(&mut bytes)).await;
        let end = read.context("the connection goes on")?;
        Ok((bytes, end.err().map(|error| error.kind())))
    }
}

/// The agent of the recordings, and the other member of its cluster.
fn recorded_agent(lab: &TestEnv, version: &str) -> Result<FakeAgent> {
    let (own, port) = if version == "0.9.4" {
        (2, 7946)
    } else {
        (12, 7947)
    };
    let agent = FakeAgent::on(lab, "a", 1).start()?;
    let tagged = node("a", [127, 0, 0, own].into())
        .tag("dc", "x")
        .tag("role", "web");
    agent.put(tagged.build());
    agent.put(
        node("b", [127, 0, 0, 3].into())
            .addr([127, 0, 0, 3].into(), port)
            .build(),
    );
    Ok(agent)
}

#[test]
fn it_answers_what_the_real_one_was_recorded_to_answer() {
    test(&[], async |lab| {
        for version in ["0.9.4", "0.10.1"] {
            let agent = recorded_agent(lab, version)?;
            for name in ["handshake", "handshake-badver"] {
                Raw::connect(&agent).await?.exchange(version, name).await?;
            }
            for name in [
                "handshake-dup",
                "auth-noauth-agent-wrong",
                "auth-noauth-agent-empty",
                "members",
                "members-filtered-none",
                "event",
                "event-toolong",
                "tags",
                "force-leave-unknown",
                "stop-unknown",
                "stream-badfilter",
                "monitor-badlevel",
            ] {
                let mut raw = Raw::shaken(&agent).await?;
                raw.exchange(version, name).await?;
                // The connection is in step.
                raw.exchange(version, "members").await?;
            }
            let mut raw = Raw::shaken(&agent).await?;
            raw.exchange(version, "unknown-command").await?;
            assert_eq!(raw.rest().await?, (vec![], None));
            let mut raw = Raw::connect(&agent).await?;
            raw.exchange(version, "no-handshake").await?;
            assert_eq!(raw.rest().await?, (vec![], None));
            let mut raw = Raw::shaken(&agent).await?;
            raw.send(&recorded(version, "members-filtered-badregex.req.bin")?)
                .await?;
            assert_eq!(raw.rest().await?, (vec![], None));
        }
        Ok(())
    });
}

#[test]
fn without_a_key_the_body_of_a_request_is_taken_for_a_header() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "a", 1).rpc_auth("secret").start()?;
        let mut raw = Raw::shaken(&agent).await?;
        let refused = b"\x82\xa5Error\xb7Authentication required\xa3Seq\x01";
        raw.send(&recorded("0.10.1", "event.req.bin")?).await?;
        raw.expect(&refused.repeat(2)).await?;
        raw.send(&recorded("0.10.1", "members.req.bin")?).await?;
        raw.expect(refused).await?;
        raw.send(b"\x82\xa7Command\xa4auth\xa3Seq\x02\x81\xa7AuthKey\xa6secret")
            .await?;
        raw.expect(b"\x82\xa5Error\xa0\xa3Seq\x02").await?;
        raw.exchange("0.10.1", "event").await
    });
}

const SUBSCRIBE: &[u8] = b"\x82\xa7Command\xa6stream\xa3Seq\x05\x81\xa4Type\xabmember-join\
    \x82\xa7Command\xa7monitor\xa3Seq\x06\x81\xa8LogLevel\xa4INFO";
const JOINED: &[u8] = b"\x82\xa5Error\xa0\xa3Seq\x06\x81\xa3Log\xd9=\
    2026/11/23 16:07:50 [INFO] serf: EventMemberJoin: b 127.9.9.2";
const JOIN: &[u8] = b"\x82\xa5Error\xa0\xa3Seq\x05\x82\xa5Event\xabmember-join\xa7Members\x91\
    \x8b\xa4Addr\xc4\x04\x7f\t\t\x02\xabDelegateCur\x05\xabDelegateMax\x05\xabDelegateMin\x02\
    \xa4Name\xa1b\xa4Port\xcd\x1f\n\xabProtocolCur\x02\xabProtocolMax\x05\xabProtocolMin\x01\
    \xa6Status\xa5alive\xa4Tags\x81\xa4role\xa3web";
const RECEIVED: &[u8] = b"\x82\xa5Error\xa0\xa3Seq\x06\x81\xa3Log\xd9=\
    2026/11/23 16:07:50 [INFO] agent: Received event: member-join";

/// As a real 0.9.4 was seen to send it, but for the time, which is the same here for all lines.
#[test]
fn a_join_is_a_line_at_once_and_an_event_a_quiet_second_later() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "a", 1).start()?;
        let mut raw = Raw::shaken(&agent).await?;
        raw.send(SUBSCRIBE).await?;
        raw.expect(b"\x82\xa5Error\xa0\xa3Seq\x05\x82\xa5Error\xa0\xa3Seq\x06")
            .await?;
        let start = std::time::Instant::now();
        let b = node("b", [127, 9, 9, 2].into()).tag("role", "web");
        agent.put(b.clone().build());
        raw.expect(JOINED).await?;
        raw.expect(JOIN).await?;
        assert!(start.elapsed() >= Duration::from_secs(1));
        raw.expect(RECEIVED).await?;
        // Neither comes where it is suppressed; what was not lost still does.
        agent.behave(|behaviour| {
            behaviour.lines = Delivery::NONE;
            behaviour.events = Delivery::NONE;
        });
        agent.announce(MemberEventKind::Join, &[b.clone().build()]);
        agent.behave(|behaviour| behaviour.events = Delivery::default());
        agent.announce(MemberEventKind::Join, &[b.build()]);
        raw.expect(JOIN).await?;
        // A record is late where that was asked for.
        agent.behave(|behaviour| behaviour.late_records = 1);
        raw.send(b"\x82\xa7Command\xa4stop\xa3Seq\x07\x81\xa4Stop\x06")
            .await?;
        raw.expect(b"\x82\xa5Error\xa0\xa3Seq\x07\x82\xa5Error\xa0\xa3Seq\x06\x81\xa3Log\xa4late")
            .await
    });
}

#[test]
fn a_monitor_begins_with_the_last_lines() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "a", 1).start()?;
        agent.put(node("b", [127, 9, 9, 2].into()).build());
        agent.set_status("b", MemberStatus::Leaving);
        for _ in 1..512 {
            agent.say("DEBUG", "filler");
        }
        let mut raw = Raw::shaken(&agent).await?;
        // The first two lines are beyond the 512th, and DEBUG is below INFO.
        raw.send(SUBSCRIBE).await?;
        raw.expect(b"\x82\xa5Error\xa0\xa3Seq\x05\x82\xa5Error\xa0\xa3Seq\x06")
            .await?;
        agent.say("INFO", "first");
        raw.expect(b"\x82\xa5Error\xa0\xa3Seq\x06\x81\xa3Log\xd9 2026/11/23 16:07:50 [INFO] first")
            .await?;
        agent.set_status("b", MemberStatus::Left);
        raw.expect(b"\x82\xa5Error\xa0\xa3Seq\x06\x81\xa3Log\xd9>")
            .await?;
        assert!(
            raw.read(62)
                .await?
                .ends_with(b"[INFO] serf: EventMemberLeave: b 127.9.9.2")
        );
        Ok(())
    });
}

#[test]
fn every_fault_is_what_it_says() {
    test(&[], async |lab| {
        let agent = recorded_agent(lab, "0.10.1")?;
        let answer = recorded("0.10.1", "members.resp.bin")?;
        let ask = recorded("0.10.1", "members.req.bin")?;
        let trapped = async |after, fault| -> Result<Raw> {
            agent.trap("members", after, fault);
            let mut raw = Raw::shaken(&agent).await?;
            raw.send(&ask).await?;
            Ok(raw)
        };
        let rest = trapped(20, Fault::Close).await?.rest().await?;
        assert_eq!(rest, (answer[..20].to_vec(), None));
        let (bytes, error) = trapped(20, Fault::Reset).await?.rest().await?;
        assert!(answer[..20].starts_with(&bytes));
        assert_eq!(error, Some(std::io::ErrorKind::ConnectionReset));
        let rest = trapped(usize::MAX, Fault::Close).await?.rest().await?;
        assert_eq!(rest, (answer.clone(), None));
        let mut raw = trapped(5, Fault::garbage()).await?;
        raw.expect(&[&answer[..5], &[0xc1; 8], &answer[5..]].concat())
            .await?;

        // Nothing that a trap waits for.
        let other = recorded("0.10.1", "stats.req.bin")?;
        let asked = || agent.requests("stats");
        let mut raw = trapped(5, Fault::HalfClose).await?;
        assert_eq!(raw.rest().await?, (answer[..5].to_vec(), None));
        let before = asked();
        raw.send(&other).await?;
        wait_for("the request to be read", SOON, async || asked() > before).await?;

        let mut raw = trapped(5, Fault::Mute).await?;
        raw.expect(&answer[..5]).await?;
        let before = asked();
        raw.send(&other).await?;
        wait_for("the request to be read", SOON, async || asked() > before).await?;
        agent.strike(Fault::Close);
        assert!(raw.rest().await?.0.is_empty());

        let mut raw = trapped(5, Fault::Hang).await?;
        raw.expect(&answer[..5]).await?;
        let before = asked();
        raw.send(&other).await?;
        // Another connection works, and what is asked there is all that is read.
        Raw::shaken(&agent)
            .await?
            .exchange("0.10.1", "members")
            .await?;
        assert_eq!(asked(), before);
        agent.die();
        assert_eq!(
            raw.rest().await?,
            (vec![], Some(std::io::ErrorKind::ConnectionReset))
        );
        assert!(Raw::connect(&agent).await.is_err());
        wait_for("no connection to be left", SOON, async || {
            agent.connections() == 0
        })
        .await
    });
}
