//! Queries: what to ask the members in, their acknowledgements and responses out.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bstr::BString;
use futures_util::Stream;
use tokio::time::timeout;

use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{Command, RecordsUntilDone};
use crate::error::{ConnectionError, StreamError};
use crate::event::ConnectionId;
use crate::member::Member;
use crate::subscription::{Record, Subscription};

/// A question to the members (`serf query`).
///
/// Everything of it, encoded, may have 1024 bytes unless the agent's `query_size_limit` says
/// otherwise. Answers travel in single UDP packets, and one that is lost is not sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    name: BString,
    payload: BString,
    nodes: Vec<BString>,
    tags: BTreeMap<BString, String>,
    acks: bool,
    relay_factor: u8,
    timeout: Duration,
}

impl Query {
    /// A query of that name to all members, without a payload. Names that begin with `_serf_` are
    /// Serf's own; of these only `_serf_ping` is allowed, without a payload.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().into(),
            payload: BString::default(),
            nodes: Vec::new(),
            tags: BTreeMap::new(),
            acks: false,
            relay_factor: 0,
            timeout: Duration::ZERO,
        }
    }

    /// What it carries.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().into();
        self
    }

    /// Asks only members of that name, and of the names given before.
    #[must_use]
    pub fn node(mut self, name: impl AsRef<[u8]>) -> Self {
        self.nodes.push(name.as_ref().into());
        self
    }

    /// Asks only members whose tag of that key matches somewhere: unlike those of a
    /// [`MemberFilter`](crate::MemberFilter) the regular expression is not anchored
    /// (`serf/query.go`, `shouldProcessQuery`). A malformed one is answered by nobody.
    #[must_use]
    pub fn tag(mut self, key: impl AsRef<[u8]>, expression: impl Into<String>) -> Self {
        self.tags.insert(key.as_ref().into(), expression.into());
        self
    }

    /// Whether each member says at once that it got the query.
    #[must_use]
    pub fn request_ack(mut self, acks: bool) -> Self {
        self.acks = acks;
        self
    }

    /// Through how many other members, 0–255, each answer is sent once more.
    #[must_use]
    pub fn relay_factor(mut self, members: u8) -> Self {
        self.relay_factor = members;
        self
    }

    /// How long members may take to answer, in nanoseconds up to 292 years. Zero stands for Serf's
    /// default, which grows with the cluster: 1.6 s at `profile=local`, 3.2 s at `lan`, 8 s at
    /// `wan` for up to 9 members, twice that for up to 99.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// `query`: asks the members.
impl Command for Query {
    const NAME: &'static str = "query";
    type Reply = RecordsUntilDone;

    fn write_body(&self, body: &mut Vec<u8>) {
        let nanoseconds = i64::try_from(self.timeout.as_nanos()).unwrap_or(i64::MAX);
        let mut writer = Writer::new(body);
        writer.map(7).str("FilterNodes").strings(&self.nodes);
        writer.str("FilterTags").map(self.tags.len());
        for (key, expression) in &self.tags {
            writer.str(key).str(expression);
        }
        writer
            .str("RequestAck")
            .bool(self.acks)
            .str("RelayFactor")
            .uint(self.relay_factor.into())
            .str("Timeout")
            .uint(nanoseconds.unsigned_abs())
            .str("Name")
            .str(&self.name)
            .str("Payload")
            .str(&self.payload);
    }
}

/// `respond`: answers a query that a stream of this connection has brought.
pub(crate) struct Respond<'a> {
    pub(crate) id: u64,
    pub(crate) payload: &'a [u8],
}

impl Command for Respond<'_> {
    const NAME: &'static str = "respond";
    type Reply = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(2)
            .str("ID")
            .uint(self.id)
            .str("Payload")
            .str(self.payload);
    }
}

/// What comes back from a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryReply {
    /// A member got the query.
    Ack {
        /// Its name, any bytes.
        from: BString,
    },
    /// A member's response. There is at most one of each.
    Response {
        /// Its name, any bytes.
        from: BString,
        /// Its answer, any bytes.
        payload: BString,
    },
}

/// A record of a query that is not its last; none where it says nothing. When the time is up agents
/// send acknowledgements and responses of nobody (hashicorp/serf#408), and a kind that this library
/// does not know says nothing to it either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryRecord(pub(crate) Option<QueryReply>);

impl Record for QueryRecord {
    fn decode(body: &[u8], _: ConnectionId) -> Result<Self, DecodeError> {
        let (mut kind, mut from, mut payload) = (None, &[][..], &[][..]);
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Type" => kind = Some(value.bytes()?),
                    b"From" => from = value.bytes()?,
                    b"Payload" => payload = value.bytes()?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        let kind = kind.ok_or(DecodeError::Missing { field: "Type" })?;
        let from = BString::from(from);
        Ok(Self(match kind {
            _ if from.is_empty() => None,
            b"ack" => Some(QueryReply::Ack { from }),
            b"response" => Some(QueryReply::Response {
                from,
                payload: payload.into(),
            }),
            _ => None,
        }))
    }
}

/// What comes back from a [`Query`], as it comes, until its time is up.
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

    /// Whether all are there.
    fn is_complete(&self) -> bool {
        match self {
            Self::Acks(count) | Self::Responses(count) => *count == 0,
            Self::AcksOf(names) | Self::ResponsesOf(names) => names.is_empty(),
        }
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
    /// time of the query itself counts too: see [`Query::timeout`].
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
        let mut replies = QueryReplies {
            acks: Vec::new(),
            responses: Vec::new(),
            left_out: 0,
            end: QueryEnd::Deadline,
        };
        let gathering = self.gather_into(&mut replies, expected);
        if let Ok(end) = timeout(within, gathering).await {
            replies.end = end;
        }
        replies
    }

    async fn gather_into(
        &mut self,
        replies: &mut QueryReplies,
        mut expected: Expected,
    ) -> QueryEnd {
        loop {
            if expected.is_complete() {
                return QueryEnd::Complete;
            }
            let room = replies.acks.len() + replies.responses.len() < MAX_GATHERED;
            let next = self.next().await;
            if let Some(Ok(reply)) = &next {
                expected.heard(reply);
            }
            match next {
                None => return QueryEnd::Done,
                Some(Ok(QueryReply::Ack { from })) if room => replies.acks.push(from),
                Some(Ok(QueryReply::Response { from, payload })) if room => {
                    replies.responses.push((from, payload));
                }
                Some(Err(StreamError::Lost(error))) => return QueryEnd::Lost(error),
                Some(Err(StreamError::Lagged(count))) => replies.left_out += count,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: &[u8]) -> Result<Option<QueryReply>, DecodeError> {
        QueryRecord::decode(bytes, crate::testing::CONNECTION).map(|record| record.0)
    }

    #[test]
    fn answers_of_nobody_say_nothing() {
        let empty = b"\x83\xa4From\xa0\xa7Payload\xc0\xa4Type\xa8response";
        assert_eq!(record(empty), Ok(None));
        let later = b"\x82\xa4From\xa1a\xa4Type\xa4new!";
        assert_eq!(record(later), Ok(None));
        let missing = Err(DecodeError::Missing { field: "Type" });
        assert_eq!(record(b"\x81\xa4From\xa1a"), missing);
    }
}
