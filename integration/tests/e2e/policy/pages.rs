//! The page of a backend without servers, and pages that cannot be used.

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::controller::Controller;
use integration::scenario::Scenario;
use integration::{
    FakeAgent, Haproxy, HaproxyKind, Need, TestEnv, on_each_haproxy, test, wait_for,
};
use serf_rpc::MemberStatus;

use super::{get, header, reloads};

/// It is shown while nobody is there, and no longer.
async fn maintenance(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let page = lab.path("down.html");
    std::fs::write(&page, "<h1>back soon</h1>")?;
    let config = format!("maintenance_page = {page:?}\n[backend.guard]\nmin_servers = 0");
    let mut stage = Scenario::start_on(lab, kind, 0, |options| options.backend(&config)).await?;
    let front = stage.controller.front();
    let shown = async || -> Result<bool> {
        let answer = get(front, "/", "").await?;
        let html = header(&answer, "content-type").is_some_and(|it| it.starts_with("text/html"));
        Ok(answer.status == 503 && answer.body == "<h1>back soon</h1>" && html)
    };
    ensure!(shown().await?, "no page before anybody came");
    stage.add(lab, 1)?;
    stage.serves_all().await?;
    ensure!(get(front, "/", "").await?.body == "s1");
    stage.webs.remove(0).close();
    stage.gossip("s1", MemberStatus::Left);
    wait_for("the page", SOON, async || {
        shown().await.is_ok_and(|shown| shown)
    })
    .await?;
    stage.add(lab, 2)?;
    stage.serves_all().await?;
    ensure!(get(front, "/", "").await?.body == "s2");
    ensure!(reloads(&stage).await? == 0);
    Ok(())
}

/// Pages that are no pages are named at the start and by `check`, and nothing is started with them.
#[test]
fn a_page_that_haproxy_would_not_take_is_named_before_it_is_asked() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let named = |name: &str| lab.path(name);
        std::fs::write(named("large.html"), vec![b'x'; 15 * 1024 + 1])?;
        std::fs::write(named("body.http"), "<p>no response</p>")?;
        std::fs::write(named("whole.html"), "HTTP/1.1 503 Busy\r\n\r\n")?;
        std::fs::write(
            named("close.http"),
            "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n",
        )?;
        std::fs::write(named("good.http"), "HTTP/1.1 503 Busy\r\n\r\n")?;
        for (key, name, said) in [
            ("maintenance_page = {}", "none.html", "cannot read"),
            ("maintenance_page = {}", "large.html", "has 15361 bytes"),
            ("maintenance_page = {}", "body.http", "is no response"),
            (
                "maintenance_page = {}",
                "whole.html",
                "holds a whole response",
            ),
            ("maintenance_page = {}", "close.http", "`Connection: close`"),
            (
                "breaker = { status = 429, page = {} }",
                "good.http",
                "answers with status 503",
            ),
        ] {
            let path = format!("{:?}", named(name));
            let key = key.replacen("{}", &path, 1);
            let options = Controller::on(lab, agent.rpc_addr(), &haproxy).backend(&key);
            options.write()?;
            let checked = options.run("check", &[]).await?;
            let told = String::from_utf8_lossy(&checked.stderr).into_owned()
                + &String::from_utf8_lossy(&checked.stdout);
            ensure!(!checked.status.success(), "{name}: {told}");
            ensure!(told.contains(said) && told.contains(name), "{name}: {told}");
            let ran = options.run("run", &[]).await?;
            let told = String::from_utf8_lossy(&ran.stderr);
            ensure!(
                !ran.status.success() && told.contains(said),
                "{name}: {told}"
            );
        }
        Ok(())
    });
}

on_each_haproxy! {
    a_backend_without_servers_shows_its_page => maintenance;
}
