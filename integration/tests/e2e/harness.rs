//! The harness itself, against the real daemons.

use std::time::{Duration, Instant};

use anyhow::Result;
use integration::cluster::WITHOUT_PAUSE;
use integration::haproxy::plain_config;
use integration::process::{Process, is_alive};
use integration::wrk::Connections;
use integration::{
    Agent, Haproxy, HaproxyKind, Load, Need, Node, Tap, TestEnv, Web, Wrk, test, wait_for, web,
};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn agents_join_leave_and_come_back() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let mut b = Agent::on(lab, "b", 2)
            .tag("role", "backend")
            .join(a.ip())
            .start()
            .await?;
        a.knows(2, "alive", SOON).await?;
        assert_eq!(a.members().await?[1].tags["role"], "backend");
        assert!(b.leave().await?.success());
        a.knows(1, "left", SOON).await?;
        b.restart().await?;
        a.knows(2, "alive", SOON).await
    });
}

#[test]
fn one_whose_last_words_get_lost_is_seen_off_all_the_same() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let mut b = Agent::on(lab, "b", 2).join(a.ip()).start().await?;
        a.knows(2, "alive", SOON).await?;
        b.kill();
        a.sees_off(&["b"]).await
    });
}

#[test]
fn an_agent_with_a_key_answers_the_harness() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).rpc_auth("secret").start().await?;
        assert_eq!(a.members().await?.len(), 1);
        Ok(())
    });
}

#[test]
fn the_tap_hears_a_join_in_the_log_before_it_is_an_event() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let b = Agent::on(lab, "b", 2).start().await?;
        let (log, events) = (Tap::monitor(a.rpc_addr())?, Tap::events(a.rpc_addr())?);
        let start = Instant::now();
        b.join(a.ip()).await?;
        let known = log.wait("EventMemberJoin: b ", start, SOON).await?;
        let told = events.wait("member-join", known, SOON).await?;
        assert!(
            told - known > Duration::from_millis(500),
            "{:?}",
            told - known
        );
        Ok(())
    });
}

#[test]
fn a_node_joins_over_the_agents_rpc() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let node = Node::start(lab, 1).await?;
        node.join(&a).await?;
        a.knows(2, "alive", SOON).await?;
        assert_eq!(web::ask(node.web.addr()).await.as_deref(), Some("s1"));
        let nobody = Agent::on(lab, "nobody", 9).start().await?;
        let addr = nobody.ip();
        drop(nobody);
        assert!(
            tokio::task::spawn_blocking(move || integration::tap::join(a.rpc_addr(), addr))
                .await?
                .is_err()
        );
        Ok(())
    });
}

#[test]
fn the_load_counts_answers_by_server_and_failures() {
    test(&[], async |lab| {
        let mut web = Web::start("s1", lab.net().addr(1, 3000))?;
        let load = Load::start(web.addr(), WITHOUT_PAUSE);
        wait_for("answers", SOON, async || {
            load.seen().answers.get("s1") > Some(&100)
        })
        .await?;
        assert_eq!(load.seen().failed, 0, "{:?}", load.seen());
        web.close();
        wait_for("failures", SOON, async || load.seen().failed > 1).await?;
        let seen = load.stop();
        assert!(
            web.requests().abs_diff(seen.total()) <= 1,
            "{seen:?} {}",
            web.requests()
        );
        Ok(())
    });
}

#[test]
fn the_hosts_haproxy_serves_counts_and_restarts() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        serves(lab, HaproxyKind::Host).await
    });
}

#[test]
fn trixies_haproxy_serves_counts_and_restarts() {
    test(&[Need::Haproxy(HaproxyKind::Trixie)], async |lab| {
        serves(lab, HaproxyKind::Trixie).await
    });
}

#[test]
fn sids_haproxy_serves_counts_and_restarts() {
    test(&[Need::Haproxy(HaproxyKind::Sid)], async |lab| {
        serves(lab, HaproxyKind::Sid).await
    });
}

async fn serves(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let front = lab.net().addr(1, 8080);
    let web = Web::start("s1", lab.net().addr(2, 3000))?;
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let text = plain_config(&haproxy.stats_socket(), front, &[("s1", web.addr())]);
    std::fs::write(haproxy.config(), text)?;
    haproxy.start().await?;
    assert_eq!(web::ask(front).await.as_deref(), Some("s1"));
    assert_eq!(haproxy.serving("nodes").await?, ["s1"]);
    assert_eq!(web.requests(), 1);

    let first = haproxy.worker().await?;
    assert!(is_alive(first.pid), "its process id is the host's");
    if kind != HaproxyKind::Host {
        assert!(first.version.starts_with('3'), "{}", first.version);
    }
    haproxy.master_command("reload").await?;
    wait_for("another worker", SOON, async || {
        haproxy
            .worker()
            .await
            .is_ok_and(|worker| worker.pid != first.pid)
    })
    .await?;

    web.forget_first_request();
    assert_eq!(web.first_request(), None);
    let asked = Instant::now();
    assert_eq!(
        web::get(front, "/slow?ms=30").await,
        Some((200, "s1".to_owned()))
    );
    assert!(asked.elapsed() >= Duration::from_millis(30));
    assert!(web.first_request().is_some_and(|at| at >= asked));

    let second = haproxy.worker().await?;
    haproxy.kill().await?;
    assert!(!is_alive(second.pid));
    assert_eq!(web::ask(front).await, None);
    haproxy.start().await?;
    assert_eq!(web::ask(front).await.as_deref(), Some("s1"));
    assert_eq!(haproxy.errors().await?, Default::default());
    Ok(())
}

#[test]
fn wrk_and_the_web_server_count_the_same() {
    test(&[Need::Wrk], async |lab| {
        for connections in [Connections::PerRequest, Connections::KeepAlive] {
            let mut web = Web::start("s1", lab.net().addr(1, 3000))?;
            let load = Wrk::on(lab, web.addr(), connections).count(4).start()?;
            wait_for("requests", SOON, async || web.requests() > 1000).await?;
            let report = load.stop().await?;
            web.close();
            assert_eq!(report.failed(), 0, "{report:?}");
            assert!(
                web.requests().abs_diff(report.requests) <= 4,
                "{report:?} {}",
                web.requests()
            );
        }
        Ok(())
    });
}

#[test]
fn a_closed_web_server_refuses_and_can_listen_again() {
    test(&[], async |lab| {
        let mut web = Web::new("s1", lab.net().addr(1, 3000));
        assert_eq!(web::ask(web.addr()).await, None);
        web.listen()?;
        assert_eq!(web::ask(web.addr()).await.as_deref(), Some("s1"));
        web.close();
        assert_eq!(web::ask(web.addr()).await, None);
        web.listen()?;
        assert_eq!(web::ask(web.addr()).await.as_deref(), Some("s1"));
        assert_eq!(web.requests(), 2);
        Ok(())
    });
}

#[test]
fn a_dropped_process_takes_its_children_along() {
    test(&[], async |lab| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let process = Process::start("parent", &command, lab.path("parent.log"))?;
        wait_for("the child", SOON, async || process.log().ends_with('\n')).await?;
        let child: u32 = process.log().trim().parse()?;
        assert!(is_alive(child));
        drop(process);
        wait_for("the child to die", SOON, async || !is_alive(child)).await
    });
}
