//! Servers that note what is said to them first: addresses go in, for each of them what was said comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::traffic::flight;

/// A client that has said nothing for so long waits for an answer.
const QUIET: Duration = Duration::from_secs(1);
const MAX: usize = 32 * 1024;

type Heard = Arc<Mutex<BTreeMap<SocketAddr, BTreeSet<String>>>>;

/// Listeners on any number of addresses. They answer HTTP/1 with 200, everything else with the end of the connection.
#[derive(Debug, Default)]
pub struct Recorder {
    heard: Heard,
    listeners: Vec<JoinHandle<()>>,
}

impl Recorder {
    /// Listens on one more address.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn listen(&mut self, addr: SocketAddr) -> Result<()> {
        let listener = TcpListener::bind(addr).await;
        let listener = listener.with_context(|| format!("cannot listen on {addr}"))?;
        let heard = Arc::clone(&self.heard);
        self.listeners.push(tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(note(stream, addr, Arc::clone(&heard)));
                }
            }
        }));
        Ok(())
    }

    /// The different things that were said to an address; a connection without a word is an empty one.
    ///
    /// # Panics
    /// When a listener has panicked.
    #[must_use]
    pub fn heard(&self, addr: SocketAddr) -> BTreeSet<String> {
        let heard = self.heard.lock().expect("no listener panics");
        heard.get(&addr).cloned().unwrap_or_default()
    }

    /// Forgets everything.
    ///
    /// # Panics
    /// When a listener has panicked.
    pub fn forget(&self) {
        self.heard.lock().expect("no listener panics").clear();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

async fn note(mut stream: TcpStream, addr: SocketAddr, heard: Heard) {
    let mut bytes = Vec::new();
    let said = loop {
        let (said, whole) = flight::read(&bytes);
        if whole || bytes.len() > MAX {
            break said;
        }
        match timeout(QUIET, stream.read_buf(&mut bytes)).await {
            Ok(Ok(1..)) => {}
            _ => break said,
        }
    };
    let is_http = said.contains(" HTTP/1.");
    if let Ok(mut heard) = heard.lock() {
        heard.entry(addr).or_default().insert(said);
    }
    if is_http {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(ok).await;
    }
}
