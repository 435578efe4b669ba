//! The library against real agents: what it reads is what `serf` prints, and it follows what happens.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use integration::{Agent, Need, Tap, test, test_alone, wait_for};
use rustix::process::Signal;
use serf_rpc::{
    AgentState, CallError, CallErrorKind, Change, ConnectError, ConnectOptions, Event, EventFilter,
    Latest, LogLevel, MemberEventKind, MemberFilter, MemberStatus, Presence, Snapshot, WatchEvent,
    WatchOptions, Watcher,
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(15);

fn options(agent: &Agent) -> ConnectOptions {
    ConnectOptions::new(agent.rpc_addr().to_string())
}

/// A watcher that asks only when it is hinted at.
fn watch(agent: &Agent) -> Watcher {
    Watcher::spawn(WatchOptions::from(options(agent)).resync(Duration::from_secs(3600)))
}

async fn until(
    snapshots: &mut Latest<Snapshot>,
    mut such: impl FnMut(&Snapshot) -> bool,
) -> Result<Arc<Snapshot>> {
    match timeout(SOON, snapshots.wait_for(&mut such)).await {
        Ok(snapshot) => snapshot.context("the watcher has ended"),
        Err(_) => bail!(
            "waited in vain; the last snapshot is {:?}",
            snapshots.latest()
        ),
    }
}

fn status(snapshot: &Snapshot, name: &str) -> Option<MemberStatus> {
    let entry = snapshot.get(name)?;
    (entry.presence == Presence::Listed).then(|| entry.member.status())
}

#[test]
fn members_are_those_that_serf_prints() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let long = "x".repeat(300);
        let b = Agent::on(lab, "b", 2)
            .tag("role", "web")
            .tag("long", &long)
            .join(a.ip())
            .start()
            .await?;
        a.knows(2, "alive", SOON).await?;
        let client = options(&a).connect().await?;
        let mut members = client.members().await?;
        members.sort_by(|x, y| x.name().cmp(y.name()));
        let printed = a.members().await?;
        ensure!(members.len() == printed.len());
        for (member, printed) in members.iter().zip(&printed) {
            assert_eq!(member.name(), &printed.name);
            assert_eq!(
                format!("{}:{}", member.addr().unwrap(), member.port()),
                printed.addr
            );
            assert_eq!(member.status().as_str(), printed.status);
            let tags: BTreeMap<_, _> = member
                .tags()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect();
            assert_eq!(tags, printed.tags);
        }
        assert_eq!(members[1].addr(), Some(b.ip().into()));
        assert_eq!(
            (members[1].protocol().current, members[1].delegate().current),
            (2, 5)
        );
        Ok(())
    });
}

#[test]
fn filters_match_the_whole_of_a_field() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1)
            .tag("role", "balancer")
            .start()
            .await?;
        let _b = Agent::on(lab, "ab", 2)
            .tag("role", "web")
            .join(a.ip())
            .start()
            .await?;
        a.knows(2, "alive", SOON).await?;
        let client = options(&a).connect().await?;
        let listed = async |filter: MemberFilter| -> Result<Vec<String>> {
            let members = client.members_filtered(&filter).await?;
            let mut names: Vec<_> = members
                .iter()
                .map(|member| member.name().to_string())
                .collect();
            names.sort();
            Ok(names)
        };
        assert_eq!(listed(MemberFilter::new()).await?, ["a", "ab"]);
        assert_eq!(listed(MemberFilter::new().name("a")).await?, ["a"]);
        // Without a group the agent would take this for `^x` or `b$`.
        assert_eq!(listed(MemberFilter::new().name("x|b")).await?, [""; 0]);
        assert_eq!(
            listed(MemberFilter::new().tag("role", "w.b")).await?,
            ["ab"]
        );
        assert_eq!(
            listed(MemberFilter::new().tag("none", "")).await?,
            ["a", "ab"]
        );
        assert_eq!(
            listed(MemberFilter::new().status("left|failed")).await?,
            [""; 0]
        );
        let refused = client
            .members_filtered(&MemberFilter::new().name("("))
            .await;
        assert!(
            matches!(
                refused,
                Err(CallError {
                    kind: CallErrorKind::Filter { .. },
                    ..
                })
            ),
            "{refused:?}"
        );
        assert_eq!(
            listed(MemberFilter::new().status("alive")).await?,
            ["a", "ab"]
        );
        Ok(())
    });
}

