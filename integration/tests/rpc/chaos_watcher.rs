//! The watcher on an agent on which everything goes wrong at random: in the end it knows the truth, and
//! on the way it invents nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bstr::BString;
use integration::fake_agent::{Behaviour, Churn, Delivery, Fault, MembersAnswer, node, nodes};
use integration::{FakeAgent, TestEnv, test, wait_for};
use serf_rpc::{
    Change, Changes, Member, MemberEventKind, MemberStatus, Snapshot, WatchEvent, Watcher,
};
use tokio::time::{sleep, timeout};

use crate::watched::{SOON, Seen, Snapshots, agree, churn, options, seen};

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

/// Every snapshot up to the watcher's end; how many they were.
async fn check_all(mut snapshots: Snapshots, universe: &BTreeSet<String>) -> Result<u32> {
    let mut count = 0;
    while let Some(snapshot) = snapshots.next().await {
        count += 1;
        check(&snapshot, universe)?;
    }
    Ok(count)
}

/// What all changes up to the watcher's end add up to, and how many sessions there were.
async fn add_up(mut changes: Changes) -> Result<(Vec<(Member, Seen)>, u32)> {
    let (mut known, mut sessions) = (Vec::new(), 0);
    while let Some(event) = changes.next().await {
        match event {
            WatchEvent::Changed { change, .. } => apply(&mut known, &change),
            WatchEvent::Connected { .. } => sessions += 1,
            WatchEvent::Lagged(count) => bail!("{count} changes left out"),
            _ => {}
        }
    }
    known.retain(|(_, seen)| *seen != Seen::Unknown);
    Ok((known, sessions))
}

/// Whom the watcher suspects first after lies and a truth have been told.
async fn first_suspicion(watcher: &Watcher, chaos: &Chaos<'_>) -> Result<Option<BString>> {
    let mut suspicions = watcher.suspicions();
    let first = timeout(SOON, async {
        // Lines that a young session begins with are not believed.
        loop {
            chaos.lie();
            if let Ok(name) = timeout(Duration::from_millis(100), suspicions.next()).await {
                return name;
            }
        }
    });
    Ok(first.await?)
}

/// The end of a watcher's story: chaos, then quiet, and the last snapshot.
async fn live_through(
    chaos: &mut Chaos<'_>,
    watcher: Watcher,
    churn: Churn,
) -> Result<Arc<Snapshot>> {
    let agent = chaos.agent;
    let mut snapshots = watcher.snapshots();
    let churning = agent.churn(churn);
    chaos.reign(Duration::from_secs(3)).await?;
    drop(churning);
    agent.calm();
    agree(&mut snapshots, agent).await?;
    // It stays so, whatever is said.
    let suspected = first_suspicion(&watcher, chaos).await?;
    ensure!(
        suspected == Some("node-000199".into()),
        "{suspected:?} is suspected"
    );
    let questions = agent.requests("members");
    wait_for("two resyncs", SOON, async || {
        agent.requests("members") > questions + 2
    })
    .await?;
    let snapshot = agree(&mut snapshots, agent).await?;
    wait_for("one connection to be left", SOON, async || {
        agent.connections() == 1
    })
    .await?;
    watcher.stop().await;
    Ok(snapshot)
}

async fn survives(lab: &TestEnv, seed: u64) -> Result<()> {
    let agent = FakeAgent::on(lab, "fake", 1)
        .members(nodes(200))
        .seed(seed)
        .start()?;
    let churn = churn(300, seed);
    let members = agent.members();
    let names = members.iter().map(|member| member.name().to_string());
    let universe: BTreeSet<String> = names.chain(churn.names.iter().cloned()).collect();
    // Nothing happens before somebody listens.
    agent.stop_listening();
    let options = options(&[&agent])
        .resync(Duration::from_millis(300))
        .suspicion_interval(Duration::ZERO);
    let watcher = Watcher::spawn(options);
    let checked = check_all(watcher.snapshots(), &universe);
    let added_up = add_up(watcher.changes());
    agent.listen()?;
    let mut chaos = Chaos {
        agent: &agent,
        rng: fastrand::Rng::with_seed(seed),
    };
    let story = live_through(&mut chaos, watcher, churn);
    let (snapshot, count, (known, sessions)) = tokio::try_join!(story, checked, added_up)?;
    let accepted = agent.accepted();
    eprintln!("seed {seed}: {count} snapshots, {sessions} sessions, {accepted} accepted");
    ensure!(sessions > 5 && count > 20, "little has happened");
    let entries = snapshot.entries().iter().map(|entry| {
        let name = entry.member.name().to_string();
        (entry.member.clone(), seen(&snapshot, &name))
    });
    ensure!(
        known == entries.collect::<Vec<_>>(),
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
