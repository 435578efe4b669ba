//! Making a connection: the address and options in, a [`Client`] that has shaken hands out.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::command::{Auth, Handshake};
use crate::wire::protocol::Refusal;

use super::dial;
use super::error::{CallError, ConnectError, Reach};
use super::handle::Handle;
use super::{Client, ConnectOptions};

impl ConnectOptions {
    /// Connects, shakes hands and authenticates.
    ///
    /// # Errors
    /// Which of these steps failed and why; see [`ConnectError`].
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        Client::establish(self).await
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
            let places = resolve.await.map_err(|source| ConnectError::Resolve {
                addr: addr(),
                source,
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
                source: io::Error::new(io::ErrorKind::NotFound, "the host has no address"),
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
        let addr = &options.addr;
        let client = Self::open(options, place).await?;
        // Only the time for all of it counts.
        let patient = client.with_call_timeout(Duration::MAX);
        let refused = |source: CallError| handshake_error(addr, key.is_some(), source);
        patient.handle.call(&Handshake).await.map_err(refused)?;
        // Without a key the empty one shows whether the agent wants one: it is the only way to
        // ask that leaves the connection usable.
        let key = key.map_or("", |key| key.expose_secret());
        patient.handle.call(&Auth { key }).await.map_err(refused)?;
        Ok(client)
    }

    async fn open(options: &ConnectOptions, place: SocketAddr) -> Result<Self, ConnectError> {
        let addr = options.addr.clone();
        let socket = match TcpStream::connect(place).await {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::Refused { addr });
            }
            Err(source) => return Err(ConnectError::Io { addr, source }),
        };
        if let Err(source) = socket.set_nodelay(true) {
            return Err(ConnectError::Io { addr, source });
        }
        Ok(Self {
            handle: Handle::open(socket, options),
        })
    }
}

fn handshake_error(addr: &str, with_key: bool, source: CallError) -> ConnectError {
    let addr = addr.to_owned();
    let refusal = match &source {
        CallError::Agent { message, .. } => Refusal::of(message.as_ref()),
        _ => Refusal::Other,
    };
    match refusal {
        Refusal::Version => ConnectError::BadVersion { addr },
        Refusal::InvalidToken if with_key => ConnectError::BadKey { addr },
        Refusal::InvalidToken | Refusal::AuthenticationRequired => {
            ConnectError::MissingKey { addr }
        }
        Refusal::Other => ConnectError::Handshake { addr, source },
    }
}

#[cfg(test)]
mod tests;
