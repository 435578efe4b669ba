//! The watcher against agents that say when what happens.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use serf_rpc::{
    AgentState, Change, ConnectError, Latest, Member, MemberStatus, Presence, Snapshot, WatchError,
    WatchEvent, WatchOptions, Watcher,
};
use support::{FakeAgent, FakeConnection, alive, field, log_record, soon, user_event};

const JOIN: &str = "2026/11/23 16:07:50 [INFO] serf: EventMemberJoin: b 127.10.1.2";
const IDLE: &str = "2026/11/23 16:07:51 [DEBUG] memberlist: Stream connection from=127.10.1.1:1";

/// A watcher that asks again only when hinted at, and tries again fast.
fn options(agents: &[&FakeAgent]) -> WatchOptions {
    WatchOptions::new(agents.iter().map(|agent| agent.options()))
        .resync(Duration::from_secs(3600))
        .retry(Duration::from_millis(1), Duration::from_millis(5))
}

/// The agent's end of a watcher's connection, and its streams' sequence numbers.
struct Watched {
    connection: FakeConnection,
    stream: u64,
    monitor: u64,
}

impl Watched {
    /// Takes the watcher's next connection up to the question for the members.
    async fn accept(agent: &FakeAgent) -> Self {
        let mut connection = agent.accept_ready().await;
        let stream = connection.expect("stream").await;
        let kinds = "member-join,member-leave,member-failed,member-update,member-reap";
        assert_eq!(field(&stream.body, "Type").as_str(), Some(kinds));
        connection.accept_request(stream.seq).await;
        let monitor = connection.expect("monitor").await;
        assert_eq!(field(&monitor.body, "LogLevel").as_str(), Some("DEBUG"));
        connection.accept_request(monitor.seq).await;
        connection.answer_stats("a").await;
        Self {
            connection,
            stream: stream.seq,
            monitor: monitor.seq,
        }
    }

    async fn log(&mut self, line: &str) {
        self.connection.send_log(self.monitor, line).await;
    }

    async fn answer(&mut self, members: &[Member]) {
        self.connection.answer_members(members).await;
    }
}

type Snapshots = Latest<Snapshot>;

