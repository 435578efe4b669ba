//! A site's own haproxy.cfg becomes a template: HAProxy reads the same servers of it, goes over to it under load without a
//! failure, and from then on servers come and go without a reload.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cluster::WEB_PORT;
use integration::controller::Status;
use integration::fake_agent::node;
use integration::wrk::{Connections, Loads};
use integration::{
    Controller, FakeAgent, Haproxy, HaproxyKind, Need, TestEnv, Web, Wrk, on_each_haproxy, test,
    view, wait_for,
};
use serde_json::Value;
use serf_rpc::MemberStatus;

on_each_haproxy! {
    a_site_goes_over_under_load_and_its_servers_come_and_go_from_then_on => goes_over;
}

/// How long a check of the site's takes to let a server in.
const PATIENCE: Duration = Duration::from_secs(30);

/// A site with TLS, cookies, two backends, a server that stands by, one by its host's name, and signs of a template's own.
fn site(lab: &TestEnv, haproxy: &Haproxy) -> String {
    let at = |last, port| lab.net().addr(last, port);
    format!(
        "# the site, by hand\n\
         global\n\
         \tlog 127.0.0.1:9 local0\n\
         \tstats socket {socket} mode 660 level admin expose-fd listeners\n\
         \tdescription the site\n\n\
         defaults\n\
         \tmode http\n\
         \tlog global\n\
         \toption httplog\n\
         \toption redispatch 1\n\
         \ttimeout connect 1s\n\
         \ttimeout client 30s\n\
         \ttimeout server 30s\n\
         \ttimeout http-keep-alive 5s\n\
         \tdefault-server inter 500ms fall 2 rise 1\n\n\
         frontend plain\n\
         \tbind {plain}\n\
         \toption idle-close-on-response\n\
         \tlog-format \"%ci {{%[ssl_fc]}} {{{{%HM}}}} {{#\"\n\
         \tuse_backend api if {{ path_beg /api }}\n\
         \tdefault_backend nodes\n\n\
         frontend tls\n\
         \tbind {tls} ssl crt {dir}/site.pem\n\
         \toption idle-close-on-response\n\
         \tdefault_backend nodes\n\n\
         # {{% what members serve %}}\n\
         backend nodes\n\
         \tbalance roundrobin\n\
         \tcookie SRV insert indirect nocache\n\
         \tretry-on conn-failure empty-response\n\
         \thttp-request disable-l7-retry unless {{ method GET HEAD }}\n\
         \tserver web-1 {w1} check cookie web-1  # rack 1\n\
         \tserver web-2 {w2} cookie web-2 check\n\
         \tserver web-3 {w3} check cookie 'web-3'\n\
         \tserver sorry {sorry} backup\n\
         \tserver old localhost:9 check\n\n\
         backend api\n\
         \tbalance leastconn\n\
         \tserver api-1 {a1} check maxconn 100\n\
         \tserver api-2 {a2} check maxconn 200\n",
        socket = haproxy.stats_socket().display(),
        plain = at(1, 8080),
        tls = at(1, 8443),
        dir = lab.dir().display(),
        w1 = at(101, WEB_PORT),
        w2 = at(102, WEB_PORT),
        w3 = at(103, WEB_PORT),
        sorry = at(120, WEB_PORT),
        a1 = at(111, WEB_PORT),
        a2 = at(112, WEB_PORT),
    )
}

