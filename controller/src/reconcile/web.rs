//! The HTTP listener as the config wants it: begun, tried again where its port is taken, replaced after SIGHUP. A page is
//! never worth an outage: whatever goes wrong with it is a problem for people, and the loop goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::config;
use tokio::sync::watch;

use super::Reconciler;
use super::journal::Journal;
use super::retry::Retry;
use crate::clock;
use crate::error_chain::chain;
use crate::http::{Access, Feed, HttpError, Server};
use crate::meters::Meters;
use crate::published::Published;

/// A port that is taken is tried again after so long at most.
const PAUSE: Duration = Duration::from_secs(5);

/// The listener, where there is one.
pub(super) struct Web {
    feed: Feed,
    server: Option<Server>,
    /// Whether the config was read again since it was last looked at.
    stale: bool,
    retry: Retry,
}

impl Web {
    /// Not begun yet.
    pub(super) fn new(published: watch::Receiver<Arc<Published>>, meters: Arc<Meters>) -> Self {
        Self {
            feed: Feed { published, meters },
            server: None,
            stale: true,
            retry: Retry::default(),
        }
    }

    /// The config was read again: what it says of the listener holds from now on, and the token is read again.
    pub(super) fn config_changed(&mut self) {
        self.stale = true;
        self.retry.succeeded();
    }

    /// When it is worth another try.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry.at()
    }

    fn look_after(&mut self, wanted: Option<&config::Http>, journal: &mut Journal, now: Instant) {
        if !self.stale || !self.retry.is_due(now) {
            return;
        }
        match self.bring(wanted) {
            Ok(()) => {
                self.stale = false;
                self.retry.succeeded();
                journal.problems.clear("http");
            }
            Err(error) => {
                journal.problems.set("http", chain(&error), error.advice());
                self.retry.failed_for(PAUSE, now);
            }
        }
    }

    fn bring(&mut self, wanted: Option<&config::Http>) -> Result<(), HttpError> {
        let Some(wanted) = wanted else {
            self.server = None;
            return Ok(());
        };
        if self.server.as_ref().map(Server::listen) != Some(wanted.listen) {
            // First, as the new one may listen on all addresses of the same port.
            self.server = None;
        }
        let access = Access::read(wanted)?;
        match &self.server {
            Some(server) => server.set_access(access),
            None => {
                let server = Server::start(wanted.listen, access, self.feed.clone())?;
                tracing::info!(listen = %wanted.listen, "serving the page, the status and the metrics");
                self.server = Some(server);
            }
        }
        Ok(())
    }
}

impl Reconciler {
    /// Sees to the HTTP listener.
    pub(super) fn look_after_web(&mut self) {
        let config = &self.desired.loaded().config;
        self.web
            .look_after(config.http.as_ref(), &mut self.journal, clock::now());
    }
}
