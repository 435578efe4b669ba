//! Calls with choices: what to do and the choices in, a future that asks the agent out.

use std::future::IntoFuture;
use std::pin::Pin;

use bstr::BString;

use crate::command;

use super::Client;
use crate::error::CallError;

/// A call as a future.
type Calling<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// A join that is sent when it is awaited; see [`Client::join`].
#[derive(Debug)]
#[must_use = "nothing is sent unless it is awaited"]
pub struct Join<'a> {
    pub(super) client: &'a Client,
    pub(super) existing: Vec<String>,
    pub(super) replay: bool,
}

impl Join<'_> {
    /// Lets the agent hear the user events that the cluster remembers.
    pub fn replay(mut self) -> Self {
        self.replay = true;
        self
    }
}

impl<'a> IntoFuture for Join<'a> {
    type Output = Result<u64, CallError>;
    type IntoFuture = Calling<'a, u64>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let existing: Vec<&str> = self.existing.iter().map(String::as_str).collect();
            let (existing, replay) = (&existing[..], self.replay);
            let join = command::Join { existing, replay };
            Ok(self.client.handle.call(&join).await?.0)
        })
    }
}

/// A member that is declared to have left when it is awaited; see [`Client::force_leave`].
#[derive(Debug)]
#[must_use = "nothing is sent unless it is awaited"]
pub struct ForceLeave<'a> {
    pub(super) client: &'a Client,
    pub(super) node: BString,
    pub(super) prune: bool,
}

impl ForceLeave<'_> {
    /// Lets the member be forgotten at once instead of after a day. **For one that is alive** the agent answers nobody for
    /// 6 s, on any connection, and loses sight of it for a while.
    pub fn prune(mut self) -> Self {
        self.prune = true;
        self
    }
}

impl<'a> IntoFuture for ForceLeave<'a> {
    type Output = Result<(), CallError>;
    type IntoFuture = Calling<'a, ()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (node, prune) = (&self.node[..], self.prune);
            self.client
                .handle
                .call(&command::ForceLeave { node, prune })
                .await
        })
    }
}
