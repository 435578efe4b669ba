//! Waiting: a condition and a deadline go in, its value or what was waited for comes out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition, at least and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

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

/// Waits until there is a value, and gives it. A look that starts a program costs the machine, and the tests beside this
/// one, far more than one at a counter: after a long look the pause is longer, too.
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
        let look = Instant::now();
        if let Some(value) = value().await {
            return Ok(value);
        }
        let pause = (3 * look.elapsed()).clamp(PAUSE.0, PAUSE.1);
        if start.elapsed() >= timeout {
            bail!("waited {timeout:?} in vain: {what}");
        }
        tokio::time::sleep(pause).await;
    }
}
