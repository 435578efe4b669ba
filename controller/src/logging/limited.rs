//! The layer that lets no more events through than [`Limit`] allows, and tells what it has kept back.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::limit::Limit;
use super::queue::Queue;

/// How often it is told what was left out, where anything was.
const TELL: Duration = Duration::from_secs(10);

/// Shares one [`Limit`].
#[derive(Clone, Debug)]
pub(super) struct Limited(Arc<Mutex<Limit>>);

impl Default for Limited {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Limit::new(Instant::now()))))
    }
}

impl Limited {
    /// Logs now and then what was left out, here or for want of room in the queue, for ever.
    pub(super) async fn tell(self, queue: Queue) {
        loop {
            tokio::time::sleep(TELL).await;
            let left_out = self.with(|limit| {
                limit.lost(queue.lost());
                limit.left_out()
            });
            if let Some(left_out) = left_out {
                tracing::warn!("{left_out}");
            }
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Limit) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _ctx: Context<'_, S>) -> bool {
        let mut subject = Subject::default();
        event.record(&mut subject);
        self.with(|limit| limit.admits(subject.0.as_deref(), Instant::now()))
    }
}

/// Whom or what an event is about: a server, a member, or the subject of a problem.
#[derive(Default)]
struct Subject(Option<String>);

impl Visit for Subject {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "backend" | "server" | "member" | "what") {
            self.0 = Some(match self.0.take() {
                Some(backend) => format!("{backend}/{value:?}"),
                None => format!("{value:?}"),
            });
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
