//! Under load: nothing fails, whatever joins, leaves or is reloaded. wrk's figures are compared with
//! HAProxy's counters and the web servers' own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::{SOON, names};
use integration::haproxy::Errors;
use integration::wrk::{Connections, WrkReport};
use integration::{Balancer, HaproxyKind, Need, Node, TestEnv, Wrk, test_alone, wait_for};

/// Enough to keep both cores busy, few enough to leave the agents their turn.
const CLIENTS: usize = 8;
const NEWCOMERS: u8 = 20;
const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");
/// What the controller logs on SIGHUP.
const READ_AGAIN: &str = "reading config and template again";
const LEAVE: Duration = Duration::from_secs(60);

fn needs(kind: HaproxyKind) -> [Need; 3] {
    [Need::Serf, Need::Haproxy(kind), Need::Wrk]
}

#[test]
fn twenty_joins_and_leaves_fail_no_request_on_the_hosts_haproxy_connection_per_request() {
    test_alone(&needs(HaproxyKind::Host), async |lab| {
        joins_and_leaves(lab, HaproxyKind::Host, Connections::PerRequest).await
    });
}

#[test]
fn twenty_joins_and_leaves_fail_no_request_on_the_hosts_haproxy_keep_alive() {
    test_alone(&needs(HaproxyKind::Host), async |lab| {
        joins_and_leaves(lab, HaproxyKind::Host, Connections::KeepAlive).await
    });
}

#[test]
fn twenty_joins_and_leaves_fail_no_request_on_trixies_haproxy_connection_per_request() {
    test_alone(&needs(HaproxyKind::Trixie), async |lab| {
        joins_and_leaves(lab, HaproxyKind::Trixie, Connections::PerRequest).await
    });
}

#[test]
fn twenty_joins_and_leaves_fail_no_request_on_trixies_haproxy_keep_alive() {
    test_alone(&needs(HaproxyKind::Trixie), async |lab| {
        joins_and_leaves(lab, HaproxyKind::Trixie, Connections::KeepAlive).await
    });
}

async fn joins_and_leaves(
    lab: &TestEnv,
    kind: HaproxyKind,
    connections: Connections,
) -> Result<()> {
    let balancer = Balancer::start(lab, kind).await?;
    let residents = Node::start_all(lab, 1..=2).await?;
    let mut newcomers = Node::start_all(lab, 3..3 + NEWCOMERS).await?;
    for node in &residents {
        node.join(&balancer.agent).await?;
    }
    balancer.serves(&names(&residents)).await?;
    balancer
        .controller
        .settles("a status", SOON, |_| true)
        .await?;
    let before = (
        balancer.controller.status().await?,
        balancer.haproxy.worker().await?,
    );

    let load = Wrk::on(lab, balancer.controller.front(), connections)
        .count(CLIENTS)
        .start()?;
    wait_for("load", SOON, async || residents[0].web.requests() > 100).await?;
    // wrk's look at the address, a connection without a request, counts as a broken request.
    let errors = balancer.haproxy.errors().await?;
    assert_eq!(
        errors,
        Errors {
            request: errors.request.min(1),
            ..Errors::default()
        }
    );
    for node in &newcomers {
        node.join(&balancer.agent).await?;
        let what = format!("{} to be asked", node.name());
        wait_for(&what, SOON, async || node.web.requests() > 0).await?;
    }
    for node in &newcomers {
        node.agent.begin_leave()?;
    }
    let leaving: Vec<&str> = newcomers.iter().map(|node| node.name()).collect();
    balancer.agent.sees_off(&leaving).await?;
    balancer
        .haproxy
        .serves("nodes", &names(&residents), LEAVE)
        .await?;
    let asked: u64 = residents.iter().map(|node| node.web.requests()).sum();
    wait_for("the residents to be asked on", SOON, async || {
        residents
            .iter()
            .map(|node| node.web.requests())
            .sum::<u64>()
            > asked + 100
    })
    .await?;
    let errors_after = balancer.haproxy.errors().await?;
    let report = load.stop().await?;

    println!("{kind:?}, {connections:?}: {report:?}");
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(errors_after, errors, "{report:?}");
    let answered = residents
        .iter()
        .chain(&newcomers)
        .map(|node| node.web.requests())
        .sum::<u64>();
    same_count(&report, answered)?;
    assert_eq!(balancer.haproxy.worker().await?, before.1, "no reload");
    let status = balancer.controller.status().await?;
    assert_eq!(status.counter("reloads"), before.0.counter("reloads"));
    for node in &mut newcomers {
        node.agent.process().exited(SOON).await?;
    }
    Ok(())
}

