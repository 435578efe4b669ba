//! The controller's part: answers the query of whoever asks, from what the loop last published.

use std::sync::Arc;
use std::time::Duration;

use serf_rpc::{Event, EventFilter, EventKind, EventName, ManagedClient, Retry};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{QUERY, Report};
use crate::bucket::{Bucket, Rate};
use crate::clock;
use crate::published::Published;

/// Anybody in the cluster may ask, and each answer is gossip: so many are given, and no more.
const RATE: Rate = Rate {
    per_second: 5,
    burst: 20,
};
/// How long to wait after the agent has refused.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Answers until the client has ended.
pub(crate) async fn answer(client: ManagedClient, published: watch::Receiver<Arc<Published>>) {
    let Some(name) = EventName::new(QUERY) else {
        return;
    };
    let filter = EventFilter::of([EventKind::QueryNamed(name)]);
    let mut queries = loop {
        match client.stream(filter.clone()).await {
            Ok(queries) => break queries,
            Err(error) if error.retry() == Retry::Never => {
                tracing::debug!(%error, "queries are not answered");
                return;
            }
            Err(_) => sleep(AFTER_REFUSAL).await,
        }
    };
    let mut given = Bucket::new(clock::now());
    while let Some(event) = queries.next().await {
        let Event::Query { id, .. } = event else {
            continue;
        };
        let now = clock::now();
        if given.opens_at(RATE, now) > now {
            continue;
        }
        given.take(RATE, now);
        let shown = published.borrow().clone();
        let report = Report::of(&shown.summary_at(now), &shown.status.backends);
        if let Err(error) = client.respond(id, report.to_payload()).await {
            tracing::debug!(%error, "a query was not answered");
        }
    }
}
