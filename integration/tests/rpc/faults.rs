//! What can happen to a connection: each fault is a typed error in its time, and the next connection works.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::fake_agent::{Fault, nodes};
use integration::{Agent, FakeAgent, Need, test, wait_for};
use rustix::process::Signal;
use serf_rpc::{
    CallError, CallErrorKind, Client, ConnectError, ConnectOptions, ConnectionError, EventFilter,
    LogLevel, Member, MemberFilter, ObjectError, ProtocolError,
};
use tokio::task::JoinSet;

/// Within this, whatever need not wait happens on a slow machine too.
const SOON: Duration = Duration::from_secs(10);
/// A deadline that a test waits for.
const DEADLINE: Duration = Duration::from_millis(200);
/// So many members are a reply of more than 2 MB.
const MANY: u32 = 15_000;
/// Bytes of an empty header.
const HEADER: usize = 13;

fn options(agent: &FakeAgent) -> ConnectOptions {
    ConnectOptions::new(agent.rpc_addr().to_string())
}

/// In the order of their names, as the fake agent has them.
fn sorted(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|a, b| a.name().cmp(b.name()));
    members
}

/// A new connection answers as if nothing had ever happened.
async fn works(agent: &FakeAgent) -> Result<()> {
    let members = options(agent).connect().await?.members().await?;
    ensure!(sorted(members) == agent.members(), "not all members");
    Ok(())
}

/// Why a connection was lost.
fn cause(error: &CallError) -> Option<&ConnectionError> {
    match &error.kind {
        CallErrorKind::Lost { reason, .. } => Some(reason),
        _ => None,
    }
}

/// How a call for the members fails when this befalls its answer, and how soon.
async fn failure(
    agent: &FakeAgent,
    after: usize,
    fault: Fault,
    deadline: Duration,
) -> Result<(CallError, Duration)> {
    let client = options(agent).call_timeout(deadline).connect().await?;
    agent.trap("members", after, fault.clone());
    let start = Instant::now();
    let answer = client.members().await;
    let taken = start.elapsed();
    let error = answer
        .err()
        .with_context(|| format!("members in spite of {fault:?} after {after}"))?;
    Ok((error, taken))
}

#[test]
fn a_stopped_agent_costs_connections_and_calls_their_time_and_no_more() {
    test(&[Need::Serf], async |lab| {
        let mut agent = Agent::on(lab, "a", 1).start().await?;
        let options = ConnectOptions::new(agent.rpc_addr().to_string())
            .connect_timeout(DEADLINE)
            .call_timeout(DEADLINE);
        let client = options.connect().await?;
        agent.process().signal(Signal::STOP)?;
        // The signal is delivered when the kernel sees fit.
        wait_for("a call to time out", SOON, async || {
            client.members().await.is_err()
        })
        .await?;
        let start = Instant::now();
        let late = client.members().await;
        assert!(
            matches!(
                late,
                Err(CallError {
                    kind: CallErrorKind::Timeout {
                        after: DEADLINE,
                        ..
                    },
                    ..
                })
            ),
            "{late:?}"
        );
        let nobody = options.connect().await;
        assert!(
            matches!(
                nobody,
                Err(ConnectError::Timeout {
                    after: DEADLINE,
                    ..
                })
            ),
            "{nobody:?}"
        );
        assert!(
            (DEADLINE * 2..SOON).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
        agent.process().signal(Signal::CONT)?;
        let patient = options.connect_timeout(SOON).call_timeout(SOON);
        assert_eq!(patient.connect().await?.members().await?.len(), 1);
        // The old one is usable too: what came too late was swallowed.
        assert_eq!(client.with_call_timeout(SOON).members().await?.len(), 1);
        Ok(())
    });
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_large_reply_fails_its_call_at_once() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(MANY)).start()?;
        for after in [0, 5, HEADER, HEADER + 1, 1_000_000, 2_000_000] {
            for fault in [Fault::Close, Fault::Reset, Fault::HalfClose] {
                let (error, taken) = failure(&agent, after, fault.clone(), SOON).await?;
                let lost = cause(&error);
                let expected = match (&fault, lost) {
                    (Fault::Reset, Some(ConnectionError::Io(error))) => {
                        error.kind() == std::io::ErrorKind::ConnectionReset
                    }
                    (_, Some(ConnectionError::Closed)) => fault != Fault::Reset,
                    _ => false,
                };
                assert!(expected, "{fault:?} after {after}: {error:?}");
                assert!(taken < SOON / 2, "{fault:?} after {after}: {taken:?}");
            }
        }
        works(&agent).await
    });
}

