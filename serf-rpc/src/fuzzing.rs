//! The laws that hold whatever bytes come, for the fuzz targets: an input each, a panic if broken.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot};

use crate::client::connection::{Decoder, PendingCall, RawResponse, Request, StreamSink};
use crate::client::queue::{Capacity, Queue, Taken, channel};
use crate::command::{Command, Join, Members, Monitor, Query, Response, Stop};
use crate::error::CallError;
use crate::types::{
    ConnectionId, Coordinate, Event, KeyReply, LogEntry, LogLevel, Member, MemberStatus,
    QueryRecord, Record, Stats,
};
use crate::watch::log_line;
use crate::wire::codec::Reader;
use crate::wire::framing::{Limits, ObjectError, Scanner};
use crate::wire::protocol::{Header, ResponseShape};

/// Small, so that inputs reach it.
const MAX_SIZE: usize = 4096;
/// The most of a head that may lie in the buffer without saying how long its value is.
const PARTIAL_HEAD: usize = 4;
const QUEUE: Capacity = Capacity {
    records: 4,
    bytes: 256,
};

/// One byte, and what follows it.
fn byte(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(&first, rest)| (first, rest))
}

/// As many bytes as the first says, and what follows them.
fn counted(data: &[u8]) -> (&[u8], &[u8]) {
    let (count, rest) = byte(data);
    rest.split_at(usize::from(count).min(rest.len()))
}

/// Cuts into chunks of these lengths plus one, over and over; into one if there are none.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    if lengths.is_empty() {
        return vec![bytes];
    }
    let mut chunks = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at((usize::from(*length) + 1).min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

/// Values end where they end, however their bytes are cut: `[count] lengths [depth] bytes`.
pub fn object(data: &[u8]) {
    let (lengths, data) = counted(data);
    let (depth, bytes) = byte(data);
    let limits = Limits {
        max_size: MAX_SIZE,
        max_depth: usize::from(depth % 32),
    };
    let (ends, error) = scan(&[bytes], limits);
    assert_eq!(scan(&cut(bytes, lengths), limits), (ends.clone(), error));
    let mut start = 0;
    for end in ends {
        let value = bytes.get(start..end).unwrap_or_default();
        assert!(!value.is_empty() && value.len() <= MAX_SIZE);
        assert_eq!(Reader::whole(value, |reader| reader.skip()), Ok(()));
        start = end;
    }
}

/// Where values end, and what is wrong with what follows them.
fn scan(chunks: &[&[u8]], limits: Limits) -> (Vec<usize>, Option<ObjectError>) {
    let mut scanner = Scanner::new(limits);
    let (mut ends, mut passed) = (Vec::new(), 0);
    let mut buffer = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match scanner.next_end(&buffer) {
                Err(error) => return (ends, Some(error)),
                Ok(None) => break,
                Ok(Some(end)) => {
                    buffer.drain(..end);
                    passed += end;
                    ends.push(passed);
                }
            }
        }
        assert!(buffer.len() < MAX_SIZE + PARTIAL_HEAD);
    }
    (ends, None)
}

/// A connection survives any bytes after any requests: `[count] operations before,
/// [count] operations between chunks, bytes`.
pub fn session(data: &[u8]) {
    let (before, data) = counted(data);
    let (between, bytes) = counted(data);
    if between.is_empty() {
        let whole = play(before, &[], &[bytes]);
        for size in [0, 6] {
            assert_eq!(play(before, &[], &cut(bytes, &[size])), whole);
        }
    } else {
        let size = bytes.len() / (between.len() + 1);
        let size = u8::try_from(size).unwrap_or(u8::MAX);
        play(before, between, &cut(bytes, &[size]));
    }
}

/// What came of a script.
#[derive(Debug, PartialEq)]
struct Outcome {
    answers: Vec<Option<RawResponse>>,
    records: Vec<Vec<Taken>>,
    error: Option<String>,
}

fn play(before: &[u8], between: &[u8], chunks: &[&[u8]]) -> Outcome {
    let mut script = Script::new();
    for operation in before {
        script.step(*operation);
    }
    let mut error = None;
    for (number, chunk) in chunks.iter().enumerate() {
        script.decoder.inbound.extend_from_slice(chunk);
        if let Err(lost) = script.decoder.receive() {
            error = Some(format!("{lost:?}"));
            break;
        }
        assert!(script.decoder.inbound.len() < MAX_SIZE + PARTIAL_HEAD);
        if let Some(operation) = between.get(number) {
            script.step(*operation);
        }
    }
    script.end(error)
}

