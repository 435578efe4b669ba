//! What is shown, made once for all who look: what the loop last published in, bytes out. Made anew when something else
//! is published, or a second has passed: it has the ages of everything in it.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use prometheus_client::registry::Registry;

use super::page::Page;
use super::{Feed, metrics};
use crate::clock;
use crate::published::Published;

/// What was published, and the second in which it is shown.
type At = (u64, u64);

/// What is shown, and what it is made from.
#[derive(Debug)]
pub(super) struct Shown {
    feed: Feed,
    page: Page,
    registry: Registry,
    made: Mutex<Made>,
}

/// What was made last.
#[derive(Debug, Default)]
struct Made {
    status: Option<(At, Bytes)>,
    head: Option<(At, Bytes)>,
    body: Option<(At, Bytes)>,
}

impl Shown {
    /// # Errors
    /// A template of the page is none, which a test would say.
    pub(super) fn new(feed: Feed) -> Result<Self, minijinja::Error> {
        Ok(Self {
            page: Page::new()?,
            registry: metrics::registry(feed.clone()),
            made: Mutex::default(),
            feed,
        })
    }

    /// What it is made from.
    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    fn published(&self) -> Arc<Published> {
        self.feed.published.borrow().clone()
    }

    fn once(
        &self,
        choose: fn(&mut Made) -> &mut Option<(At, Bytes)>,
        make: impl FnOnce(&Published) -> Bytes,
    ) -> Bytes {
        let published = self.published();
        let at = (published.number, clock::unix_secs());
        // What is in it is whole whenever somebody else panics.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = choose(&mut made);
        if let Some((_, bytes)) = made.as_ref().filter(|(then, _)| *then == at) {
            return bytes.clone();
        }
        let bytes = make(&published);
        *made = Some((at, bytes.clone()));
        bytes
    }

    /// The status as JSON, as `serf-haproxy status --format json` prints it.
    pub(super) fn status(&self) -> Bytes {
        self.once(
            |made| &mut made.status,
            |published| {
                let status = published.status_at(clock::now());
                // A map whose keys are no strings is all that JSON cannot say, and there is none.
                serde_json::to_vec(&status).unwrap_or_default().into()
            },
        )
    }

    /// Of the page, what needs a person and how old everything is.
    pub(super) fn head(&self) -> Bytes {
        let stuck = (!self.feed.meters.is_turning()).then(|| self.feed.meters.turn_age());
        self.once(
            |made| &mut made.head,
            |published| self.page.head(published, stuck, clock::now()),
        )
    }

    /// Of the page, everything else.
    pub(super) fn body(&self) -> Bytes {
        self.once(
            |made| &mut made.body,
            |published| self.page.body(published, clock::now()),
        )
    }

    /// The whole page.
    pub(super) fn page(&self) -> Bytes {
        let (head, body) = (self.head(), self.body());
        self.page.whole(&head, &body)
    }

    /// The metrics.
    pub(super) fn metrics(&self) -> String {
        metrics::text(&self.registry)
    }
}
