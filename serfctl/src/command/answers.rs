//! A query that was sent in, its answers out, as long as the agent is there.

use std::time::Duration;

use serf_rpc::{Client, Query, QueryReply, QueryStream};
use tokio::time::timeout;

use crate::{exit::Failure, output};

/// Members may all be silent for longer, the agent itself may not.
const SILENCE: Duration = Duration::from_secs(2);

/// What every agent acknowledges, asked of everybody.
pub(crate) fn ping() -> Query {
    Query::new("_serf_ping").request_ack(true)
}

/// The next answer; none once the time of the query is up. While nobody says anything the agent is asked for something
/// else now and then: one that is stopped would never say that the time is up.
///
/// # Errors
///
/// The agent is lost, or does not answer any more.
pub(crate) async fn next(
    client: &Client,
    replies: &mut QueryStream,
) -> Result<Option<QueryReply>, Failure> {
    loop {
        match timeout(SILENCE, replies.next()).await {
            Ok(reply) => match reply.transpose()? {
                Some(QueryReply::Lagged(missed)) => {
                    output::complain(&format!("{missed} answers left out"));
                }
                reply => return Ok(reply),
            },
            Err(_) => drop(client.stats().await?),
        }
    }
}