/// A connection without a socket, and those who wait for its responses and records.
struct Script {
    decoder: Decoder,
    outbound: BytesMut,
    calls: Vec<Option<oneshot::Receiver<RawResponse>>>,
    queues: Vec<Option<Queue>>,
    permits: Arc<Semaphore>,
}

impl Script {
    /// More than a script can take.
    const PERMITS: usize = 2048;

    fn new() -> Self {
        let limits = Limits {
            max_size: MAX_SIZE,
            max_depth: 16,
        };
        Self {
            decoder: Decoder::new(limits),
            outbound: BytesMut::new(),
            calls: Vec::new(),
            queues: Vec::new(),
            permits: Arc::new(Semaphore::new(Self::PERMITS)),
        }
    }

    /// Does what the low three bits say with what the others number.
    fn step(&mut self, operation: u8) {
        let which = usize::from(operation >> 3);
        match operation & 7 {
            0 => self.send(&Stop { stream: 0 }),
            1 => self.send(&Members),
            2 => self.send(&Monitor {
                level: LogLevel::Debug,
            }),
            3 => self.send(&Query::new("q")),
            4 => drop(self.calls.get_mut(which).and_then(Option::take)),
            5 => drop(self.queues.get_mut(which).and_then(Option::take)),
            6 => drop(
                self.queues
                    .get_mut(which)
                    .and_then(Option::as_mut)
                    .and_then(take),
            ),
            _ => {
                drop(self.queues.get_mut(which).and_then(Option::take));
                let stream = u64::try_from(which).unwrap_or_default();
                self.send(&Stop { stream });
            }
        }
    }

    fn send<C: Command>(&mut self, command: &C) {
        let mut body = Vec::new();
        command.write_body(&mut body);
        let shape = C::Response::SHAPE;
        let streams = matches!(
            shape,
            ResponseShape::Records | ResponseShape::RecordsUntilDone
        );
        let Some((permit, stream_permit)) = self.permit().zip(self.permit()) else {
            return;
        };
        let (response, receiver) = oneshot::channel();
        let (records, queue) = channel(QUEUE);
        let sink = streams.then_some(StreamSink {
            records,
            permit: stream_permit,
        });
        let call = PendingCall {
            response,
            _permit: permit,
        };
        let request = Request {
            command: C::NAME,
            body,
            shape,
            sink,
            stops: None,
            call,
        };
        self.decoder.begin(request, &mut self.outbound);
        self.calls.push(Some(receiver));
        if streams {
            self.queues.push(Some(queue));
        }
    }

