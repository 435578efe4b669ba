//! Clients that ask without pause and know who answered: an address goes in, answers by server and
//! failures come out. `wrk` is faster; this one sees every answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A request that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(5);
/// After a failure, so that a front end that is gone does not cost a core.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// Reasons kept.
const REASONS: usize = 5;

/// What the clients have seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Answers by the name of the server.
    pub answers: BTreeMap<String, u64>,
    /// Requests that got no answer, or another than 200.
    pub failed: u64,
    /// Why the first of them failed.
    pub reasons: Vec<String>,
}

impl Seen {
    /// All answers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// How the clients ask.
#[derive(Clone, Copy, Debug)]
pub struct LoadProfile {
    /// How many clients, a thread each.
    pub clients: usize,
    /// Requests a client sends on one connection.
    pub per_connection: usize,
    /// Between two requests of one client.
    pub pause: Duration,
}

/// Running clients; they end when dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts the clients.
    #[must_use]
    pub fn start(addr: SocketAddr, manner: LoadProfile) -> Self {
        Self::asking(addr, &addr.to_string(), "", manner)
    }

    /// The same for this host, below this path: `/api`, or nothing.
    #[must_use]
    pub fn asking(addr: SocketAddr, host: &str, path: &str, manner: LoadProfile) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let client = || {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            let (host, path) = (host.to_owned(), path.to_owned());
            let asks = Asks {
                addr,
                host,
                path,
                manner,
            };
            std::thread::spawn(move || run(&asks, &stop, &seen))
        };
        let clients = (0..manner.clients).map(|_| client()).collect();
        Self {
            stop,
            seen,
            clients,
        }
    }

    /// What they have seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends the clients, each after its request in flight.
    #[must_use]
    pub fn stop(mut self) -> Seen {
        self.end();
        self.seen()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a client asks for.
struct Asks {
    addr: SocketAddr,
    host: String,
    path: String,
    manner: LoadProfile,
}

fn run(asks: &Asks, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let manner = asks.manner;
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let answer = ask(&mut connection, asks);
        let failed = answer.is_err();
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(server) => *seen.answers.entry(server).or_default() += 1,
                Err(error) => {
                    seen.failed += 1;
                    if seen.reasons.len() < REASONS {
                        seen.reasons.push(format!("{error:#}"));
                    }
                }
            }
        }
        if failed {
            connection = None;
            std::thread::sleep(AFTER_FAILURE);
        } else if !manner.pause.is_zero() {
            std::thread::sleep(manner.pause);
        }
    }
}

struct Connection {
    socket: TcpStream,
    asked: usize,
}

fn ask(slot: &mut Option<Connection>, asks: &Asks) -> Result<String> {
    let connection = match slot {
        Some(connection) => connection,
        None => slot.insert(connect(asks.addr)?),
    };
    connection.asked += 1;
    let last = connection.asked >= asks.manner.per_connection;
    let close = if last { "Connection: close\r\n" } else { "" };
    // Another path each time, or a hash would send all of them to one server.
    let request = format!(
        "GET {}/{} HTTP/1.1\r\nHost: {}\r\n{close}\r\n",
        asks.path, connection.asked, asks.host
    );
    connection
        .socket
        .write_all(request.as_bytes())
        .context("sending")?;
    let (body, stays) = answer(&mut connection.socket)?;
    if last || !stays {
        *slot = None;
    }
    Ok(body)
}

fn connect(addr: SocketAddr) -> Result<Connection> {
    let socket = TcpStream::connect_timeout(&addr, DEADLINE).context("connecting")?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    Ok(Connection { socket, asked: 0 })
}

/// The body of one response, and whether the connection stays.
fn answer(socket: &mut TcpStream) -> Result<(String, bool)> {
    let mut received = Vec::with_capacity(512);
    let mut buffer = [0; 2048];
    loop {
        let text = String::from_utf8_lossy(&received);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let field = |name| head.lines().find_map(|line: &str| line.strip_prefix(name));
            let length: usize =
                field("content-length:").map_or(Ok(0), |value| value.trim().parse())?;
            if body.len() >= length {
                ensure!(
                    head.starts_with("http/1.1 200"),
                    "{}",
                    head.lines().next().unwrap_or_default()
                );
                let stays = field("connection:").is_none_or(|value| value.trim() != "close");
                return Ok((body.to_owned(), stays));
            }
        }
        let read = socket.read(&mut buffer).context("receiving")?;
        ensure!(
            read > 0,
            "closed after {} bytes of an answer",
            received.len()
        );
        received.extend_from_slice(&buffer[..read]);
    }
}
