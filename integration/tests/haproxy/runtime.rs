//! The controller's Runtime API against the real HAProxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controller::haproxy::runtime::{Executed, RuntimeApi, RuntimeError};
use integration::on_each_haproxy;
use integration::{Haproxy, HaproxyKind, Need, TestEnv, Web, test_alone, wait_for, wait_some, web};
use planner::model::{
    Action, AddedOptions, Admin, BackendName, Check, RunningServer, ServerName, Step, WantedAdmins,
    Weight,
};
use planner::plan::{Input, ReloadReason, draft, plan};
use planner::runtime::refusal::Refusal;
use planner::stamp::Stamp;
use planner::syntax::ConfigText;

const SOON: Duration = Duration::from_secs(10);

on_each_haproxy! {
    a_server_goes_through_its_life_without_a_reload => life;
    refused_steps_are_reported_and_the_others_done => refusals;
    another_worker_than_the_one_read_is_noticed_before_anything_is_done => replaced;
    a_moved_server_is_ready_only_at_its_new_place => moved;
    backends_that_take_no_servers_are_found_without_a_trace => probe;
    a_text_says_which_backends_take_servers_as_haproxy_does => balances;
    checks_and_requests_in_flight_are_seen => seen;
    a_socket_below_level_admin_is_named => denied;
}

#[test]
fn a_server_is_added_and_ready_within_a_few_milliseconds() {
    test_alone(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        speed(lab, HaproxyKind::Host).await
    });
}

#[test]
fn trixie_adds_a_server_within_a_few_milliseconds() {
    test_alone(&[Need::Haproxy(HaproxyKind::Trixie)], async |lab| {
        speed(lab, HaproxyKind::Trixie).await
    });
}

async fn life(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let (haproxy, api) = start(lab, kind, "").await?;
    let s1 = Web::start("s1", lab.net().addr(2, 3000))?;
    let before = api.read(true).await?;
    ensure!(
        before.worker.stamp == Some(stamp()) && before.servers.is_empty(),
        "{before:?}"
    );

    let done = execute(
        &api,
        vec![
            add("s1", s1.addr(), "check inter 200ms"),
            step("s1", ready(true)),
        ],
    )
    .await?;
    let server = only(&done)?;
    assert_eq!(
        (server.addr, server.admin, server.weight),
        (Some(s1.addr()), Admin::Ready, 1)
    );
    assert_eq!(web::ask(front(lab)).await.as_deref(), Some("s1"));

    let weight = Action::Weight(Weight::new(7).context("a weight")?);
    let done = execute(
        &api,
        vec![step("s1", weight), step("s1", Action::Maxconn(9))],
    )
    .await?;
    assert_eq!(only(&done)?.weight, 7);
    let read = api.read(true).await?;
    let stat = read.servers["nodes"]["s1"]
        .stat
        .as_ref()
        .context("its stat")?;
    assert_eq!((stat.maxconn, stat.total), (Some(9), 1));
    assert!(api.read(false).await?.servers["nodes"]["s1"].stat.is_none());

    let drain = Action::Drain {
        check: true,
        keep_check: false,
    };
    let done = execute(&api, vec![step("s1", drain)]).await?;
    assert_eq!(only(&done)?.admin, Admin::Drain);
    assert_eq!(web::ask(front(lab)).await.as_deref(), None);

    let done = execute(&api, vec![step("s1", Action::Maint)]).await?;
    assert_eq!(only(&done)?.admin, Admin::Maint);
    wait_for("the server to be deleted", SOON, async || {
        let done = execute(&api, vec![step("s1", Action::Delete)]).await;
        done.is_ok_and(|done| done.refused.is_empty() && done.servers.is_empty())
    })
    .await?;
    let after = api.worker().await?;
    ensure!(before.worker.is_same(&after), "{after}");
    assert_eq!(after.pid, haproxy.worker().await?.pid);
    Ok(())
}

