//! The agent that HAProxy's `agent-check` asks: an address and a word go in, a server that says it comes out.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Says the same to whoever connects, until it is told otherwise.
#[derive(Debug)]
pub struct HealthAgent {
    word: Arc<Mutex<String>>,
    asked: Arc<AtomicU64>,
    listener: JoinHandle<()>,
}

impl HealthAgent {
    /// Listens, and says `word`: `ready`, `drain`, `maint`, `down`, `50%`, or several of them.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(addr: SocketAddr, word: &str) -> Result<Self> {
        let listener = TcpListener::bind(addr).await;
        let listener = listener.with_context(|| format!("cannot listen on {addr}"))?;
        let word = Arc::new(Mutex::new(word.to_owned()));
        let asked = Arc::new(AtomicU64::new(0));
        let (says, counter) = (Arc::clone(&word), Arc::clone(&asked));
        let listener = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let line = says.lock().map(|word| format!("{word}\n"));
                let _ = stream.write_all(line.unwrap_or_default().as_bytes()).await;
            }
        });
        Ok(Self {
            word,
            asked,
            listener,
        })
    }

    /// What it says from now on.
    ///
    /// # Panics
    /// When its listener has panicked.
    pub fn say(&self, word: &str) {
        word.clone_into(&mut self.word.lock().expect("the listener does not panic"));
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for HealthAgent {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
