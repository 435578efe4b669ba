//! The HTTP listener: what the loop last published in; the page, the status, events and metrics out.
//!
//! It has a thread of its own: neither a page of ten thousand servers nor a thousand connections that say nothing hold
//! the loop up, and whoever asks is answered while the loop stands still. It takes what the loop publishes and measures,
//! and never asks it anything.

mod access;
mod answers;
mod events;
mod metrics;
mod page;
mod serve;
mod shown;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use axum::Router;
use tokio::sync::{oneshot, watch};

use crate::error_chain::chain;
use crate::meters::Meters;
use crate::published::Published;

pub use access::Access;
pub use answers::guarded;
pub use writer::Writer;

/// What is served.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    /// What the loop last published.
    pub(crate) published: watch::Receiver<Arc<Published>>,
    /// What is measured as it happens.
    pub(crate) meters: Arc<Meters>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("the HTTP listener cannot have {listen} ([http] listen)")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The token's file cannot be read.
    #[error("cannot read {path} ([http] token_file)")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What is in the token's file is none.
    #[error("{path} ([http] token_file) {flaw}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: &'static str,
    },
    /// It cannot begin.
    #[error("cannot start the HTTP listener")]
    Begin(#[source] io::Error),
}

impl HttpError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "find out who has that port (`ss -ltnp`), or set `[http] listen` to another and reload serf-haproxy; it is \
                 tried again by itself, and HAProxy is looked after meanwhile"
            }
            Self::Listen { .. } => {
                "set `[http] listen` to an address of this host and reload serf-haproxy; it is tried again by itself, and \
                 HAProxy is looked after meanwhile"
            }
            Self::Read { .. } | Self::Token { .. } => {
                "write a word there that nobody guesses (`head -c 24 /dev/urandom | base64`), for the user that runs \
                 serf-haproxy to read; it is tried again by itself"
            }
            Self::Begin(_) => "it is tried again by itself",
        }
    }
}

/// A listener that serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    listen: SocketAddr,
    access: watch::Sender<Arc<Access>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens there, and lets those in whom `access` does.
    ///
    /// # Errors
    /// [`HttpError::Listen`] or [`HttpError::Begin`].
    pub(crate) fn start(listen: SocketAddr, access: Access, feed: Feed) -> Result<Self, HttpError> {
        Self::answering(listen, access, |accesses| answers::of_feed(feed, accesses))
    }

    /// The same with answers of the caller's, made of who may ask: see [`guarded`].
    ///
    /// # Errors
    /// [`HttpError::Listen`] or [`HttpError::Begin`].
    pub fn answering(
        listen: SocketAddr,
        access: Access,
        answers: impl FnOnce(watch::Receiver<Arc<Access>>) -> Result<Router, HttpError> + Send + 'static,
    ) -> Result<Self, HttpError> {
        let bound = TcpListener::bind(listen).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = bound.map_err(|source| HttpError::Listen { listen, source })?;
        let (access, accesses) = watch::channel(Arc::new(access));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HttpError::Begin)?;
        let serve = async {
            let Err(error) = serve::serve(listener, || answers(accesses)).await;
            tracing::error!(error = %chain(&error), "no HTTP is served");
        };
        let serve = move || {
            runtime.spawn(serve);
            // What it serves ends with the runtime, when the other end is dropped.
            let _ = runtime.block_on(stopped);
        };
        let thread = thread::Builder::new().name("http".to_owned());
        let thread = thread.spawn(serve).map_err(HttpError::Begin)?;
        Ok(Self {
            listen,
            access,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it was told to listen.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Lets others in from now on.
    pub fn set_access(&self, access: Access) {
        self.access.send_replace(Arc::new(access));
    }
}

/// The port is free when this has returned.
impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the HTTP listener has panicked");
        }
    }
}
