//! Starts: in any order, with parts missing, after a crash of one part or of all.

use std::process::Output;

use anyhow::{Context, Result, bail};
use integration::cluster::{SOON, WITHOUT_PAUSE, first_file, names};
use integration::{
    Balancer, Controller, Haproxy, HaproxyKind, Load, Need, Node, TestEnv, test, wait_for,
};

const HOST: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
const FIRST_LINE: &str = "# written by serf-haproxy";

/// A part of the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Agent,
    Haproxy,
    Controller,
}

use Part::{Agent, Controller as Sidecar, Haproxy as Proxy};

const ORDERS: [[Part; 3]; 6] = [
    [Agent, Proxy, Sidecar],
    [Agent, Sidecar, Proxy],
    [Proxy, Agent, Sidecar],
    [Proxy, Sidecar, Agent],
    [Sidecar, Agent, Proxy],
    [Sidecar, Proxy, Agent],
];

#[test]
fn the_first_file_is_there_at_once_and_what_is_missing_is_said_once() {
    test(&HOST, async |lab| {
        let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let addr = lab.net().addr(1, integration::agent::RPC_PORT);
        let controller = Controller::on(lab, addr, &haproxy).start()?;
        first_file(&haproxy).await?;
        let text = std::fs::read_to_string(haproxy.config())?;
        assert!(text.starts_with(FIRST_LINE), "{text}");
        assert!(text.contains("\nbackend nodes"), "{text}");
        assert!(
            !text.lines().any(|line| line.trim().starts_with("server ")),
            "{text}"
        );

        // It serves nothing yet, and is found.
        haproxy.start().await?;
        assert_eq!(
            integration::web::get(controller.front(), "/")
                .await
                .map(|(status, _)| status),
            Some(503)
        );
        let found = controller.settles("HAProxy to be found", SOON, |status| {
            status.0["haproxy"]["state"] == "running" && status.0["agent"]["state"] == "waiting"
        });
        found.await?;

        let node = Node::start(lab, 1).await?;
        let agent = Balancer::agent(lab).await?;
        node.join(&agent).await?;
        haproxy.serves("nodes", &["s1"], SOON).await?;
        let log = controller.log();
        let said = |what: &str| {
            log.lines()
                .filter(|line| line.contains("WARN") && line.contains(what))
                .count()
        };
        assert_eq!(
            said(&format!("no Serf agent listens on {addr}")),
            1,
            "the agent's absence is said once:\n{log}"
        );
        // A master that is just starting may take a connection and drop it, which is another thing to say.
        assert_eq!(
            said("nor is there a way by its master: cannot connect"),
            1,
            "HAProxy's absence is said once:\n{log}"
        );
        Ok(())
    });
}

#[test]
fn an_agent_that_starts_last_is_found() {
    test(&HOST, async |lab| {
        started_in_order(lab, [Sidecar, Proxy, Agent]).await
    });
}

#[test]
fn haproxy_that_starts_last_is_found() {
    test(&HOST, async |lab| {
        started_in_order(lab, [Agent, Sidecar, Proxy]).await
    });
}

#[test]
fn a_controller_that_starts_first_finds_the_others() {
    test(&HOST, async |lab| {
        started_in_order(lab, [Sidecar, Agent, Proxy]).await
    });
}

async fn started_in_order(lab: &TestEnv, order: [Part; 3]) -> Result<()> {
    let node = Node::start(lab, 1).await?;
    let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
    let addr = lab.net().addr(1, integration::agent::RPC_PORT);
    let (mut agent, mut controller) = (None, None);
    for part in order {
        match part {
            Agent => {
                let started = Balancer::agent(lab).await?;
                node.join(&started).await?;
                agent = Some(started);
            }
            Proxy => haproxy.start().await?,
            Sidecar => {
                controller = Some(Controller::on(lab, addr, &haproxy).start()?);
                first_file(&haproxy).await?;
            }
        }
    }
    let controller = controller.context("every order has a controller")?;
    haproxy.serves("nodes", &["s1"], SOON).await?;
    assert_eq!(
        integration::web::ask(controller.front()).await.as_deref(),
        Some("s1")
    );
    let status = controller
        .settles("all parts", SOON, |status| status.is_whole())
        .await?;
    assert_eq!(status.counter("reloads"), 0, "{status:?}");
    drop(agent);
    Ok(())
}

