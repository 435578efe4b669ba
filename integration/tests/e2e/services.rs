//! Services that members name by tags, with the real Serf: they move under load, go and come back without a reload.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::{Balancer, WITHOUT_PAUSE};
use integration::controller::Status;
use integration::wrk::Connections;
use integration::{
    Agent, HaproxyKind, Load, Need, TestEnv, Web, Wrk, on_each_haproxy, test, wait_for,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Gossip takes its own time, and the machine does other things, too.
const GOSSIP: Duration = Duration::from_secs(60);

const SERVICES: &str = r#"
[services]
allow = ["shop", "api-*"]
default_host = "{service}.example.com"
hosts = ["*.example.com"]
paths = ["/v1", "/v2"]
[services.defaults]
balance = "leastconn"
[services.of.shop]
check = "HEAD /health"
"#;

/// A node without a web server of its own: an agent, and the services that it says it has.
struct Host {
    agent: Agent,
    webs: BTreeMap<u16, Web>,
}

impl Host {
    async fn start(lab: &TestEnv, balancer: &Balancer, number: u8, services: &str) -> Result<Self> {
        let agent = Agent::on(lab, format!("n{number}"), 100 + number).tag("svc", services);
        let mut host = Self {
            agent: agent.join(balancer.agent.ip()).start().await?,
            webs: BTreeMap::new(),
        };
        host.serve(services)?;
        Ok(host)
    }

    /// Starts the web servers of these services: each is called as its server.
    fn serve(&mut self, services: &str) -> Result<()> {
        for service in services.split(',') {
            let (name, port) = service.split_once(':').context("a port")?;
            let port = port.parse()?;
            if !self.webs.contains_key(&port) {
                let name = format!("{name}/{}:{port}", self.agent.name());
                let web = Web::start(name, (self.agent.ip(), port).into())?;
                self.webs.insert(port, web);
            }
        }
        Ok(())
    }

    /// Has these services from now on; the web servers of the others go on.
    async fn has(&mut self, services: &str) -> Result<()> {
        self.serve(services)?;
        self.agent.set_tag("svc", services).await
    }
}

async fn start(lab: &TestEnv, kind: HaproxyKind, more: &str) -> Result<Balancer> {
    let more = format!("{SERVICES}{more}");
    Balancer::start_with(lab, kind, |options| Ok(options.sections(&more))).await
}

/// The servers of a service that are in rotation.
fn serving(status: &Status, service: &str) -> Vec<String> {
    let servers = status.0["backends"][service]["servers"].as_object();
    let ready = servers
        .into_iter()
        .flatten()
        .filter(|(_, server)| server["state"] == "ready");
    ready.map(|(name, _)| name.clone()).collect()
}

async fn serves(balancer: &Balancer, service: &str, servers: &[&str]) -> Result<Status> {
    let what = format!("{service} to be served by {servers:?}");
    let settled = balancer.controller.settles(&what, GOSSIP, |status| {
        serving(status, service) == servers && status.0["file"]["state"] == "current"
    });
    settled.await
}

/// Status and body of an answer to one request.
async fn ask(balancer: &Balancer, host: &str, path: &str) -> Result<(u16, String)> {
    let mut socket = tokio::net::TcpStream::connect(balancer.controller.front()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}

async fn reloads(balancer: &Balancer) -> Result<u64> {
    Ok(balancer.controller.status().await?.counter("reloads"))
}

fn nothing_failed(what: &str, load: Load, servers: &[&str]) -> Result<()> {
    let seen = load.stop();
    println!(
        "{what}: {} answers, {} failed, {:?}",
        seen.total(),
        seen.failed,
        seen.answers
    );
    ensure!(seen.failed == 0 && seen.total() > 100, "{seen:?}");
    for server in servers {
        ensure!(
            seen.answers.contains_key(*server),
            "none of {server}: {seen:?}"
        );
    }
    ensure!(
        seen.answers.keys().all(|it| it.starts_with(what)),
        "{seen:?}"
    );
    Ok(())
}

/// Two services on three nodes, by host and by path, several instances on one node; one moves to other nodes under load.
async fn moves(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let balancer = start(lab, kind, "").await?;
    let mut n1 = Host::start(lab, &balancer, 1, "shop:3000,api-v1:4000,api-v1:4001").await?;
    let mut n2 = Host::start(lab, &balancer, 2, "shop:3000").await?;
    let mut n3 = Host::start(lab, &balancer, 3, "api-v1:4000").await?;
    for host in [&n1, &n3] {
        host.agent.set_tag("host.api-v1", "www.example.com").await?;
        host.agent.set_tag("path.api-v1", "/v1").await?;
    }
    serves(&balancer, "shop", &["n1:3000", "n2:3000"]).await?;
    serves(&balancer, "api-v1", &["n1:4000", "n1:4001", "n3:4000"]).await?;
    wait_for("the route by path", GOSSIP, async || {
        let answer = ask(&balancer, "www.example.com", "/v1/x").await;
        answer.is_ok_and(|(status, body)| status == 200 && body.starts_with("api-v1"))
    })
    .await?;
    let (status, _) = ask(&balancer, "www.example.com", "/v10").await?;
    ensure!(status == 503, "{status}: whole segments only");

    let before = reloads(&balancer).await?;
    let front = balancer.controller.front();
    let shop = Load::asking(front, "shop.example.com", "", WITHOUT_PAUSE);
    let api = Load::asking(front, "www.example.com", "/v1", WITHOUT_PAUSE);
    let wrk = Wrk::on(lab, front, Connections::KeepAlive).asking("shop.example.com", "/");
    let wrk = wrk.count(4).start()?;
    n3.has("api-v1:4000,shop:3000,shop:3001").await?;
    serves(
        &balancer,
        "shop",
        &["n1:3000", "n2:3000", "n3:3000", "n3:3001"],
    )
    .await?;
    n1.has("api-v1:4000,api-v1:4001").await?;
    serves(&balancer, "shop", &["n2:3000", "n3:3000", "n3:3001"]).await?;
    n2.has("api-v1:4000").await?;
    serves(&balancer, "shop", &["n3:3000", "n3:3001"]).await?;
    serves(
        &balancer,
        "api-v1",
        &["n1:4000", "n1:4001", "n2:4000", "n3:4000"],
    )
    .await?;
    n1.agent.set_tag("state.api-v1:4001", "drain").await?;
    serves(&balancer, "api-v1", &["n1:4000", "n2:4000", "n3:4000"]).await?;
    let report = wrk.stop().await?;
    println!(
        "{kind:?}: wrk {} requests, {} failed",
        report.requests,
        report.failed()
    );
    ensure!(report.failed() == 0 && report.requests > 0, "{report:?}");
    nothing_failed("shop", shop, &["shop/n1:3000", "shop/n3:3001"])?;
    nothing_failed("api-v1", api, &["api-v1/n1:4001", "api-v1/n2:4000"])?;
    let after = reloads(&balancer).await?;
    println!(
        "{kind:?}: reloads until the services were there {before}, since then {}",
        after - before
    );
    ensure!(
        after == before,
        "{:#?}",
        balancer.controller.history().await?
    );
    Ok(())
}

/// The last member goes: the backend stays and answers with its page, over restarts too; the next one needs no reload.
async fn comes_back(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let page = lab.path("503.http");
    std::fs::write(
        &page,
        "HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\nCache-Control: no-cache\r\n\r\nback soon",
    )?;
    let more = format!("maintenance_page = {page:?}\n");
    let mut balancer = start(lab, kind, &more).await?;
    let mut n1 = Host::start(lab, &balancer, 1, "shop:3000").await?;
    serves(&balancer, "shop", &["n1:3000"]).await?;
    let before = reloads(&balancer).await?;
    ensure!(ask(&balancer, "shop.example.com", "/").await? == (200, "shop/n1:3000".to_owned()));

    n1.agent.begin_leave()?;
    n1.webs.clear();
    balancer.agent.knows(1, "left", GOSSIP).await?;
    let empty = |status: &Status| status.0["services"]["shop"]["empty_since"].is_u64();
    let settles = balancer
        .controller
        .settles("an empty service", GOSSIP, empty);
    settles.await?;
    let answers = async |balancer: &Balancer| ask(balancer, "shop.example.com", "/").await;
    ensure!(
        answers(&balancer).await? == (503, "back soon".to_owned()),
        "{:?}",
        answers(&balancer).await
    );
    ensure!(reloads(&balancer).await? == before);

    let worker = balancer.haproxy.worker().await?.pid;
    balancer.controller.stop().await?;
    balancer.controller.restart()?;
    balancer
        .controller
        .settles("the controller to be back", GOSSIP, |status| {
            empty(status) && status.is_whole()
        })
        .await?;
    ensure!(
        balancer.haproxy.worker().await?.pid == worker,
        "it was reloaded"
    );
    balancer.haproxy.start().await?;
    wait_for("HAProxy to be back", GOSSIP, async || {
        answers(&balancer)
            .await
            .is_ok_and(|it| it == (503, "back soon".to_owned()))
    })
    .await?;

    let _n2 = Host::start(lab, &balancer, 2, "shop:3000").await?;
    serves(&balancer, "shop", &["n2:3000"]).await?;
    ensure!(answers(&balancer).await? == (200, "shop/n2:3000".to_owned()));
    println!("{kind:?}: back with {} reloads", reloads(&balancer).await?);
    ensure!(
        reloads(&balancer).await? == 0,
        "{:#?}",
        balancer.controller.history().await?
    );
    Ok(())
}

/// A service that nobody serves for `keep_empty` goes, with one reload.
async fn goes(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let more = "[reload]\nmin_interval = \"100ms\"\n";
    let services = SERVICES.replace(
        "[services.defaults]",
        "keep_empty = \"1s\"\n[services.defaults]",
    );
    let balancer = Balancer::start_with(lab, kind, |options| {
        Ok(options.sections(&format!("{services}{more}")))
    });
    let balancer = balancer.await?;
    let mut n1 = Host::start(lab, &balancer, 1, "shop:3000,api-v1:4000").await?;
    serves(&balancer, "shop", &["n1:3000"]).await?;
    serves(&balancer, "api-v1", &["n1:4000"]).await?;
    let before = reloads(&balancer).await?;
    n1.webs.remove(&3000);
    n1.agent.set_tag("svc", "api-v1:4000").await?;
    balancer
        .controller
        .settles("the service to go", GOSSIP, |status| {
            status.0["services"].get("shop").is_none() && status.is_whole()
        })
        .await?;
    let after = reloads(&balancer).await?;
    println!("{kind:?}: {} reload when it went", after - before);
    ensure!(
        after == before + 1,
        "{:#?}",
        balancer.controller.history().await?
    );
    ensure!(ask(&balancer, "shop.example.com", "/").await?.0 == 503);
    ensure!(ask(&balancer, "api-v1.example.com", "/").await?.0 == 200);
    Ok(())
}

on_each_haproxy! {
    services_move_between_nodes_under_load_without_a_reload => moves;
    an_empty_service_answers_with_its_page_and_comes_back_without_a_reload => comes_back;
    a_service_that_stays_empty_goes_with_one_reload => goes;
}

/// What members announce beyond what they may is said, and changes nothing.
#[test]
fn what_a_member_may_not_announce_is_refused_and_said() {
    test(
        &[Need::Serf, Need::Haproxy(HaproxyKind::Host)],
        async |lab| {
            let mut balancer = start(lab, HaproxyKind::Host, "").await?;
            let n1 = Host::start(lab, &balancer, 1, "shop:3000").await?;
            let n2 = Host::start(lab, &balancer, 2, "shop:3000").await?;
            serves(&balancer, "shop", &["n1:3000", "n2:3000"]).await?;
            n1.agent
                .set_tag("svc", "shop:3000,admin:3000,nodes:3000,x y,api-a:22")
                .await?;
            n2.agent.set_tag("host.shop", "bank.example.com").await?;
            let reason = |status: &Status, what: &str| status.0["quarantined"][what].to_string();
            let status = balancer
                .controller
                .settles("the reasons", GOSSIP, |status| {
                    reason(status, "admin/n1").contains("services] allow")
                        && reason(status, "nodes/n1").contains("services] allow")
                        && reason(status, "x y/n1").contains("no service")
                        && reason(status, "api-a/n1:22").contains("port 22 is not allowed")
                        && status.0["services"]["shop"]["disputes"] != serde_json::json!([])
                });
            let status = status.await?;
            let text = format!("{status:?}");
            ensure!(text.contains("disagree about its host: bank.example.com by n2, which holds; shop.example.com by n1"), "{text}");
            ensure!(
                status.0["services"]
                    .as_object()
                    .is_some_and(|all| all.len() == 1),
                "{text}"
            );
            let output = checked(&mut balancer).await?;
            println!("{output}");
            for line in [
                "member n1: shop: server shop/n1:3000 at ",
                "member n1: admin: left out: members may not announce it",
                "member n1: nodes: left out: members may not announce it",
                "member n2: shop: server shop/n2:3000 at ",
            ] {
                ensure!(output.contains(line), "{output}");
            }
            Ok(())
        },
    );
}

async fn checked(balancer: &mut Balancer) -> Result<String> {
    let output = balancer.controller.options().run("check", &[]).await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Members whose names can be no servers' are served under others, and shown with both.
#[test]
fn members_whose_names_can_be_no_servers_are_served_under_others() {
    test(
        &[Need::Serf, Need::Haproxy(HaproxyKind::Host)],
        async |lab| {
            let balancer = Balancer::start_with(lab, HaproxyKind::Host, |options| {
                Ok(options.serf("names = \"map\"").sections(SERVICES))
            });
            let balancer = balancer.await?;
            let mut webs = Vec::new();
            let mut agents = Vec::new();
            for (number, name) in [
                (1, "00:11:22:33:44:55"),
                (2, "host:8080"),
                (3, "m\u{fc}ller"),
            ] {
                let agent = Agent::on(lab, name, 100 + number).tag("svc", "shop:3000");
                let agent = agent
                    .tag("role", "backend")
                    .join(balancer.agent.ip())
                    .start()
                    .await?;
                webs.push(Web::start(name, (agent.ip(), 3000).into())?);
                agents.push(agent);
            }
            let mapped = [
                "_00_3a11_3a22_3a33_3a44_3a55",
                "_host_3a8080",
                "_m_c3_bcller",
            ];
            balancer.serves(&mapped).await?;
            let status = serves(
                &balancer,
                "shop",
                &mapped
                    .map(|name| format!("{name}:3000"))
                    .each_ref()
                    .map(String::as_str),
            )
            .await?;
            let member =
                |server: &str| status.0["backends"]["shop"]["servers"][server]["member"].clone();
            ensure!(member("_host_3a8080:3000") == "host:8080", "{status:?}");
            ensure!(
                member("_m_c3_bcller:3000") == "m\\xc3\\xbcller",
                "{status:?}"
            );
            let text = balancer.controller.status_text().await?;
            ensure!(text.contains("(member 00:11:22:33:44:55)"), "{text}");
            // Its agent is gone, and its web server: gossip is asked for the member.
            agents[1].kill();
            webs[1].close();
            let gossip = |status: &Status| {
                let servers = &status.0["backends"]["shop"]["servers"];
                servers["_host_3a8080:3000"]["gossip"].clone()
            };
            balancer
                .controller
                .settles("gossip of it", GOSSIP, |status| gossip(status) == "failed")
                .await?;
            balancer.serves(&[mapped[0], mapped[2]]).await
        },
    );
}

/// So many services and instances fit into Serf's 512 bytes for all tags of a node.
#[test]
fn a_node_has_room_for_dozens_of_services() {
    test(&[Need::Serf], async |lab| {
        let agent = Agent::on(lab, "a", 1)
            .tag("role", "backend")
            .start()
            .await?;
        for (what, entry) in [("services", "svc-"), ("instances of one", "shop:30")] {
            let mut most = 0;
            for count in (1..=99).rev() {
                let entries = (1..=count).map(|number| match entry {
                    "svc-" => format!("svc-{number:02}:3000"),
                    _ => format!("{entry}{number:02}"),
                });
                let value = entries.collect::<Vec<_>>().join(",");
                if agent.set_tag("svc", &value).await.is_ok() {
                    most = count;
                    println!("{what}: {count} fit, {} bytes", value.len());
                    break;
                }
            }
            ensure!(most >= 36, "{what}: {most}");
        }
        Ok(())
    });
}
