//! A client that speaks TLS and believes any certificate: a name goes in, who answered and with what comes out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::http::{Answer, parse};

/// How long a handshake, and an answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Believes everybody, but holds him to his key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Shaken {
    /// The certificate that the other side showed.
    pub certificate: Vec<u8>,
    /// The protocol that it picked.
    pub alpn: Option<String>,
    stream: TlsStream<TcpStream>,
}

/// Shakes hands for this host, and offers these protocols.
///
/// # Errors
/// When nobody answers, or the handshake fails.
pub async fn shake(addr: SocketAddr, host: &str, alpn: &[&str]) -> Result<Shaken> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(host.to_owned())?;
    let shaken = async {
        let stream = TcpStream::connect(addr).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
        anyhow::Ok(stream.await?)
    };
    let stream = timeout(PATIENCE, shaken)
        .await
        .context("no handshake in time")??;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    Ok(Shaken {
        certificate: certificate.context("no certificate")?.to_vec(),
        alpn: session
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        stream,
    })
}

impl Shaken {
    /// One request with these headers, each with its line end, and its answer.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn ask(mut self, host: &str, path: &str, headers: &str) -> Result<Answer> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
        let answer = async {
            self.stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            // the end of many servers is no farewell of TLS
            let _ = self.stream.read_to_end(&mut answer).await;
            parse(&answer)
        };
        timeout(PATIENCE, answer)
            .await
            .context("no answer in time")?
    }
}

/// Clients that each shake hands and ask, again and again.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(u64, Vec<String>)>,
}

impl Clients {
    /// So many of them, for this host.
    #[must_use]
    pub fn start(addr: SocketAddr, host: &str, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (stop, host) = (Arc::clone(&stop), host.to_owned());
            tasks.spawn(async move {
                let (mut done, mut failed) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match once(addr, &host).await {
                        Ok(()) => done += 1,
                        Err(error) => failed.push(format!("{error:#}")),
                    }
                }
                (done, failed)
            });
        }
        Self { stop, tasks }
    }

    /// Ends them; how many handshakes with an answer there were, and why others failed.
    pub async fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.tasks.join_all().await;
        let done = all.iter().map(|(done, _)| done).sum();
        (
            done,
            all.into_iter().flat_map(|(_, failed)| failed).collect(),
        )
    }
}

async fn once(addr: SocketAddr, host: &str) -> Result<()> {
    let answer = shake(addr, host, &[]).await?.ask(host, "/", "").await?;
    anyhow::ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}
