//! The watcher on agents that fail in every way: in the end it knows the truth, and on the way it invents nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures_util::StreamExt;
use integration::fake_agent::{Behaviour, Churn, Delivery, Fault, MembersAnswer, node, nodes};
use integration::{FakeAgent, Lab, test, wait_for};
use serf_rpc::{
    AgentState, Change, ConnectError, ConnectOptions, Member, MemberEventKind, MemberStatus,
    Presence, Snapshot, WatchError, WatchEvent, WatchOptions, Watcher,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(15);
/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

type Snapshots = watch::Receiver<Arc<Snapshot>>;

fn options(agents: &[&FakeAgent]) -> WatchOptions {
    let agents = agents.iter().map(|agent| {
        ConnectOptions::new(agent.rpc_addr().to_string())
            .connect_timeout(Duration::from_millis(200))
            .call_timeout(Duration::from_millis(200))
    });
    WatchOptions::new(agents.collect()).retry(Duration::from_millis(1), Duration::from_millis(20))
}

/// A watcher that asks only when it is hinted at.
fn watch_by_hints(agent: &FakeAgent) -> (Watcher, Snapshots) {
    let watcher = Watcher::spawn(options(&[agent]).resync(NEVER));
    let snapshots = watcher.snapshots();
    (watcher, snapshots)
}

async fn until(
    snapshots: &mut Snapshots,
    mut such: impl FnMut(&Snapshot) -> bool,
) -> Result<Arc<Snapshot>> {
    let seen = timeout(SOON, snapshots.wait_for(|snapshot| such(snapshot))).await;
    match seen.map(|seen| seen.map(|snapshot| snapshot.clone())) {
        Ok(snapshot) => Ok(snapshot?),
        Err(_) => bail!(
            "waited in vain; the last snapshot is {:?}",
            snapshots.borrow()
        ),
    }
}

fn listed(snapshot: &Snapshot) -> Vec<Member> {
    let entries = snapshot.entries().iter();
    let listed = entries.filter(|entry| entry.presence == Presence::Listed);
    listed.map(|entry| entry.member.clone()).collect()
}

fn is_connected(snapshot: &Snapshot) -> bool {
    matches!(snapshot.agent(), AgentState::Connected { .. })
}

/// Waits until the watcher lists what the agent knows.
async fn agree(snapshots: &mut Snapshots, agent: &FakeAgent) -> Result<Arc<Snapshot>> {
    let truth = agent.members();
    until(snapshots, |snapshot| {
        is_connected(snapshot) && listed(snapshot) == truth
    })
    .await
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Listed,
    Absent,
    Reaped,
    Unknown,
}

fn seen(snapshot: &Snapshot, name: &str) -> Seen {
    match snapshot.get(name).map(|entry| entry.presence) {
        None => Seen::Unknown,
        Some(Presence::Listed) => Seen::Listed,
        Some(Presence::Absent { .. }) => Seen::Absent,
        Some(Presence::Reaped { .. }) => Seen::Reaped,
    }
}

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
        assert_eq!(seen(&snapshots.borrow(), second), Seen::Listed);
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
        // Once that is lost it is the first again.
        good.die();
        let first = hanging.rpc_addr().to_string();
        let at_first =
            |agent: &AgentState| matches!(agent, AgentState::Connected { addr } if *addr == first);
        let snapshot = until(&mut snapshots, |snapshot| at_first(snapshot.agent())).await?;
        assert_eq!(listed(&snapshot), hanging.members());
        assert_eq!(seen(&snapshot, "node-000000"), Seen::Absent);
        assert_eq!(seen(&snapshot, "good"), Seen::Absent);
        assert_eq!(last.accepted(), 0);
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

/// Members that the agent knows from the start, and some that it does not.
fn churn(per_second: u32, seed: u64) -> Churn {
    let known = (0..50).map(|number| format!("node-{number:06}"));
    Churn {
        names: known
            .chain((0..50).map(|number| format!("new-{number}")))
            .collect(),
        per_second,
        seed,
    }
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

/// Everything that can go wrong, at random, for a while.
struct Chaos<'a> {
    agent: &'a FakeAgent,
    rng: fastrand::Rng,
}

impl Chaos<'_> {
    async fn reign(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < time {
            match self.rng.u8(..12) {
                0..2 => {
                    let fault = self.fault();
                    self.agent.strike(fault);
                }
                2..4 => {
                    let (after, fault) = (self.rng.usize(..30_000), self.fault());
                    let command = self
                        .rng
                        .choice(["members", "members", "stats", "stream", "auth"]);
                    self.agent.trap(command.expect("five words"), after, fault);
                }
                4..8 => {
                    let behaviour = self.behaviour();
                    self.agent.behave(|current| *current = behaviour);
                }
                8 => self.lie(),
                9 => self
                    .agent
                    .send_raw(&b"\x82\xa5Error\xa0\xa3Seq\xce\xff\xff\xff\xff\x80"[..]),
                10 => {
                    self.agent.die();
                    sleep(Duration::from_millis(self.rng.u64(..20))).await;
                    self.agent.listen()?;
                }
                _ => {}
            }
            sleep(Duration::from_millis(self.rng.u64(5..40))).await;
        }
        Ok(())
    }

    fn fault(&mut self) -> Fault {
        let garbage = (0..self.rng.usize(1..40))
            .map(|_| self.rng.u8(..))
            .collect::<Vec<_>>();
        let fault = self.rng.choice([
            Fault::Close,
            Fault::Reset,
            Fault::HalfClose,
            Fault::Mute,
            Fault::Hang,
            Fault::garbage(),
            Fault::Garbage(garbage.into()),
        ]);
        fault.expect("seven faults")
    }

    fn behaviour(&mut self) -> Behaviour {
        let rng = &mut self.rng;
        let millis = |longest| (Duration::ZERO, Duration::from_millis(longest));
        let delivery = Delivery {
            lost_percent: rng.u8(..=100),
            repeated_percent: rng.u8(..=100),
            delay: millis(rng.u64(..100)),
        };
        let members = rng.choice([
            MembersAnswer::Whole,
            MembersAnswer::Shuffled,
            MembersAnswer::Empty,
            MembersAnswer::Partial(30),
            MembersAnswer::Repeated,
        ]);
        Behaviour {
            members: members.expect("five answers"),
            answer_after: millis(rng.u64(..10)),
            chunk: std::num::NonZeroUsize::new(rng.usize(..3) * 100),
            lines: delivery,
            events: delivery,
            late_records: 0,
        }
    }

    /// Tells of members that there never were.
    fn lie(&self) {
        let invented = node("invented", [10, 9, 9, 9].into())
            .tag("role", "backend")
            .build();
        self.agent.announce(MemberEventKind::Join, &[invented]);
        self.agent
            .announce(MemberEventKind::Reap, &self.agent.members());
        self.agent
            .say("INFO", "serf: EventMemberJoin: invented 10.9.9.9");
        self.agent
            .say("INFO", "serf: EventMemberFailed: node-000001 10.0.0.2");
        for name in ["invented", "node-000199"] {
            let line = format!("memberlist: Suspect {name} has failed, no acks received");
            self.agent.say("INFO", line);
        }
    }
}

