//! What the real ones are not asked for: faults, time and other hands.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, advance, timeout};

use super::*;

const FILE: &str = "global\n description serf-haproxy 0123456789abcdef\nbackend web\n\
    server a 10.0.0.1:80 check inter 1s rise 2 fall 2\n";

fn start(version: Version) -> FakeHaproxy {
    FakeHaproxy::start(version, FILE).unwrap()
}

async fn hear(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn ask(fake: &FakeHaproxy, line: &str) -> String {
    hear(fake.stats().unwrap(), line).await
}

/// `status` of the only server.
async fn status(fake: &FakeHaproxy) -> String {
    let stat = ask(fake, "show stat -1 6 -1\n").await;
    stat.lines()
        .nth(1)
        .unwrap()
        .split(',')
        .nth(6)
        .unwrap()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn checks_come_back_as_time_passes() {
    let fake = start(Version::V3_0);
    let addr = "10.0.0.1:80".parse().unwrap();
    fake.with(|haproxy| haproxy.answers(addr, false));
    let mut seen = Vec::new();
    for answers in [false, false, true, true, true] {
        fake.with(|haproxy| haproxy.answers(addr, answers));
        advance(Duration::from_secs(1)).await;
        seen.push(status(&fake).await);
    }
    assert_eq!(seen, ["UP 1/2", "DOWN", "DOWN 1/2", "UP", "UP"]);
}

#[tokio::test(start_paused = true)]
async fn a_day_of_checks_takes_no_time() {
    let fake = start(Version::V3_0);
    advance(Duration::from_secs(86_400)).await;
    assert_eq!(status(&fake).await, "UP");
    assert!(
        ask(&fake, "show info\n")
            .await
            .contains("Uptime_sec: 86400\n")
    );
}

#[tokio::test(start_paused = true)]
async fn an_open_connection_stays_with_the_worker_that_took_it() {
    let fake = start(Version::V3_0);
    let mut open = fake.stats().unwrap();
    open.write_all(b"prompt\n").await.unwrap();
    assert!(fake.with(Haproxy::reload_now));
    assert!(ask(&fake, "show info\n").await.contains("Pid: 9\n"));
    let proc = hear(fake.master().unwrap(), "show proc;quit\n").await;
    assert!(proc.contains("# old workers\n8 "), "{proc}");
    let info = hear(open, "show info\nquit\n").await;
    assert!(
        info.contains("Pid: 8\n") && info.contains("Stopping: 1\n"),
        "{info}"
    );
    // it has nobody to speak with any more
    tokio::task::yield_now().await;
    let proc = hear(fake.master().unwrap(), "show proc;quit\n").await;
    assert!(!proc.contains("# old workers"), "{proc}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_told_by_later_versions_and_closes_the_socket_of_2_6() {
    for version in Version::ALL {
        let fake = start(version);
        let said = hear(fake.master().unwrap(), "reload\n").await;
        if version == Version::V2_6 {
            assert_eq!(said, "");
            assert!(fake.master().is_err());
            tokio::time::sleep(Duration::from_secs(1)).await;
        } else {
            assert!(said.starts_with("Success=1\n--\n"), "{said}");
        }
        assert!(ask(&fake, "show info\n").await.contains("Pid: 9\n"));
        fake.with(|haproxy| haproxy.write("backend web\nnonsense\n"));
        assert!(!fake.with(Haproxy::reload_now));
        assert!(ask(&fake, "show info\n").await.contains("Pid: 9\n"));
        let said = hear(fake.master().unwrap(), "prompt\n@1 show cli level\nquit\n").await;
        let prompt = "master[ReloadFailed]> ";
        assert_eq!(
            said,
            format!("{prompt}admin\n\n{prompt}{prompt}"),
            "{version:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_fails_as_told() {
    let fake = start(Version::V3_0);
    let fail = |fault| fake.with(|haproxy| haproxy.fail(Socket::Stats, fault));
    fail(Some(Fault::Refuses));
    assert!(fake.stats().is_err() && fake.master().is_ok());
    fail(Some(Fault::Silent));
    let patience = Duration::from_secs(60);
    assert!(timeout(patience, ask(&fake, "show info\n")).await.is_err());
    fail(Some(Fault::Slow(Duration::from_secs(3))));
    let asked = Instant::now();
    ask(&fake, "show info\n").await;
    assert_eq!(asked.elapsed(), Duration::from_secs(3));
    fail(Some(Fault::Cut(10)));
    assert_eq!(ask(&fake, "show info\n").await, "Name: HAPr");
    fail(Some(Fault::Adds("> ".to_owned())));
    assert_eq!(ask(&fake, "show cli level\n").await, "admin\n\n> ");
}

#[tokio::test(start_paused = true)]
async fn another_hand_may_come_between_two_commands() {
    let fake = start(Version::V3_0);
    fake.with(|haproxy| {
        haproxy.after("set server web/a", |haproxy| {
            assert_eq!(haproxy.run("set server web/a weight 3"), "");
            haproxy.reload_now();
        });
    });
    ask(&fake, "set server web/a state maint\n").await;
    assert!(ask(&fake, "show info\n").await.contains("Pid: 9\n"));
    assert_eq!(status(&fake).await, "UP");
}

#[tokio::test(start_paused = true)]
async fn who_is_no_admin_changes_nothing() {
    let file = FILE.replace("backend", "stats socket x level operator\nbackend");
    let fake = FakeHaproxy::start(Version::V2_6, &file).unwrap();
    assert_eq!(
        ask(&fake, "set server web/a state maint\n").await,
        "Permission denied\n\n"
    );
    assert_eq!(ask(&fake, "show cli level\n").await, "operator\n\n");
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_asked_in_maint_too_and_believed() {
    let file = "backend web\nserver a 10.0.0.1:80 weight 10 agent-check agent-port 9\n";
    let fake = FakeHaproxy::start(Version::V3_0, file).unwrap();
    ask(&fake, "set server web/a state maint\n").await;
    fake.with(|haproxy| haproxy.agent_says("web", "a", "down"));
    advance(Duration::from_secs(2)).await;
    assert_eq!(status(&fake).await, "MAINT");
    fake.with(|haproxy| haproxy.agent_says("web", "a", "ready 50%"));
    advance(Duration::from_secs(2)).await;
    assert_eq!(status(&fake).await, "DOWN (agent)");
    fake.with(|haproxy| haproxy.agent_says("web", "a", "up"));
    advance(Duration::from_secs(2)).await;
    assert_eq!(status(&fake).await, "UP");
    ask(&fake, "disable agent web/a\n").await;
    fake.with(|haproxy| haproxy.agent_says("web", "a", "drain"));
    advance(Duration::from_secs(2)).await;
    assert_eq!(status(&fake).await, "no check");
}
