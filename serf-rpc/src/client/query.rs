//! Gathering the answers to a query: its stream in, who acknowledged and responded out.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bstr::{BStr, BString};
use futures_util::Stream;
use tokio::time::timeout;

use crate::types::{Member, QueryRecord, QueryReply};

use super::subscription::Subscription;
use crate::error::{ConnectionError, StreamError};

/// What comes back from a [`Query`](crate::Query), as it comes, until its time is up.
///
/// The agent never ends a query early: who knows how many answers to expect stops reading when
/// they are there. Dropping it is harmless; what still comes is swallowed.
#[derive(Debug)]
pub struct QueryStream(Subscription<QueryRecord>);

/// Which answers to wait for. Members answer whom nobody counts on: one that is `leaving` still does. So who is waited
/// for has a name; a number is for those who want any so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// So many members that acknowledge, whoever they are.
    Acks(usize),
    /// So many members that respond, whoever they are.
    Responses(usize),
    /// All of these to acknowledge.
    AcksOf(BTreeSet<BString>),
    /// All of these to respond.
    ResponsesOf(BTreeSet<BString>),
}

impl Expected {
    /// These to respond.
    pub fn responses_of<'a>(members: impl IntoIterator<Item = &'a Member>) -> Self {
        Self::ResponsesOf(names(members))
    }

    /// These to acknowledge.
    pub fn acks_of<'a>(members: impl IntoIterator<Item = &'a Member>) -> Self {
        Self::AcksOf(names(members))
    }

    /// Takes an answer.
    fn heard(&mut self, reply: &QueryReply) {
        match (self, reply) {
            (Self::AcksOf(names), QueryReply::Ack { from })
            | (Self::ResponsesOf(names), QueryReply::Response { from, .. }) => {
                names.remove(from);
            }
            (Self::Acks(count), QueryReply::Ack { .. })
            | (Self::Responses(count), QueryReply::Response { .. }) => {
                *count = count.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// How many are not there yet.
    fn missing(&self) -> usize {
        match self {
            Self::Acks(count) | Self::Responses(count) => *count,
            Self::AcksOf(names) | Self::ResponsesOf(names) => names.len(),
        }
    }

    /// Those who are not there, as far as they have names.
    fn into_names(self) -> BTreeSet<BString> {
        match self {
            Self::Acks(_) | Self::Responses(_) => BTreeSet::new(),
            Self::AcksOf(names) | Self::ResponsesOf(names) => names,
        }
    }

    /// Whether all are there.
    fn is_complete(&self) -> bool {
        self.missing() == 0
    }
}

fn names<'a>(members: impl IntoIterator<Item = &'a Member>) -> BTreeSet<BString> {
    let members = members.into_iter();
    members.map(|member| member.name().to_owned()).collect()
}

/// What has come back from a query.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueryReplies {
    /// The members that got the query, in the order in which they said so.
    pub acks: Vec<BString>,
    /// The members that responded and what they said, in that order.
    pub responses: Vec<(BString, BString)>,
    /// How many answers came and are not among them: the queue was full, they do not decode, or
    /// they are beyond 65,536.
    pub left_out: u64,
    /// Why there are no more.
    pub end: QueryEnd,
    missing: BTreeSet<BString>,
}

impl QueryReplies {
    /// What came, of so many that are missing.
    pub(crate) fn new(
        acks: Vec<BString>,
        responses: Vec<(BString, BString)>,
        missing: impl IntoIterator<Item = BString>,
        end: QueryEnd,
    ) -> Self {
        Self {
            acks,
            responses,
            left_out: 0,
            end,
            missing: missing.into_iter().collect(),
        }
    }

    /// Who was expected by name and has not answered, in the order of the names.
    pub fn missing(&self) -> impl Iterator<Item = &BStr> {
        self.missing.iter().map(AsRef::as_ref)
    }
}

/// Why no more answers are waited for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum QueryEnd {
    /// All that were expected are there.
    Complete,
    /// The time of the query is up.
    Done,
    /// The time of the one who waits is up.
    Deadline,
    /// The connection is gone.
    Lost(ConnectionError),
}

/// Answers that are gathered at most: any node of the cluster can make up the names of others.
const MAX_GATHERED: usize = 1 << 16;

