//! Making a connection: the address and options in, a [`Client`] that has shaken hands out.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::time::timeout;

use crate::command::{Auth, Handshake};
use crate::wire::protocol::Refusal;

use super::dial;
use super::handle::Handle;
use super::{Client, ConnectOptions};
use crate::error::{CallError, ConnectError, Reach};

impl ConnectOptions {
    /// Connects, shakes hands and authenticates.
    ///
    /// # Errors
    /// Which of these steps failed and why; see [`ConnectError`].
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        Client::establish(self).await
    }

    /// The same over a transport that is open already: a TLS session, a Unix socket, a pipe in memory. The address is
    /// only a name for it then, in errors and logs.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use serf_rpc::ConnectOptions;
    ///
    /// let socket = tokio::net::UnixStream::connect("/run/serf-rpc.sock").await?;
    /// let client = ConnectOptions::new("/run/serf-rpc.sock").connect_over(socket).await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of handshake and authentication; see [`ConnectError`].
    pub async fn connect_over(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Client, ConnectError> {
        require_runtime(self)?;
        let greeting = async {
            let key = self.key.now(&self.addr).await?;
            Client::greet(self, io, key.as_ref()).await
        };
        let greeted = timeout(self.connect_timeout, greeting).await;
        greeted.unwrap_or_else(|_| {
            Err(ConnectError::Timeout {
                addr: self.addr.clone(),
                after: self.connect_timeout,
            })
        })
    }
}

impl Client {
    /// Connects to an agent at `host:port` that wants no key.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(addr: impl Into<String>) -> Result<Self, ConnectError> {
        ConnectOptions::new(addr).connect().await
    }

    async fn establish(options: &ConnectOptions) -> Result<Self, ConnectError> {
        require_runtime(options)?;
        let resolve = async {
            let places = tokio::net::lookup_host(&options.addr).await?;
            Ok(places.collect())
        };
        Self::connect_by(options, resolve).await
    }

    /// Connects to the first of the addresses that answers.
    async fn connect_by(
        options: &ConnectOptions,
        resolve: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> Result<Self, ConnectError> {
        let (addr, after) = (|| options.addr.clone(), options.connect_timeout);
        let mut worst: Option<ConnectError> = None;
        let race = async {
            let key = options.key.now(&options.addr).await?;
            let places = resolve.await.map_err(|error| ConnectError::Resolve {
                addr: addr(),
                reason: Arc::new(error),
            })?;
            let attempt = |place| Self::shake_hands(options, place, key.as_ref());
            let failed = |place, error: ConnectError| {
                tracing::debug!(addr = options.addr, %place, %error, "no agent there");
                if worst
                    .as_ref()
                    .is_none_or(|worst| worst.reach() < error.reach())
                {
                    worst = Some(error);
                }
            };
            Ok(dial::race(dial::in_turn(places), attempt, failed).await)
        };
        let outcome = timeout(after, race).await;
        match (outcome, worst) {
            (Ok(Ok(Some(client))), _) => Ok(client),
            (Ok(Err(error)), _) => Err(error),
            (Ok(Ok(None)), Some(error)) => Err(error),
            (Ok(Ok(None)), None) => Err(ConnectError::Resolve {
                addr: addr(),
                reason: Arc::new(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the host has no address",
                )),
            }),
            // What an agent has said is worth more than that another address is silent.
            (Err(_), Some(error)) if error.reach() == Reach::Agent => Err(error),
            (Err(_), _) => Err(ConnectError::Timeout {
                addr: addr(),
                after,
            }),
        }
    }

    async fn shake_hands(
        options: &ConnectOptions,
        place: SocketAddr,
        key: Option<&SecretString>,
    ) -> Result<Self, ConnectError> {
        let socket = Self::open(options, place).await?;
        Self::greet(options, socket, key).await
    }

    /// The handshake, and the key if there is one.
    async fn greet(
        options: &ConnectOptions,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        key: Option<&SecretString>,
    ) -> Result<Self, ConnectError> {
        let client = Self {
            handle: Handle::open(io, options),
        };
        // Only the time for all of it counts.
        let patient = client.with_call_timeout(Duration::MAX);
        let refused = |reason: CallError| handshake_error(options, key.is_some(), reason);
        patient.handle.call(&Handshake).await.map_err(refused)?;
        // Without a key the empty one shows whether the agent wants one: it is the only way to
        // ask that leaves the connection usable.
        let key = key.map_or("", |key| key.expose_secret());
        patient.handle.call(&Auth { key }).await.map_err(refused)?;
        Ok(client)
    }

    async fn open(options: &ConnectOptions, place: SocketAddr) -> Result<TcpStream, ConnectError> {
        let addr = options.addr.clone();
        let opened = async {
            let socket = TcpStream::connect(place).await?;
            socket.set_nodelay(true)?;
            io::Result::Ok(socket)
        };
        opened.await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { addr },
            _ => ConnectError::Io {
                addr,
                reason: Arc::new(error),
            },
        })
    }
}

/// Sockets and clocks panic without one.
fn require_runtime(options: &ConnectOptions) -> Result<(), ConnectError> {
    match runtime::Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(ConnectError::NoRuntime {
            addr: options.addr.clone(),
        }),
    }
}

fn handshake_error(options: &ConnectOptions, with_key: bool, reason: CallError) -> ConnectError {
    let addr = options.addr.clone();
    let key_file = options.key.file().map(Path::to_owned);
    match reason.refusal() {
        Some(Refusal::UnsupportedVersion) => ConnectError::BadVersion { addr },
        Some(Refusal::InvalidKey) if with_key => ConnectError::BadKey { addr, key_file },
        Some(Refusal::InvalidKey | Refusal::AuthenticationRequired) => {
            ConnectError::MissingKey { addr, key_file }
        }
        _ => ConnectError::Handshake { addr, reason },
    }
}

#[cfg(test)]
mod tests;
