//! One probe on the wire: an address and a check in, whether it was answered well out.
//!
//! It sends what HAProxy's check sends, byte by byte where that is plain: the PROXY header first ("The PROXY protocol",
//! sections 2.1 and 2.2: version 1 with the addresses of the connection, version 2 as LOCAL), then TLS, then the
//! request of `option httpchk` and `http-check send`. The certificate is not looked at: HAProxy's check does that, and
//! a probe has nothing to hide.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use planner::config::{CheckConfig, ProxyVersion, Request, StatusCodes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// The status line is within these bytes of an answer.
const STATUS_LINE: usize = 64;
/// Signature, command LOCAL of version 2, no address family, nothing behind it.
const LOCAL: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

/// Asks once on a new connection, for as long as it takes.
///
/// # Errors
/// When the connection leads back to itself (`ConnectionRefused`), or fails, or the handshake does.
pub(super) async fn ask(mut stream: TcpStream, check: &CheckConfig) -> io::Result<bool> {
    // On loopback a connection to a free port of the ephemeral range can meet itself.
    let (from, to) = (stream.local_addr()?, stream.peer_addr()?);
    if from == to {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    match check.send_proxy {
        Some(ProxyVersion::V1) => stream.write_all(proxy_line(from, to).as_bytes()).await?,
        Some(ProxyVersion::V2) => stream.write_all(LOCAL).await?,
        None => {}
    }
    if !check.tls {
        return answer(stream, check.request.as_ref()).await;
    }
    let name = match &check.sni {
        Some(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
        None => ServerName::IpAddress(to.ip().into()),
    };
    let connector = TLS.clone().ok_or(io::ErrorKind::Unsupported)?;
    let stream = connector.connect(name, stream).await?;
    answer(stream, check.request.as_ref()).await
}

/// Sends the request, where there is one, and judges what comes back.
async fn answer<S>(mut stream: S, request: Option<&Request>) -> io::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(request) = request else {
        return Ok(true);
    };
    stream.write_all(head(request).as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(STATUS_LINE);
    let mut limited = stream.take(STATUS_LINE as u64);
    while !answer.contains(&b'\n') && limited.read_buf(&mut answer).await? > 0 {}
    Ok(is_good(&answer, &request.status))
}

fn head(request: &Request) -> String {
    let Request { method, path, .. } = request;
    match &request.host {
        Some(host) => {
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
        }
        None => format!("{method} {path} HTTP/1.0\r\n\r\n"),
    }
}

/// Both ends of the connection, as a client behind it would be announced.
fn proxy_line(from: SocketAddr, to: SocketAddr) -> String {
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let (source, destination) = (from.ip(), to.ip());
    format!(
        "PROXY {family} {source} {destination} {} {}\r\n",
        from.port(),
        to.port()
    )
}

/// `HTTP/1.x` and one of these codes.
fn is_good(answer: &[u8], status: &StatusCodes) -> bool {
    let line = answer.split(|&b| matches!(b, b'\r' | b'\n')).next();
    let mut words = line.unwrap_or_default().split(|&b| b == b' ');
    let version = words
        .next()
        .is_some_and(|word| word.starts_with(b"HTTP/1."));
    let code = words
        .next()
        .and_then(|word| std::str::from_utf8(word).ok())
        .filter(|word| word.len() == 3)
        .and_then(|word| word.parse().ok());
    version && code.is_some_and(|code| status.contain(code))
}

/// TLS 1.2 and 1.3, with any certificate. None where the cryptography of this build has neither, which it has.
static TLS: LazyLock<Option<TlsConnector>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
});

/// Takes every certificate: whether a server is the right one, HAProxy's check says.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
