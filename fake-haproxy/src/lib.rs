//! A HAProxy in memory, for tests: it speaks the Runtime API and its master's over in-memory streams, in the words of
//! 2.6, 3.0 and 3.2, and moves with tokio's clock, which a test may pause.
//!
//! ```
//! # use fake_haproxy::{FakeHaproxy, Version};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fake = FakeHaproxy::start(Version::V3_0, "backend web\n")?;
//! let mut stream = fake.stats()?;
//! stream.write_all(b"add server web/a 10.0.0.1:80\n").await?;
//! let mut reply = String::new();
//! stream.read_to_string(&mut reply).await?;
//! assert_eq!(reply, "New server registered.\n\n");
//! # Ok(())
//! # }
//! ```
//!
//! It knows nothing of the controller and its planner: what it says is what was heard of the real ones, and the test
//! `haproxy::fake` of `integration` holds it to them. It balances no requests and writes no log.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::time::Instant;

mod command;
mod config;
mod connection;
mod fault;
mod haproxy;
mod keyword;
mod server;
mod show;
mod version;
mod web;
mod worker;

pub use fault::Fault;
pub use haproxy::{Haproxy, LoadError, Socket};
pub use version::Version;

use connection::Connection;

/// How many bytes a connection holds that nobody has read yet.
const BUFFER: usize = 64 << 10;

/// A [`Haproxy`] that can be connected to; clones are the same one.
#[derive(Clone, Debug)]
pub struct FakeHaproxy {
    haproxy: Arc<Mutex<Haproxy>>,
    started: Instant,
}

impl FakeHaproxy {
    /// Starts with this file.
    ///
    /// # Errors
    /// When this version would not load it.
    pub fn start(version: Version, file: &str) -> Result<Self, LoadError> {
        Ok(Self {
            haproxy: Arc::new(Mutex::new(Haproxy::start(version, file)?)),
            started: Instant::now(),
        })
    }

    /// Does something to it, as it is by now.
    pub fn with<T>(&self, what: impl FnOnce(&mut Haproxy) -> T) -> T {
        // a test that panicked in the middle fails anyway
        let mut haproxy = self.haproxy.lock().unwrap_or_else(PoisonError::into_inner);
        haproxy.advance_to(self.started.elapsed());
        what(&mut haproxy)
    }

    /// A connection to the stats socket of the worker that serves now.
    ///
    /// # Errors
    /// When a fault refuses it.
    pub fn stats(&self) -> io::Result<DuplexStream> {
        self.connect(Socket::Stats)
    }

    /// A connection to the master's socket.
    ///
    /// # Errors
    /// When a fault refuses it, and while 2.6 loads.
    pub fn master(&self) -> io::Result<DuplexStream> {
        self.connect(Socket::Master)
    }

    fn connect(&self, socket: Socket) -> io::Result<DuplexStream> {
        let pid = self.with(|haproxy| {
            let loads = haproxy.loading_ends().is_some() && !haproxy.version().is_3();
            let refuses = haproxy.fault(socket) == Some(&Fault::Refuses);
            let worker = haproxy.serving()?;
            if refuses || loads && socket == Socket::Master {
                return None;
            }
            if socket == Socket::Stats {
                worker.connections += 1;
            }
            Some(worker.pid)
        });
        let pid = pid.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = duplex(BUFFER);
        tokio::spawn(Connection::new(self.clone(), socket, pid).serve(far));
        Ok(near)
    }

    /// How long the reload under way still takes.
    pub(crate) fn loading_for(&self) -> Option<Duration> {
        let ends = self.with(|haproxy| haproxy.loading_ends())?;
        Some(ends.saturating_sub(self.started.elapsed()))
    }
}

#[cfg(test)]
mod tests;
