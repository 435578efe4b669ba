//! Events of the cluster: the body of a stream's record in, a typed [`Event`] out.

use bstr::{BStr, BString};

use super::record::{ConnectionId, Record, Sealed};
use crate::types::Member;
use crate::types::member::MemberDecoder;
use crate::wire::codec::{DecodeError, Reader};

/// Something that happened in the cluster, as the agent's `stream` tells it.
///
/// The agent holds member events back for 1–3 s, merges and suppresses them, and repeats old
/// updates (`serf/coalesce_member.go`): take one as a hint to ask for the members again, never as
/// the change itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something happened to members.
    Member {
        /// What.
        kind: MemberEventKind,
        /// To whom, each as it was then.
        members: Vec<Member>,
    },
    /// A user event. Its sender is not known.
    User {
        /// Lamport time of the event.
        ltime: u64,
        /// Its name, any bytes.
        name: BString,
        /// Its payload, any bytes.
        payload: BString,
        /// Whether agents may merge it with others of that name.
        coalesce: bool,
    },
    /// A query that waits for an answer. Its sender is not known.
    Query {
        /// What to answer it with.
        id: QueryId,
        /// Lamport time of the query.
        ltime: u64,
        /// Its name, any bytes.
        name: BString,
        /// Its payload, any bytes.
        payload: BString,
    },
    /// A kind that this library does not know.
    Unknown {
        /// What the agent calls it.
        kind: BString,
    },
    /// The reader was too slow, and so many events were left out here.
    Lagged(u64),
    /// The stream was begun anew on another connection, and events may be missing here. Only in
    /// [`ManagedEvents`](crate::ManagedEvents).
    Resubscribed,
}

/// Which query, on which connection: what [`Client::respond`](crate::Client::respond) takes.
///
/// The agent counts the queries of each connection by themselves, so the number of one means another
/// query, or none, on any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueryId {
    pub(crate) connection: ConnectionId,
    pub(crate) number: u64,
}

impl QueryId {
    /// As the agent counts the queries it delivers on one connection, from 1 on.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// What happened to members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberEventKind {
    /// `member-join`.
    Join,
    /// `member-leave`: left gracefully, or was told to.
    Leave,
    /// `member-failed`.
    Failed,
    /// `member-update`: address, port or tags changed.
    Update,
    /// `member-reap`: the cluster has forgotten it.
    Reap,
}

impl MemberEventKind {
    /// Serf's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "member-join",
            Self::Leave => "member-leave",
            Self::Failed => "member-failed",
            Self::Update => "member-update",
            Self::Reap => "member-reap",
        }
    }

    fn parse(word: &[u8]) -> Option<Self> {
        [
            Self::Join,
            Self::Leave,
            Self::Failed,
            Self::Update,
            Self::Reap,
        ]
        .into_iter()
        .find(|kind| kind.as_str().as_bytes() == word)
    }
}

impl Event {
    pub(crate) fn decode(body: &[u8], connection: ConnectionId) -> Result<Self, DecodeError> {
        let mut parts = Parts::default();
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Event" => parts.kind = value.bytes()?,
                    b"Members" => parts.members = MemberDecoder::members(value)?,
                    b"ID" => parts.id = value.uint("ID")?,
                    b"LTime" => parts.ltime = value.uint("LTime")?,
                    b"Name" => parts.name = value.bytes()?,
                    b"Payload" => parts.payload = value.bytes()?,
                    b"Coalesce" => parts.coalesce = value.boolean()?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        parts.into_event(connection)
    }
}

impl Sealed for Event {}

impl Record for Event {
    fn decode(body: &[u8], connection: ConnectionId) -> Result<Self, DecodeError> {
        Self::decode(body, connection)
    }

    fn lagged(missed: u64) -> Self {
        Self::Lagged(missed)
    }

    fn resubscribed() -> Self {
        Self::Resubscribed
    }
}

/// The fields of all kinds of events, which may come in any order.
#[derive(Default)]
struct Parts<'a> {
    kind: &'a [u8],
    members: Vec<Member>,
    id: u64,
    ltime: u64,
    name: &'a [u8],
    payload: &'a [u8],
    coalesce: bool,
}

impl Parts<'_> {
    fn into_event(self, connection: ConnectionId) -> Result<Event, DecodeError> {
        let Self {
            kind,
            members,
            id: number,
            ltime,
            coalesce,
            ..
        } = self;
        let (name, payload) = (self.name.into(), self.payload.into());
        Ok(match (kind, MemberEventKind::parse(kind)) {
            (_, Some(kind)) => Event::Member { kind, members },
            (b"user", _) => Event::User {
                ltime,
                name,
                payload,
                coalesce,
            },
            (b"query", _) => Event::Query {
                id: QueryId { connection, number },
                ltime,
                name,
                payload,
            },
            (b"", _) => return Err(DecodeError::Missing { field: "Event" }),
            (other, _) => Event::Unknown { kind: other.into() },
        })
    }
}

/// Which events a stream carries (`agent/event_handler.go`, `ParseEventFilter`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter(BString);

/// Events of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Something that happens to members.
    Member(MemberEventKind),
    /// User events of any name.
    User,
    /// User events of one name.
    UserNamed(EventName),
    /// Queries of any name.
    Query,
    /// Queries of one name.
    QueryNamed(EventName),
}

/// The name of a user event or query, as a filter can carry it: not empty, and without a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventName(BString);

impl EventName {
    /// The name; none if it is empty or has a comma in it, which would end it in a filter.
    pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
        let name = name.as_ref();
        (!name.is_empty() && !name.contains(&b',')).then(|| Self(name.into()))
    }
}

impl EventFilter {
    /// All events.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// All that happens to members.
    pub fn members() -> Self {
        use MemberEventKind::{Failed, Join, Leave, Reap, Update};
        Self::of([Join, Leave, Failed, Update, Reap].map(EventKind::Member))
    }

    /// Events of these kinds; of all kinds if there is none.
    pub fn of(kinds: impl IntoIterator<Item = EventKind>) -> Self {
        let words: Vec<BString> = kinds
            .into_iter()
            .map(|kind| match kind {
                EventKind::Member(kind) => kind.as_str().into(),
                EventKind::User => "user".into(),
                EventKind::UserNamed(name) => [b"user:", &name.0[..]].concat().into(),
                EventKind::Query => "query".into(),
                EventKind::QueryNamed(name) => [b"query:", &name.0[..]].concat().into(),
            })
            .collect();
        if words.is_empty() {
            Self::all()
        } else {
            Self(bstr::join(",", words).into())
        }
    }

    /// The filter as the agent reads it.
    pub fn as_bytes(&self) -> &BStr {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests;
