//! The rules of every answer, and that nothing hostile gets through.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::StreamExt as _;
use planner::config;
use tower::ServiceExt as _;

use super::answers::{Served, router};
use super::shown::Shown;
use super::*;
use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::freshness::Readings;
use crate::history::Entry;
use crate::status::{self, Backend, Problem, Status};

mod documented;

const EVIL: &str = "<script>alert(1)</script>\"'&<img src=x onerror=y>";

struct Stage {
    router: Router,
    published: watch::Sender<Arc<Published>>,
    meters: Arc<Meters>,
}

impl Stage {
    fn new(published: Published) -> Self {
        Self::with(published, &config::Http::default())
    }

    fn with(published: Published, settings: &config::Http) -> Self {
        let (published, seen) = watch::channel(Arc::new(published));
        let meters = Arc::<Meters>::default();
        let feed = Feed {
            published: seen,
            meters: Arc::clone(&meters),
        };
        let (_, access) = watch::channel(Arc::new(Access::read(settings).unwrap()));
        let shown = Shown::new(feed).unwrap();
        let router = router(Arc::new(Served { shown, access }));
        Self {
            router,
            published,
            meters,
        }
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        self.ask(request("GET", path, "localhost")).await
    }

    fn publish(&self, change: impl FnOnce(&mut Published)) {
        self.published.send_modify(|published| {
            let published = Arc::make_mut(published);
            published.number += 1;
            change(published);
        });
    }
}

fn request(method: &str, path: &str, host: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    request.header("host", host).body(Body::empty()).unwrap()
}

fn server(state: &str, held: bool) -> status::Server {
    status::Server {
        state: state.to_owned(),
        why: EVIL.to_owned(),
        address: "10.0.0.7:80".parse().unwrap(),
        weight: 1,
        gossip: "alive".to_owned(),
        check: "up".to_owned(),
        probe: "good".to_owned(),
        agent: "none".to_owned(),
        suspected: false,
        held,
        member: None,
        origin: "member".to_owned(),
        since: 5,
    }
}

/// Everything that can be said, hostile wherever others choose the words.
fn full() -> Published {
    let servers = [
        ("s1", "ready", false),
        ("s2", "down", false),
        ("s3", "ready", true),
    ];
    let servers = servers.map(|(name, state, held)| (name.to_owned(), server(state, held)));
    let backend = Backend {
        in_rotation: Some(3),
        answering: Some(2),
        checked: true,
        roles: false,
        picks: EVIL.to_owned(),
        removed: 1,
        may_go: 2,
        servers: servers.into(),
    };
    let nobody = Backend {
        picks: EVIL.to_owned(),
        ..Backend::default()
    };
    let mut status = Status {
        revision: 7,
        problems: vec![Problem {
            what: "backend nodes".to_owned(),
            problem: EVIL.to_owned(),
            since: 1,
            advice: EVIL.to_owned(),
        }],
        backends: BTreeMap::from([("nodes".to_owned(), backend), ("none".to_owned(), nobody)]),
        quarantined: BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())]),
        ..Status::default()
    };
    status.agent.state = "connected".to_owned();
    status.agent.addr = Some(EVIL.to_owned());
    status.agent.members = 4;
    status.agent.listed = 3;
    status.haproxy.state = "running".to_owned();
    status.haproxy.old_workers = Some(1);
    status.file.state = "behind".to_owned();
    status.counters.applies = 3;
    status.counters.reloads_by_reason = BTreeMap::from([("template".to_owned(), 2)]);
    let now = clock::now();
    let entry = Entry {
        at_ms: 1,
        how: "runtime".to_owned(),
        changes: vec![
            format!("nodes/{EVIL}: add 10.0.0.1:80"),
            "nodes/s9: delete".to_owned(),
        ],
        diff: vec![format!("+ server {EVIL}"), "- server s9".to_owned()],
        reasons: vec![EVIL.to_owned()],
        took_ms: 1.5,
        error: Some(EVIL.to_owned()),
    };
    let mut published = Published {
        number: 1,
        status,
        readings: Some(Readings {
            haproxy: Some(now),
            checks: Some(now),
            old_workers: Some(now),
            file: Some(now),
            anchor: ClockAnchor::now(),
        }),
        history: Arc::new([Arc::new(entry)]),
        ..Published::default()
    };
    published.plan.steps = vec![EVIL.to_owned()];
    published.plan.reload = vec![EVIL.to_owned()];
    published.plan.on_disk = Some("a\nb\n".to_owned());
    published.plan.wanted = format!("a\nsecret\nserver {EVIL}\n");
    published
}