/// The first snapshot from now on that is such.
async fn until(
    snapshots: &mut Snapshots,
    what: &str,
    such: impl FnMut(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    soon(what, snapshots.wait_for(such)).await.unwrap()
}

async fn until_listed(snapshots: &mut Snapshots, names: &[&str]) -> Arc<Snapshot> {
    until(snapshots, &names.join(","), |snapshot| {
        listed(snapshot) == names
    })
    .await
}

fn listed(snapshot: &Snapshot) -> Vec<String> {
    let entries = snapshot
        .entries()
        .iter()
        .filter(|entry| entry.presence == Presence::Listed);
    entries
        .map(|entry| entry.member.name().to_string())
        .collect()
}

/// A watcher whose agent has named these members.
async fn watching(agent: &FakeAgent, members: &[Member]) -> (Watcher, Snapshots, Watched) {
    let watcher = Watcher::spawn(options(&[agent]));
    let mut watched = Watched::accept(agent).await;
    watched.answer(members).await;
    let mut snapshots = watcher.snapshots();
    let names: Vec<_> = members
        .iter()
        .map(|member| member.name().to_string())
        .collect();
    until(&mut snapshots, "the first answer", |snapshot| {
        listed(snapshot) == names
    })
    .await;
    (watcher, snapshots, watched)
}

#[tokio::test]
async fn the_first_snapshot_names_the_agent_and_its_members() {
    let agent = FakeAgent::start().await;
    let before = SystemTime::now();
    let (_watcher, snapshots, _watched) = watching(&agent, &[alive("a"), alive("b")]).await;
    let snapshot = snapshots.latest();
    assert_eq!(
        *snapshot.agent(),
        AgentState::Connected { addr: agent.addr() }
    );
    assert_eq!(snapshot.local().unwrap().member.name(), "a");
    assert!(snapshot.read_at().unwrap() >= before);
    assert_eq!(snapshot.revision(), 1);
}

#[tokio::test]
async fn a_line_that_names_a_change_asks_again_and_others_do_not() {
    let agent = FakeAgent::start().await;
    let (_watcher, mut snapshots, mut watched) = watching(&agent, &[alive("a")]).await;
    watched.log(IDLE).await;
    watched.log(JOIN).await;
    watched.answer(&[alive("a"), alive("b")]).await;
    until_listed(&mut snapshots, &["a", "b"]).await;
    // Had the first line asked too, the answer to this one would go to its question.
    watched.log(JOIN).await;
    watched.answer(&[alive("a"), alive("b"), alive("c")]).await;
    until_listed(&mut snapshots, &["a", "b", "c"]).await;
}

#[tokio::test]
async fn any_event_asks_again() {
    let agent = FakeAgent::start().await;
    let (_watcher, mut snapshots, mut watched) = watching(&agent, &[alive("a")]).await;
    watched
        .connection
        .send(&user_event(watched.stream, "whatever"))
        .await;
    watched.answer(&[alive("b")]).await;
    until_listed(&mut snapshots, &["b"]).await;
}

#[tokio::test]
async fn the_replayed_log_costs_a_few_questions_and_not_one_a_line() {
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(options(&[&agent]));
    let mut watched = Watched::accept(&agent).await;
    let first = watched.connection.expect("members").await;
    watched
        .connection
        .send(&log_record(watched.monitor, JOIN).repeat(512))
        .await;
    watched
        .connection
        .send_members(first.seq, &[alive("a")])
        .await;
    // Questions that are answered at once: the worst case.
    let mut asked = 1;
    while let Ok(request) =
        tokio::time::timeout(Duration::from_millis(200), watched.connection.request()).await
    {
        asked += 1;
        watched
            .connection
            .send_members(request.unwrap().seq, &[alive("a")])
            .await;
    }
    assert!((2..=20).contains(&asked), "{asked} questions");
    until_listed(&mut watcher.snapshots(), &["a"]).await;
}

#[tokio::test]
async fn hints_while_a_question_is_open_cause_exactly_one_more() {
    let agent = FakeAgent::start().await;
    let (_watcher, mut snapshots, mut watched) = watching(&agent, &[alive("a")]).await;
    watched.log(JOIN).await;
    let open = watched.connection.expect("members").await;
    watched
        .connection
        .send(&log_record(watched.monitor, JOIN).repeat(50))
        .await;
    let early = tokio::time::timeout(Duration::from_millis(50), watched.connection.request()).await;
    assert!(
        early.is_err(),
        "one question is in the air at a time: {early:?}"
    );
    watched
        .connection
        .send_members(open.seq, &[alive("a"), alive("b")])
        .await;
    watched.answer(&[alive("a"), alive("b"), alive("c")]).await;
    until_listed(&mut snapshots, &["a", "b", "c"]).await;
    let third = tokio::time::timeout(Duration::from_millis(50), watched.connection.request()).await;
    assert!(third.is_err(), "{third:?}");
}

#[tokio::test]
async fn without_hints_it_asks_after_the_resync_period() {
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(options(&[&agent]).resync(Duration::from_millis(20)));
    let mut watched = Watched::accept(&agent).await;
    for name in ["a", "b", "c"] {
        watched.answer(&[alive(name)]).await;
        until_listed(&mut watcher.snapshots(), &[name]).await;
    }
}

#[tokio::test]
async fn a_refused_stream_or_monitor_leaves_what_is_left() {
    let agent = FakeAgent::start().await;
    for refused in ["stream", "monitor"] {
        let watcher = Watcher::spawn(options(&[&agent]));
        let mut connection = agent.accept_ready().await;
        let mut other = 0;
        for command in ["stream", "monitor"] {
            let request = connection.expect(command).await;
            if command == refused {
                connection.refuse(request.seq, "Not here").await;
            } else {
                connection.accept_request(request.seq).await;
                other = request.seq;
            }
        }
        connection.answer_stats("a").await;
        connection.answer_members(&[alive("a")]).await;
        until_listed(&mut watcher.snapshots(), &["a"]).await;
        let hint = if refused == "stream" {
            log_record(other, JOIN)
        } else {
            user_event(other, "x")
        };
        connection.send(&hint).await;
        connection.answer_members(&[alive("b")]).await;
        until_listed(&mut watcher.snapshots(), &["b"]).await;
    }
}

#[tokio::test]
async fn a_lost_agent_shows_and_takes_nobody_away() {
    let agent = FakeAgent::start().await;
    let (watcher, mut snapshots, watched) = watching(&agent, &[alive("a"), alive("b")]).await;
    let addr = agent.addr();
    drop(agent);
    drop(watched);
    let lost = until(&mut snapshots, "the loss", |s| {
        matches!(s.agent(), AgentState::Lost { .. })
    })
    .await;
    assert!(matches!(lost.agent(), AgentState::Lost { addr: at, .. } if *at == addr));
    assert_eq!(listed(&lost), ["a", "b"]);
    assert_eq!(lost.revision(), 1);
    let AgentState::Lost { since, .. } = lost.agent().clone() else {
        unreachable!()
    };
    // It keeps trying, and comes back at the same place; the moment of the loss stays.
    let agent = FakeAgent::start_at(&addr).await;
    let mut watched = Watched::accept(&agent).await;
    let AgentState::Lost { since: still, .. } = snapshots.latest().agent().clone() else {
        panic!("no answer yet");
    };
    assert_eq!(still, since);
    assert_eq!(lost.stale_since(), Some(since));
    // An agent that has just started knows only itself.
    watched.answer(&[alive("a")]).await;
    let fresh = until_listed(&mut snapshots, &["a"]).await;
    assert!(matches!(
        fresh.get("b").unwrap().presence,
        Presence::Absent { .. }
    ));
    assert_eq!(*fresh.agent(), AgentState::Connected { addr });
    assert_eq!(fresh.stale_since(), None);
    // Only who was seen in this session and then disappears was reaped.
    watched.log(JOIN).await;
    watched.answer(&[alive("a"), alive("c")]).await;
    until_listed(&mut snapshots, &["a", "c"]).await;
    watched.log(JOIN).await;
    watched.answer(&[alive("a")]).await;
    let last = until_listed(&mut snapshots, &["a"]).await;
    assert!(matches!(
        last.get("b").unwrap().presence,
        Presence::Absent { .. }
    ));
    assert!(matches!(
        last.get("c").unwrap().presence,
        Presence::Reaped { .. }
    ));
    watcher.stop().await;
}

#[tokio::test]
async fn an_agent_that_hangs_is_lost_once_a_call_times_out() {
    let agent = FakeAgent::start().await;
    let connect = agent.options().call_timeout(Duration::from_millis(50));
    let watcher = Watcher::spawn(WatchOptions::new(vec![connect]));
    let mut changes = watcher.changes();
    let mut watched = Watched::accept(&agent).await;
    watched.answer(&[alive("a")]).await;
    let mut snapshots = watcher.snapshots();
    until_listed(&mut snapshots, &["a"]).await;
    watched.log(JOIN).await;
    until(&mut snapshots, "the loss", |s| {
        matches!(s.agent(), AgentState::Lost { .. })
    })
    .await;
    let unreachable = changes.by_ref().filter_map(|event| async {
        match event {
            WatchEvent::Unreachable { error, .. } => Some(error),
            _ => None,
        }
    });
    let error = soon("the reason", std::pin::pin!(unreachable).next())
        .await
        .unwrap();
    assert!(matches!(*error, WatchError::Call(_)), "{error:?}");
}

#[tokio::test]
async fn agents_are_tried_in_order() {
    let (gone, second) = (FakeAgent::start().await, FakeAgent::start().await);
    let options = options(&[&gone, &second]);
    let gone = {
        let addr = gone.addr();
        drop(gone);
        addr
    };
    let watcher = Watcher::spawn(options);
    let mut changes = watcher.changes();
    let mut watched = Watched::accept(&second).await;
    watched.answer(&[alive("b")]).await;
    let snapshot = until_listed(&mut watcher.snapshots(), &["b"]).await;
    assert_eq!(
        *snapshot.agent(),
        AgentState::Connected {
            addr: second.addr()
        }
    );
    match soon("the first event", changes.next()).await {
        Some(WatchEvent::Unreachable { addr, error }) => {
            assert_eq!(addr, gone);
            assert!(matches!(
                *error,
                WatchError::Connect(ConnectError::Refused { .. })
            ));
        }
        other => panic!("{other:?}"),
    }
    // Once lost, the first is tried first again.
    let first = FakeAgent::start_at(&gone).await;
    drop(watched);
    let mut watched = Watched::accept(&first).await;
    watched.answer(&[alive("a")]).await;
    let snapshot = until_listed(&mut watcher.snapshots(), &["a"]).await;
    assert!(matches!(
        snapshot.get("b").unwrap().presence,
        Presence::Absent { .. }
    ));
}

#[tokio::test]
async fn changes_come_in_order_with_the_revision_that_has_them() {
    let agent = FakeAgent::start().await;
    let seed = Snapshot::restored([alive("a"), alive("old")], SystemTime::now());
    let watcher = Watcher::spawn(options(&[&agent]).seed(seed));
    let mut changes = watcher.changes();
    let mut watched = Watched::accept(&agent).await;
    watched.answer(&[alive("a"), alive("b")]).await;
    until_listed(&mut watcher.snapshots(), &["a", "b"]).await;
    watched.log(JOIN).await;
    let left = Member::builder("b")
        .addr([127, 10, 1, 9].into(), 7946)
        .status(MemberStatus::Left)
        .build();
    watched.answer(&[alive("a"), left.clone()]).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match soon("a change", changes.next()).await.unwrap() {
            WatchEvent::Connected { addr } => assert_eq!((addr, seen.len()), (agent.addr(), 0)),
            WatchEvent::Changed { revision, change } => seen.push((revision, change)),
            other => panic!("{other:?}"),
        }
    }
    let returned = Change::Returned {
        before: alive("a"),
        after: alive("a"),
    };
    assert_eq!(
        seen,
        [
            (1, returned),
            (1, Change::Joined(alive("b"))),
            (2, Change::Left(left))
        ]
    );
    let snapshot = watcher.snapshot();
    assert_eq!(snapshot.revision(), 2);
    assert!(matches!(
        snapshot.get("old").unwrap().presence,
        Presence::Absent { .. }
    ));
    watcher.stop().await;
    let last = soon("the last event", changes.next()).await;
    assert!(matches!(last, Some(WatchEvent::Stopped { .. })), "{last:?}");
    assert!(soon("the end", changes.next()).await.is_none());
}

