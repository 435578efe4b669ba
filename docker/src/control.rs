//! The control socket: whoever connects gets the status as a line of JSON.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use controller::control::{Control, ControlError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::status::Status;

/// How long a client may take, and how long one waits.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer.
const ANSWER_BYTES: u64 = 16 << 20;

/// Answers clients one after the other, for ever.
pub async fn serve(control: Control, status: watch::Receiver<Arc<Status>>) {
    loop {
        match control.accept().await {
            Ok(mut stream) => {
                let line = serde_json::to_vec(&**status.borrow()).unwrap_or_default();
                let said = async {
                    stream.write_all(&line).await?;
                    stream.shutdown().await
                };
                if !matches!(timeout(DEADLINE, said).await, Ok(Ok(()))) {
                    tracing::debug!("a control client went away");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control client");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Asks the one that runs.
///
/// # Errors
/// [`ControlError`].
pub async fn ask(path: &Path) -> Result<Status, ControlError> {
    let path = || path.to_owned();
    let exchange = async {
        let stream = UnixStream::connect(path()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = timeout(DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning { path: path() }
        }
        _ => ControlError::Io {
            path: path(),
            source,
        },
    })?;
    serde_json::from_slice(&answer).map_err(|_| ControlError::Answer { path: path() })
}
