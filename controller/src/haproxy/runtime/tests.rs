//! What the real HAProxy does too rarely to wait for, from the fake one, whose clock stands still but for what is waited.

use fake_haproxy::{FakeHaproxy, Fault, Haproxy, Socket as Of, Version};
use planner::model::Admin;

use super::*;

const FILE: &str = "backend b\nserver s 10.0.0.1:80\nserver t 10.0.0.1:80 disabled\n";

fn start() -> (FakeHaproxy, RuntimeApi) {
    let fake = FakeHaproxy::start(Version::V3_0, FILE).unwrap();
    let api = RuntimeApi::new(stats(&fake));
    (fake, api)
}

fn stats(fake: &FakeHaproxy) -> Socket {
    let fake = fake.clone();
    Socket::dialled("/stats", move || fake.stats())
}

fn master(fake: &FakeHaproxy) -> Socket {
    let fake = fake.clone();
    Socket::dialled("/master", move || fake.master())
}

fn fail(fake: &FakeHaproxy, socket: Of, fault: Fault) {
    fake.with(|haproxy| haproxy.fail(socket, Some(fault)));
}

fn worker(pid: u32) -> Worker {
    let info = format!("Version: 3.0.11\nPid: {pid}\nUptime_sec: 0\nStart_time_sec: 1800000000\n");
    reply::info(&info).unwrap()
}

fn step(server: &str, action: Action) -> Step {
    Step {
        backend: BackendName::new("b").unwrap(),
        server: ServerName::new(server).unwrap(),
        action,
    }
}

fn maint() -> [Step; 1] {
    [step("s", Action::Maint)]
}