/// What every snapshot must be, whatever happens: in order, each name once, and of members that were.
fn check(snapshot: &Snapshot, universe: &BTreeSet<String>) -> Result<()> {
    let names: Vec<_> = snapshot
        .entries()
        .iter()
        .map(|entry| entry.member.name())
        .collect();
    ensure!(names.is_sorted_by(|a, b| a < b), "out of order: {names:?}");
    for entry in snapshot.entries() {
        let member = &entry.member;
        ensure!(
            universe.contains(&member.name().to_string()),
            "invented: {member:?}"
        );
        ensure!(
            member.status() != MemberStatus::Unknown && member.port() == 7946,
            "bent: {member:?}"
        );
        ensure!(member.addr().is_some(), "bent: {member:?}");
    }
    Ok(())
}

/// Applies what the watcher said to what it knew.
fn apply(known: &mut Vec<(Member, Seen)>, change: &Change) {
    let member = change.member();
    let at = known.binary_search_by(|(known, _)| known.name().cmp(member.name()));
    let seen = match change {
        Change::Absent(_) => Seen::Absent,
        Change::Reaped(_) => Seen::Reaped,
        Change::Forgotten(_) => Seen::Unknown,
        _ => Seen::Listed,
    };
    match at {
        Ok(at) => known[at] = (member.clone(), seen),
        Err(at) => known.insert(at, (member.clone(), seen)),
    }
}