async fn refusals(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let (_haproxy, api) = start(lab, kind, "").await?;
    let addr = lab.net().addr(2, 3000);
    let done = execute(
        &api,
        vec![
            add("s1", addr, ""),
            add("s1", addr, ""),
            add("s2", addr, "nonsense 3"),
            add("s3", addr, "resolvers x"),
            add("s4", addr, "ssl verify required ca-file /nonexistent"),
            step("s1", ready(true)),
            step("s5", ready(false)),
            Step {
                backend: name("fixed")?,
                ..add("s1", addr, "")
            },
            Step {
                backend: name("unknown")?,
                ..step("s1", Action::Maint)
            },
            step("s1", Action::Delete),
            add("s6", addr, ""),
        ],
    )
    .await?;
    let refused: Vec<_> = done
        .refused
        .iter()
        .map(|(step, refusal)| (step.backend.as_str(), step.server.as_str(), refusal.clone()))
        .collect();
    let file = refused
        .iter()
        .find(|(_, server, _)| *server == "s4")
        .context("s4")?
        .2
        .clone();
    assert!(matches!(file, Refusal::FileNotLoaded(_)), "{file}");
    assert_eq!(
        refused,
        [
            ("nodes", "s1", Refusal::Exists),
            ("nodes", "s2", Refusal::UnknownKeyword("nonsense".into())),
            ("nodes", "s3", Refusal::NotDynamic("resolvers".into())),
            ("nodes", "s4", file),
            ("nodes", "s1", Refusal::NoCheck),
            ("nodes", "s5", Refusal::NoSuchServer),
            ("fixed", "s1", Refusal::StaticBalance),
            ("unknown", "s1", Refusal::NoSuchBackend),
            ("nodes", "s1", Refusal::NotInMaint),
        ]
    );
    // without a check `state ready` is done all the same
    let admins: Vec<_> = done.servers["nodes"]
        .iter()
        .map(|(name, server)| (name.as_str(), server.admin))
        .collect();
    assert_eq!(admins, [("s1", Admin::Ready), ("s6", Admin::Maint)]);
    Ok(())
}

async fn replaced(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let (mut haproxy, api) = start(lab, kind, "").await?;
    let step = vec![add("s1", lab.net().addr(2, 3000), "")];
    let before = api.worker().await?;
    // a reload with the very same text
    let _ = haproxy.master_command("reload").await;
    let now = wait_some("another worker", SOON, async || {
        api.worker().await.ok().filter(|now| !before.is_same(now))
    })
    .await?;
    let error = api
        .execute(&before, &step)
        .await
        .err()
        .context("an error")?;
    ensure!(error.worker_changed(), "{error}");
    assert!(api.read(false).await?.servers.is_empty());
    // a restart
    haproxy.kill().await?;
    let error = api.execute(&now, &step).await.err().context("an error")?;
    ensure!(matches!(error, RuntimeError::Connect { .. }), "{error}");
    haproxy.start().await?;
    let error = api.execute(&now, &step).await.err().context("an error")?;
    ensure!(error.worker_changed(), "{error}");
    assert!(api.read(false).await?.servers.is_empty());
    Ok(())
}

async fn moved(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let (_haproxy, api) = start(lab, kind, "").await?;
    let (old, new) = (
        Web::start("old", lab.net().addr(2, 3000))?,
        Web::start("new", lab.net().addr(3, 3001))?,
    );
    execute(
        &api,
        vec![add("s1", old.addr(), ""), step("s1", ready(false))],
    )
    .await?;
    assert_eq!(web::ask(front(lab)).await.as_deref(), Some("old"));
    for (place, answer) in [(&new, "new"), (&old, "old"), (&new, "new")] {
        let steps = vec![
            step("s1", Action::Maint),
            step("s1", Action::Address(place.addr())),
            step("s1", ready(false)),
        ];
        let done = execute(&api, steps).await?;
        ensure!(done.refused.is_empty(), "{:?}", done.refused);
        let server = only(&done)?;
        assert_eq!(
            (server.addr, server.admin),
            (Some(place.addr()), Admin::Ready)
        );
        assert_eq!(web::ask(front(lab)).await.as_deref(), Some(answer));
    }
    // what is there already is no refusal
    let done = execute(&api, vec![step("s1", Action::Address(new.addr()))]).await?;
    ensure!(done.refused.is_empty(), "{:?}", done.refused);
    Ok(())
}

async fn probe(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let (_haproxy, api) = start(lab, kind, "").await?;
    let backends = [name("nodes")?, name("fixed")?, name("unknown")?];
    let accepts = api.accepts_add(&backends).await?;
    let accepts: Vec<_> = accepts
        .iter()
        .map(|(backend, accepts)| (backend.as_str(), *accepts))
        .collect();
    assert_eq!(accepts, [("fixed", false), ("nodes", true)]);
    assert!(api.accepts_add(&[]).await?.is_empty());
    assert!(api.read(false).await?.servers.is_empty());
    Ok(())
}