#[test]
fn a_balancer_killed_whole_uses_all_servers_again_before_its_agent_has_rejoined() {
    test(&HOST, async |lab| {
        let (mut balancer, mut nodes) =
            Balancer::start_serving(lab, HaproxyKind::Host, 1..=3).await?;
        let settled = balancer
            .controller
            .settles("all parts", SOON, |status| status.is_whole());
        settled.await?;
        // Nobody tells the agent's next life of the others.
        for node in &mut nodes {
            node.freeze_agent()?;
        }
        for order in ORDERS {
            restart_whole(&mut balancer, order).await?;
            balancer
                .serves(&names(&nodes))
                .await
                .with_context(|| format!("{order:?}"))?;
            let whole = balancer
                .controller
                .settles("all parts", SOON, |status| status.is_whole());
            whole.await.with_context(|| format!("{order:?}"))?;
            assert_eq!(
                balancer.agent.members().await?.len(),
                1,
                "the agent knows itself alone"
            );

            let load = Load::start(balancer.controller.front(), WITHOUT_PAUSE);
            wait_for("every server to answer", SOON, async || {
                load.seen().answers.len() == 3
            })
            .await?;
            let seen = load.stop();
            assert_eq!(seen.failed, 0, "{order:?}: {seen:?}");
            balancer
                .serves(&names(&nodes))
                .await
                .with_context(|| format!("{order:?}"))?;
        }
        Ok(())
    });
}

async fn restart_whole(balancer: &mut Balancer, order: [Part; 3]) -> Result<()> {
    balancer.controller.kill();
    balancer.agent.kill();
    balancer.haproxy.kill().await?;
    for part in order {
        match part {
            Agent => balancer.agent.restart().await?,
            Proxy => balancer.haproxy.start().await?,
            Sidecar => balancer.controller.restart()?,
        }
    }
    Ok(())
}

#[test]
fn a_lost_agent_takes_nothing_out() {
    test(&HOST, async |lab| {
        let (mut balancer, mut nodes) =
            Balancer::start_serving(lab, HaproxyKind::Host, 1..=3).await?;
        let worker = balancer.haproxy.worker().await?;
        for node in &mut nodes {
            node.freeze_agent()?;
        }
        balancer.agent.kill();
        let lost = balancer
            .controller
            .settles("the agent's loss to be seen", SOON, |status| {
                status.0["agent"]["state"] == "lost"
            });
        assert_eq!(lost.await?.servers("ready"), 3);
        // Back, it knows nobody.
        balancer.agent.restart().await?;
        let found = balancer
            .controller
            .settles("the agent to be found", SOON, |status| {
                status.is_whole()
                    && status.0["backends"]["nodes"]["servers"]["s1"]["gossip"] == "absent"
            });
        assert_eq!(found.await?.servers("ready"), 3);
        balancer.serves(&names(&nodes)).await?;
        assert_eq!(balancer.haproxy.worker().await?, worker);
        Ok(())
    });
}

#[test]
fn a_killed_controller_takes_over_the_running_haproxy_without_a_reload() {
    test(&HOST, async |lab| {
        let mut balancer = Balancer::start(lab, HaproxyKind::Host).await?;
        let mut nodes = Node::start_all(lab, 1..=4).await?;
        for node in &nodes[..3] {
            node.join(&balancer.agent).await?;
        }
        balancer.serves(&["s1", "s2", "s3"]).await?;
        let settled = balancer
            .controller
            .settles("all parts", SOON, |status| status.is_whole());
        settled.await?;
        let worker = balancer.haproxy.worker().await?;
        let load = Load::start(balancer.controller.front(), WITHOUT_PAUSE);

        // While it is away one joins and one leaves.
        balancer.controller.kill();
        nodes[3].join(&balancer.agent).await?;
        nodes[0].agent.leave().await?;
        balancer.agent.sees_off(&["s1"]).await?;
        balancer.controller.restart()?;

        balancer.serves(&["s2", "s3", "s4"]).await?;
        let whole = balancer
            .controller
            .settles("all parts", SOON, |status| status.is_whole());
        assert_eq!(whole.await?.counter("reloads"), 0);
        assert_eq!(balancer.haproxy.worker().await?, worker);
        let seen = load.stop();
        assert_eq!(seen.failed, 0, "{seen:?}");

        balancer.controller.stop().await?;
        assert_eq!(
            balancer.haproxy.worker().await?,
            worker,
            "it goes and leaves HAProxy as it is"
        );
        balancer.serves(&["s2", "s3", "s4"]).await
    });
}