#[test]
fn an_agent_that_falls_silent_in_the_middle_of_a_reply_costs_the_call_its_time() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(100)).start()?;
        for after in [0, 5, HEADER, 5000] {
            for fault in [Fault::Mute, Fault::Hang] {
                let (error, taken) = failure(&agent, after, fault, DEADLINE).await?;
                assert!(
                    matches!(
                        error,
                        CallError {
                            kind: CallErrorKind::Timeout {
                                after: DEADLINE,
                                ..
                            },
                            ..
                        }
                    ),
                    "{error:?}"
                );
                assert!((DEADLINE..SOON).contains(&taken), "{taken:?}");
            }
        }
        works(&agent).await
    });
}

#[test]
fn an_agent_that_falls_silent_in_the_handshake_costs_the_connection_its_time() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).start()?;
        for (command, after) in [("handshake", 0), ("handshake", 5), ("auth", 0), ("auth", 5)] {
            agent.trap(command, after, Fault::Hang);
            let start = Instant::now();
            let error = options(&agent)
                .connect_timeout(DEADLINE)
                .connect()
                .await
                .err();
            let expected = matches!(
                error,
                Some(ConnectError::Timeout {
                    after: DEADLINE,
                    ..
                })
            );
            assert!(expected, "{command} after {after}: {error:?}");
            assert!((DEADLINE..SOON).contains(&start.elapsed()));
        }
        works(&agent).await
    });
}

#[test]
fn garbage_is_never_taken_for_an_answer() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(100)).start()?;
        for after in [0, HEADER] {
            let (error, taken) = failure(&agent, after, Fault::garbage(), SOON).await?;
            let reserved = ProtocolError::Object(ObjectError::Reserved);
            let expected =
                matches!(cause(&error), Some(ConnectionError::Protocol(why)) if *why == reserved);
            assert!(expected, "{error:?}");
            assert!(taken < SOON / 2, "{taken:?}");
        }
        let mut rng = fastrand::Rng::with_seed(1);
        let truth = agent.members();
        for _ in 0..20 {
            let after = rng.usize(..HEADER + 10_000);
            let garbage: Vec<u8> = (0..rng.usize(1..64)).map(|_| rng.u8(..)).collect();
            agent.trap("members", after, Fault::Garbage(garbage.into()));
            let client = options(&agent)
                .call_timeout(Duration::from_millis(50))
                .connect()
                .await?;
            // In the middle of a string it shifts what follows, the next answer too.
            for call in 0..3 {
                match client.members().await {
                    Ok(members) => {
                        ensure!(call > 0 && sorted(members) == truth, "{call} after {after}")
                    }
                    Err(CallError {
                        kind: CallErrorKind::Timeout { .. } | CallErrorKind::Decode { .. },
                        ..
                    }) => {}
                    Err(error) => {
                        let protocol = matches!(cause(&error), Some(ConnectionError::Protocol(_)));
                        assert!(protocol, "{call} after {after}: {error:?}");
                    }
                }
            }
            drop(client);
            // A call that the agent has not read yet would take the next garbage.
            let gone = async || agent.connections() == 0;
            wait_for("the connection to end", SOON, gone).await?;
        }
        works(&agent).await
    });
}

#[test]
fn a_record_of_nothing_that_was_asked_for_ends_the_connection_alone() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).start()?;
        let client = options(&agent).connect().await?;
        agent.send_raw(&b"\x82\xa5Error\xa0\xa3Seq\x63\x81\xa3Log\xa1x"[..]);
        wait_for("the connection to end", SOON, async || {
            client.lost().is_some()
        })
        .await?;
        let lost = client.members().await.err().context("an answer")?;
        let unknown = matches!(
            cause(&lost),
            Some(ConnectionError::Protocol(ProtocolError::UnknownSeq {
                seq: 0x63,
                ..
            }))
        );
        assert!(unknown, "{lost:?}");
        works(&agent).await
    });
}

#[test]
fn a_wrong_key_and_a_missing_one_are_told_apart_in_time_and_the_right_one_works() {
    test(&[Need::Serf], async |lab| {
        let real = Agent::on(lab, "real", 1).rpc_auth("secret").start().await?;
        let fake = FakeAgent::on(lab, "fake", 2).rpc_auth("secret").start()?;
        for addr in [real.rpc_addr(), fake.rpc_addr()] {
            let options = ConnectOptions::new(addr.to_string()).connect_timeout(SOON);
            let start = Instant::now();
            for _ in 0..3 {
                let wrong = options.clone().auth_key("wrong").connect().await;
                assert!(
                    matches!(wrong, Err(ConnectError::BadKey { .. })),
                    "{addr}: {wrong:?}"
                );
                let missing = options.connect().await;
                assert!(
                    matches!(missing, Err(ConnectError::MissingKey { .. })),
                    "{addr}: {missing:?}"
                );
            }
            assert!(start.elapsed() < SOON / 2, "{addr}: {:?}", start.elapsed());
            let client = options.auth_key("secret").connect().await?;
            assert_eq!(client.members().await?.len(), 1);
        }
        // What failed to authenticate does not stay connected.
        wait_for("the connections to end", SOON, async || {
            fake.connections() == 0
        })
        .await
    });
}

