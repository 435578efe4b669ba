//! serf-docker beside a Docker of the test's own: what real containers do, Docker's restarts, and the whole way to a request.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::cluster::Balancer;
use integration::controller::Status;
use integration::serf_docker::{has_tags, tags};
use integration::wrk::Loads;
use integration::{
    Agent, Dockerd, HaproxyKind, Need, SerfDocker, TestEnv, test, test_alone, wait_for, web,
};

const NEEDS: [Need; 2] = [Need::Serf, Need::Dockerd];
const SOON: Duration = Duration::from_secs(60);
const SLEEP: [&str; 2] = ["/bin/sleep", "600"];

struct Host {
    docker: Dockerd,
    agent: Agent,
    daemon: SerfDocker,
}

impl Host {
    async fn start(lab: &TestEnv, live_restore: bool) -> Result<Self> {
        let docker = Dockerd::start(lab.dir(), live_restore).await?;
        let agent = Agent::on(lab, "docker1", 2)
            .tag("role", "web")
            .start()
            .await?;
        let daemon = SerfDocker::start(lab.dir(), &docker.socket(), agent.rpc_addr(), "")?;
        Ok(Self {
            docker,
            agent,
            daemon,
        })
    }

    /// A container that does nothing, and says that it listens there.
    async fn sleeps(&self, name: &str, port: u16, more: &[&str]) -> Result<()> {
        let port = port.to_string();
        self.docker
            .run(
                name,
                &[("serf.service", "shop"), ("serf.port", &port)],
                more,
                &SLEEP,
            )
            .await
    }

    async fn has(&self, svc: Option<&str>) -> Result<()> {
        let tags: Vec<_> = svc
            .map(|svc| ("svc", svc))
            .into_iter()
            .chain([("role", "web")])
            .collect();
        has_tags(&self.agent, &tags)
            .await
            .with_context(|| self.daemon.log())
    }

