//! What is told by itself: what is published in, server-sent events out. Each reader has the latest, however slow it is:
//! what is between is left out.
//!
//! Source: the HTML standard, section "Server-sent events".

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::answers::Served;
use crate::published::Published;

/// Readers at once: fewer than there may be connections, so that scrapes and probes have their place.
const READERS: usize = 32;
/// Between two events of a reader.
const PAUSE: Duration = Duration::from_millis(250);
/// Something is sent at least so often, so that whoever has gone away is found out, and a page knows how old it is.
const QUIET: Duration = Duration::from_secs(5);

/// The places of readers.
#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Semaphore>);

impl Default for Slots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

/// A reader, and what it was told last.
struct Reader {
    served: Arc<Served>,
    published: watch::Receiver<Arc<Published>>,
    of_page: bool,
    told: Option<u64>,
    _slot: OwnedSemaphorePermit,
}

/// Events of the status, or `of_page` those that the page's script takes.
pub(super) fn answer(served: Arc<Served>, of_page: bool, slots: &Slots) -> Response {
    let Ok(slot) = Arc::clone(&slots.0).try_acquire_owned() else {
        let said = "too many read events already\n";
        let later = [(RETRY_AFTER, "5")];
        return (StatusCode::SERVICE_UNAVAILABLE, later, said).into_response();
    };
    let reader = Reader {
        published: served.shown.feed().published.clone(),
        served,
        of_page,
        told: None,
        _slot: slot,
    };
    let events = unfold(reader, async |mut reader| {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let body = Body::from_stream(events);
    ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
}

impl Reader {
    /// The next event; none once the controller stops.
    async fn next(&mut self) -> Option<Bytes> {
        if self.told.is_none() {
            return Some(self.tell());
        }
        sleep(PAUSE).await;
        match timeout(QUIET, self.news()).await {
            Ok(Some(())) => Some(self.tell()),
            Ok(None) => None,
            Err(_) if self.of_page => Some(self.tell()),
            Err(_) => Some(Bytes::from_static(b":\n\n")),
        }
    }

    /// Waits for something that this reader does not know. A page wants to know, too, that all is as it was.
    async fn news(&mut self) -> Option<()> {
        loop {
            let is_other = Some(self.published.borrow().number) != self.told;
            if is_other {
                return Some(());
            }
            self.published.changed().await.ok()?;
            if self.of_page {
                return Some(());
            }
        }
    }

    fn tell(&mut self) -> Bytes {
        let number = self.published.borrow_and_update().number;
        let is_other = self.told.replace(number) != Some(number);
        let shown = &self.served.shown;
        if !self.of_page {
            return event("status", &shown.status());
        }
        let head = String::from_utf8_lossy(&shown.head()).into_owned();
        let head = serde_json::to_vec(&head).unwrap_or_default();
        let mut events = event("head", &head).to_vec();
        if is_other {
            events.extend_from_slice(&event("body", number.to_string().as_bytes()));
        }
        events.into()
    }
}

/// JSON and numbers have no line ends in them.
fn event(name: &str, data: &[u8]) -> Bytes {
    let mut event = format!("event: {name}\ndata: ").into_bytes();
    event.extend_from_slice(data);
    event.extend_from_slice(b"\n\n");
    event.into()
}
