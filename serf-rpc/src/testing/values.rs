//! Events, answers and figures as an agent would send them.

use std::collections::BTreeMap;

use bstr::BString;

use crate::client::{QueryEnd, QueryReplies};
use crate::types::{ConnectionId, Event, QueryId, Stats};

/// The query of that number, on a connection that there is not: no client answers it.
pub fn query_id(number: u64) -> QueryId {
    let connection = ConnectionId::new(u64::MAX);
    QueryId { connection, number }
}

/// A user event.
pub fn user_event(name: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Event {
    Event::User {
        ltime: 1,
        name: name.as_ref().into(),
        payload: payload.as_ref().into(),
        coalesce: false,
    }
}

/// A query that waits for an answer.
pub fn query(id: QueryId, name: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Event {
    Event::Query {
        id,
        ltime: 1,
        name: name.as_ref().into(),
        payload: payload.as_ref().into(),
    }
}

/// What came back from a query to these members: each that responds has acknowledged it too.
pub fn query_replies<N: AsRef<[u8]>, P: AsRef<[u8]>>(
    expected: impl IntoIterator<Item = N>,
    responses: impl IntoIterator<Item = (N, P)>,
) -> QueryReplies {
    let responses: Vec<(BString, BString)> = responses
        .into_iter()
        .map(|(name, payload)| (name.as_ref().into(), payload.as_ref().into()))
        .collect();
    let acks: Vec<BString> = responses.iter().map(|(name, _)| name.clone()).collect();
    let missing: Vec<BString> = expected
        .into_iter()
        .map(|name| BString::from(name.as_ref()))
        .filter(|name| !acks.contains(name))
        .collect();
    let end = if missing.is_empty() {
        QueryEnd::Complete
    } else {
        QueryEnd::Done
    };
    QueryReplies::new(acks, responses, missing, end)
}

/// Figures of an agent: `(group, key, value)`.
pub fn stats<'a>(figures: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Stats {
    let mut stats = Stats::default();
    for (group, key, value) in figures {
        let group: &mut BTreeMap<BString, BString> = stats.group_mut(group.as_bytes());
        group.insert(key.into(), value.into());
    }
    stats
}