async fn survives(lab: &Lab, seed: u64) -> Result<()> {
    let agent = FakeAgent::on(lab, "fake", 1)
        .members(nodes(200))
        .seed(seed)
        .start()?;
    let churn = churn(300, seed);
    let mut universe: BTreeSet<String> = churn.names.iter().cloned().collect();
    universe.extend(
        agent
            .members()
            .iter()
            .map(|member| member.name().to_string()),
    );

    let options = options(&[&agent])
        .resync(Duration::from_millis(300))
        .suspicion_interval(Duration::ZERO);
    let watcher = Watcher::spawn(options);
    let (mut snapshots, mut changes) = (watcher.snapshots(), watcher.changes());
    let churning = agent.churn(churn);
    let mut chaos = Chaos {
        agent: &agent,
        rng: fastrand::Rng::with_seed(seed),
    };
    let mut observed = watcher.snapshots();
    let observe = async {
        let mut count = 0;
        while observed.changed().await.is_ok() {
            count += 1;
            check(&observed.borrow_and_update(), &universe)?;
        }
        anyhow::Ok(count)
    };
    let mut known = Vec::new();
    let mut connections = 0;
    let follow = async {
        while let Some(event) = changes.next().await {
            match event {
                WatchEvent::Changed { change, .. } => apply(&mut known, &change),
                WatchEvent::Connected { .. } => connections += 1,
                WatchEvent::Lagged(count) => bail!("{count} changes left out"),
                _ => {}
            }
        }
        Ok(())
    };
    let story = async {
        chaos.reign(Duration::from_secs(3)).await?;
        drop(churning);
        agent.calm();
        agree(&mut snapshots, &agent).await?;
        let questions = agent.requests("members");
        // It stays so, whatever is said.
        wait_for("two resyncs", SOON, async || {
            agent.requests("members") > questions + 2
        })
        .await?;
        let mut suspicions = watcher.suspicions();
        // Lines that a young session begins with are not believed.
        let suspected = timeout(SOON, async {
            loop {
                chaos.lie();
                if let Ok(name) = timeout(Duration::from_millis(100), suspicions.next()).await {
                    return name;
                }
            }
        })
        .await?;
        ensure!(
            suspected == Some("node-000199".into()),
            "{suspected:?} is suspected"
        );
        let snapshot = agree(&mut snapshots, &agent).await?;
        wait_for("one connection to be left", SOON, async || {
            agent.connections() == 1
        })
        .await?;
        watcher.stop().await;
        anyhow::Ok(snapshot)
    };
    let (snapshot, count, ()) = tokio::try_join!(story, observe, follow)?;
    eprintln!(
        "seed {seed}: {count} snapshots, {connections} sessions, {} accepted",
        agent.accepted()
    );
    ensure!(connections > 5 && count > 20, "little has happened");
    known.retain(|(_, seen)| *seen != Seen::Unknown);
    let entries: Vec<_> = snapshot
        .entries()
        .iter()
        .map(|entry| {
            (
                entry.member.clone(),
                seen(&snapshot, &entry.member.name().to_string()),
            )
        })
        .collect();
    ensure!(
        known == entries,
        "the changes do not add up to the snapshot"
    );
    Ok(())
}

#[test]
fn after_any_chaos_the_watcher_knows_the_truth() {
    test(&[], async |lab| survives(lab, 1).await);
}

#[test]
fn after_any_other_chaos_too() {
    test(&[], async |lab| survives(lab, 2).await);
}