#[tokio::test]
async fn every_answer_keeps_the_rules() {
    let stage = Stage::new(full());
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/body", "text/html; charset=utf-8"),
        ("/status", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
        ("/nothing", "text/plain; charset=utf-8"),
    ] {
        let (status, headers, body) = stage.get(path).await;
        let expected = match path {
            "/nothing" => StatusCode::NOT_FOUND,
            "/readyz" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        assert_eq!(
            (status, &headers["content-type"]),
            (expected, &kind.parse().unwrap()),
            "{path}"
        );
        assert!(!body.is_empty(), "{path}");
        for (method, host, expected) in [
            ("HEAD", "127.0.0.1:9280", status),
            ("POST", "localhost", StatusCode::METHOD_NOT_ALLOWED),
            ("OPTIONS", "localhost", StatusCode::METHOD_NOT_ALLOWED),
            ("GET", "evil.example", StatusCode::MISDIRECTED_REQUEST),
        ] {
            let (status, headers, said) = stage.ask(request(method, path, host)).await;
            assert_eq!(status, expected, "{method} {path} at {host}");
            assert!(method == "HEAD" || !said.contains("nodes"), "{said}");
            assert!(method != "HEAD" || said.is_empty(), "{said}");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; script-src 'self'"),
                "{policy}"
            );
            assert!(
                !policy.contains("unsafe") && !policy.contains("http"),
                "{policy}"
            );
        }
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_said_but_how_to_give_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let settings = config::Http {
        token_file: Some(path),
        ..config::Http::default()
    };
    let stage = Stage::with(full(), &settings);
    for path in [
        "/", "/body", "/status", "/events", "/metrics", "/healthz", "/readyz", "/x",
    ] {
        let (status, headers, body) = stage.get(path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(
            headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer ")
        );
        assert!(body.contains("[http] token_file"), "{body}");
    }
    let mut right = request("GET", "/status", "localhost");
    let word = "Bearer 0123456789abcdef".parse().unwrap();
    right.headers_mut().insert("authorization", word);
    assert_eq!(stage.ask(right).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_status_is_that_of_the_control_socket_with_its_ages() {
    let stage = Stage::new(full());
    let (_, _, body) = stage.get("/status").await;
    let mut said: Status = serde_json::from_str(&body).unwrap();
    let mut meant = stage.published.borrow().status_at(clock::now());
    assert_eq!(said.haproxy.age_seconds, Some(0));
    (said.time, meant.time) = (0, 0);
    assert_eq!(said, meant);
}

#[tokio::test(start_paused = true)]
async fn health_is_the_loops_and_readiness_that_of_what_it_did() {
    let stage = Stage::new(full());
    assert_eq!(stage.get("/healthz").await.0, StatusCode::OK);
    tokio::time::advance(Duration::from_secs(30)).await;
    let (status, _, body) = stage.get("/healthz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "the loop turned 30 s ago\n");
    assert!(
        stage
            .get("/")
            .await
            .2
            .contains("The controller stands still")
    );
    stage.meters.turned();
    assert_eq!(stage.get("/healthz").await.0, StatusCode::OK);

    assert_eq!(
        stage.get("/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    stage.meters.applied();
    let (status, headers, _) = stage.get("/readyz").await;
    assert_eq!(
        (status, headers.get("serf-haproxy-stale")),
        (StatusCode::OK, None)
    );
    stage.publish(|published| published.status.agent.state = "lost".to_owned());
    let (status, headers, _) = stage.get("/readyz").await;
    assert_eq!(status, StatusCode::OK, "a lost agent takes no balancer out");
    assert_eq!(headers["serf-haproxy-stale"], "agent lost");
}

#[tokio::test]
async fn hostile_words_are_shown_and_not_taken_for_html() {
    let stage = Stage::new(full());
    let (_, _, page) = stage.get("/").await;
    assert!(
        !page.contains("<script>alert") && !page.contains("<img"),
        "{page}"
    );
    let page = page.replace("&#x2f;", "/");
    let shown = page.matches("&lt;script&gt;alert(1)&lt;").count();
    assert!(shown >= 14, "{shown} of what is hostile is shown: {page}");
    assert!(page.contains("1 problem needs a person"));
    assert!(!page.contains("secret"), "no more of the file than servers");
    let command = "serf-haproxy approve --revision 7 nodes/s3";
    assert!(page.contains(command), "{page}");
    let order = [
        "a person",
        "id=\"servers\"",
        "Held back",
        "Left out",
        "Left to be done",
        "History",
    ];
    let places = order.map(|what| page.find(what).unwrap_or_else(|| panic!("{what}")));
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn before_anything_was_read_the_page_says_so() {
    let stage = Stage::new(Published::default());
    let (status, _, page) = stage.get("/").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("nothing was read yet"), "{page}");
    assert_eq!(stage.get("/metrics").await.0, StatusCode::OK);
}

#[tokio::test]
async fn of_very_many_servers_those_that_need_a_look_are_shown_first() {
    let mut published = full();
    let servers = (0..5000).map(|n| {
        let state = if n == 4999 { "down" } else { "ready" };
        (format!("s{n:04}"), server(state, false))
    });
    let nodes = published.status.backends.get_mut("nodes").unwrap();
    nodes.servers = servers.collect();
    let stage = Stage::new(published);
    let (_, _, page) = stage.get("/").await;
    assert_eq!(page.matches("<details class=\"cell").count(), 1500);
    assert!(page.contains("data-key=\"nodes/s4999\"") && page.contains("and 3500 more"));
}

fn samples(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[tokio::test]
async fn metrics_tell_backends_and_no_member() {
    let mut published = full();
    for number in 0..1000 {
        let nobody = Backend::default();
        published
            .status
            .backends
            .insert(format!("b{number:03}"), nobody);
    }
    let stage = Stage::new(published);
    stage.meters.cycles.observe(0.003);
    let (_, _, text) = stage.get("/metrics").await;
    for line in [
        "serf_haproxy_backends 1002",
        "serf_haproxy_haproxy_up 1",
        "serf_haproxy_file_behind 1",
        "serf_haproxy_problems 1",
        "serf_haproxy_reloads_total{reason=\"template\"} 2",
        "serf_haproxy_applies_total{kind=\"change\"} 3",
        "serf_haproxy_cycle_seconds_bucket{le=\"0.005\"} 1",
        "serf_haproxy_quarantined_members 1",
        "serf_haproxy_members_refused 0",
    ] {
        assert!(samples(&text).any(|it| it == line), "{line} in {text}");
    }
    assert!(samples(&text).count() < 8000 && !text.contains("s1") && !text.contains("script"));
}

#[tokio::test]
async fn a_backend_that_serves_nobody_is_that_of_the_status() {
    let mut published = full();
    let nodes = published.status.backends.get_mut("nodes").unwrap();
    nodes.roles = true;
    let (_, _, text) = Stage::new(published).get("/metrics").await;
    for (backend, is_so) in [("nodes", 1), ("none", 0)] {
        for name in ["unserved", "roles"] {
            let line = format!("serf_haproxy_backend_{name}{{backend=\"{backend}\"}} {is_so}");
            assert!(samples(&text).any(|it| it == line), "{line} in {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_gets_the_latest_and_what_came_between_is_left_out() {
    let stage = Stage::new(full());
    let events = request("GET", "/events", "localhost");
    let response = stage.router.clone().oneshot(events).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let revision = |event: Option<Result<Bytes, _>>| {
        let event = event.unwrap().unwrap();
        let text = String::from_utf8(event.to_vec()).unwrap();
        let data = text.strip_prefix("event: status\ndata: ")?.to_owned();
        assert!(data.ends_with("\n\n") && data.matches('\n').count() == 2);
        let status: Status = serde_json::from_str(&data).unwrap();
        Some(status.revision)
    };
    assert_eq!(revision(events.next().await), Some(7));
    for revision in 8..200 {
        stage.publish(|published| published.status.revision = revision);
    }
    assert_eq!(revision(events.next().await), Some(199));
    assert_eq!(
        revision(events.next().await),
        None,
        "a comment shows that it goes on"
    );
    // That it was read again is no news.
    stage.published.send_modify(|_| {});
    assert_eq!(revision(events.next().await), None);
    drop(stage.published);
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_page_hears_how_old_it_is_and_when_its_body_is_another() {
    let stage = Stage::new(full());
    let events = request("GET", "/events?page", "localhost");
    let response = stage.router.clone().oneshot(events).await.unwrap();
    let mut events = response.into_body().into_data_stream();
    let mut next = async || {
        let event = events.next().await.unwrap().unwrap();
        String::from_utf8(event.to_vec()).unwrap()
    };
    let first = next().await;
    assert!(
        first.starts_with("event: head\ndata: \"<h1>")
            && first.ends_with("event: body\ndata: 1\n\n"),
        "{first}"
    );
    assert!(!next().await.contains("event: body"));
    stage.publish(|_| {});
    assert!(next().await.ends_with("event: body\ndata: 2\n\n"));
}

#[tokio::test]
async fn readers_of_events_leave_places_for_others() {
    let stage = Stage::new(full());
    let ask = || {
        stage
            .router
            .clone()
            .oneshot(request("GET", "/events", "localhost"))
    };
    let mut readers = Vec::new();
    loop {
        let response = ask().await.unwrap();
        if response.status() != StatusCode::OK {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()["retry-after"], "5");
            break;
        }
        readers.push(response);
    }
    assert_eq!(readers.len(), 32);
    readers.pop();
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
}

#[test]
fn a_port_is_free_again_when_its_server_is_gone() {
    let (_published, seen) = watch::channel(Arc::new(full()));
    let feed = Feed {
        published: seen,
        meters: Arc::default(),
    };
    let access = || Access::read(&config::Http::default()).unwrap();
    let any = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = any.local_addr().unwrap();
    let taken = Server::start(listen, access(), feed.clone()).unwrap_err();
    assert!(matches!(taken, HttpError::Listen { .. }), "{taken:?}");
    assert!(taken.advice().contains("who has that port"));
    drop(any);
    for _ in 0..3 {
        let server = Server::start(listen, access(), feed.clone()).unwrap();
        drop(std::net::TcpStream::connect(listen).unwrap());
        drop(server);
    }
}