    /// Looks for a while whether the tags stay as they are.
    async fn stays(&self, svc: &str, time: Duration) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < time {
            let now = tags(&self.agent).await?;
            ensure!(
                now.get("svc").is_some_and(|now| now == svc),
                "{now:?}\n{}",
                self.daemon.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

#[test]
fn real_containers_are_followed_through_all_that_docker_does_with_them() {
    test(&NEEDS, async |lab| {
        let host = Host::start(lab, false).await?;
        host.sleeps("paused", 8001, &[]).await?;
        let check = [
            "--health-cmd=cat /ok",
            "--health-interval=1s",
            "--health-retries=1",
        ];
        host.sleeps("sick", 8002, &check).await?;
        host.has(Some("shop:8001")).await?;
        host.docker
            .docker(&["exec", "sick", "/bin/sh", "-c", ": > /ok"])
            .await?;
        host.has(Some("shop:8001,8002")).await?;
        host.docker.docker(&["pause", "paused"]).await?;
        host.has(Some("shop:8002")).await?;
        host.stays("shop:8002", Duration::from_secs(2)).await?;
        host.docker.docker(&["unpause", "paused"]).await?;
        host.has(Some("shop:8001,8002")).await?;

        // PID 1 does not take SIGTERM for what it means: it is out all the while, and afterwards.
        let stop = host.docker.docker(&["stop", "--time=4", "paused"]);
        let since = Instant::now();
        let (stopped, seen) = tokio::join!(stop, async {
            host.has(Some("shop:8002")).await?;
            let seen = since.elapsed();
            host.stays("shop:8002", Duration::from_secs(5)).await?;
            Ok::<_, anyhow::Error>(seen)
        });
        let (_, seen) = (stopped?, seen?);
        println!(
            "docker stop of a container that takes 4 s to end: out of the tags after {seen:?}"
        );
        host.docker.docker(&["start", "paused"]).await?;
        host.has(Some("shop:8001,8002")).await?;
        host.docker.docker(&["kill", "paused"]).await?;
        host.has(Some("shop:8002")).await?;
        // Many are told by SIGHUP to read their config again.
        host.docker
            .docker(&["kill", "--signal=HUP", "sick"])
            .await?;
        host.stays("shop:8002", Duration::from_secs(2)).await?;

        host.docker
            .run(
                "brief",
                &[("serf.service", "shop"), ("serf.port", "8003")],
                &["--rm"],
                &["/bin/sleep", "0.2"],
            )
            .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        host.has(Some("shop:8002")).await
    });
}

#[test]
fn fifty_containers_at_once_are_all_there_and_all_gone() {
    test(&NEEDS, async |lab| {
        let host = Host::start(lab, false).await?;
        let names: Vec<String> = (0..50).map(|n| format!("web{n}")).collect();
        for (n, name) in (0_u16..).zip(&names) {
            let port = format!("serf.port={}", 8000 + n);
            host.docker
                .docker(&[
                    "create",
                    "--network=host",
                    "--name",
                    name,
                    "--label=serf.service=shop",
                    "--label",
                    &port,
                    "tiny",
                    "/bin/sleep",
                    "600",
                ])
                .await?;
        }
        // Some at a time, as one call may take ten seconds on a busy machine.
        let all = async |command: &str| {
            let some = names.chunks(10).map(async |some| {
                let args: Vec<&str> = [command]
                    .into_iter()
                    .chain(some.iter().map(String::as_str))
                    .collect();
                host.docker.docker(&args).await
            });
            futures_util::future::try_join_all(some).await
        };
        let since = Instant::now();
        all("start").await?;
        let ports: Vec<String> = (8000..8050).map(|port| port.to_string()).collect();
        host.has(Some(&format!("shop:{}", ports.join(",")))).await?;
        println!(
            "50 containers: all started and in the tags after {:?}",
            since.elapsed()
        );
        all("kill").await?;
        host.has(None).await
    });
}

#[test]
fn docker_ends_and_comes_back_without_live_restore() {
    test(&NEEDS, async |lab| {
        let mut host = Host::start(lab, false).await?;
        host.sleeps("once", 8001, &[]).await?;
        host.sleeps("always", 8002, &["--restart=always"]).await?;
        host.has(Some("shop:8001,8002")).await?;
        host.docker.stop().await?;
        host.has(None).await?;
        host.docker.start_again().await?;
        host.has(Some("shop:8002")).await
    });
}

#[test]
fn docker_ends_and_is_killed_with_live_restore_and_nobody_is_taken_out() {
    test(&NEEDS, async |lab| {
        let mut host = Host::start(lab, true).await?;
        host.sleeps("one", 8001, &[]).await?;
        host.sleeps("two", 8002, &[]).await?;
        host.has(Some("shop:8001,8002")).await?;
        for killed in [false, true] {
            if killed {
                host.docker.kill().await?;
            } else {
                host.docker.stop().await?;
            }
            host.stays("shop:8001,8002", Duration::from_secs(5)).await?;
            host.docker.start_again().await?;
            host.daemon
                .settles("Docker again", |status| {
                    status["docker"]["connected"] == true
                })
                .await?;
            host.stays("shop:8001,8002", Duration::from_secs(2)).await?;
        }
        host.docker.docker(&["kill", "one"]).await?;
        host.has(Some("shop:8002")).await
    });
}

const SERVICES: &str = r#"
[services]
allow = ["shop"]
default_host = "*"
[services.defaults]
networks = ["127.0.0.0/8"]
"#;

/// Starts the lab's web application as it is, on the address of this host's agent.
async fn webapp(host: &Host, name: &str, port: u16, version: &str) -> Result<()> {
    let listen = format!("{}:{port}", host.agent.ip());
    let command = ["/bin/webapp", "--listen", &listen, "--tag", version];
    host.docker
        .run(
            name,
            &[("serf.service", "shop"), ("serf.port", &port.to_string())],
            &[],
            &command,
        )
        .await
}

/// Waits until exactly so many servers of the shop are in rotation.
async fn serves(balancer: &Balancer, count: usize) -> Result<()> {
    wait_for("so many servers", SOON, async || {
        balancer
            .haproxy
            .serving("shop")
            .await
            .is_ok_and(|names| names.len() == count)
    })
    .await
    .with_context(|| balancer.controller.log())
}

#[test]
fn unmodified_images_scale_stop_and_are_replaced_under_load_and_nobody_notices() {
    test_alone(
        &[
            Need::Serf,
            Need::Dockerd,
            Need::Wrk,
            Need::Haproxy(HaproxyKind::Trixie),
        ],
        async |lab| {
            let balancer = Balancer::start_with(lab, HaproxyKind::Trixie, |options| {
                Ok(options.sections(SERVICES))
            })
            .await?;
            let host = Host::start(lab, false).await?;
            host.agent.join(balancer.agent.ip()).await?;
            webapp(&host, "web1", 9001, "old").await?;
            serves(&balancer, 1).await?;
            // The shop was new.
            let reloads = 1;
            let counted = |status: &Status| status.counter("reloads") == reloads;
            let what = "the reload to be counted";
            balancer.controller.settles(what, SOON, counted).await?;
            let front = balancer.controller.front();
            let load = Loads::start(lab, front)?;
            let mut first = Vec::new();
            for n in 2..=10_u16 {
                let began = Instant::now();
                webapp(&host, &format!("web{n}"), 9000 + n, "old").await?;
                let run = began.elapsed();
                serves(&balancer, usize::from(n)).await?;
                first.push((run, began.elapsed()));
            }
            for (run, served) in &first {
                println!(
                    "docker run took {run:?}; in rotation {:?} after that",
                    served.saturating_sub(*run)
                );
            }
            host.docker.docker(&["kill", "web1"]).await?;
            serves(&balancer, 9).await?;
            // Requests of 2 s are running there when it is told to end.
            let slow = web::post((host.agent.ip(), 9002).into(), "/delay", r#"{"ms": 2000}"#);
            assert_eq!(slow.await.map(|(status, _)| status), Some(204));
            tokio::time::sleep(Duration::from_millis(300)).await;
            host.docker.docker(&["stop", "web2"]).await?;
            serves(&balancer, 8).await?;
            // A rolling recreate: the new one first, then the old one ends.
            for n in 3..=6_u16 {
                webapp(&host, &format!("new{n}"), 9100 + n, "new").await?;
                serves(&balancer, 9).await?;
                host.docker.docker(&["stop", &format!("web{n}")]).await?;
                serves(&balancer, 8).await?;
            }
            for name in ["web7", "web8", "web9", "web10", "new3", "new4"] {
                host.docker.docker(&["stop", name]).await?;
            }
            serves(&balancer, 2).await?;
            load.nothing_failed("1, 10, a kill, a stop, four replaced, 2")
                .await?;
            assert_eq!(
                balancer.controller.status().await?.counter("reloads"),
                reloads,
                "{}",
                balancer.controller.log()
            );
            Ok(())
        },
    );
}
