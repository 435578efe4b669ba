//! Questions to the controller's HTTP listener, byte by byte: a request in, the answer out.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, in small letters.
    pub head: String,
    /// The rest.
    pub body: String,
}

/// Asks for a path with GET, under the listener's own address.
///
/// # Errors
/// When nobody answers in time.
pub async fn get(addr: SocketAddr, path: &str) -> Result<Answer> {
    ask(addr, "GET", path, &format!("host: {addr}\r\n")).await
}

/// Asks with these headers, each with its line end.
///
/// # Errors
/// When nobody answers in time.
pub async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &str) -> Result<Answer> {
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    exchange(addr, &request).await
}

/// Asks another server than ours for a path, in HTTP/1.0: its answer is not cut into chunks.
///
/// # Errors
/// When nobody answers in time.
pub async fn get_whole(addr: SocketAddr, path: &str) -> Result<Answer> {
    exchange(
        addr,
        &format!("GET {path} HTTP/1.0\r\nhost: {addr}\r\n\r\n"),
    )
    .await
}

/// Sends these bytes from an address of this host, and reads to the end.
///
/// # Errors
/// When nobody answers in time, or with something else.
pub async fn ask_from(from: Ipv4Addr, addr: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    let exchange = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let mut stream = socket.connect(addr).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    parse(&timeout(PATIENCE, exchange).await.context("no answer")??)
}

async fn exchange(addr: SocketAddr, request: &str) -> Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.context("no answer")??;
    parse(&answer)
}

/// Reads an answer that is all there.
///
/// # Errors
/// When it is none.
pub fn parse(answer: &[u8]) -> Result<Answer> {
    let text = std::str::from_utf8(answer)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

/// Server-sent events, as they come.
#[derive(Debug)]
pub struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    /// Listens to those of a path.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn open(addr: SocketAddr, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(Self(BufReader::new(stream).lines()))
    }

    /// The data of the next event of that name; what else comes is left out.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn next(&mut self, name: &str) -> Result<String> {
        let is_named = format!("event: {name}");
        let wait = async {
            let mut named = false;
            while let Some(line) = self.0.next_line().await? {
                match line.strip_prefix("data: ") {
                    Some(data) if named => return anyhow::Ok(data.to_owned()),
                    _ => named = line == is_named,
                }
            }
            anyhow::bail!("the events have ended")
        };
        timeout(PATIENCE, wait).await.context("no event")?
    }
}