/// Every answer that wrk counted was given by a web server, and no more of them but those in flight
/// when wrk ended.
fn same_count(report: &WrkReport, answered: u64) -> Result<()> {
    let surplus = answered
        .checked_sub(report.requests)
        .context("wrk counted answers nobody gave")?;
    ensure!(
        surplus <= CLIENTS as u64,
        "{surplus} answers more than wrk got: {report:?}"
    );
    Ok(())
}

#[test]
fn a_changed_template_is_one_reload_that_fails_no_request_on_the_hosts_haproxy() {
    test_alone(&needs(HaproxyKind::Host), async |lab| {
        changed_template(lab, HaproxyKind::Host).await
    });
}

#[test]
fn a_changed_template_is_one_reload_that_fails_no_request_on_trixies_haproxy() {
    test_alone(&needs(HaproxyKind::Trixie), async |lab| {
        changed_template(lab, HaproxyKind::Trixie).await
    });
}

async fn changed_template(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let path = lab.path("haproxy.cfg.j2");
    let mut balancer = Balancer::start_with(lab, kind, |options| {
        std::fs::copy(BUILT_IN, &path)?;
        Ok(options.template(path.clone()))
    })
    .await?;
    let nodes = Node::start_all(lab, 1..=3).await?;
    for node in &nodes {
        node.join(&balancer.agent).await?;
    }
    balancer.serves(&names(&nodes)).await?;
    for connections in [Connections::PerRequest, Connections::KeepAlive] {
        let asked = || nodes.iter().map(|node| node.web.requests()).sum::<u64>();
        let before = (
            balancer.controller.status().await?,
            balancer.haproxy.worker().await?,
            asked(),
        );
        let load = Wrk::on(lab, balancer.controller.front(), connections)
            .count(CLIENTS)
            .start()?;
        wait_for("load", SOON, async || asked() > before.2 + 100).await?;

        let read_again = || balancer.controller.log().matches(READ_AGAIN).count();
        let (so_far, asked_so_far) = (read_again(), asked());
        balancer.controller.reload()?;
        wait_for("the unchanged template to be read", SOON, async || {
            read_again() > so_far
        })
        .await?;
        wait_for("load", SOON, async || asked() > asked_so_far + 1000).await?;
        assert_eq!(
            balancer.haproxy.worker().await?,
            before.1,
            "nothing changed, nothing reloaded"
        );

        change_skeleton(&path)?;
        balancer.controller.reload()?;
        wait_for("another worker", SOON, async || {
            balancer
                .haproxy
                .worker()
                .await
                .is_ok_and(|worker| worker != before.1)
        })
        .await?;
        balancer.serves(&names(&nodes)).await?;
        let after = balancer.haproxy.worker().await?;
        let asked_before = asked();
        wait_for("load on the new worker", SOON, async || {
            asked() > asked_before + 1000
        })
        .await?;
        let errors = balancer.haproxy.errors().await?;
        let report = load.stop().await?;

        println!("{kind:?}, {connections:?}: {report:?}");
        assert_eq!(report.failed(), 0, "{report:?}");
        assert_eq!(errors, Errors::default(), "{report:?}");
        same_count(&report, asked() - before.2)?;
        assert_eq!(balancer.haproxy.worker().await?, after, "one reload only");
        let status = balancer.controller.settles("one reload", SOON, |status| {
            status.counter("reloads") == before.0.counter("reloads") + 1
        });
        status.await?;
    }
    balancer.controller.stop().await
}

/// Appends something that no Runtime command can bring about.
fn change_skeleton(template: &std::path::Path) -> Result<()> {
    let text = std::fs::read_to_string(template)?;
    let number = text.matches("\nbackend unused").count();
    Ok(std::fs::write(
        template,
        format!("{text}\nbackend unused{number}\n    mode http\n"),
    )?)
}
