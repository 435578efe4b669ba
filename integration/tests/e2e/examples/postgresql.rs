//! Of several databases the primary alone takes writes, and the replicas reads. Patroni's answers are played.

use anyhow::{Result, ensure};
use integration::cluster::{SOON, WITHOUT_PAUSE};
use integration::{Agent, HaproxyKind, Load, TestEnv, Web, on_each_haproxy, wait_for, web};

use super::Example;

on_each_haproxy! {
    writes_go_to_the_primary_and_follow_its_role => roles;
}

/// A host with a database and its Patroni.
struct Database {
    agent: Agent,
    service: Web,
    patroni: Web,
}

impl Database {
    async fn join(example: &Example<'_>, name: &str, last: u8, is_primary: bool) -> Result<Self> {
        let patroni = Web::start(name, (example.ip(last), 8008).into())?;
        patroni.set_standby(!is_primary);
        Ok(Self {
            service: Web::start(name, (example.ip(last), 5432).into())?,
            agent: example.agent("database.json", name, last).await?,
            patroni,
        })
    }
}

async fn roles(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let example = Example::of(lab, "postgresql")?;
    let mut balancer = example.balancer(kind).await?;
    let (writes, reads) = (example.front(5000), example.front(5001));
    let one = Database::join(&example, "db1", 3, true).await?;
    let two = Database::join(&example, "db2", 4, false).await?;
    balancer.serves("primary", &["db1"]).await?;
    balancer.serves("replicas", &["db2"]).await?;
    ensure!(web::ask(writes).await.as_deref() == Some("db1"), "writes");
    ensure!(web::ask(reads).await.as_deref() == Some("db2"), "reads");

    // Another replica comes and goes, and no write is its.
    let load = Load::start(writes, WITHOUT_PAUSE);
    let mut three = Database::join(&example, "db3", 5, false).await?;
    balancer.serves("replicas", &["db2", "db3"]).await?;
    three.agent.leave().await?;
    balancer.serves("replicas", &["db2"]).await?;
    let seen = load.stop();
    println!(
        "{kind:?}: {} writes, {:?}, {} failed",
        seen.total(),
        seen.answers,
        seen.failed
    );
    ensure!(
        seen.failed == 0 && seen.answers.keys().eq(["db1"]),
        "{seen:?}"
    );
    ensure!(
        three.service.requests() > 0 || two.service.requests() > 0,
        "no reads"
    );

    // Patroni promotes the other one, as the controller looks on.
    one.patroni.set_standby(true);
    two.patroni.set_standby(false);
    wait_for("the roles to change", SOON, async || {
        let asked = (web::ask(writes).await, web::ask(reads).await);
        matches!(asked, (Some(write), Some(read)) if write == "db2" && read == "db1")
    })
    .await?;
    balancer.serves("primary", &["db2"]).await?;
    balancer.serves("replicas", &["db1"]).await?;
    let said = balancer.is_well().await?;
    ensure!(said.contains("shutdown-sessions"), "{said}");
    Ok(())
}