#[test]
fn a_config_with_an_error_ends_with_78_and_names_file_line_and_key() {
    test(&[], async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let addr = lab.net().addr(1, integration::agent::RPC_PORT);
        let options = Controller::on(lab, addr, &haproxy).sections("[debounce]\nquiet = \"soon\"");
        options.write()?;
        let text = std::fs::read_to_string(options.path())?;
        let line = 1 + text
            .lines()
            .position(|line| line.starts_with("quiet"))
            .context("a line")?;
        let said = refuses(&options.run("run", &[]).await?, 78)?;
        let place = format!("{}:{line}:", options.path().display());
        assert!(said.contains(&place), "no {place} in {said}");
        assert!(said.contains("debounce.quiet"), "{said}");
        assert!(!haproxy.config().exists());
        Ok(())
    });
}

#[test]
fn a_template_with_an_error_is_named_with_its_line_and_changes_nothing() {
    test(&HOST, async |lab| {
        let path = lab.path("own.cfg.j2");
        let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");
        let good = std::fs::read_to_string(built_in).context("the built-in template")?;
        std::fs::write(&path, &good)?;
        let balancer = Balancer::start_with(lab, HaproxyKind::Host, |options| {
            Ok(options.template(path.clone()))
        })
        .await?;
        let nodes = Node::start_all(lab, 1..=2).await?;
        nodes[0].join(&balancer.agent).await?;
        balancer.serves(&["s1"]).await?;
        let settled = balancer
            .controller
            .settles("all parts", SOON, |status| status.is_whole());
        settled.await?;
        let worker = balancer.haproxy.worker().await?;

        // One that cannot be rendered.
        let broken = good.lines().count() + 1;
        std::fs::write(&path, format!("{good}{{{{ nonsense.nothing }}}}\n"))?;
        balancer.controller.reload()?;
        let place = format!("own.cfg.j2:{broken}");
        wait_for(&format!("the log to name {place}"), SOON, async || {
            balancer.controller.log().contains(&place)
        })
        .await?;
        assert_eq!(balancer.haproxy.worker().await?, worker);

        // One that HAProxy refuses; the membership goes on with the last good one meanwhile.
        std::fs::write(&path, format!("{good}nonsense\n"))?;
        balancer.controller.reload()?;
        let problem = balancer
            .controller
            .settles("the status to name a problem", SOON, |status| {
                status.0["problems"].as_array().is_some_and(|problems| {
                    problems
                        .iter()
                        .any(|problem| problem.to_string().contains(&place))
                })
            });
        problem.await?;
        nodes[1].join(&balancer.agent).await?;
        balancer.serves(&["s1", "s2"]).await?;
        assert_eq!(balancer.haproxy.worker().await?, worker);
        assert!(!std::fs::read_to_string(balancer.haproxy.config())?.contains("nonsense"));
        Ok(())
    });
}

#[test]
fn a_haproxy_cfg_of_somebody_elses_is_never_overwritten_unasked() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let foreign = "# tended by hand\nglobal\n";
        std::fs::write(haproxy.config(), foreign)?;
        let addr = lab.net().addr(1, integration::agent::RPC_PORT);
        let options = Controller::on(lab, addr, &haproxy);
        options.write()?;
        let said = refuses(&options.run("run", &[]).await?, 78)?;
        assert!(
            said.contains("haproxy.cfg") && said.contains("--adopt"),
            "{said}"
        );
        assert_eq!(std::fs::read_to_string(haproxy.config())?, foreign);

        let _controller = options.arg("--adopt").start()?;
        wait_for("the file to be taken over", SOON, async || {
            std::fs::read_to_string(haproxy.config()).is_ok_and(|text| text.starts_with(FIRST_LINE))
        })
        .await?;
        let copies = std::fs::read_dir(lab.dir())?
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
            .filter(|text| text == foreign);
        assert_eq!(copies.count(), 1, "a copy is kept");
        Ok(())
    });
}

/// What it said on standard error, having ended with this code.
fn refuses(output: &Output, code: i32) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(code) {
        bail!("ended with {}: {said}", output.status);
    }
    Ok(said)
}