#[test]
fn a_key_is_asked_for_and_checked() {
    test(&[Need::Serf], async |lab| {
        let keyed = Agent::on(lab, "keyed", 1)
            .rpc_auth("secret")
            .start()
            .await?;
        let open = Agent::on(lab, "open", 2).start().await?;
        assert_eq!(
            options(&keyed)
                .auth_key("secret")
                .connect()
                .await?
                .members()
                .await?
                .len(),
            1
        );
        let wrong = options(&keyed).auth_key("wrong").connect().await;
        assert!(
            matches!(wrong, Err(ConnectError::BadKey { .. })),
            "{wrong:?}"
        );
        let missing = options(&keyed).connect().await;
        assert!(
            matches!(missing, Err(ConnectError::MissingKey { .. })),
            "{missing:?}"
        );
        let useless = options(&open).auth_key("secret").connect().await;
        assert!(
            matches!(useless, Err(ConnectError::BadKey { .. })),
            "{useless:?}"
        );
        Ok(())
    });
}

#[test]
fn events_and_log_lines_come_on_one_connection() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let b = Agent::on(lab, "b", 2).start().await?;
        let client = options(&a).connect().await?;
        let mut events = client.stream(EventFilter::members()).await?;
        let mut lines = client.monitor(LogLevel::Info).await?;
        b.join(a.ip()).await?;
        timeout(SOON, async {
            while let Some(line) = lines.next().await {
                if line?
                    .into_line()
                    .is_some_and(|line| line.text().starts_with(b"EventMemberJoin: b "))
                {
                    return Ok(());
                }
            }
            bail!("the log ended");
        })
        .await??;
        timeout(SOON, async {
            while let Some(event) = events.next().await {
                if let Event::Member {
                    kind: MemberEventKind::Join,
                    members,
                } = event?
                    && members.iter().any(|member| member.name() == "b")
                {
                    return Ok(());
                }
            }
            bail!("the events ended");
        })
        .await??;
        let second = client.monitor(LogLevel::Info).await;
        assert!(
            matches!(
                second,
                Err(CallError {
                    kind: CallErrorKind::Refused { .. },
                    ..
                })
            ),
            "{second:?}"
        );
        lines.stop().await?;
        drop(events);
        assert_eq!(client.members().await?.len(), 2);
        Ok(())
    });
}

#[test]
fn the_watcher_follows_a_member_from_join_to_leave() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let mut b = Agent::on(lab, "b", 2).start().await?;
        let watcher = watch(&a);
        let mut changes = watcher.changes();
        let mut snapshots = watcher.snapshots();
        until(&mut snapshots, |s| {
            status(s, "a") == Some(MemberStatus::Alive)
        })
        .await?;
        b.join(a.ip()).await?;
        until(&mut snapshots, |s| {
            status(s, "b") == Some(MemberStatus::Alive)
        })
        .await?;
        b.set_tag("state", "drain").await?;
        until(&mut snapshots, |s| {
            s.get("b").is_some_and(|b| b.member.tag("state").is_some())
        })
        .await?;
        b.leave().await?;
        until(&mut snapshots, |s| {
            status(s, "b") == Some(MemberStatus::Left)
        })
        .await?;
        let mut kinds = Vec::new();
        while kinds.last() != Some(&"left") {
            match timeout(SOON, changes.next()).await? {
                Some(WatchEvent::Changed { change, .. }) if change.member().name() == "b" => {
                    kinds.push(match change {
                        Change::Joined(_) => "joined",
                        Change::Updated { .. } => "updated",
                        Change::Leaving(_) => "leaving",
                        Change::Left(_) => "left",
                        other => bail!("{other:?}"),
                    });
                }
                Some(_) => {}
                None => bail!("the watcher ended"),
            }
        }
        // That it is leaving may be over before it was asked about.
        kinds.retain(|kind| *kind != "leaving");
        assert_eq!(kinds, ["joined", "updated", "left"]);
        watcher.stop().await;
        Ok(())
    });
}

