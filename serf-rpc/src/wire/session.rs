//! Which value answers what on one connection: whole values in, responses and records out. No socket.
//!
//! Whoever begins a request gets its sequence number; for every value that arrives the session tells
//! which call it completes or which stream it belongs to. `C` is whatever
//! completes a call, `S` whatever takes the records of a stream.

use std::collections::{BTreeMap, BTreeSet};

use bstr::BString;

use crate::wire::protocol::{self, Header, ProtocolError, QueryPart, ResponseShape};

/// How many streams that were stopped are still recognised, the latest. An agent sends at most 513 records of a stream
/// after it has confirmed its `stop`, and would have to answer so many further ones before the first of them.
const MOST_RETIRED: usize = 4096;

/// The dispatcher: sequence numbers, the table of what they are for, and what is due next.
#[derive(Debug)]
pub(crate) struct Session<C, S> {
    next_seq: u64,
    open: BTreeMap<u64, Phase<C, S>>,
    /// Streams that were stopped and for which something may still come.
    retired: BTreeSet<u64>,
    /// The header whose body comes next.
    due: Option<Header>,
}

/// What a sequence number is for.
#[derive(Debug)]
enum Phase<C, S> {
    /// A call whose response has not come yet.
    Call {
        shape: ResponseShape,
        call: C,
        /// The stream that it stops.
        stops: Option<u64>,
    },
    /// A stream whose first header has not come yet.
    Subscribing { call: C, sink: S, ends: bool },
    /// A stream, until it ends by itself or the agent has confirmed its `stop`.
    Streaming { sink: S, ends: bool },
}

/// What a value that arrived completes.
#[derive(Debug)]
pub(crate) enum Incoming<'session, 'value, C, S> {
    /// The response to a call, or to the request for a stream.
    Response {
        call: C,
        seq: u64,
        /// None on success.
        error: Option<BString>,
        /// The whole value, or empty where it has none.
        body: &'value [u8],
    },
    /// A record of a stream.
    Record {
        sink: &'session S,
        body: &'value [u8],
    },
    /// A stream has ended by itself; its number has no meaning any more.
    End { sink: S },
}

impl<C, S> Session<C, S> {
    pub(crate) fn new() -> Self {
        Self {
            next_seq: 0,
            open: BTreeMap::new(),
            retired: BTreeSet::new(),
            due: None,
        }
    }

    /// Whether no body is due and every call has its response.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |phase: &Phase<C, S>| matches!(phase, Phase::Streaming { .. });
        self.due.is_none() && self.open.values().all(settled)
    }

    /// Begins a call and says with which sequence number.
    pub(crate) fn begin(&mut self, shape: ResponseShape, call: C) -> u64 {
        let stops = None;
        self.insert(Phase::Call { shape, call, stops })
    }

    /// Begins a call that stops a stream. Once it is confirmed nobody takes the stream's records any more; those that
    /// still come are swallowed.
    pub(crate) fn begin_stop(&mut self, shape: ResponseShape, call: C, stream: u64) -> u64 {
        let stops = Some(stream);
        self.insert(Phase::Call { shape, call, stops })
    }

    /// Begins a stream and says with which sequence number.
    pub(crate) fn begin_stream(&mut self, shape: ResponseShape, call: C, sink: S) -> u64 {
        let ends = shape == ResponseShape::RecordsUntilDone;
        self.insert(Phase::Subscribing { call, sink, ends })
    }

    /// Takes the next value that arrived; none if it completes nothing yet, or nothing any more.
    ///
    /// # Errors
    /// The value is not what is due. The session is of no use afterwards.
    pub(crate) fn accept<'value>(
        &mut self,
        value: &'value [u8],
    ) -> Result<Option<Incoming<'_, 'value, C, S>>, ProtocolError> {
        match self.due.take() {
            None => self.accept_header(value),
            Some(header) if protocol::is_header(value) => {
                Err(ProtocolError::BodyExpected { seq: header.seq })
            }
            Some(header) => self.complete(header, value),
        }
    }

    fn accept_header<'value>(
        &mut self,
        value: &[u8],
    ) -> Result<Option<Incoming<'_, 'value, C, S>>, ProtocolError> {
        let header = Header::decode(value).map_err(|error| {
            if protocol::is_header(value) {
                ProtocolError::Header(error)
            } else {
                ProtocolError::HeaderExpected
            }
        })?;
        let body_follows = match self.open.get(&header.seq) {
            Some(Phase::Call { shape, .. }) => {
                shape.body_follows(header.error.as_ref().map(AsRef::as_ref))
            }
            Some(Phase::Subscribing { .. }) => false,
            Some(Phase::Streaming { .. }) => true,
            None if self.retired.contains(&header.seq) => true,
            None => return Err(ProtocolError::UnknownSeq { seq: header.seq }),
        };
        if body_follows {
            self.due = Some(header);
            return Ok(None);
        }
        self.complete(header, &[])
    }

    fn complete<'value>(
        &mut self,
        header: Header,
        body: &'value [u8],
    ) -> Result<Option<Incoming<'_, 'value, C, S>>, ProtocolError> {
        let Header { seq, error } = header;
        if self.retired.contains(&seq) {
            return Ok(None);
        }
        let part = match self.open.get(&seq) {
            Some(Phase::Streaming { ends: true, .. }) => QueryPart::of(body),
            Some(Phase::Streaming { .. }) => QueryPart::Other,
            _ => QueryPart::Done,
        };
        match part {
            QueryPart::Done => self.conclude(seq, error, body).map(Some),
            // They would fill the queue, and what somebody has sent would find no place in it.
            QueryPart::OfNobody => Ok(None),
            QueryPart::Other => match self.open.get(&seq) {
                Some(Phase::Streaming { sink, .. }) => Ok(Some(Incoming::Record { sink, body })),
                _ => Err(ProtocolError::UnknownSeq { seq }),
            },
        }
    }

    /// Closes what a number is open for; a stream that has been asked for begins.
    fn conclude<'value>(
        &mut self,
        seq: u64,
        error: Option<BString>,
        body: &'value [u8],
    ) -> Result<Incoming<'_, 'value, C, S>, ProtocolError> {
        let call = match self.open.remove(&seq) {
            None => return Err(ProtocolError::UnknownSeq { seq }),
            Some(Phase::Streaming { sink, .. }) => return Ok(Incoming::End { sink }),
            Some(Phase::Subscribing { call, sink, ends }) => {
                if error.is_none() {
                    self.open.insert(seq, Phase::Streaming { sink, ends });
                }
                call
            }
            Some(Phase::Call { call, stops, .. }) => {
                if let Some(stream) = stops.filter(|_| error.is_none()) {
                    self.retire(stream);
                }
                call
            }
        };
        Ok(Incoming::Response {
            call,
            seq,
            error,
            body,
        })
    }

    /// Lets go of whoever takes the records of a stream, and remembers its number.
    fn retire(&mut self, stream: u64) {
        if let Some(Phase::Streaming { .. }) = self.open.get(&stream) {
            self.open.remove(&stream);
            self.retired.insert(stream);
        }
        if self.retired.len() > MOST_RETIRED {
            self.retired.pop_first();
        }
    }

    fn insert(&mut self, phase: Phase<C, S>) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.open.insert(seq, phase);
        seq
    }
}

#[cfg(test)]
mod tests;
