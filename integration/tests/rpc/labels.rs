//! serf-docker between a scripted Docker and a real agent: what is written, left out, lost and written again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::serf_docker::{has_tags, tags};
use integration::{Agent, FakeDocker, Need, SerfDocker, TestEnv, test, test_alone, wait_for};
use serde_json::Value;

const SHOP: [(&str, &str); 1] = [("serf.service", "shop")];
/// Longer than a list may be old, and than additions gather.
const SETTLED: Duration = Duration::from_millis(1500);

struct Host {
    docker: FakeDocker,
    agent: Agent,
    daemon: SerfDocker,
}

impl Host {
    async fn start(lab: &TestEnv) -> Result<Self> {
        let docker = FakeDocker::start(&lab.path("docker.sock"))?;
        let agent = Agent::on(lab, "docker1", 1)
            .tag("role", "web")
            .start()
            .await?;
        let daemon = SerfDocker::start(lab.dir(), docker.path(), agent.rpc_addr(), "")?;
        let host = Self {
            docker,
            agent,
            daemon,
        };
        host.has(None).await?;
        Ok(host)
    }

    /// Waits until the agent has this tag, and that of somebody else.
    async fn has(&self, svc: Option<&str>) -> Result<()> {
        let tags: Vec<_> = svc
            .map(|svc| ("svc", svc))
            .into_iter()
            .chain([("role", "web")])
            .collect();
        has_tags(&self.agent, &tags).await?;
        self.daemon
            .settles("to be in force", |status| {
                status["tags"]["in_force"] == true
            })
            .await
            .map(drop)
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

/// Each service of a container: its reason, or its place.
fn outcomes(status: &Value) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
    let rows = status["containers"].as_array().cloned().unwrap_or_default();
    let outcome = |row: &Value| {
        text(row, "place")
            .or_else(|| text(row, "reason"))
            .unwrap_or_default()
    };
    rows.iter()
        .map(|row| (text(row, "container").unwrap_or_default(), outcome(row)))
        .collect()
}

#[test]
fn a_socket_that_is_away_for_long_changes_nothing_and_what_happened_meanwhile_is_seen_afterwards() {
    test(&[Need::Serf], async |lab| {
        let mut host = Host::start(lab).await?;
        for port in [8001, 8002, 8003] {
            host.docker.run(&format!("web{port}"), &SHOP, port);
        }
        host.has(Some("shop:8001,8002,8003")).await?;
        host.docker.goes_away();
        host.docker.ends("web8001");
        host.docker.run("web8004", &SHOP, 8004);
        host.stays("shop:8001,8002,8003", Duration::from_secs(30))
            .await?;
        let status = host.daemon.status().await?;
        assert_eq!(status["problems"][0]["what"], "docker", "{status:#}");
        assert_eq!(status["counters"]["docker_losses"], 1);
        host.docker.comes_back()?;
        host.has(Some("shop:8002,8003,8004")).await?;
        assert_eq!(
            host.daemon.status().await?["problems"],
            serde_json::json!([])
        );
        Ok(())
    });
}

#[test]
fn events_that_are_lost_are_made_up_for_by_the_next_list() {
    test(&[Need::Serf], async |lab| {
        let docker = FakeDocker::start(&lab.path("docker.sock"))?;
        let agent = Agent::on(lab, "docker1", 1)
            .tag("role", "web")
            .start()
            .await?;
        let more = "[labels]\nprefix = \"lb.\"\n";
        let daemon = SerfDocker::start(lab.dir(), docker.path(), agent.rpc_addr(), more)?;
        let config = std::fs::read_to_string(lab.path("serf-docker.toml"))?;
        let host = Host {
            docker,
            agent,
            daemon,
        };
        host.has(None).await?;
        // The labels are called otherwise, and how often all is listed, after a SIGHUP.
        let config = config
            .replace("\"lb.\"", "\"serf.\"")
            .replace("[docker]\n", "[docker]\nresync = \"2s\"\n");
        std::fs::write(lab.path("serf-docker.toml"), config)?;
        let mut host = host;
        host.docker.run("one", &SHOP, 8001);
        host.daemon.process().signal(rustix::process::Signal::HUP)?;
        host.has(Some("shop:8001")).await?;
        host.docker.is_mute(true);
        host.docker.run("two", &SHOP, 8002);
        host.docker.ends("one");
        host.has(Some("shop:8002")).await?;
        host.docker.is_mute(false);
        Ok(())
    });
}

#[test]
fn whoever_is_told_to_end_is_out_before_it_ends_and_whoever_runs_on_comes_back() {
    test(&[Need::Serf], async |lab| {
        let docker = FakeDocker::start(&lab.path("docker.sock"))?;
        let agent = Agent::on(lab, "docker1", 1)
            .tag("role", "web")
            .start()
            .await?;
        let config = "[tags]\nkeep_on_exit = true\n";
        let daemon = SerfDocker::start(lab.dir(), docker.path(), agent.rpc_addr(), config)?;
        let mut host = Host {
            docker,
            agent,
            daemon,
        };
        host.docker.run("one", &SHOP, 8001);
        host.docker.run("two", &SHOP, 8002);
        host.has(Some("shop:8001,8002")).await?;
        // SIGHUP is how many are told to read their config again.
        host.docker.signal("two", 1);
        host.docker.signal("one", 15);
        host.has(Some("shop:8002")).await?;
        host.stays("shop:8002", SETTLED).await?;
        let status = host.daemon.status().await?;
        assert!(
            outcomes(&status).contains(&("one".to_owned(), "stopping".to_owned())),
            "{status:#}"
        );
        // Another process knows it as well, by what Docker remembers.
        host.daemon.kill();
        host.daemon.restart()?;
        host.daemon
            .settles("to be listed", |status| {
                status["docker"]["connected"] == true
            })
            .await?;
        host.stays("shop:8002", SETTLED).await?;
        let path = lab.path("serf-docker.toml");
        let config = std::fs::read_to_string(&path)?;
        std::fs::write(
            path,
            config.replace("[docker]\n", "[docker]\nstop_timeout = \"1s\"\n"),
        )?;
        host.daemon.stop().await?;
        has_tags(&host.agent, &[("svc", "shop:8002"), ("role", "web")]).await?;
        host.daemon.restart()?;
        host.has(Some("shop:8001,8002")).await
    });
}

#[test]
fn what_a_check_says_and_a_pause_take_out_and_bring_back() {
    test(&[Need::Serf], async |lab| {
        let host = Host::start(lab).await?;
        host.docker.run("sick", &SHOP, 8001);
        host.docker.run("well", &SHOP, 8002);
        host.has(Some("shop:8001,8002")).await?;
        host.docker.health("sick", "unhealthy");
        host.has(Some("shop:8002")).await?;
        host.docker.health("sick", "healthy");
        host.has(Some("shop:8001,8002")).await?;
        // Docker tells of a pause before it lists it.
        host.docker.event("well", "pause", &[]);
        host.has(Some("shop:8001")).await?;
        host.stays("shop:8001", Duration::from_millis(700)).await?;
        host.docker.set("well", "State", "paused");
        host.stays("shop:8001", SETTLED).await?;
        host.docker.set("well", "State", "running");
        host.docker.event("well", "unpause", &[]);
        host.has(Some("shop:8001,8002")).await
    });
}

#[test]
fn an_agent_that_comes_back_without_its_tags_gets_them_and_another_hand_is_put_right() {
    test(&[Need::Serf], async |lab| {
        let mut host = Host::start(lab).await?;
        host.docker.run("one", &SHOP, 8001);
        host.has(Some("shop:8001")).await?;
        host.agent.kill();
        host.docker.run("two", &SHOP, 8002);
        host.daemon
            .settles("to miss the agent", |status| {
                status["problems"][0]["what"] == "agent"
            })
            .await?;
        host.agent.restart().await?;
        host.has(Some("shop:8001,8002")).await?;
        host.agent.set_tag("svc", "evil:1").await?;
        host.agent.set_tag("mine", "too").await?;
        has_tags(
            &host.agent,
            &[("svc", "shop:8001,8002"), ("role", "web"), ("mine", "too")],
        )
        .await?;
        host.daemon
            .settles("to count it", |status| {
                status["counters"]["repairs"].as_u64() > Some(0)
            })
            .await?;
        host.daemon.stop().await?;
        has_tags(&host.agent, &[("role", "web"), ("mine", "too")]).await
    });
}

#[test]
fn a_daemon_that_is_killed_amid_changes_leaves_nothing_behind() {
    test(&[Need::Serf], async |lab| {
        let mut host = Host::start(lab).await?;
        let mut running = BTreeSet::new();
        for round in 0..6_u16 {
            for port in 0..8 {
                let port = 8000 + 8 * round + port;
                host.docker.run(
                    &format!("web{port}"),
                    &[("serf.service", "shop"), ("serf.host", "shop.example.com")],
                    port,
                );
                running.insert(port);
            }
            while running.len() > 5 {
                let port = running.pop_first().unwrap_or_default();
                host.docker.ends(&format!("web{port}"));
            }
            tokio::time::sleep(Duration::from_millis(u64::from(round) * 40)).await;
            host.daemon.kill();
            host.daemon.restart()?;
        }
        let ports: Vec<String> = running.iter().map(ToString::to_string).collect();
        let svc = format!("shop:{}", ports.join(","));
        let host_tag = ("host.shop", "shop.example.com");
        has_tags(&host.agent, &[("svc", &svc), ("role", "web"), host_tag]).await?;
        for port in running {
            host.docker.ends(&format!("web{port}"));
        }
        has_tags(&host.agent, &[("role", "web")]).await
    });
}

#[test]
fn hostile_labels_leave_out_their_own_container_and_nobody_else() {
    test(&[Need::Serf], async |lab| {
        let host = Host::start(lab).await?;
        let long = "x".repeat(10_000);
        let hostile: [&[(&str, &str)]; 12] = [
            &[("serf.service", "a b")],
            &[("serf.service", "shop\nrole=evil")],
            &[("serf.service", "shop;x")],
            &[("serf.service", "\"shop\"")],
            &[("serf.service", "sh\u{f6}p")],
            &[("serf.service", "shop,api")],
            &[("serf.service", "80")],
            &[("serf.service", &long)],
            &[
                ("serf.service", "shop"),
                ("serf.host", "a.example.com;evil"),
            ],
            &[("serf.service", "shop"), ("serf.path", "/../etc")],
            &[("serf.service", "shop"), ("serf.nonsense", "1")],
            &[("serf.service", "evil"), ("serf.host", "shop.example.com")],
        ];
        let good = [("serf.service", "shop"), ("serf.host", "shop.example.com")];
        host.docker.run("good1", &good, 8001);
        for (n, labels) in (0_u16..).zip(hostile) {
            host.docker.run(&format!("hostile{n}"), labels, 9000 + n);
        }
        host.docker.run("good2", &good, 8002);
        let wanted = [
            ("svc", "shop:8001,8002"),
            ("host.shop", "shop.example.com"),
            ("role", "web"),
        ];
        has_tags(&host.agent, &wanted).await?;
        let status = host
            .daemon
            .settles("all to be seen", |status| outcomes(status).len() == 14)
            .await?;
        for (container, outcome) in outcomes(&status) {
            let is_out = ["label", "conflict"].contains(&outcome.as_str());
            assert_eq!(
                is_out,
                container.starts_with("hostile"),
                "{container} {outcome}"
            );
        }
        let told = status["problems"][0]["problem"]
            .as_str()
            .unwrap_or_default();
        assert!(told.contains("12 left out"), "{status:#}");
        assert!(
            host.daemon.log().lines().all(|line| line.len() < 2000),
            "{}",
            host.daemon.log()
        );
        Ok(())
    });
}

#[test]
fn a_host_has_room_for_more_than_sixty_and_the_next_is_left_out_by_name() {
    test(&[Need::Serf], async |lab| {
        let host = Host::start(lab).await?;
        for n in 0..90 {
            host.docker.run(&format!("web{n}"), &SHOP, 32_768 + n);
        }
        let is_full =
            |status: &Value| outcomes(status).len() == 90 && status["tags"]["in_force"] == true;
        let status = host.daemon.settles("all to be seen", is_full).await?;
        let there = |status: &Value| status["services"]["shop"].as_u64().unwrap_or_default();
        let count = there(&status);
        println!(
            "{count} instances of one service, beside a tag role=web: {} bytes",
            status["tags"]["bytes"]
        );
        assert!(count >= 60, "{count}");
        let out: Vec<_> = outcomes(&status)
            .into_iter()
            .filter(|(_, outcome)| outcome == "room")
            .collect();
        assert_eq!(out.len() as u64, 90 - count);
        assert_eq!(status["problems"][0]["what"], "room");
        let before = tags(&host.agent).await?;
        assert_eq!(before["svc"].split(',').count() as u64, count);
        // Who is left out comes in when another goes, and who is in stays.
        host.docker.ends("web3");
        let status = host
            .daemon
            .settles("one to go", |status| {
                outcomes(status).len() == 89 && status["tags"]["in_force"] == true
            })
            .await?;
        assert_eq!(there(&status), count);
        let after = tags(&host.agent).await?;
        let kept = before["svc"].replace(",32771", "");
        assert!(after["svc"].starts_with(&kept), "{before:?} {after:?}");
        // The agent takes a change that needs the last byte, and no more: as it was reckoned.
        let used = status["tags"]["bytes"].as_u64().unwrap_or_default();
        let left = usize::try_from(512 - used)?;
        if left > 3 {
            host.agent.set_tag("x", &"y".repeat(left - 3)).await?;
        }
        ensure!(
            host.agent.set_tag("z", "z").await.is_err(),
            "the agent takes more than was reckoned"
        );
        Ok(())
    });
}

#[test]
fn a_proxy_that_allows_lists_and_events_is_enough() {
    test(&[Need::Serf], async |lab| {
        let docker = FakeDocker::start(&lab.path("docker.sock"))?;
        docker.refuses(&["version"]);
        let agent = Agent::on(lab, "docker1", 1).start().await?;
        let daemon = SerfDocker::start(lab.dir(), docker.path(), agent.rpc_addr(), "")?;
        docker.run("one", &SHOP, 8001);
        has_tags(&agent, &[("svc", "shop:8001")]).await?;
        docker.refuses(&["version", "events"]);
        let checked = daemon.run(&["check"]).await?;
        assert_eq!(checked.status.code(), Some(1));
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(
            said.contains("the proxy before Docker has to allow"),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn once_writes_and_check_does_not() {
    test(&[Need::Serf], async |lab| {
        let mut host = Host::start(lab).await?;
        host.daemon.stop().await?;
        host.docker.run("one", &SHOP, 8001);
        host.docker.run("broken", &[("serf.service", "a b")], 8002);
        let checked = host.daemon.run(&["check"]).await?;
        assert_eq!(checked.status.code(), Some(1));
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(
            text.contains("svc=shop:8001") && text.contains("shop:8001"),
            "{text}"
        );
        has_tags(&host.agent, &[("role", "web")]).await?;
        host.docker.ends("broken");
        let once = host.daemon.run(&["once"]).await?;
        assert!(once.status.success(), "{once:?}");
        has_tags(&host.agent, &[("role", "web"), ("svc", "shop:8001")]).await?;
        assert_eq!(host.daemon.run(&["status"]).await?.status.code(), Some(1));
        Ok(())
    });
}

/// What it costs to do nothing, and what one container costs that starts and stops.
#[test]
fn it_costs_little() {
    test_alone(&[Need::Serf], async |lab| {
        let host = Host::start(lab).await?;
        for (many, from) in [(10, 0), (200, 10)] {
            for n in from..many {
                host.docker.run(
                    &format!("web{n}"),
                    &[("serf.service", "shop"), ("serf.weight", "5")],
                    30_000 + n,
                );
            }
            let all = usize::from(many);
            host.daemon
                .settles("all to be seen", |status| outcomes(status).len() == all)
                .await?;
            tokio::time::sleep(SETTLED).await;
            let (before, lists) = (host.daemon.cpu_time()?, host.docker.lists());
            tokio::time::sleep(Duration::from_secs(10)).await;
            let idle = host.daemon.cpu_time()? - before;
            println!(
                "among {many}: idle {idle:?} in 10 s, {} lists",
                host.docker.lists() - lists
            );
            let (before, lists) = (host.daemon.cpu_time()?, host.docker.lists());
            let rounds = 10;
            for _ in 0..rounds {
                host.docker
                    .run("another", &[("serf.service", "api")], 40_000);
                tokio::time::sleep(SETTLED).await;
                host.docker.signal("another", 15);
                host.docker.ends("another");
                tokio::time::sleep(SETTLED).await;
            }
            let spent = (host.daemon.cpu_time()? - before) / rounds;
            let lists = (host.docker.lists() - lists) / u64::from(rounds);
            println!(
                "among {many}: a start and a stop cost {spent:?}, {lists} lists; memory {:?}",
                host.daemon.memory()?
            );
            ensure!(idle < Duration::from_secs(1), "{idle:?}");
        }
        Ok(())
    });
}

/// Additions gather, and who goes goes at once.
#[test]
fn fifty_at_once_are_few_changes_and_one_that_lives_briefly_leaves_nothing() {
    test(&[Need::Serf], async |lab| {
        let host = Host::start(lab).await?;
        for n in 0..50 {
            host.docker.run(&format!("web{n}"), &SHOP, 8000 + n);
        }
        host.daemon
            .settles("all", |status| {
                status["services"]["shop"] == 50 && status["tags"]["in_force"] == true
            })
            .await?;
        let writes = async || {
            Ok::<_, anyhow::Error>(
                host.daemon.status().await?["counters"]["writes"]
                    .as_u64()
                    .unwrap_or_default(),
            )
        };
        let came = writes().await?;
        for n in 0..50 {
            host.docker.signal(&format!("web{n}"), 15);
            host.docker.ends(&format!("web{n}"));
        }
        host.has(None).await?;
        let went = writes().await? - came;
        println!("50 at once: {came} writes for all to come, {went} for all to go");
        assert!(came <= 5 && went <= 5, "{came} {went}");
        host.docker.run("brief", &SHOP, 9000);
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.docker.ends("brief");
        tokio::time::sleep(SETTLED).await;
        host.has(None).await?;
        wait_for("no container", SETTLED, async || {
            host.daemon
                .status()
                .await
                .is_ok_and(|status| outcomes(&status).is_empty())
        })
        .await
    });
}
