//! The connections: a listener in, each answered, or closed where it costs too much.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::HttpError;

/// Connections at once; further ones are closed.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take, the next one of a connection too.
const HEAD: Duration = Duration::from_secs(5);
/// The longest head of a request, and how much of an answer waits to be read.
const BUFFER: usize = 16 << 10;
/// How long a reader may take nothing.
const WRITE: Duration = Duration::from_secs(10);

/// Answers whoever connects, for ever.
///
/// # Errors
/// [`HttpError::Begin`]; nothing is answered then.
pub(super) async fn serve(
    listener: TcpListener,
    router: impl FnOnce() -> Result<Router, HttpError>,
) -> Result<Infallible, HttpError> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(HttpError::Begin)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let router = router()?;
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    continue;
                };
                let answered = connection(stream, router.clone());
                connections.spawn(async move {
                    let _place = place;
                    if let Err(error) = answered.await {
                        tracing::debug!(%error, "an HTTP client went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP client");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    // What is worth saying is said in one go, events too.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection waits for more to send");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE));
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    pin!(served).await
}
