//! Waiting: a condition and a deadline go in, its value or what was waited for comes out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Waits until the condition holds.
///
/// # Errors
/// When it does not within `timeout`; the error says `what` was waited for.
pub async fn wait_for(
    what: &str,
    timeout: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> Result<()> {
    wait_some(what, timeout, async || condition().await.then_some(())).await
}

/// Waits until there is a value, and gives it.
///
/// # Errors
/// When there is none within `timeout`; the error says `what` was waited for.
pub async fn wait_some<T>(
    what: &str,
    timeout: Duration,
    mut value: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = value().await {
            return Ok(value);
        }
        if start.elapsed() >= timeout {
            bail!("waited {timeout:?} in vain: {what}");
        }
        tokio::time::sleep(POLL).await;
    }
}
