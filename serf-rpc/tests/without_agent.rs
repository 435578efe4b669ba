//! An application tested without an agent, under a paused clock.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use serf_rpc::testing::{self, FakeWatcher, errors};
use serf_rpc::{
    AgentState, Coordinate, Event, Member, MemberStatus, Presence, SetChange, Snapshot, WatchError,
    WatchEvent,
};
use tower::discover::Change;

fn web(name: &str, port: u16) -> Member {
    Member::builder(name)
        .addr([10, 0, 0, 1].into(), port)
        .tag("role", "web")
        .build()
}

fn is_web(entry: &serf_rpc::Entry) -> Option<u16> {
    let is_web = entry.member.tag("role").is_some_and(|role| role == "web");
    (is_web && entry.usable(Duration::from_secs(5))).then(|| entry.member.port())
}

#[tokio::test(start_paused = true)]
async fn a_fed_watcher_is_a_watcher() {
    let (watcher, mut fake) = FakeWatcher::new();
    let (mut changes, mut suspicions) = (watcher.changes(), watcher.suspicions());
    assert_eq!(*watcher.snapshot().agent(), AgentState::NeverReached);
    fake.set([web("a", 1), web("b", 2)]);
    let snapshot = watcher.ready().await.unwrap();
    assert_eq!((snapshot.entries().len(), snapshot.revision()), (2, 1));
    fake.suspect("b");
    assert_eq!(suspicions.next().await.unwrap(), "b");
    fake.set([web("a", 1)]);
    assert!(matches!(
        watcher.snapshot().get("b").unwrap().presence,
        Presence::Reaped { .. }
    ));
    fake.lose(errors::refused("agent:7373"));
    assert!(watcher.snapshot().stale_since().is_some());
    fake.set([]);
    assert!(matches!(
        watcher.snapshot().get("a").unwrap().presence,
        Presence::Absent { .. }
    ));
    fake.end(WatchError::NoAgents);
    assert!(matches!(
        watcher.ready().await.unwrap_err(),
        WatchError::NoAgents
    ));
    let mut last = None;
    while let Some(event) = changes.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(WatchEvent::Stopped { .. })), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_selection_says_who_comes_changes_and_goes() {
    let (watcher, mut fake) = FakeWatcher::new();
    let mut selection = watcher.select(is_web);
    fake.set([web("a", 1), web("b", 2), Member::builder("db").build()]);
    let insert = |name: &str, port| Some(SetChange::Insert(name.into(), port));
    assert_eq!(selection.next().await, insert("a", 1));
    assert_eq!(selection.next().await, insert("b", 2));
    fake.set([web("b", 3), web("c", 4)]);
    assert_eq!(selection.next().await, Some(SetChange::Remove("a".into())));
    assert_eq!(selection.next().await, insert("b", 3));
    assert_eq!(selection.next().await, insert("c", 4));
    drop(fake);
    assert_eq!(selection.next().await, None, "and nobody is taken out");
    assert_eq!(format!("{selection:?}"), "Selection { chosen: 2, .. }");
}

#[tokio::test(start_paused = true)]
async fn a_selection_is_what_tower_balances_over() {
    let (watcher, mut fake) = FakeWatcher::new();
    fake.set([web("a", 1)]);
    let mut discover = std::pin::pin!(watcher.select(is_web).into_discover());
    let first = discover.next().await.unwrap().unwrap();
    assert!(matches!(first, Change::Insert(name, 1) if name == "a"));
    fake.set([web("b", 2)]);
    let gone = discover.next().await.unwrap().unwrap();
    assert!(matches!(gone, Change::Remove(name) if name == "a"));
}

#[test]
fn a_member_is_usable_while_it_is_alive_and_not_absent_for_long() {
    let now = SystemTime::now();
    let usable = |presence, status| {
        let member = Member::builder("a").status(status).build();
        serf_rpc::Entry { member, presence }.usable(Duration::from_secs(10))
    };
    let absent = |secs| Presence::Absent {
        since: now - Duration::from_secs(secs),
    };
    assert!(usable(Presence::Listed, MemberStatus::Alive));
    assert!(usable(absent(1), MemberStatus::Alive));
    assert!(!usable(absent(11), MemberStatus::Alive));
    assert!(!usable(
        Presence::Reaped { since: now },
        MemberStatus::Alive
    ));
    for status in [
        MemberStatus::Leaving,
        MemberStatus::Left,
        MemberStatus::Failed,
    ] {
        assert!(!usable(Presence::Listed, status), "{status}");
    }
}

#[test]
fn what_an_application_is_handed_can_be_made() {
    let id = testing::query_id(7);
    let Event::Query { id: same, name, .. } = testing::query(id, "uptime", "") else {
        panic!("no query");
    };
    assert_eq!((same.number(), &name[..]), (7, &b"uptime"[..]));
    let stats = testing::stats([("agent", "name", "a"), ("serf", "members", "3")]);
    assert_eq!(
        (stats.agent_name(), stats.members()),
        (Some("a".into()), Some(3))
    );
    let replies = testing::query_replies(["a", "b"], [("a", "3 days")]);
    assert_eq!(replies.missing().collect::<Vec<_>>(), ["b"]);
    let late = errors::call_refused("respond", "No pending queries matching ID");
    assert_eq!(late.refusal(), Some(serf_rpc::Refusal::QueryOver));
}

#[test]
fn members_and_snapshots_are_saved_without_the_loss_of_a_byte() {
    let member = Member::builder(b"bad\xff\\name")
        .addr([10, 0, 0, 7].into(), 7946)
        .status_word("new!")
        .delegate(serf_rpc::ProtocolVersions {
            min: 2,
            max: 5,
            current: 4,
        })
        .tag(b"k\xfe", "v\u{e9}")
        .build();
    let text = serde_json::to_string(&member).unwrap();
    assert_eq!(serde_json::from_str::<Member>(&text).unwrap(), member);
    // What earlier versions have saved.
    let old = r#"{"name":"a","addr":null,"port":0,"status":"failed","tags":{"role":"web"}}"#;
    let expected = Member::builder("a")
        .status(MemberStatus::Failed)
        .tag("role", "web")
        .build();
    assert_eq!(serde_json::from_str::<Member>(old).unwrap(), expected);

    let read_at = SystemTime::now();
    let snapshot = Snapshot::default().relisted(vec![member.clone()], read_at);
    let text = serde_json::to_string(&snapshot.with_local(Some(member.name().to_owned()))).unwrap();
    let restored: Snapshot = serde_json::from_str(&text).unwrap();
    assert_eq!(restored.local().unwrap().member, member);
    assert!(matches!(
        restored.entries()[0].presence,
        Presence::Absent { .. }
    ));
    let coordinate = Coordinate {
        vec: vec![0.5; 8],
        ..Coordinate::default()
    };
    let text = serde_json::to_string(&coordinate).unwrap();
    assert_eq!(
        serde_json::from_str::<Coordinate>(&text).unwrap(),
        coordinate
    );
}
