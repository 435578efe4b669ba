//! What a check asks: HAProxy's and the controller's own probe the same, and who admits where they differ.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::scenario::Scenario;
use integration::{HaproxyKind, Manners, TestEnv, Web, on_each_haproxy, wait_for, wait_some, web};

/// The port of the health page that is apart from the traffic.
const HEALTH: u16 = 8081;

/// A backend of the config, a front end of its own before it, and one web server in it.
struct Case {
    name: &'static str,
    /// Lines of its `[[backend]]`.
    config: &'static str,
    /// Whether the controller's own probe lets in.
    own: bool,
    manners: fn(Manners) -> Result<Manners>,
}

const CASES: [Case; 9] = [
    Case {
        name: "tls",
        config: "server_options = \"ssl verify none\"\n\
                 check = { path = \"/health\", tls = true, sni = \"web.example\" }",
        own: true,
        manners: |manners| manners.tls("web.example"),
    },
    Case {
        name: "tls-tcp",
        config: "server_options = \"ssl verify none\"\ncheck = { tls = true }",
        own: true,
        manners: |manners| manners.tls("web.example"),
    },
    Case {
        name: "proxy-v1",
        config: "server_options = \"send-proxy\"\ncheck = { path = \"/health\", send_proxy = true }",
        own: true,
        manners: |manners| Ok(manners.proxy()),
    },
    Case {
        name: "proxy-v2",
        config: "server_options = \"send-proxy-v2\"\n\
                 check = { method = \"HEAD\", path = \"/health\", send_proxy = \"v2\" }",
        own: true,
        manners: |manners| Ok(manners.proxy()),
    },
    Case {
        name: "host",
        config: "check = { path = \"/health\", host = \"www.example\", status = 200 }",
        own: true,
        manners: |manners| Ok(manners.host("www.example")),
    },
    Case {
        name: "port",
        config: "check = { path = \"/health\", port = 8081 }",
        own: true,
        manners: Ok,
    },
    // What follows is asked by HAProxy otherwise than by `check`.
    Case {
        name: "ssl-unsaid",
        config: "server_options = \"ssl verify none\"\ncheck = \"HEAD /health\"",
        own: false,
        manners: |manners| manners.tls("web.example"),
    },
    Case {
        name: "proxy-unsaid",
        config: "server_options = \"send-proxy-v2\"\ncheck = \"HEAD /health\"",
        own: false,
        manners: |manners| Ok(manners.proxy()),
    },
    Case {
        name: "port-unsaid",
        config: "server_options = \"port 8081\"\ncheck = \"HEAD /health\"",
        own: false,
        manners: Ok,
    },
];

/// A template with a front end for each case, on `.1` and a port of its own, and the built-in backends.
fn template(lab: &TestEnv) -> String {
    let fronts: String = CASES
        .iter()
        .enumerate()
        .map(|(index, case)| {
            let (name, front) = (case.name, front(lab, index));
            format!("frontend for-{name}\n    bind {front}\n    default_backend {name}\n")
        })
        .collect();
    format!(
        "global\n    description \"serf-haproxy {{{{ stamp }}}}\"\n    \
         stats socket {{{{ haproxy.stats_socket }}}} mode 600 level admin expose-fd listeners\n    \
         hard-stop-after {{{{ hard_stop_after }}}}\ndefaults\n    mode http\n    timeout connect 500ms\n    \
         timeout client 10s\n    timeout server 10s\n{fronts}{{% include \"backends.cfg.j2\" %}}\n"
    )
}

fn front(lab: &TestEnv, index: usize) -> SocketAddr {
    let index = u16::try_from(index).expect("few cases");
    lab.net().addr(1, 9000 + index)
}

/// Web servers of every manner join one backend each: all are served, and stay so in the next worker.
async fn every_manner(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let path = lab.path("template.j2");
    std::fs::write(&path, template(lab))?;
    let backends: String = CASES
        .iter()
        .map(|Case { name, config, .. }| {
            format!("[[backend]]\nname = \"{name}\"\ntags = {{ role = \"{name}\" }}\nport = 3000\n{config}\n")
        })
        .collect();
    let configure = |options: integration::controller::ControllerOptions| {
        options.template(path).sections(&backends)
    };
    let mut stage = Scenario::start_on(lab, kind, 0, configure).await?;
    let said = stage.controller.options().run("check", &[]).await?;
    let said = String::from_utf8(said.stdout)?;
    let mut pages = Vec::new();
    for (case, last) in CASES.iter().zip(100..) {
        let manners = (case.manners)(Manners::default())?;
        let addr = lab.net().addr(last, integration::cluster::WEB_PORT);
        stage.join(Web::with_manners(case.name, addr, manners), case.name)?;
        if case.name.starts_with("port") {
            pages.push(Web::start("page", lab.net().addr(last, HEALTH))?);
        }
        let by = if case.own {
            "admitted by the controller's own probe"
        } else {
            "admitted by HAProxy's first good check, because its line checks otherwise"
        };
        let by = format!("backend {}: {by}", case.name);
        ensure!(said.contains(&by), "{by:?} is not in\n{said}");
    }
    served(&stage, lab).await?;
    let before = stage.haproxy.worker().await?;
    ensure!(reloads(&stage).await? == 0, "a join reloaded");
    stage.haproxy.reload().await?;
    wait_for("another worker", SOON, async || {
        let worker = stage.haproxy.worker().await;
        worker.is_ok_and(|worker| worker.pid != before.pid)
    })
    .await?;
    // Checks of the new worker have come back.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    served(&stage, lab).await
}

/// Every case's server is up with a good check, and answers through the front end of its case.
async fn served(stage: &Scenario, lab: &TestEnv) -> Result<()> {
    for (index, Case { name, own, .. }) in CASES.iter().enumerate() {
        let what = format!("{name} to be checked good");
        let good = wait_some(&what, SOON, async || {
            let lines = stage.haproxy.stat().await.ok()?;
            let line = lines.into_iter().find(|line| line.get("svname") == *name)?;
            let good = matches!(line.get("check_status"), "L4OK" | "L6OK" | "L7OK");
            (good && line.get("status") == "UP").then_some(())
        });
        good.await
            .with_context(|| format!("{:?}", stage.controller.log()))?;
        let answer = web::ask(front(lab, index)).await;
        ensure!(
            answer.as_deref() == Some(*name),
            "{name} (own probe: {own}) answers {answer:?}"
        );
    }
    Ok(())
}

async fn reloads(stage: &Scenario) -> Result<u64> {
    Ok(stage.controller.status().await?.counter("reloads"))
}

on_each_haproxy! {
    web_servers_of_every_manner_are_admitted_and_checked_the_same_after_a_reload => every_manner;
}