    fn permit(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Loses the connection: everyone who waits must learn of it, and every permit be given back.
    fn end(mut self, error: Option<String>) -> Outcome {
        let calls = self.calls.iter_mut().map(Option::as_mut);
        let answers: Vec<_> = calls
            .map(|call| call.and_then(|call| call.try_recv().ok()))
            .collect();
        let mut records = Vec::new();
        for queue in &mut self.queues {
            let mut taken = Vec::new();
            while let Some(item) = queue.as_mut().and_then(take) {
                let last = matches!(item, Taken::Closed | Taken::Finished);
                taken.push(item);
                if last {
                    break;
                }
            }
            assert!(taken.len() <= QUEUE.records + 2);
            records.push(taken);
        }
        drop(self.decoder);
        for (call, answer) in self.calls.iter_mut().zip(&answers) {
            if let (Some(call), None) = (call, answer) {
                assert_eq!(call.try_recv(), Err(TryRecvError::Closed));
            }
        }
        for queue in self.queues.iter_mut().flatten() {
            assert!(matches!(take(queue), Some(Taken::Closed | Taken::Finished)));
        }
        assert_eq!(self.permits.available_permits(), Self::PERMITS);
        let (_, malformed) = scan_requests(&self.outbound);
        assert_eq!(malformed, None);
        Outcome {
            answers,
            records,
            error,
        }
    }
}

/// The requests that were written are whole values.
fn scan_requests(bytes: &[u8]) -> (Vec<usize>, Option<ObjectError>) {
    let limits = Limits {
        max_size: MAX_SIZE,
        max_depth: 4,
    };
    let (ends, error) = scan(&[bytes], limits);
    assert_eq!(ends.last().copied().unwrap_or(0), bytes.len());
    (ends, error)
}

fn take(queue: &mut Queue) -> Option<Taken> {
    match queue.poll_take(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(taken) => Some(taken),
        Poll::Pending => None,
    }
}

/// Everything that is read from an agent. A new reply or record belongs here.
const DECODERS: [fn(&[u8]); 11] = [
    header,
    |body| check_members(reply::<Vec<Member>>(body).unwrap_or_default(), body),
    |body| drop(reply::<Stats>(body).map(|stats| stats.agent_name().map(ToOwned::to_owned))),
    |body| {
        let _ = reply::<KeyReply>(body);
    },
    |body| {
        let _ = reply::<<Join<'_> as Command>::Response>(body);
    },
    |body| assert_eq!(reply::<()>(body), Some(())),
    |body| {
        let coordinate = reply::<Option<Coordinate>>(body).flatten();
        let _ = coordinate.map(|here| here.rtt(&here));
    },
    |body| {
        if let Some(Event::Member { members, .. }) = record::<Event>(body) {
            check_members(members, body);
        }
    },
    |body| {
        if let Some(LogEntry::Line(line)) = record::<LogEntry>(body) {
            let _ = (line.component(), log_line::hint(line.as_bytes()));
        }
    },
    |body| {
        let _ = crate::wire::protocol::QueryPart::of(body);
        let _ = record::<QueryRecord>(body);
    },
    |line| drop(format!("{:?}", log_line::hint(line))),
];

/// Every decoder takes any value, and any bytes that are none.
pub fn replies(data: &[u8]) {
    let limits = Limits {
        max_size: 1 << 20,
        max_depth: 16,
    };
    let mut scanner = Scanner::new(limits);
    let mut rest = data;
    while let Ok(Some(end)) = scanner.next_end(rest) {
        let (value, further) = rest.split_at(end);
        decode(value);
        rest = further;
    }
    if !rest.is_empty() {
        decode(rest);
    }
}

fn decode(body: &[u8]) {
    for decoder in DECODERS {
        decoder(body);
    }
}

/// What is decoded as a header, and begins as one, is taken for one.
fn header(value: &[u8]) {
    let mut reader = Reader::new(value);
    let begins = reader.map_len().is_ok() && matches!(reader.bytes(), Ok(b"Error" | b"Seq"));
    if begins && Header::decode(value).is_ok() {
        assert!(crate::wire::protocol::is_header(value));
    }
}

fn reply<R: Response>(body: &[u8]) -> Option<R> {
    let refused = CallError::refused("command", "refused".into(), R::error_body(body));
    drop(refused.to_string());
    R::decode(body).ok()
}

fn record<R: Record>(body: &[u8]) -> Option<R> {
    R::decode(body, ConnectionId::new(0)).ok()
}

/// Members are no more than there were bytes for, and what one says of itself makes it again.
fn check_members(members: Vec<Member>, body: &[u8]) {
    assert!(members.len() <= body.len());
    for member in members {
        if member.status() == MemberStatus::Unknown {
            // The builder knows no other word for it.
            continue;
        }
        let mut again = Member::builder(member.name())
            .status(member.status())
            .protocol(member.protocol())
            .delegate(member.delegate());
        for (key, value) in member.tags() {
            assert_eq!(member.tag(key), Some(value));
            again = again.tag(key, value);
        }
        match member.addr() {
            Some(addr) => {
                assert!(!matches!(addr, IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some()));
                again = again.addr(addr, member.port());
            }
            // The builder knows no port without an address.
            None if member.port() != 0 => continue,
            None => {}
        }
        assert_eq!(again.build(), member);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recordings::fixtures;

    #[test]
    fn recorded_exchanges_keep_the_laws_in_any_script() {
        for (_, bytes) in fixtures(".bin") {
            replies(&bytes);
            object(&[&[1, 6, 7], &bytes[..]].concat());
            for before in 0..4_u8 {
                session(&[&[1, before, 0], &bytes[..]].concat());
                session(&[&[2, before, before, 3, 6, 5, 7], &bytes[..]].concat());
            }
        }
    }

    #[test]
    fn a_query_is_over_for_its_reader_when_it_is_for_the_session() {
        let header = b"\x82\xa5Error\xa0\xa3Seq\x00";
        let strange = b"\x82\xa7Payload\x27\xa4Type\xa4done";
        let outcome = play(&[3], &[], &[&[&header[..], header, strange].concat()]);
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.records, [[Taken::Finished]]);
    }

    proptest! {
        #[test]
        fn random_bytes_keep_the_laws(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            object(&bytes);
            session(&bytes);
            replies(&bytes);
        }
    }
}
