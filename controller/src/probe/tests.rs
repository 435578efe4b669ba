use std::net::Ipv4Addr;

use planner::config::{ProxyVersion, Request, StatusCodes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn request(host: Option<&str>, status: &str) -> CheckConfig {
    let request = Request {
        method: "HEAD".to_owned(),
        path: "/up".to_owned(),
        host: host.map(str::to_owned),
        status: StatusCodes::parse(status).unwrap(),
    };
    CheckConfig {
        request: Some(request),
        ..CheckConfig::default()
    }
}

async fn ask(addr: SocketAddr, check: &CheckConfig) -> io::Result<bool> {
    let addr = SocketAddr::new(addr.ip(), check.port.unwrap_or(addr.port()));
    ask::ask(TcpStream::connect(addr).await?, check).await
}

/// What a server hears of a probe, with the probe's own port as `PORT`, and what the probe makes of its answer.
async fn asked(check: CheckConfig, answer: &str) -> (String, bool) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let wants_answer = check.request.is_some();
    let serve = async {
        let (mut socket, from) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !(wants_answer && heard.ends_with(b"\r\n\r\n")) {
            if socket.read_buf(&mut heard).await.unwrap() == 0 {
                break;
            }
        }
        socket.write_all(answer.as_bytes()).await.ok();
        let heard = String::from_utf8_lossy(&heard).into_owned();
        heard
            .replace(&addr.port().to_string(), "PORT")
            .replace(&from.port().to_string(), "OWN")
    };
    let (heard, good) = tokio::join!(serve, ask(addr, &check));
    (heard, good.unwrap())
}

#[tokio::test]
async fn it_sends_what_haproxys_check_sends() {
    let ok = "HTTP/1.1 204 No Content\r\n\r\n";
    let plain = asked(request(None, "200-399"), ok).await;
    assert_eq!(plain, ("HEAD /up HTTP/1.0\r\n\r\n".to_owned(), true));
    let host = asked(request(Some("www.example:81"), "204"), ok).await;
    let head = "HEAD /up HTTP/1.1\r\nhost: www.example:81\r\nconnection: close\r\n\r\n";
    assert_eq!(host, (head.to_owned(), true));
    let proxy = |send_proxy, check| CheckConfig {
        send_proxy,
        ..check
    };
    let line = asked(proxy(Some(ProxyVersion::V1), request(None, "204")), ok).await;
    let head = "PROXY TCP4 127.0.0.1 127.0.0.1 OWN PORT\r\nHEAD /up HTTP/1.0\r\n\r\n";
    assert_eq!(line, (head.to_owned(), true));
    let header = asked(proxy(Some(ProxyVersion::V2), CheckConfig::default()), "").await;
    let local = "\r\n\r\n\0\r\nQUIT\n \0\0\0";
    assert_eq!(header, (local.to_owned(), true));
}

#[tokio::test]
async fn only_the_codes_that_are_expected_are_good() {
    for (answer, good) in [
        ("HTTP/1.0 200 OK\r\n\r\n", true),
        ("HTTP/1.1 204\r\n\r\n", true),
        ("HTTP/1.1 301 Moved\r\n\r\n", false),
        ("HTTP/1.1 503 No\r\n\r\n", false),
        ("HTTP/1.1 2000 OK\r\n\r\n", false),
        ("HTTP/1.1 20", false),
        ("HTTP/2 200 OK\r\n\r\n", false),
        ("SSH-2.0-x\r\n", false),
        ("", false),
    ] {
        let (_, found) = asked(request(None, "200,204"), answer).await;
        assert_eq!(found, good, "{answer}");
    }
}

#[tokio::test]
async fn another_port_is_asked_where_the_check_has_one() {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let elsewhere = CheckConfig {
        port: Some(addr.port()),
        ..CheckConfig::default()
    };
    assert!(
        ask(SocketAddr::new(addr.ip(), 1), &elsewhere)
            .await
            .unwrap()
    );
    let refused = ask(SocketAddr::new(addr.ip(), 1), &CheckConfig::default()).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_no_good_answer() {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let check = CheckConfig {
        tls: true,
        ..CheckConfig::default()
    };
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = [0; 1];
        socket.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [22], "a TLS record of the handshake");
        socket.write_all(b"HTTP/1.0 400 Bad\r\n\r\n").await.unwrap();
    };
    let ((), answer) = tokio::join!(serve, ask(addr, &check));
    assert!(answer.is_err());
}

fn server(number: u16) -> ServerKey {
    ServerKey::read("nodes", &format!("s{number}")).unwrap()
}

/// One that listens nowhere, and is silent.
fn target(number: u16) -> Target {
    Target {
        addr: (Ipv4Addr::new(192, 0, 2, 1), number).into(),
        urgency: Urgency::Admission,
        sign: clock::now(),
    }
}

fn checks(check: CheckConfig) -> BTreeMap<BackendName, Arc<CheckConfig>> {
    [(server(1).backend, Arc::new(check))].into()
}

/// Probes that have been begun of these servers, and were told of no others.
fn probes(numbers: impl IntoIterator<Item = u16>) -> Probes {
    let mut probes = Probes::new(mpsc::channel(RESULTS).0);
    let news = numbers.into_iter();
    let news = news.map(|number| (server(number), Some(target(number))));
    probes.take(news.collect(), checks(CheckConfig::default()));
    probes.begin();
    probes
}

fn under_way(probes: &Probes) -> Vec<ServerKey> {
    probes.under_way.keys().cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_not_in_the_news_is_asked_on() {
    let mut probes = probes(1..=3);
    let before = probes.under_way[&server(3)].id();
    let moved = Target {
        addr: target(4711).addr,
        ..target(1)
    };
    let news = vec![(server(1), Some(moved)), (server(2), None)];
    probes.take(news, checks(CheckConfig::default()));
    assert_eq!(under_way(&probes), [server(3)]);
    assert_eq!(probes.begin(), 1, "another address is another server");
    assert_eq!(under_way(&probes), [server(1), server(3)]);
    assert_eq!(probes.under_way[&server(3)].id(), before);
    assert_eq!(probes.schedule.target(&server(1)), Some(moved));
    assert_eq!(probes.schedule.target(&server(2)), None);
}

#[tokio::test(start_paused = true)]
async fn a_newer_sign_of_life_leaves_a_probe_under_way() {
    let mut probes = probes(1..=1);
    let before = probes.under_way[&server(1)].id();
    tokio::time::advance(Duration::from_secs(1)).await;
    let newer = target(1);
    probes.take(
        vec![(server(1), Some(newer))],
        checks(CheckConfig::default()),
    );
    assert_eq!(probes.under_way[&server(1)].id(), before);
    assert_eq!(probes.schedule.target(&server(1)), Some(newer));
}

#[tokio::test(start_paused = true)]
async fn another_check_asks_all_anew_and_none_asks_nobody() {
    let mut probes = probes(1..=2);
    probes.take(Vec::new(), checks(request(None, "200")));
    assert_eq!(under_way(&probes), []);
    assert_eq!(probes.begin(), 2);
    probes.take(Vec::new(), BTreeMap::new());
    assert_eq!(under_way(&probes), []);
    assert_eq!(probes.begin(), 0);
    assert_eq!(probes.schedule.targets().count(), 0);
}