fn certificate(lab: &TestEnv) -> Result<()> {
    let (key, cert) = (lab.path("site.key"), lab.path("site.crt"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=site.test", "-keyout"])
        .args([&key, Path::new("-out"), &cert])
        .output()?;
    ensure!(made.status.success(), "openssl: {made:?}");
    let both = fs::read_to_string(key)? + &fs::read_to_string(cert)?;
    fs::write(lab.path("site.pem"), both)?;
    Ok(())
}

/// A site whose HAProxy runs, with its web servers and members of their names.
struct Site {
    agent: FakeAgent,
    haproxy: Haproxy,
    webs: Vec<Web>,
    text: String,
}

impl Site {
    async fn start(lab: &TestEnv, kind: HaproxyKind) -> Result<Self> {
        certificate(lab)?;
        let haproxy = Haproxy::prepare(lab, kind).await?;
        let text = site(lab, &haproxy);
        fs::write(haproxy.config(), &text)?;
        let mut site = Self {
            agent: FakeAgent::on(lab, "balancer", 1).start()?,
            haproxy,
            webs: Vec::new(),
            text,
        };
        for number in 1..=3 {
            site.join(lab, &format!("web-{number}"), 100 + number, "backend")?;
        }
        for number in 1..=2 {
            site.join(lab, &format!("api-{number}"), 110 + number, "api")?;
        }
        site.haproxy.start().await?;
        Ok(site)
    }

    fn join(&mut self, lab: &TestEnv, name: &str, last: u8, role: &str) -> Result<()> {
        let addr = lab.net().addr(last, WEB_PORT);
        self.webs.push(Web::start(name, addr)?);
        let member = node(name, lab.net().ip(last)).tag("role", role);
        self.agent.put(member.build());
        Ok(())
    }

    /// Runs `serf-haproxy migrate` with these arguments.
    async fn migrate(&self, lab: &TestEnv, args: &[&str]) -> Result<Output> {
        let options = Controller::on(lab, self.agent.rpc_addr(), &self.haproxy);
        options.run("migrate", args).await
    }

    /// The same for this site, into a folder.
    async fn out(&self, lab: &TestEnv, folder: &str) -> Result<Output> {
        let file = self.haproxy.config().display().to_string();
        let agent = self.agent.rpc_addr().to_string();
        let check = self.haproxy.check_command().join(" ");
        let args = [
            &file,
            "--backend=nodes=role=backend",
            "--backend=api",
            "--agent",
            &agent,
            "--check-command",
            &check,
            "--out",
            folder,
        ];
        self.migrate(lab, &args).await
    }
}

fn text(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    format!("{said}{}", String::from_utf8_lossy(&output.stderr))
}

async fn goes_over(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let mut site = Site::start(lab, kind).await?;
    let up = ["web-1", "web-2", "web-3", "sorry"];
    site.haproxy.serves("nodes", &up, PATIENCE).await?;
    let before = view::servers(&site.haproxy).await?;

    let folder = lab.path("migrated");
    let out = folder.display().to_string();
    let done = site.out(lab, &out).await?;
    ensure!(done.status.success(), "{}", text(&done));
    let said = text(&done);
    for part in [
        "web-3",
        "a member's (web-1); its comment goes: rack 1",
        "stays: `backup`",
        "stays: a host name",
        "all 5 are read as before",
        "takes the new text as it takes the old one",
        "members with role=api",
        "`maxconn` of api-2 is kept by name",
        "`description the site` is not seen any more",
    ] {
        ensure!(said.contains(part), "no {part} in {said}");
    }
    let report: Value = serde_json::from_slice(&fs::read(folder.join("migrate.json"))?)?;
    let reloads = |index: usize| report["backends"][index]["reloads"].to_string();
    assert_eq!(reloads(1), "[]");
    assert_eq!(
        reloads(0).contains("`cookie`"),
        kind == HaproxyKind::Host,
        "{}",
        reloads(0)
    );

    let loads = Loads::start(lab, lab.net().addr(1, 8080))?;
    let tls = Wrk::on(lab, lab.net().addr(1, 8443), Connections::KeepAlive);
    let tls = tls.count(2).tls().start()?;
    let made = fs::read_to_string(folder.join("config.toml"))?;
    let options =
        Controller::on(lab, site.agent.rpc_addr(), &site.haproxy).config_beside_master(&made);
    let controller = options.arg("--adopt").arg("--yes").start()?;
    let ready = |status: &Status, backend: &str, names: &[&str]| {
        status.named(backend, "ready") == names && status.is_whole()
    };
    controller
        .settles("the site's servers", PATIENCE, |status| {
            ready(status, "nodes", &["web-1", "web-2", "web-3"])
                && ready(status, "api", &["api-1", "api-2"])
        })
        .await?;
    assert!(fs::read_to_string(lab.path("haproxy.cfg.before-serf-haproxy"))? == site.text);
    let mut now = None;
    let same = wait_for("the same servers", PATIENCE, async || {
        now = view::servers(&site.haproxy).await.ok();
        now.as_ref() == Some(&before)
    });
    same.await
        .with_context(|| format!("before {before:#?}, now {now:#?}"))?;

    let reloads = controller.status().await?.counter("reloads");
    site.join(lab, "api-3", 113, "api")?;
    let all = ["api-1", "api-2", "api-3"];
    let joined = |status: &Status| ready(status, "api", &all);
    controller.settles("the join", PATIENCE, joined).await?;
    site.agent.set_status("api-1", MemberStatus::Leaving);
    site.agent.set_status("api-1", MemberStatus::Left);
    let left = |status: &Status| ready(status, "api", &["api-2", "api-3"]);
    controller.settles("the leave", PATIENCE, left).await?;
    assert_eq!(controller.status().await?.counter("reloads"), reloads);

    site.join(lab, "web-4", 104, "backend")?;
    let all = ["web-1", "web-2", "web-3", "web-4"];
    let joined = |status: &Status| ready(status, "nodes", &all);
    let status = controller.settles("the join", PATIENCE, joined).await?;
    let by_word = u64::from(kind == HaproxyKind::Host);
    assert_eq!(status.counter("reloads"), reloads + by_word);
    loads.nothing_failed("a site goes over").await?;
    let tls = tls.stop().await?;
    assert_eq!(tls.failed(), 0, "{tls:?}");
    assert!(tls.requests > 0);

    // What is in use is not taken away, and there is nothing left to migrate.
    let undo = ["--undo", "--out", &out];
    let refused = site.migrate(lab, &undo).await?;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    ensure!(text(&refused).contains("is written from this template by now"));
    let again = site.out(lab, &out).await?;
    ensure!(
        again.status.success() && text(&again).starts_with("nothing to do"),
        "{}",
        text(&again)
    );
    Ok(())
}

#[test]
fn a_second_migrate_and_an_undo_change_nothing_that_is_not_theirs() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let site = Site::start(lab, HaproxyKind::Host).await?;
        let out = lab.path("migrated").display().to_string();
        let worker = site.haproxy.worker().await?;
        let first = site.out(lab, &out).await?;
        ensure!(first.status.success(), "{}", text(&first));
        let files = || -> Result<Vec<Vec<u8>>> {
            let names = ["haproxy.cfg.j2", "config.toml", "migrate.json"];
            let files = names.map(|name| fs::read(Path::new(&out).join(name)));
            Ok(files.into_iter().collect::<Result<_, _>>()?)
        };
        let written = files()?;
        let second = site.out(lab, &out).await?;
        ensure!(second.status.success(), "{}", text(&second));
        ensure!(text(&second).contains("nothing to do"));
        assert_eq!(files()?, written);
        // Of other members it would say something else, and overwrites nothing.
        let other = node("db", lab.net().ip(90)).tag("role", "backend");
        site.agent.put(other.build());
        let template = Path::new(&out).join("haproxy.cfg.j2");
        fs::write(&template, "mine")?;
        let refused = site.out(lab, &out).await?;
        assert_eq!(refused.status.code(), Some(1));
        ensure!(
            text(&refused).contains("is there already"),
            "{}",
            text(&refused)
        );
        let undo = ["--undo", "--out", out.as_str()];
        let refused = site.migrate(lab, &undo).await?;
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(fs::read_to_string(&template)?, "mine");
        fs::write(&template, written.first().context("a template")?)?;
        let undone = site.migrate(lab, &undo).await?;
        ensure!(undone.status.success(), "{}", text(&undone));
        assert_eq!(fs::read_dir(&out)?.count(), 0);
        let undone = site.migrate(lab, &undo).await?;
        ensure!(
            text(&undone).contains("nothing is taken away"),
            "{}",
            text(&undone)
        );
        assert_eq!(fs::read_to_string(site.haproxy.config())?, site.text);
        assert_eq!(site.haproxy.worker().await?, worker);
        Ok(())
    });
}