impl QueryStream {
    pub(crate) fn new(records: Subscription<QueryRecord>) -> Self {
        Self(records)
    }

    /// The next answer; none once the time is up.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<QueryReply, StreamError>> {
        std::future::poll_fn(|cx| self.poll_reply(cx)).await
    }

    /// Gathers answers until all that are expected have come, but no longer than `within`. The
    /// time of the query itself counts too: see [`Query::timeout`](crate::Query::timeout).
    ///
    /// ```no_run
    /// # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use serf_rpc::{BString, Expected, Query};
    ///
    /// let query = Query::new("uptime").node("web1").node("web2");
    /// let both = Expected::ResponsesOf(["web1", "web2"].map(BString::from).into());
    /// let mut answers = client.query(&query).await?;
    /// let gathered = answers.gather(both, Duration::from_secs(3)).await;
    /// for (name, uptime) in &gathered.responses {
    ///     tracing::info!(%name, %uptime);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// What was gathered is lost when the future is dropped.
    pub async fn gather(&mut self, expected: Expected, within: Duration) -> QueryReplies {
        self.gather_with(expected, within, |_, _| {}).await
    }

    /// Gathers the responses of these members, but no longer than `within`; `progress` hears each answer as it comes, and
    /// how many of them are still missing. Who they are in the end is in [`QueryReplies::missing`].
    ///
    /// ```no_run
    /// # async fn example(client: serf_rpc::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use serf_rpc::Query;
    ///
    /// let mut answers = client.query(&Query::new("uptime")).await?;
    /// let progress = |_: &serf_rpc::QueryReply, missing| tracing::info!(missing);
    /// let gathered = answers.gather_from(["web1", "web2"], Duration::from_secs(3), progress).await;
    /// for name in gathered.missing() {
    ///     tracing::warn!(%name, "no answer");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// What was gathered is lost when the future is dropped.
    pub async fn gather_from<N: AsRef<[u8]>>(
        &mut self,
        names: impl IntoIterator<Item = N>,
        within: Duration,
        progress: impl FnMut(&QueryReply, usize),
    ) -> QueryReplies {
        let names = names.into_iter().map(|name| BString::from(name.as_ref()));
        self.gather_with(Expected::ResponsesOf(names.collect()), within, progress)
            .await
    }

    async fn gather_with(
        &mut self,
        mut expected: Expected,
        within: Duration,
        progress: impl FnMut(&QueryReply, usize),
    ) -> QueryReplies {
        let mut replies = QueryReplies::new(Vec::new(), Vec::new(), [], QueryEnd::Deadline);
        let gathering = self.gather_into(&mut replies, &mut expected, progress);
        if let Ok(end) = timeout(within, gathering).await {
            replies.end = end;
        }
        replies.missing = expected.into_names();
        replies
    }

    async fn gather_into(
        &mut self,
        replies: &mut QueryReplies,
        expected: &mut Expected,
        mut progress: impl FnMut(&QueryReply, usize),
    ) -> QueryEnd {
        loop {
            if expected.is_complete() {
                return QueryEnd::Complete;
            }
            let room = replies.acks.len() + replies.responses.len() < MAX_GATHERED;
            let next = self.next().await;
            if let Some(Ok(reply)) = &next {
                expected.heard(reply);
                progress(reply, expected.missing());
            }
            match next {
                None => return QueryEnd::Done,
                Some(Ok(QueryReply::Ack { from })) if room => replies.acks.push(from),
                Some(Ok(QueryReply::Response { from, payload })) if room => {
                    replies.responses.push((from, payload));
                }
                Some(Err(StreamError::Lost(error))) => return QueryEnd::Lost(error),
                Some(Ok(QueryReply::Lagged(missed))) => replies.left_out += missed,
                Some(Ok(_) | Err(StreamError::Decode(_))) => replies.left_out += 1,
            }
        }
    }

    fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<QueryReply, StreamError>>> {
        loop {
            let item = ready!(Pin::new(&mut self.0).poll_next(cx));
            match item.map(|item| item.map(|record| record.0)) {
                None => return Poll::Ready(None),
                Some(Ok(None)) => {}
                Some(Ok(Some(reply))) => return Poll::Ready(Some(Ok(reply))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl Stream for QueryStream {
    type Item = Result<QueryReply, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_reply(cx)
    }
}
