//! Connecting to a name with several addresses: real sockets, the resolver's answer is the test's.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

/// An address that no other test uses.
fn place(last: u8) -> SocketAddr {
    let process = u8::try_from(std::process::id() % 250 + 1).unwrap();
    (Ipv4Addr::new(127, 11, process, last), 7373).into()
}

/// Packets that would begin a connection are dropped there, as behind a firewall: its queue is full.
async fn swallows(place: SocketAddr) -> (TcpListener, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(place).unwrap();
    let listener = socket.listen(0).unwrap();
    let queued = TcpStream::connect(place).await.unwrap();
    let more = timeout(Duration::from_millis(100), TcpStream::connect(place));
    assert!(more.await.is_err(), "the queue was not full");
    (listener, queued)
}

/// Takes every connection, and answers each request with the next of these, or never where there are none.
async fn says(place: SocketAddr, answers: &'static [&'static [u8]]) -> JoinHandle<()> {
    let listener = TcpListener::bind(place).await.unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            for answer in answers {
                if socket.read(&mut request).await.is_ok() {
                    let _ = socket.write_all(answer).await;
                }
            }
            kept.push(socket);
        }
    })
}

const HANDSHAKE: &[u8] = b"\x82\xa5Error\xa0\xa3Seq\x00";
const WELCOME: &[&[u8]] = &[HANDSHAKE, b"\x82\xa5Error\xa0\xa3Seq\x01"];
const BAD_KEY: &[&[u8]] = &[
    HANDSHAKE,
    b"\x82\xa5Error\xbcInvalid authentication token\xa3Seq\x01",
];

async fn connect(timeout_millis: u64, places: &[SocketAddr]) -> Result<Client, ConnectError> {
    let options = ConnectOptions::new("agent.example:7373")
        .auth_key("key")
        .connect_timeout(Duration::from_millis(timeout_millis));
    let places = places.to_vec();
    Client::connect_by(&options, async { Ok(places) }).await
}

#[tokio::test]
async fn an_address_that_swallows_packets_holds_up_no_other() {
    let _first = swallows(place(1)).await;
    let _agent = says(place(2), WELCOME).await;
    let began = Instant::now();
    let client = connect(5000, &[place(1), place(2)]).await.unwrap();
    assert_eq!(client.addr(), "agent.example:7373");
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_address_that_takes_connections_and_says_nothing_holds_up_no_other() {
    let _first = says(place(3), &[]).await;
    let _agent = says(place(4), WELCOME).await;
    connect(5000, &[place(3), place(4)]).await.unwrap();
}

#[tokio::test]
async fn an_address_where_nobody_listens_costs_no_time() {
    let _agent = says(place(6), WELCOME).await;
    connect(200, &[place(5), place(6)]).await.unwrap();
}

#[tokio::test]
async fn the_error_is_that_of_the_address_where_the_attempt_came_furthest() {
    let error = connect(5000, &[place(7), place(8)]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    let _agent = says(place(8), BAD_KEY).await;
    let error = connect(5000, &[place(7), place(8)]).await.unwrap_err();
    assert!(matches!(error, ConnectError::BadKey { .. }), "{error:?}");
    let _silent = swallows(place(7)).await;
    let error = connect(600, &[place(7), place(8)]).await.unwrap_err();
    assert!(matches!(error, ConnectError::BadKey { .. }), "{error:?}");
    let error = connect(100, &[place(7)]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    let error = connect(100, &[]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Resolve { .. }), "{error:?}");
}