#[test]
fn a_hundred_thousand_members_are_fetched_whole_and_in_small_pieces() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1)
            .members(nodes(100_000))
            .start()?;
        let client = options(&agent).call_timeout(SOON * 3).connect().await?;
        let truth = agent.members();
        assert_eq!(truth.len(), 100_001);
        for chunk in [None, Some(1000)] {
            agent.behave(|behaviour| behaviour.chunk = chunk.and_then(std::num::NonZeroUsize::new));
            let start = Instant::now();
            let members = client.members().await?;
            eprintln!(
                "{} members in {:?}, chunks {chunk:?}",
                members.len(),
                start.elapsed()
            );
            ensure!(sorted(members) == truth, "the answer is not the truth");
        }
        Ok(())
    });
}

/// Gives a future up after so many polls, or so much time; none if it had not ended by then.
async fn cancelled<F: Future>(future: F, mut polls: u32, time: Duration) -> Option<F::Output> {
    let mut future = pin!(tokio::time::timeout(time, future));
    std::future::poll_fn(move |cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if polls == 0 => Poll::Ready(None),
            other => other.map(Result::ok),
        }
    })
    .await
}

/// One of many users of a connection: asks for one member after the other, and often gives up.
/// Says how often it did and did not.
async fn impatient(client: Client, seed: u64) -> Result<(u32, u32)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut answered, mut given_up) = (0, 0);
    for _ in 0..150 {
        let name = format!("node-{:06}", rng.u32(..200));
        let filter = MemberFilter::new().name(&name);
        let (polls, time) = match rng.u8(..4) {
            0 => (rng.u32(..3), SOON),
            1 => (u32::MAX, Duration::from_micros(rng.u64(..3000))),
            _ => (u32::MAX, SOON),
        };
        if rng.u8(..20) == 0 {
            let stream = cancelled(client.stream(EventFilter::all()), polls, time).await;
            // Its records come all the same, for nobody.
            drop(stream.transpose()?);
            continue;
        }
        match cancelled(client.members_filtered(&filter), polls, time).await {
            None => given_up += 1,
            Some(members) => {
                let members = members?;
                let names: Vec<_> = members
                    .iter()
                    .map(|member| member.name().to_string())
                    .collect();
                ensure!(names == [name.as_str()], "{names:?} for {name}");
                answered += 1;
            }
        }
    }
    Ok((answered, given_up))
}

#[test]
fn calls_given_up_at_any_moment_leave_each_later_answer_to_its_caller() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(200)).start()?;
        agent.behave(|behaviour| behaviour.chunk = std::num::NonZeroUsize::new(50));
        // Fewer places than users: some give up before they have sent anything.
        let options = options(&agent).max_in_flight(5).max_streams(10_000);
        let client = options.connect().await?;
        let mut users = JoinSet::new();
        for seed in 0..10 {
            users.spawn(impatient(client.clone(), seed));
        }
        let (mut answered, mut given_up) = (0, 0);
        let mut number = 0;
        while !users.is_empty() {
            let user = tokio::time::timeout(Duration::from_millis(1), users.join_next()).await;
            // Records between the answers.
            number += 1;
            agent.user_event(&format!("event-{number}"), b"payload");
            if let Ok(Some(user)) = user {
                let (more_answered, more_given_up) = user??;
                answered += more_answered;
                given_up += more_given_up;
            }
        }
        eprintln!("{answered} answered, {given_up} given up, {number} events");
        assert!(
            answered > 500 && given_up > 100,
            "{answered} answered, {given_up} given up"
        );
        ensure!(sorted(client.members().await?) == agent.members());
        assert!(client.lost().is_none());
        assert_eq!(agent.accepted(), 1);
        Ok(())
    });
}

#[test]
fn what_comes_for_a_stream_after_its_end_is_swallowed() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).start()?;
        agent.behave(|behaviour| behaviour.late_records = 511);
        let client = options(&agent).connect().await?;
        for number in 0..5 {
            let events = client.stream(EventFilter::all()).await?;
            let mut lines = client.monitor(LogLevel::Debug).await?;
            agent.user_event("early", b"");
            agent.say("DEBUG", format!("line {number}"));
            let line = tokio::time::timeout(SOON, lines.next())
                .await?
                .context("a line")??;
            assert!(
                line.into_line()
                    .is_some_and(|line| line.text().ends_with(b"line 0"))
            );
            events.stop().await?;
            lines.stop().await?;
            assert_eq!(client.members().await?.len(), 1);
        }
        // All of it came: nothing was left out on the way, and nobody closed the connection.
        assert_eq!((agent.dropped(), agent.accepted()), (0, 1));
        assert!(client.lost().is_none());
        Ok(())
    });
}
