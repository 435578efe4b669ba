//! Small web servers: a name and an address go in, an HTTP/1.1 server that counts comes out.
//!
//! `/` answers with the server's name, `/slow?ms=N` does so after N milliseconds, `/health` does so
//! uncounted, `/primary` does so too, with 503 while the server is a standby, and `/replica` with 503 while it is not;
//! `/close` closes without a word.
//! All of them share one thread, apart from the runtime of the test, so that neither
//! delays the other.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::daemons::manners::{Connection, Manners};

/// More than any request here has.
const MAX_REQUEST: usize = 64 * 1024;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("web")
        .enable_all()
        .build()
        .expect("a runtime for the web servers")
});

/// A web server, listening or not.
#[derive(Debug)]
pub struct Web {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    /// Dropped or changed: every open connection ends.
    connections: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    requests: AtomicU64,
    connections: AtomicU64,
    first: Mutex<Option<Instant>>,
    manners: Manners,
    standby: AtomicBool,
    failing: AtomicBool,
}

impl Web {
    /// A server of this name that does not listen yet.
    #[must_use]
    pub fn new(name: impl Into<String>, addr: SocketAddr) -> Self {
        Self::with_manners(name, addr, Manners::default())
    }

    /// The same for one that wants something of whoever connects.
    #[must_use]
    pub fn with_manners(name: impl Into<String>, addr: SocketAddr, manners: Manners) -> Self {
        let shared = Arc::new(Shared {
            name: name.into(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            first: Mutex::new(None),
            manners,
            standby: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        });
        Self {
            addr,
            shared,
            listener: None,
            connections: watch::Sender::new(()),
        }
    }

    /// A server of this name that listens.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(name: impl Into<String>, addr: SocketAddr) -> Result<Self> {
        let mut web = Self::new(name, addr);
        web.listen()?;
        Ok(web)
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn listen(&mut self) -> Result<()> {
        self.stop_listening();
        let bound = std::net::TcpListener::bind(self.addr).with_context(|| {
            format!(
                "the web server {} cannot listen on {}",
                self.name(),
                self.addr
            )
        })?;
        bound.set_nonblocking(true)?;
        let _runtime = RUNTIME.enter();
        let listener = TcpListener::from_std(bound)?;
        let accept = accept(
            listener,
            Arc::clone(&self.shared),
            self.connections.subscribe(),
        );
        self.listener = Some(RUNTIME.spawn(accept));
        Ok(())
    }

    /// Accepts no more connections; those that are open go on.
    pub fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
            while !listener.is_finished() {
                std::thread::yield_now();
            }
        }
    }

    /// Stops listening and cuts every connection, as the death of the process would.
    pub fn close(&mut self) {
        self.stop_listening();
        self.connections.send_replace(());
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it is a standby from now on: of its pages `/primary` and `/replica` the one or the other says 503.
    pub fn set_standby(&self, standby: bool) {
        self.shared.standby.store(standby, Ordering::Relaxed);
    }

    /// Whether it answers everything with 500 from now on.
    pub fn set_failing(&self, failing: bool) {
        self.shared.failing.store(failing, Ordering::Relaxed);
    }

    /// Requests received, without those for `/health`, `/primary` and `/replica`.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Connections accepted, probes and checks among them.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// When the first request came since the start or [`Web::forget_first_request`].
    #[must_use]
    pub fn first_request(&self) -> Option<Instant> {
        *self.shared.first.lock().expect("no server panics")
    }

    /// Lets the next request be the first one.
    pub fn forget_first_request(&self) {
        *self.shared.first.lock().expect("no server panics") = None;
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, closed: watch::Receiver<()>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let (shared, mut closed) = (Arc::clone(&shared), closed.clone());
        closed.mark_unchanged();
        RUNTIME.spawn(async move {
            let served = async {
                let socket = shared.manners.greet(socket).await?;
                serve(socket, &shared).await
            };
            tokio::select! {
                _ = served => {}
                _ = closed.changed() => {}
            }
        });
    }
}

/// Serves one connection until either side has enough.
async fn serve(mut socket: Box<dyn Connection>, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(end) = head_end(&buffer) else {
            if buffer.len() > MAX_REQUEST || socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let now = Instant::now();
        let request = Request::parse(&buffer[..end]);
        skip(&mut socket, &mut buffer, end + request.body).await?;
        if !matches!(request.path.as_str(), "/health" | "/primary" | "/replica") {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            shared
                .first
                .lock()
                .expect("no server panics")
                .get_or_insert(now);
        }
        if let Some(delay) = request.delay() {
            tokio::time::sleep(delay).await;
        }
        if request.path == "/close" {
            return Ok(());
        }
        let status = shared.status(&request);
        let response = response(&shared.name, status, &request);
        socket.write_all(&response).await?;
        socket.flush().await?;
        if !request.keep_alive {
            return socket.shutdown().await;
        }
    }
}

