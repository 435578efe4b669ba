//! Servers that run under other names than their members': they are taken over under load, and nobody who answers is cut.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use integration::cluster::{SOON, WEB_PORT};
use integration::scenario::{Scenario, backend};
use integration::wrk::Loads;
use integration::{
    Controller, FakeAgent, Haproxy, HaproxyKind, TestEnv, Web, on_each_haproxy, wait_for, web,
};
use serf_rpc::MemberStatus;

on_each_haproxy! {
    a_running_configuration_of_somebody_elses_is_taken_over => adopted;
    members_that_are_renamed_take_over_from_themselves => renamed;
}

/// Longer than the take-over.
const SLOW: &str = "/slow?ms=3000";

/// What an operator has written, with names and cookies of his own.
fn foreign(lab: &TestEnv, haproxy: &Haproxy, webs: &[Web]) -> String {
    let mut text = format!(
        "global\n    stats socket {} mode 600 level admin\n    hard-stop-after 30s\n\
         defaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n    \
         option idle-close-on-response\n\
         frontend in\n    bind {}\n    default_backend nodes\n\
         backend nodes\n    balance roundrobin\n    cookie SRV insert indirect nocache\n",
        haproxy.stats_socket().display(),
        lab.net().addr(1, 8080),
    );
    for web in webs {
        let (name, addr) = (web.name(), web.addr());
        let _ = writeln!(
            text,
            "    server {name} {addr} check inter 500ms cookie {name}"
        );
    }
    text
}

async fn adopted(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let webs: Vec<Web> = (1..=2)
        .map(|number| {
            Web::start(
                format!("web{number}"),
                lab.net().addr(100 + number, WEB_PORT),
            )
        })
        .collect::<Result<_>>()?;
    std::fs::write(haproxy.config(), foreign(lab, &haproxy, &webs))?;
    haproxy.start().await?;
    let agent = FakeAgent::on(lab, "balancer", 1).start()?;
    for number in 1..=2 {
        let ip = lab.net().ip(100 + number);
        agent.put(backend(format!("d{number}"), ip).build());
    }
    let options = Controller::on(lab, agent.rpc_addr(), &haproxy)
        .arg("--adopt")
        .arg("--yes");
    let front = lab.net().addr(1, 8080);
    let slow = [SLOW, SLOW].map(|path| tokio::spawn(web::get(front, path)));
    wait_for("a slow request on each", SOON, async || {
        webs.iter().all(|web| web.requests() > 0)
    })
    .await?;
    let load = Loads::start(lab, front)?;
    let controller = options.start()?;
    let taken_over =
        controller.settles("the members in the place of the servers", SOON, |status| {
            let named = ["d1", "d2"]
                .iter()
                .all(|name| status.server(name) == "ready");
            named && status.is_whole() && status.0["backends"]["nodes"]["in_rotation"] == 2
        });
    taken_over.await?;
    haproxy.serves("nodes", &["d1", "d2"], SOON).await?;
    for slow in slow {
        let answer = slow.await?.map(|(status, _)| status);
        assert_eq!(answer, Some(200), "a running request was cut");
    }
    let log = controller.log();
    assert!(log.contains("the same web server: d1 takes over"), "{log}");
    assert!(log.contains("its cookie `web1` ends"), "{log}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.nothing_failed("a running configuration taken over")
        .await
}

async fn renamed(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let stage = Scenario::start_on(lab, kind, 2, |options| options).await?;
    let load = stage.load(lab)?;
    let front = stage.controller.front();
    let slow = [SLOW, SLOW, SLOW, SLOW].map(|path| tokio::spawn(web::get(front, path)));
    for number in 1..=2 {
        stage.gossip(&format!("s{number}"), MemberStatus::Left);
        let name = format!("d{number}");
        stage
            .agent
            .put(backend(name, stage.ip(lab, number)).build());
    }
    stage.haproxy.serves("nodes", &["d1", "d2"], SOON).await?;
    let status = stage.controller.status().await?;
    assert_eq!(status.counter("reloads"), 0, "{}", status.0);
    for slow in slow {
        let answer = slow.await?.map(|(status, _)| status);
        assert_eq!(answer, Some(200), "a running request was cut");
    }
    load.nothing_failed("two members renamed").await
}
