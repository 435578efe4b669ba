//! What a web server wants of whoever connects: TLS, a PROXY header, a name. What it got of all that, in order.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use anyhow::Result;

/// The longest line of version 1 of the PROXY protocol.
const LINE: usize = 107;

/// A certificate that has signed itself, and its key.
pub struct Certificate {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// One for this name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
        Ok(Self {
            cert: made.cert.der().to_vec(),
            key: made.signing_key.serialize_der(),
        })
    }

    /// The certificate alone, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.cert)
    }

    /// Its key, in PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn pem(what: &str, bytes: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes);
    let mut lines = format!("-----BEGIN {what}-----\n");
    for (place, letter) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines + &format!("\n-----END {what}-----\n")
}

/// What a web server wants; nothing by default.
#[derive(Clone, Default)]
pub struct Manners {
    tls: Option<TlsAcceptor>,
    proxy: bool,
    /// The `Host` that its page `/health` wants.
    pub(crate) host: Option<String>,
}

impl std::fmt::Debug for Manners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manners")
            .field("tls", &self.tls.is_some())
            .field("proxy", &self.proxy)
            .field("host", &self.host)
            .finish()
    }
}

impl Manners {
    /// It speaks TLS only, with a certificate of its own making for this name.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn tls(self, name: &str) -> Result<Self> {
        self.certified(&Certificate::new(name)?)
    }

    /// It speaks TLS only, with this certificate.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn certified(mut self, certificate: &Certificate) -> Result<Self> {
        let key = PrivateKeyDer::try_from(certificate.key.clone());
        let key = key.map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.clone().into()], key)?;
        self.tls = Some(TlsAcceptor::from(Arc::new(config)));
        Ok(self)
    }

    /// It hangs up on whoever does not begin with a PROXY header, of either version.
    #[must_use]
    pub fn proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// Its page `/health` is there for this `Host` only.
    #[must_use]
    pub fn host(mut self, name: &str) -> Self {
        self.host = Some(name.to_owned());
        self
    }

    /// The connection behind all that.
    pub(crate) async fn greet(&self, mut socket: TcpStream) -> io::Result<Box<dyn Connection>> {
        socket.set_nodelay(true)?;
        if self.proxy {
            proxy_header(&mut socket).await?;
        }
        Ok(match &self.tls {
            Some(acceptor) => Box::new(acceptor.accept(socket).await?),
            None => Box::new(socket),
        })
    }
}

/// A connection, encrypted or not.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Reads a header, "The PROXY protocol", sections 2.1 and 2.2.
async fn proxy_header(socket: &mut TcpStream) -> io::Result<()> {
    let mut header = vec![socket.read_u8().await?];
    match header[0] {
        b'P' => {
            while !header.ends_with(b"\r\n") && header.len() < LINE {
                header.push(socket.read_u8().await?);
            }
            if header.starts_with(b"PROXY ") && header.ends_with(b"\r\n") {
                return Ok(());
            }
        }
        b'\r' => {
            header.resize(16, 0);
            socket.read_exact(&mut header[1..]).await?;
            let rest = u16::from_be_bytes([header[14], header[15]]);
            if header.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
                let mut rest = vec![0; rest.into()];
                return socket.read_exact(&mut rest).await.map(drop);
            }
        }
        _ => {}
    }
    Err(io::ErrorKind::InvalidData.into())
}