#[tokio::test]
async fn suspicions_are_of_known_members_and_each_comes_once_in_a_while() {
    let agent = FakeAgent::start().await;
    let (watcher, _, mut watched) = watching(&agent, &[alive("a"), alive("b"), alive("s")]).await;
    let mut suspicions = watcher.suspicions();
    let failed_ping = |name| format!("x [DEBUG] memberlist: Failed ping: {name} (timeout reached)");
    // Lines right after the monitor began are old; so the agent repeats itself until it is heard.
    let mut first = None;
    while first.is_none() {
        watched.log(&failed_ping("nobody")).await;
        watched.log(&failed_ping("a")).await;
        first = tokio::time::timeout(Duration::from_millis(20), suspicions.next())
            .await
            .ok();
    }
    assert_eq!(first.flatten().unwrap(), "a");
    watched.log(&failed_ping("a")).await;
    watched
        .log("x [INFO] memberlist: Suspect s has failed, no acks received")
        .await;
    assert_eq!(soon("a suspicion", suspicions.next()).await.unwrap(), "s");
    watched.log(&failed_ping("a")).await;
    watched.log(&failed_ping("b")).await;
    assert_eq!(soon("a suspicion", suspicions.next()).await.unwrap(), "b");
}

#[tokio::test]
async fn an_agent_that_names_nobody_takes_nobody_away() {
    let agent = FakeAgent::start().await;
    let (_watcher, mut snapshots, mut watched) = watching(&agent, &[alive("a"), alive("b")]).await;
    watched.log(JOIN).await;
    watched.answer(&[]).await;
    let empty = until_listed(&mut snapshots, &[]).await;
    assert!(
        empty
            .entries()
            .iter()
            .all(|entry| matches!(entry.presence, Presence::Absent { .. }))
    );
    assert_eq!(empty.entries().len(), 2);
}

#[tokio::test]
async fn the_end_of_a_watcher_is_the_end_of_its_connection() {
    let agent = FakeAgent::start().await;
    let (watcher, _, mut watched) = watching(&agent, &[alive("a")]).await;
    watcher.stop().await;
    watched.connection.expect_end().await;
    let (watcher, _, mut watched) = watching(&agent, &[alive("a")]).await;
    drop(watcher);
    watched.connection.expect_end().await;
}

#[tokio::test]
async fn a_reading_without_a_change_is_not_announced() {
    let agent = FakeAgent::start().await;
    let (_watcher, mut snapshots, mut watched) = watching(&agent, &[alive("a")]).await;
    let before = snapshots.latest().read_at();
    watched.log(JOIN).await;
    watched.answer(&[alive("a")]).await;
    // The next answer is announced, and only that.
    watched.log(JOIN).await;
    watched.answer(&[alive("a"), alive("b")]).await;
    let after = soon("an announcement", snapshots.next()).await.unwrap();
    assert_eq!(
        (listed(&after), after.revision()),
        (vec!["a".to_owned(), "b".to_owned()], 2)
    );
    assert!(after.read_at() > before);
}
