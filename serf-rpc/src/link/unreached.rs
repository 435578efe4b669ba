//! The agents that do not answer, and why: ends of attempts and connections in, a list that can be waited for out.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::error::WatchError;

/// An agent that cannot be reached, or was lost and does not answer yet.
#[derive(Clone, Debug)]
pub struct Unreached {
    /// `host:port`.
    pub addr: String,
    /// Why, as the last attempt ended.
    pub error: Arc<WatchError>,
    /// Since when it has not answered.
    pub since: SystemTime,
}

/// Where the list is published.
#[derive(Debug)]
pub(crate) struct Publisher(pub(crate) watch::Sender<Arc<[Unreached]>>);

impl Publisher {
    /// An attempt or a connection has ended. The same words again are announced to nobody.
    pub(crate) fn failed(&self, addr: &str, error: Arc<WatchError>) {
        self.0.send_if_modified(|list| {
            let mut next = list.to_vec();
            let Some(known) = next.iter_mut().find(|known| known.addr == addr) else {
                let (addr, since) = (addr.to_owned(), SystemTime::now());
                next.push(Unreached { addr, error, since });
                *list = next.into();
                return true;
            };
            let same = known.error.to_string() == error.to_string();
            known.error = error;
            *list = next.into();
            !same
        });
    }

    /// An agent answers.
    pub(crate) fn answers(&self, addr: &str) {
        self.0.send_if_modified(|list| {
            let before = list.len();
            let others = list.iter().filter(|known| known.addr != addr);
            *list = others.cloned().collect();
            list.len() != before
        });
    }
}