#[test]
fn members_are_compared_with_the_servers_and_the_agent_need_not_answer() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let site = Site::start(lab, HaproxyKind::Host).await?;
        site.agent.remove("web-1");
        site.agent.remove("web-2");
        let other = node("rack-1", lab.net().ip(101)).tag("role", "backend");
        site.agent.put(other.build());
        let file = site.haproxy.config().display().to_string();
        let asked = async |agent: SocketAddr, more: &[&str]| -> Result<Output> {
            let agent = agent.to_string();
            let args = [&[file.as_str(), "--agent", &agent], more].concat();
            site.migrate(lab, &args).await
        };
        let said = asked(site.agent.rpc_addr(), &["--backend=nodes"]).await?;
        ensure!(said.status.success(), "{}", text(&said));
        let ip = lab.net().ip(102);
        for part in [
            "web-1: its member is called rack-1, and so will the server be",
            &format!("web-2: no member is at {ip}"),
            "`cookie` of rack-1 is kept by name in cookie_words",
            "members with role=backend",
            "+{% set cookie_words = {\"rack-1\": \" cookie web-1\"} %}",
        ] {
            ensure!(text(&said).contains(part), "no {part} in {}", text(&said));
        }
        let silent = asked(
            lab.net().addr(9, 7373),
            &["--backend=nodes", "--format=json"],
        )
        .await?;
        ensure!(silent.status.success(), "{}", text(&silent));
        let report: Value = serde_json::from_slice(&silent.stdout)?;
        assert!(report["agent"]["error"].is_string(), "{report}");
        assert_eq!(report["backends"][0]["tags"][0], "role=nodes");
        assert_eq!(report["proof"]["differences"], serde_json::json!([]));
        let none = asked(site.agent.rpc_addr(), &[]).await?;
        assert_eq!(none.status.code(), Some(64));
        ensure!(
            text(&none).contains("nodes (5), api (2)"),
            "{}",
            text(&none)
        );
        let wrong = asked(site.agent.rpc_addr(), &["--backend=wbe"]).await?;
        assert_eq!(wrong.status.code(), Some(1));
        assert_eq!(fs::read_to_string(site.haproxy.config())?, site.text);
        Ok(())
    });
}
