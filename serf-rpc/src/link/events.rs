//! What a task has seen, for any number of readers: events in, a bounded stream for each out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast;

/// Items kept for a slow reader.
const BACKLOG: usize = 1024;

/// Where events are told.
#[derive(Debug)]
pub(crate) struct Teller<T> {
    /// None is the end.
    channel: broadcast::Sender<Option<T>>,
    has_ended: Arc<AtomicBool>,
}

impl<T: Clone + Send + 'static> Teller<T> {
    pub(crate) fn new() -> Self {
        Self {
            channel: broadcast::channel(BACKLOG).0,
            has_ended: Arc::default(),
        }
    }

    pub(crate) fn tell(&self, event: T) {
        // That nobody listens is no error.
        let _ = self.channel.send(Some(event));
    }

    /// Says that this was all.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        let _ = self.channel.send(None);
    }

    /// What is told from now on; `lagged` stands where so many were left out, or nothing does.
    pub(crate) fn listen(&self, lagged: fn(u64) -> Option<T>) -> Told<T> {
        let channel = self.channel.subscribe();
        let channel = (!self.has_ended.load(Ordering::SeqCst)).then_some(channel);
        let items = stream::unfold(channel, move |channel| async move {
            let mut channel = channel?;
            loop {
                match channel.recv().await {
                    Ok(item) => return Some((item?, Some(channel))),
                    Err(broadcast::error::RecvError::Lagged(count)) => {
                        if let Some(item) = lagged(count) {
                            return Some((item, Some(channel)));
                        }
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Told(Box::pin(items.fuse()))
    }
}

impl<T> Clone for Teller<T> {
    fn clone(&self) -> Self {
        Self {
            channel: self.channel.clone(),
            has_ended: self.has_ended.clone(),
        }
    }
}

/// What one reader hears.
pub(crate) struct Told<T>(Pin<Box<dyn Stream<Item = T> + Send + Sync>>);

impl<T> Told<T> {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_next_unpin(cx)
    }

    pub(crate) async fn next(&mut self) -> Option<T> {
        self.0.next().await
    }
}

impl<T> fmt::Debug for Told<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}
