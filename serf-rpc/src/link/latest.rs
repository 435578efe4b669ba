//! The latest of what a task publishes: a value at any time, and each that is announced, however late its reader.

use std::fmt;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::watch;

/// The latest of what a watcher or a client publishes. A clone goes on from the same place.
///
/// Values are shared and never locked: one may be kept for any time.
pub struct Latest<T: ?Sized>(watch::Receiver<Arc<T>>);

impl<T: ?Sized> Latest<T> {
    pub(crate) fn new(values: watch::Receiver<Arc<T>>) -> Self {
        Self(values)
    }

    /// The value now.
    pub fn latest(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    /// The latest that was announced and is not the last one taken here; none after the last one of all. Those that came
    /// and went between two calls are left out.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Arc<T>> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// The value, once it is such; none if it never was when the last one came.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn wait_for(&mut self, mut such: impl FnMut(&T) -> bool) -> Option<Arc<T>> {
        let found = self.0.wait_for(|value| such(value)).await.ok()?;
        Some(found.clone())
    }

    /// A stream of what [`next`](Self::next) gives.
    pub fn into_stream(self) -> impl Stream<Item = Arc<T>> + Send + Sync + 'static
    where
        T: Send + Sync + 'static,
    {
        stream::unfold(self, |mut latest| async {
            let value = latest.next().await?;
            Some((value, latest))
        })
    }
}

impl<T: ?Sized> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> fmt::Debug for Latest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest").finish_non_exhaustive()
    }
}
