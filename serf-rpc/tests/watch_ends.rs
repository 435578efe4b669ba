//! How a watcher ends, by itself and otherwise, and an agent that hangs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::{Duration, SystemTime};

use serf_rpc::{AgentState, Latest, Snapshot, WatchError, WatchEvent, WatchOptions, Watcher};
use support::{FakeAgent, FakeConnection, alive, runtime, soon};
use tokio::time::Instant;

/// Takes a watcher's next connection and lists one member, named as the agent.
async fn accept(agent: &FakeAgent, name: &str) -> FakeConnection {
    let mut connection = agent.accept_ready().await;
    for command in ["stream", "monitor"] {
        let request = connection.expect(command).await;
        connection.accept_request(request.seq).await;
    }
    connection.answer_stats(name).await;
    connection.answer_members(&[alive(name)]).await;
    connection
}

fn is_stopped(snapshot: &Snapshot) -> bool {
    matches!(snapshot.agent(), AgentState::Stopped { .. })
}

/// What whoever still reads is told: a last snapshot, and then no more.
async fn ends(mut snapshots: Latest<Snapshot>) {
    let last = soon("the last snapshot", snapshots.wait_for(is_stopped)).await;
    assert!(last.unwrap().stale_since().is_some());
    assert!(soon("the end", snapshots.next()).await.is_none());
}

#[tokio::test]
async fn who_still_reads_of_a_watcher_that_is_gone_is_told_so() {
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(agent.options());
    let (ready, _connection) = tokio::join!(watcher.ready(), accept(&agent, "a"));
    ready.unwrap();
    let snapshots = watcher.snapshots();
    drop(watcher);
    ends(snapshots).await;
    #[allow(unused_must_use, reason = "that is what is tried")]
    let snapshots = Watcher::spawn(agent.options()).snapshots();
    ends(snapshots).await;
}

#[test]
fn who_still_reads_of_a_watcher_whose_runtime_has_ended_is_told_so() {
    let first = runtime();
    let (watcher, snapshots) = first.block_on(async {
        let agent = FakeAgent::start().await;
        let watcher = Watcher::spawn(agent.options());
        let (ready, _connection) = tokio::join!(watcher.ready(), accept(&agent, "a"));
        ready.unwrap();
        let snapshots = watcher.snapshots();
        (watcher, snapshots)
    });
    drop(first);
    assert!(is_stopped(&watcher.snapshot()));
    runtime().block_on(ends(snapshots));
}