async fn balances(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let algorithms = [
        "",
        "balance roundrobin",
        "balance static-rr",
        "balance leastconn",
        "balance first",
        "balance random(2)",
        "balance uri depth 2",
        "balance uri\nhash-type consistent",
        "balance source\nhash-type map-based",
        "balance hdr(host)\nhash-type consistent sdbm",
        "balance rdp-cookie(x)",
    ];
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let text = |server: &str| {
        let backend =
            |(number, lines): (usize, &&str)| format!("backend b{number}\n{lines}\n{server}");
        let backends: String = algorithms.iter().enumerate().map(backend).collect();
        format!(
            "global\nstats socket {} mode 600 level admin\ndefaults\nmode http\ntimeout connect 500ms\n\
             timeout client 20s\ntimeout server 20s\nfrontend front\nbind {}\n{backends}",
            haproxy.stats_socket().display(),
            front(lab)
        )
    };
    let (running, wanted) = (text(""), text("server s1 192.0.2.1:80\n"));
    std::fs::write(haproxy.config(), &running)?;
    haproxy.start().await?;
    let api = RuntimeApi::new(haproxy.stats_socket());
    let read = api.read(true).await?;
    let (running, wanted) = (ConfigText::parse(&running), ConfigText::parse(&wanted));
    let input = Input {
        version: read.worker.version,
        running: Some(&running),
        servers: &read.servers,
        added: &AddedOptions::new(),
        wanted: &wanted,
        admins: &WantedAdmins::new(),
        accepts_add: &BTreeMap::new(),
        on_disk: Some(&wanted),
        retired_max: 100,
    };
    // Only this one has to be asked about.
    let unknown = draft(&input).unprobed;
    assert_eq!(unknown, [name("b10")?].into());
    let names: Vec<BackendName> = running.backends().cloned().collect();
    let answers = api.accepts_add(&names).await?;
    let planned = plan(&input);
    let refused = |backend: &BackendName| {
        planned.reload.contains(&ReloadReason::StaticBalance {
            backend: backend.clone(),
        })
    };
    for backend in names.iter().filter(|backend| !unknown.contains(*backend)) {
        assert_eq!(answers.get(backend), Some(&!refused(backend)), "{backend}");
    }
    Ok(())
}

async fn seen(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let (_haproxy, api) = start(lab, kind, "").await?;
    let s1 = Web::start("s1", lab.net().addr(2, 3000))?;
    let admit = Action::Drain {
        check: true,
        keep_check: true,
    };
    let steps = vec![
        add("s1", s1.addr(), "check inter 100ms fall 1"),
        step("s1", admit),
        add("gone", lab.net().addr(3, 3000), "check inter 100ms fall 1"),
        step("gone", ready(true)),
        add("plain", lab.net().addr(3, 3000), ""),
    ];
    execute(&api, steps).await?;
    let stat = async |server: &str| {
        let state = api.read(true).await.ok()?;
        state.servers.get("nodes")?.get(server)?.stat.clone()
    };
    wait_for("the checks", SOON, async || {
        let check = async |server| stat(server).await.map(|stat| stat.check);
        check("s1").await == Some(Check::Up)
            && check("gone").await == Some(Check::Down)
            && check("plain").await == Some(Check::None)
    })
    .await?;
    execute(&api, vec![step("s1", ready(true))]).await?;
    let slow = tokio::spawn(slow_request(front(lab)));
    wait_for("a request in flight", SOON, async || {
        stat("s1").await.is_some_and(|stat| stat.in_flight == 1)
    })
    .await?;
    let cut = vec![step("s1", Action::Maint), step("s1", Action::Shut)];
    let done = execute(&api, cut).await?;
    ensure!(done.refused.is_empty(), "{:?}", done.refused);
    wait_for("its session to be shut", SOON, async || {
        stat("s1").await.is_some_and(|stat| stat.in_flight == 0)
    })
    .await?;
    ensure!(!slow.await?.contains(" 200 "), "the session was shut");
    Ok(())
}