#[test]
fn members_stay_while_their_agent_is_gone_and_until_it_knows_them_again() {
    test(&[Need::Serf], async |lab| {
        let mut a = Agent::on(lab, "a", 1).start().await?;
        let b = Agent::on(lab, "b", 2).join(a.ip()).start().await?;
        a.knows(2, "alive", SOON).await?;
        let watcher = watch(&a);
        let mut snapshots = watcher.snapshots();
        until(&mut snapshots, |s| s.entries().len() == 2).await?;
        a.kill();
        let lost = until(&mut snapshots, |s| {
            matches!(s.agent(), AgentState::Lost { .. })
        })
        .await?;
        assert_eq!(status(&lost, "b"), Some(MemberStatus::Alive));
        // It starts again without a snapshot file and joins nobody; the other may find it or not.
        a.restart().await?;
        let fresh = until(&mut snapshots, |s| {
            matches!(s.agent(), AgentState::Connected { .. })
        })
        .await?;
        let entry = fresh.get("b").expect("it is not forgotten");
        assert!(
            !matches!(entry.presence, Presence::Reaped { .. }),
            "{entry:?}"
        );
        assert_eq!(entry.member.status(), MemberStatus::Alive);
        b.join(a.ip()).await?;
        until(&mut snapshots, |s| {
            status(s, "b") == Some(MemberStatus::Alive)
        })
        .await?;
        watcher.stop().await;
        Ok(())
    });
}

#[test]
fn a_member_that_hangs_is_suspected_before_it_has_failed() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let mut b = Agent::on(lab, "b", 2).join(a.ip()).start().await?;
        a.knows(2, "alive", SOON).await?;
        let watcher = watch(&a);
        let mut suspicions = watcher.suspicions();
        let mut snapshots = watcher.snapshots();
        until(&mut snapshots, |s| s.entries().len() == 2).await?;
        b.process().signal(Signal::STOP)?;
        assert_eq!(
            timeout(SOON, suspicions.next()).await?.expect("it goes on"),
            "b"
        );
        assert_eq!(status(&snapshots.latest(), "b"), Some(MemberStatus::Alive));
        b.process().signal(Signal::CONT)?;
        Ok(())
    });
}

/// From the arrival of the agent's log line, on a connection of its own, to the snapshot.
#[test]
fn a_change_is_in_the_snapshot_at_once_and_not_when_the_event_comes() {
    test_alone(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let watcher = watch(&a);
        let mut snapshots = watcher.snapshots();
        until(&mut snapshots, |s| s.entries().len() == 1).await?;
        let tap = Tap::monitor(a.rpc_addr())?;
        let mut agents = Vec::new();
        for number in 2..12 {
            agents.push(Agent::on(lab, format!("s{number}"), number).start().await?);
        }
        let mut delays = Vec::new();
        for agent in &agents {
            let start = Instant::now();
            let seen = async {
                let name = agent.name();
                until(&mut snapshots, |s| {
                    status(s, name) == Some(MemberStatus::Alive)
                })
                .await?;
                anyhow::Ok(Instant::now())
            };
            let mut seen = pin!(seen);
            let (joined, seen) = tokio::join!(agent.join(a.ip()), &mut seen);
            joined?;
            let line = format!("EventMemberJoin: {} ", agent.name());
            let said = tap.wait(&line, start, SOON).await?;
            delays.push(seen?.saturating_duration_since(said));
        }
        delays.sort();
        eprintln!("log line to snapshot: {delays:?}");
        let median = delays[delays.len() / 2];
        assert!(median < Duration::from_millis(50), "{delays:?}");
        Ok(())
    });
}

#[test]
fn an_agent_that_hangs_fails_a_call_in_time_and_then_works_again() {
    test(&[Need::Serf], async |lab| {
        let mut a = Agent::on(lab, "a", 1).start().await?;
        let client = options(&a)
            .call_timeout(Duration::from_millis(200))
            .connect()
            .await?;
        a.process().signal(Signal::STOP)?;
        // The signal is delivered when the kernel sees fit.
        wait_for("a call to time out", SOON, async || {
            matches!(
                client.members().await,
                Err(CallError {
                    kind: CallErrorKind::Timeout { .. },
                    ..
                })
            )
        })
        .await?;
        a.process().signal(Signal::CONT)?;
        wait_for("an answer", SOON, async || client.members().await.is_ok()).await
    });
}
