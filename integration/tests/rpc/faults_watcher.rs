//! The watcher on agents that fail: what it makes of sessions that end, of hints, and of several agents.

use std::time::{Duration, Instant};

use integration::fake_agent::{Delivery, Fault, MembersAnswer, node, nodes};
use integration::{FakeAgent, test, wait_for};
use serf_rpc::{AgentState, ConnectError, MemberStatus, WatchError, WatchEvent, Watcher};
use tokio::time::{sleep, timeout};

use crate::watched::{
    NEVER, SOON, Seen, agree, churn, is_connected, listed, options, seen, until, watch_by_hints,
};

#[test]
fn absent_is_told_from_gone_over_every_kind_of_session() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(3)).start()?;
        let (_watcher, mut snapshots) = watch_by_hints(&agent);
        agree(&mut snapshots, &agent).await?;
        let (first, second, third) = ("node-000000", "node-000001", "node-000002");

        // Within a session: reaped.
        agent.remove(first);
        let snapshot = until(&mut snapshots, |s| seen(s, first) != Seen::Listed).await?;
        assert_eq!(seen(&snapshot, first), Seen::Reaped);

        // Between two sessions: absent, and what was reaped stays so.
        agent.die();
        until(&mut snapshots, |s| !is_connected(s)).await?;
        assert_eq!(seen(&snapshots.latest(), second), Seen::Listed);
        agent.remove(second);
        agent.listen()?;
        let snapshot = until(&mut snapshots, |s| {
            is_connected(s) && seen(s, second) != Seen::Listed
        })
        .await?;
        assert_eq!(
            (seen(&snapshot, first), seen(&snapshot, second)),
            (Seen::Reaped, Seen::Absent)
        );

        // Both come back.
        for member in nodes(2) {
            agent.put(member);
        }
        agree(&mut snapshots, &agent).await?;

        // An empty answer in the middle of a session says nothing about anybody.
        agent.behave(|behaviour| behaviour.members = MembersAnswer::Empty);
        agent.say("INFO", "serf: EventMemberJoin: nobody 127.0.0.1");
        let snapshot = until(&mut snapshots, |s| listed(s).is_empty()).await?;
        for name in [first, second, third, "fake"] {
            assert_eq!(seen(&snapshot, name), Seen::Absent, "{name}");
        }
        agent.calm();
        agent.say("INFO", "serf: EventMemberJoin: nobody 127.0.0.1");
        agree(&mut snapshots, &agent).await?;

        // After a restart without a snapshot file it knows only itself.
        agent.die();
        agent.forget();
        agent.listen()?;
        let snapshot = until(&mut snapshots, |s| is_connected(s) && listed(s).len() == 1).await?;
        for name in [first, second, third] {
            assert_eq!(seen(&snapshot, name), Seen::Absent, "{name}");
        }
        // It finds two of them again; the third stays absent, however long the session goes on.
        for member in nodes(2) {
            agent.put(member);
        }
        let snapshot = agree(&mut snapshots, &agent).await?;
        assert_eq!(
            (seen(&snapshot, second), seen(&snapshot, third)),
            (Seen::Listed, Seen::Absent)
        );
        Ok(())
    });
}

#[test]
fn agents_are_tried_in_order_past_one_that_hangs_and_one_that_is_dead() {
    test(&[], async |lab| {
        let dead = FakeAgent::on(lab, "dead", 1).start()?;
        dead.stop_listening();
        let hanging = FakeAgent::on(lab, "hanging", 2).start()?;
        hanging.trap("handshake", 0, Fault::Hang);
        let good = FakeAgent::on(lab, "good", 3).members(nodes(5)).start()?;
        let last = FakeAgent::on(lab, "last", 4).start()?;
        let watcher = Watcher::spawn(options(&[&hanging, &dead, &good, &last]).resync(NEVER));
        let (mut snapshots, mut changes) = (watcher.snapshots(), watcher.changes());
        let mut tried = Vec::new();
        timeout(SOON, async {
            while let Some(event) = changes.next().await {
                match event {
                    WatchEvent::Unreachable { addr, error } => tried.push((addr, Some(error))),
                    WatchEvent::Connected { addr } => return tried.push((addr, None)),
                    _ => {}
                }
            }
        })
        .await?;
        let addrs: Vec<_> = tried.iter().map(|(addr, _)| addr.clone()).collect();
        let expected = [&hanging, &dead, &good].map(|agent| agent.rpc_addr().to_string());
        assert_eq!(addrs, expected);
        let errors: Vec<_> = tried.iter().map(|(_, error)| error.as_deref()).collect();
        assert!(
            matches!(
                errors[..],
                [
                    Some(WatchError::Connect(ConnectError::Timeout { .. })),
                    Some(WatchError::Connect(ConnectError::Refused { .. })),
                    None
                ]
            ),
            "{errors:?}"
        );
        let snapshot = agree(&mut snapshots, &good).await?;
        assert_eq!(
            snapshot
                .local()
                .map(|own| own.member.name().to_string())
                .as_deref(),
            Some("good")
        );

        // One that answers again does not take a connection that works.
        good.put(node("new", [10, 1, 1, 1].into()).build());
        agree(&mut snapshots, &good).await?;
        assert_eq!(hanging.accepted(), 1);
        // Once that is lost the next one is tried, and after the last the first.
        assert_eq!(last.accepted(), 0);
        for (lost, next) in [(&good, &last), (&last, &hanging)] {
            lost.die();
            let addr = next.rpc_addr().to_string();
            let is_next = |agent: &AgentState| matches!(agent, AgentState::Connected { addr: at } if *at == addr);
            let snapshot = until(&mut snapshots, |snapshot| is_next(snapshot.agent())).await?;
            assert_eq!(listed(&snapshot), next.members());
            assert_eq!(seen(&snapshot, "node-000000"), Seen::Absent);
            assert_eq!(seen(&snapshot, "good"), Seen::Absent);
        }
        Ok(())
    });
}