async fn denied(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let socket = lab.path("operator.sock");
    let global = format!(
        "    stats socket {} mode 600 level operator\n",
        socket.display()
    );
    let (_haproxy, _) = start(lab, kind, &global).await?;
    let api = RuntimeApi::new(&socket);
    let before = api.read(true).await?.worker;
    let step = [add("s1", lab.net().addr(2, 3000), "")];
    let error = api
        .execute(&before, &step)
        .await
        .err()
        .context("an error")?;
    ensure!(matches!(error, RuntimeError::Denied { .. }), "{error}");
    let error = api
        .accepts_add(&[name("nodes")?])
        .await
        .err()
        .context("an error")?;
    ensure!(matches!(error, RuntimeError::Denied { .. }), "{error}");
    Ok(())
}

async fn speed(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let (_haproxy, api) = start(lab, kind, "").await?;
    let before = api.worker().await?;
    let admit = |server: &str| {
        [
            add(server, lab.net().addr(2, 3000), "check inter 1s fall 2"),
            step(server, ready(true)),
        ]
    };
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        let done = api.execute(&before, &admit("s1")).await?;
        times.push(start.elapsed());
        only(&done)?;
        let removal = [step("s1", Action::Maint), step("s1", Action::Delete)];
        let done = api.execute(&before, &removal).await?;
        ensure!(done.refused.is_empty(), "{:?}", done.refused);
    }
    times.sort();
    let (median, most) = (times[100], times[199]);
    eprintln!("{kind:?}: add and ready in {median:?} (median of 200), {most:?} at most");
    let burst: Vec<Step> = (0..500).flat_map(|n| admit(&format!("t{n}"))).collect();
    let start = Instant::now();
    let done = api.execute(&before, &burst).await?;
    eprintln!("{kind:?}: 500 of them at once in {:?}", start.elapsed());
    ensure!(
        done.refused.is_empty() && done.servers["nodes"].len() == 500,
        "{:?}",
        done.refused
    );
    ensure!(median < Duration::from_millis(20), "{median:?}");
    Ok(())
}

/// A HAProxy with a file of ours: `nodes` takes servers at runtime, `fixed` does not.
async fn start(lab: &TestEnv, kind: HaproxyKind, global: &str) -> Result<(Haproxy, RuntimeApi)> {
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let config = format!(
        "global\n    description serf-haproxy {}\n    stats socket {} mode 600 level admin\n{global}\
         defaults\n    mode http\n    timeout connect 500ms\n    timeout client 20s\n    timeout server 20s\n\
         frontend front\n    bind {}\n    default_backend nodes\n\
         backend nodes\n    balance roundrobin\n\
         backend fixed\n    balance static-rr\n",
        stamp(),
        haproxy.stats_socket().display(),
        front(lab),
    );
    std::fs::write(haproxy.config(), config)?;
    haproxy.start().await?;
    let api = RuntimeApi::new(haproxy.stats_socket());
    Ok((haproxy, api))
}

async fn execute(api: &RuntimeApi, steps: Vec<Step>) -> Result<Executed> {
    let before = api.worker().await?;
    Ok(api.execute(&before, &steps).await?)
}

/// The one server of the read-back.
fn only(done: &Executed) -> Result<&RunningServer> {
    ensure!(done.refused.is_empty(), "{:?}", done.refused);
    ensure!(
        done.servers.len() == 1 && done.servers["nodes"].len() == 1,
        "{:?}",
        done.servers
    );
    Ok(&done.servers["nodes"]["s1"])
}

/// Everything that came back of a request that takes 10 s.
async fn slow_request(front: SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut text = Vec::new();
    if let Ok(mut stream) = tokio::net::TcpStream::connect(front).await {
        let _ = stream
            .write_all(b"GET /slow?ms=10000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await;
        let _ = stream.read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn front(lab: &TestEnv) -> SocketAddr {
    lab.net().addr(1, 8080)
}

fn stamp() -> Stamp {
    Stamp("0123456789abcdef".to_owned())
}

fn name(backend: &str) -> Result<BackendName> {
    BackendName::new(backend).context("a name")
}

fn ready(check: bool) -> Action {
    Action::Ready { check }
}

fn step(server: &str, action: Action) -> Step {
    let backend = BackendName::new("nodes").expect("a name");
    Step {
        backend,
        server: ServerName::new(server).expect("a name"),
        action,
    }
}

fn add(server: &str, addr: SocketAddr, options: &str) -> Step {
    let options = options.split_whitespace().map(str::to_owned).collect();
    step(server, Action::Add { addr, options })
}