#[tokio::test(start_paused = true)]
async fn steps_go_by_the_master_where_the_stats_socket_is_gone() {
    let (fake, api) = start();
    fail(&fake, Of::Stats, Fault::Refuses);
    let api = api.master(Some(master(&fake)));
    let executed = api.execute(&worker(8), &maint()).await.unwrap();
    assert_eq!(executed.refused, []);
    assert_eq!(executed.servers["b"]["s"].admin, Admin::Maint);
    let said = api.detour().unwrap().to_string();
    assert!(
        said.contains("/stats: connection refused; meanwhile"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_stats_socket_is_waited_for_once() {
    let (fake, api) = start();
    fail(&fake, Of::Stats, Fault::Silent);
    let api = api.master(Some(master(&fake)));
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(api.worker().await.unwrap().pid, 8);
    }
    assert_eq!(started.elapsed(), FIRST_BYTE.0);
    assert!(api.detour().is_some());
}

#[tokio::test(start_paused = true)]
async fn both_sockets_are_named_when_neither_answers() {
    let (fake, api) = start();
    fail(&fake, Of::Stats, Fault::Refuses);
    fail(&fake, Of::Master, Fault::Silent);
    let api = api.master(Some(master(&fake)));
    let error = api.worker().await.unwrap_err().to_string();
    assert!(error.contains("/stats: connection refused, nor"), "{error}");
    assert!(error.contains("/master within 1 s"), "{error}");
    let error = api.worker().await.unwrap_err();
    assert!(
        matches!(error, RuntimeError::Connect { .. }),
        "the master is left alone: {error}"
    );
}

#[tokio::test(start_paused = true)]
async fn steps_are_done_read_back_and_compared_on_another_connection() {
    let (_fake, api) = start();
    let executed = api.execute(&worker(8), &maint()).await.unwrap();
    assert_eq!(executed.worker, worker(8));
    assert_eq!(executed.servers["b"]["s"].admin, Admin::Maint);
    assert_eq!(executed.refused, []);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_replaced_while_it_executes_is_noticed() {
    let (fake, api) = start();
    fake.with(|haproxy| {
        haproxy.after("set server b/s", |haproxy: &mut Haproxy| {
            haproxy.reload_now();
        });
    });
    let error = api.execute(&worker(8), &maint()).await.unwrap_err();
    assert!(error.worker_changed());
    let shown = "haproxy was reloaded or restarted: worker 9 of HAProxy 3.0, up 0 s, no stamp of ours \
                 instead of worker 8 of HAProxy 3.0, up 0 s, no stamp of ours";
    assert_eq!(error.to_string(), shown);
}

#[tokio::test(start_paused = true)]
async fn a_reply_too_many_is_an_error() {
    for more in ["\n> ", "surprise"] {
        let (fake, api) = start();
        fail(&fake, Of::Stats, Fault::Adds(more.to_owned()));
        let error = api.execute(&worker(8), &maint()).await.unwrap_err();
        assert!(
            matches!(error, RuntimeError::Reply(_) | RuntimeError::Pairing { .. }),
            "{more:?}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_early_is_an_error() {
    let (fake, api) = start();
    let whole = fake.with(|haproxy| haproxy.run("show info").len());
    for bytes in 1..whole {
        fail(&fake, Of::Stats, Fault::Cut(bytes));
        let error = api.worker().await.unwrap_err();
        assert!(
            matches!(error, RuntimeError::Reply(ReplyError::Truncated { .. })),
            "{bytes}: {error}"
        );
        let error = api.execute(&worker(8), &maint()).await.unwrap_err();
        assert!(
            matches!(error, RuntimeError::Closed { .. } | RuntimeError::Io { .. }),
            "{bytes}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_haproxy_that_does_not_answer_is_given_up_in_time() {
    let (fake, api) = start();
    fail(&fake, Of::Stats, Fault::Silent);
    let asked = Instant::now();
    let error = api.read(true).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
    assert_eq!(asked.elapsed(), Duration::from_secs(5));
    let api = api.timeout(Duration::from_millis(50));
    let error = api.execute(&worker(8), &maint()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
    assert_eq!(asked.elapsed(), Duration::from_millis(5050));
}

#[tokio::test(start_paused = true)]
async fn a_haproxy_that_is_slow_is_waited_for() {
    let (fake, api) = start();
    fail(&fake, Of::Stats, Fault::Slow(Duration::from_secs(1)));
    let executed = api.execute(&worker(8), &maint()).await.unwrap();
    assert_eq!(executed.refused, []);
}

#[tokio::test(start_paused = true)]
async fn a_reply_without_end_is_cut_at_the_limit() {
    let (fake, api) = start();
    fail(&fake, Of::Stats, Fault::Adds("x".repeat(100_000)));
    let api = api.reply_limit(50_000);
    assert!(matches!(
        api.read(false).await,
        Err(RuntimeError::TooLarge { limit: 50_000 })
    ));
    assert!(matches!(
        api.execute(&worker(8), &maint()).await,
        Err(RuntimeError::TooLarge { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_new_address_is_waited_for_before_the_server_is_opened() {
    for version in Version::ALL {
        let fake = FakeHaproxy::start(version, FILE).unwrap();
        let api = RuntimeApi::new(stats(&fake));
        let addr = "10.0.0.2:81".parse().unwrap();
        let steps = [
            step("t", Action::Address(addr)),
            step("t", Action::Ready { check: false }),
        ];
        let before = api.worker().await.unwrap();
        let executed = api.execute(&before, &steps).await.unwrap();
        assert_eq!(executed.refused, [], "{version:?}");
        let server = &executed.servers["b"]["t"];
        assert_eq!((server.addr, server.admin), (Some(addr), Admin::Ready));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_new_address_does_not_come_gets_no_later_step() {
    let (fake, api) = start();
    fake.with(Haproxy::hold_addresses);
    let address = step("s", Action::Address("10.0.0.2:80".parse().unwrap()));
    let ready = step("s", Action::Ready { check: false });
    let other = step("t", Action::Ready { check: false });
    let steps = [address.clone(), ready.clone(), other];
    let executed = api.execute(&worker(8), &steps).await.unwrap();
    assert_eq!(
        executed.refused,
        [
            (address, Refusal::AddressUnsettled),
            (ready, Refusal::AddressUnsettled)
        ]
    );
    assert_eq!(executed.servers["b"]["t"].admin, Admin::Ready);
}

#[tokio::test(start_paused = true)]
async fn what_haproxy_refuses_is_told_and_the_rest_is_done() {
    for version in Version::ALL {
        let text = FILE.to_owned() + "server u 10.0.0.3:80\nuse-server u if { always_false }\n";
        let fake = FakeHaproxy::start(version, &text).unwrap();
        let api = RuntimeApi::new(stats(&fake));
        fake.with(|haproxy| haproxy.in_flight("b", "t", 1));
        let add = |server: &str, options: &str| {
            let options = options.split_whitespace().map(str::to_owned).collect();
            let addr = "10.0.0.9:80".parse().unwrap();
            step(server, Action::Add { addr, options })
        };
        let steps = [
            add("s", ""),
            add("x", "bogus"),
            add("x", "resolvers r"),
            add("x", "ssl ca-file /none"),
            step("s", Action::Delete),
            step("t", Action::Delete),
            step("u", Action::Maint),
            step("u", Action::Delete),
            step("s", Action::Ready { check: true }),
            step("gone", Action::Maint),
            add("x", ""),
        ];
        let before = api.worker().await.unwrap();
        let executed = api.execute(&before, &steps).await.unwrap();
        let refused: Vec<_> = executed.refused.into_iter().map(|(_, why)| why).collect();
        let [exists, unknown, not_dynamic, file, rest @ ..] = refused.as_slice() else {
            panic!("{version:?}: {refused:?}")
        };
        assert_eq!(*exists, Refusal::Exists);
        assert_eq!(*unknown, Refusal::UnknownKeyword("bogus".into()));
        assert_eq!(*not_dynamic, Refusal::NotDynamic("resolvers".into()));
        assert!(matches!(file, Refusal::FileNotLoaded(_)), "{file}");
        let expected = [
            Refusal::NotInMaint,
            Refusal::Busy,
            Refusal::Referenced,
            Refusal::NoCheck,
            Refusal::NoSuchServer,
        ];
        assert_eq!(rest, expected, "{version:?}");
        assert!(executed.servers["b"].contains_key("x"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_below_level_admin_is_named() {
    let text = format!("global\nstats socket /stats level operator\n{FILE}");
    let fake = FakeHaproxy::start(Version::V2_6, &text).unwrap();
    let api = RuntimeApi::new(stats(&fake));
    assert_eq!(api.level().await.unwrap(), "operator");
    let before = api.worker().await.unwrap();
    let error = api.execute(&before, &maint()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Denied { .. }), "{error}");
}