/// Log lines alone, late, twice and out of order, as long as each comes once at least.
#[test]
fn hints_out_of_order_are_enough_without_any_resync() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(50)).start()?;
        let bad = Delivery {
            lost_percent: 0,
            repeated_percent: 50,
            delay: (Duration::ZERO, Duration::from_millis(50)),
        };
        agent.behave(|behaviour| {
            behaviour.lines = bad;
            behaviour.events = Delivery::NONE;
            behaviour.members = MembersAnswer::Shuffled;
        });
        let (_watcher, mut snapshots) = watch_by_hints(&agent);
        let churning = agent.churn(churn(500, 1));
        sleep(Duration::from_secs(1)).await;
        drop(churning);
        agree(&mut snapshots, &agent).await?;
        // No events came: it was the lines.
        assert_eq!(agent.accepted(), 1);
        Ok(())
    });
}

/// The other way round: no line of the log, only what comes through the coalescer, which says
/// nothing of a member that was away for less than its window.
#[test]
fn coalesced_events_alone_are_enough_for_what_lasts() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(3)).start()?;
        agent.behave(|behaviour| behaviour.lines = Delivery::NONE);
        let (_watcher, mut snapshots) = watch_by_hints(&agent);
        agree(&mut snapshots, &agent).await?;
        agent.put(node("new", [10, 1, 1, 1].into()).build());
        agent.set_status("node-000001", MemberStatus::Failed);
        let changed = Instant::now();
        agree(&mut snapshots, &agent).await?;
        assert!(
            changed.elapsed() >= Duration::from_millis(900),
            "{:?}",
            changed.elapsed()
        );
        Ok(())
    });
}

/// The answer is made before the change, and comes after the hint.
#[test]
fn what_is_hinted_at_while_a_question_is_open_is_asked_for_again() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).start()?;
        let (_watcher, mut snapshots) = watch_by_hints(&agent);
        agree(&mut snapshots, &agent).await?;
        let transit = Duration::from_millis(30);
        agent.behave(|behaviour| {
            behaviour.answer_after = (transit, transit);
            behaviour.events = Delivery::NONE;
        });
        for round in 0..10 {
            let asked = agent.requests("members");
            agent.put(node(format!("early-{round}"), [10, 1, 1, round].into()).build());
            wait_for("the question", SOON, async || {
                agent.requests("members") > asked
            })
            .await?;
            agent.put(node(format!("late-{round}"), [10, 1, 2, round].into()).build());
            agree(&mut snapshots, &agent).await?;
        }
        Ok(())
    });
}

#[test]
fn without_any_hint_the_truth_is_a_resync_away() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).start()?;
        agent.behave(|behaviour| {
            behaviour.lines = Delivery::NONE;
            behaviour.events = Delivery::NONE;
        });
        let watcher = Watcher::spawn(options(&[&agent]).resync(Duration::from_millis(100)));
        let mut snapshots = watcher.snapshots();
        for member in nodes(3) {
            agree(&mut snapshots, &agent).await?;
            agent.put(member);
        }
        agree(&mut snapshots, &agent).await?;
        assert_eq!(agent.accepted(), 1);
        Ok(())
    });
}

#[test]
fn a_flood_of_hints_causes_one_question_at_a_time() {
    test(&[], async |lab| {
        const ANSWER: Duration = Duration::from_millis(20);
        let agent = FakeAgent::on(lab, "fake", 1).members(nodes(100)).start()?;
        agent.behave(|behaviour| {
            // Answers are old when they arrive: what is hinted at meanwhile must be asked for again.
            behaviour.answer_after = (ANSWER, ANSWER);
            behaviour.events = Delivery::NONE;
        });
        let (watcher, mut snapshots) = watch_by_hints(&agent);
        agree(&mut snapshots, &agent).await?;
        let mut changes = watcher.changes();
        let (start, before) = (Instant::now(), agent.requests("members"));
        let churning = agent.churn(churn(5000, 2));
        sleep(Duration::from_secs(1)).await;
        drop(churning);
        agree(&mut snapshots, &agent).await?;
        // One in the air, one that waits, and one that was there before.
        let most = start.elapsed().as_millis() / ANSWER.as_millis() + 3;
        let questions = agent.requests("members") - before;
        assert!(
            u128::from(questions) <= most,
            "{questions} questions, {most} at most"
        );
        // A reader that does not read is told so, and what is kept for him is bounded.
        let mut kept = 0;
        while let Ok(Some(event)) = timeout(Duration::ZERO, changes.next()).await {
            kept += 1;
            assert!(
                kept > 1 || matches!(event, WatchEvent::Lagged(_)),
                "{event:?}"
            );
        }
        assert!((1000..2000).contains(&kept), "{kept}");
        Ok(())
    });
}