#[test]
fn a_watcher_outside_a_runtime_has_ended() {
    let watcher = Watcher::spawn(serf_rpc::ConnectOptions::new("127.0.0.1:7373"));
    assert!(is_stopped(&watcher.snapshot()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = runtime.block_on(watcher.ready()).unwrap_err();
    assert!(
        error.to_string().contains("outside a Tokio runtime"),
        "{error}"
    );
}

#[tokio::test]
async fn a_snapshot_that_is_kept_holds_up_nobody() {
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(agent.options().call_timeout(Duration::from_secs(1)));
    let mut snapshots = watcher.snapshots();
    let kept = (watcher.snapshot(), snapshots.latest());
    let (ready, _connection) = tokio::join!(watcher.ready(), accept(&agent, "a"));
    assert_eq!(ready.unwrap().entries().len(), 1);
    let next = soon("the first answer", snapshots.next()).await.unwrap();
    assert_eq!((kept.0.entries().len(), next.entries().len()), (0, 1));
}

#[tokio::test]
async fn without_an_agent_to_try_a_watcher_ends_and_says_why() {
    let watcher = Watcher::spawn(WatchOptions::new([]));
    let mut changes = watcher.changes();
    let error = soon("the end", watcher.ready()).await.unwrap_err();
    assert!(matches!(error, WatchError::NoAgents), "{error:?}");
    let event = soon("the end", changes.next()).await;
    assert!(
        matches!(event, Some(WatchEvent::Stopped { .. })),
        "{event:?}"
    );
    assert!(soon("the end", changes.next()).await.is_none());
    assert!(soon("the end", watcher.changes().next()).await.is_none());
    assert!(soon("the end", watcher.suspicions().next()).await.is_none());
}

async fn refuse_key(agent: &FakeAgent) {
    let mut connection = agent.accept().await;
    let handshake = connection.expect("handshake").await;
    connection.accept_request(handshake.seq).await;
    let auth = connection.expect("auth").await;
    connection
        .refuse(auth.seq, "Invalid authentication token")
        .await;
}

#[tokio::test]
async fn a_key_that_all_agents_refuse_is_the_end_unless_it_may_change() {
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(agent.options().auth_key("wrong"));
    let (ready, ()) = tokio::join!(watcher.ready(), refuse_key(&agent));
    let error = ready.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("agent {} does not accept the key", agent.addr())
    );
    ends(watcher.snapshots()).await;

    let path = std::env::temp_dir().join(format!("serf-rpc-wrong-{}", std::process::id()));
    std::fs::write(&path, "wrong").unwrap();
    for options in [
        WatchOptions::from(agent.options().auth_key_file(&path)),
        WatchOptions::from(agent.options().auth_key("wrong")).keep_trying(),
    ] {
        let options = options.retry(Duration::from_millis(1), Duration::from_millis(5));
        let watcher = Watcher::spawn(options);
        refuse_key(&agent).await;
        let (ready, _connection) = tokio::join!(watcher.ready(), accept(&agent, "a"));
        ready.unwrap();
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_is_given_up_for_the_next_one_after_two_pulses() {
    let agents = [FakeAgent::start().await, FakeAgent::start().await];
    let pulse = Duration::from_millis(150);
    let options = WatchOptions::new(agents.iter().map(FakeAgent::options)).pulse(pulse);
    let watcher = Watcher::spawn(options);
    let mut changes = watcher.changes();
    let (ready, _hanging) = tokio::join!(watcher.ready(), accept(&agents[0], "a"));
    ready.unwrap();
    let (last_answer, hangs_since) = (SystemTime::now(), Instant::now());
    let mut snapshots = watcher.snapshots();
    let lost = snapshots.wait_for(|snapshot| matches!(snapshot.agent(), AgentState::Lost { .. }));
    let lost = soon("the loss", lost).await.unwrap();
    let stale = lost.stale_since().unwrap();
    let apart = last_answer.duration_since(stale).unwrap_or_default();
    assert!(
        stale <= last_answer && apart < pulse,
        "the last answer, {apart:?}"
    );
    // The first agent would take a connection too.
    let _second = accept(&agents[1], "b").await;
    assert!(hangs_since.elapsed() < pulse * 4);
    let mut why = None;
    while why.is_none() {
        if let Some(WatchEvent::Unreachable { error, .. }) = soon("why", changes.next()).await {
            why = Some(error);
        }
    }
    assert!(matches!(
        *why.unwrap(),
        WatchError::Silent { after, .. } if after >= pulse
    ));
}

#[tokio::test]
async fn the_only_agent_that_hangs_is_silent_by_default_and_its_connection_is_kept() {
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(agent.options());
    let (ready, mut connection) = tokio::join!(watcher.ready(), accept(&agent, "a"));
    ready.unwrap();
    let mut snapshots = watcher.snapshots();
    let began = Instant::now();
    let silent = snapshots.wait_for(|s| matches!(s.agent(), AgentState::Silent { .. }));
    let silent = soon("silence", silent).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "the default");
    assert!(silent.stale_since().is_some());
    connection.answer_stats("a").await;
    let again = snapshots.wait_for(|s| matches!(s.agent(), AgentState::Connected { .. }));
    soon("an answer", again).await.unwrap();
}

#[tokio::test]
async fn streams_and_handles_of_a_watcher_are_short_and_may_be_shared() {
    fn shared<T: std::fmt::Debug + Send + Sync>(handle: &T) -> String {
        format!("{handle:?}")
    }
    let agent = FakeAgent::start().await;
    let watcher = Watcher::spawn(agent.options());
    let client = watcher.client();
    for shown in [
        shared(&watcher),
        shared(&watcher.changes()),
        shared(&watcher.suspicions()),
        shared(&watcher.snapshots()),
        shared(&watcher.unreached()),
        shared(&client),
        shared(&client.events()),
        shared(&client.log(serf_rpc::LogLevel::Info)),
    ] {
        assert!(shown.len() < 120, "{shown}");
    }
}