/// Drops `length` bytes, reading those that are still to come.
async fn skip(
    socket: &mut Box<dyn Connection>,
    buffer: &mut Vec<u8>,
    length: usize,
) -> io::Result<()> {
    while buffer.len() < length {
        if socket.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    buffer.drain(..length);
    Ok(())
}

fn head_end(buffer: &[u8]) -> Option<usize> {
    buffer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

impl Shared {
    fn status(&self, request: &Request) -> &'static str {
        let wanted = self.manners.host.as_ref();
        let stranger = wanted.is_some_and(|host| request.host.as_ref() != Some(host));
        let standby = self.standby.load(Ordering::Relaxed);
        match request.path.as_str() {
            _ if self.failing.load(Ordering::Relaxed) => "500 Internal Server Error",
            "/health" if stranger => "404 Not Found",
            "/primary" if standby => "503 Service Unavailable",
            "/replica" if !standby => "503 Service Unavailable",
            _ => "200 OK",
        }
    }
}

struct Request {
    head_only: bool,
    path: String,
    query: String,
    keep_alive: bool,
    body: usize,
    host: Option<String>,
    /// What is sent back, where the request has a header `X-Echo`: its first line and its headers that begin with `X-`.
    echo: Option<String>,
}

impl Request {
    fn parse(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            head_only: method == "HEAD",
            path: path.to_owned(),
            query: query.to_owned(),
            keep_alive: words.next() == Some("HTTP/1.1"),
            body: 0,
            host: None,
            echo: None,
        };
        if text.to_ascii_lowercase().contains("\r\nx-echo:") {
            request.echo = Some(echo(&text));
        }
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("connection") {
                request.keep_alive = !value.trim().eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("content-length") {
                request.body = value.trim().parse().unwrap_or(0);
            } else if name.eq_ignore_ascii_case("host") {
                request.host = Some(value.trim().to_owned());
            }
        }
        request
    }

    fn delay(&self) -> Option<Duration> {
        let slow = self.path == "/slow";
        slow.then(|| {
            self.query
                .strip_prefix("ms=")?
                .parse()
                .ok()
                .map(Duration::from_millis)
        })
        .flatten()
    }
}

fn echo(head: &str) -> String {
    let first = head.split("\r\n").next().unwrap_or_default();
    let own = |line: &&str| line.to_ascii_lowercase().starts_with("x-");
    let headers = head.split("\r\n").filter(own);
    let headers = headers.map(|line| format!("Echo-{line}\r\n"));
    format!("Echo: {first}\r\n{}", headers.collect::<String>())
}

fn response(name: &str, status: &str, request: &Request) -> Vec<u8> {
    let connection = if request.keep_alive {
        "keep-alive"
    } else {
        "close"
    };
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n{}\r\n",
        name.len(),
        request.echo.as_deref().unwrap_or_default(),
    );
    if !request.head_only {
        text.push_str(name);
    }
    text.into_bytes()
}

/// One `GET /` on a connection of its own: the name of the server that answered, none when nobody or
/// something else did.
pub async fn ask(addr: SocketAddr) -> Option<String> {
    get(addr, "/")
        .await
        .filter(|(status, _)| *status == 200)
        .map(|(_, body)| body)
}

/// One `GET` on a connection of its own: status and body, none when the connection failed.
pub async fn get(addr: SocketAddr, path: &str) -> Option<(u16, String)> {
    exchange(addr, "GET", path, "").await
}

/// One `POST` of a document in JSON on a connection of its own: status and body, none when the connection failed.
pub async fn post(addr: SocketAddr, path: &str, document: &str) -> Option<(u16, String)> {
    exchange(addr, "POST", path, document).await
}

async fn exchange(addr: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut socket = TcpStream::connect(addr).await.ok()?;
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut reply = Vec::new();
        socket.read_to_end(&mut reply).await.ok()?;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let status = reply.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some((status, reply.split_once("\r\n\r\n")?.1.to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(10), exchange)
        .await
        .ok()
        .flatten()
}
