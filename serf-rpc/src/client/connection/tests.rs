use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::client::queue::{Capacity, Queue, Taken, channel};
use crate::recordings::LIMITS;

const CALLS: usize = 100;
const STREAMS: usize = 100;

/// What happens on a connection, in any order.
#[derive(Clone, Debug)]
enum Step {
    Ask {
        reply: ResponseShape,
        refused: bool,
        given_up: GivenUp,
    },
    /// The agent answers the oldest request.
    Answer,
    /// The agent sends a record of one of the streams.
    Record(usize),
    /// A query's time is up.
    Done(usize),
    /// Nobody reads one of the streams any more.
    DropReader(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum GivenUp {
    Never,
    BeforeItWasSent,
    BeforeTheAnswer,
}

fn step() -> impl Strategy<Value = Step> {
    let reply = prop::sample::select(vec![
        ResponseShape::Header,
        ResponseShape::Body,
        ResponseShape::Records,
        ResponseShape::RecordsUntilDone,
    ]);
    let given_up = prop::sample::select(vec![
        GivenUp::Never,
        GivenUp::Never,
        GivenUp::BeforeItWasSent,
        GivenUp::BeforeTheAnswer,
    ]);
    prop_oneof![
        3 => (reply, prop::bool::weighted(0.2), given_up)
            .prop_map(|(reply, refused, given_up)| Step::Ask { reply, refused, given_up }),
        3 => Just(Step::Answer),
        4 => (0..6_usize).prop_map(Step::Record),
        1 => (0..6_usize).prop_map(Step::Done),
        1 => (0..6_usize).prop_map(Step::DropReader),
    ]
}

/// A request that the agent has not answered yet.
struct Asked {
    answer: RawResponse,
    stream: Option<Stream>,
}

/// A stream as its reader and the agent see it.
struct Stream {
    seq: u64,
    ends: bool,
    done: bool,
    reader: Option<Queue>,
    records: Vec<Bytes>,
}

/// The connection without its socket, the agent at its other end, and what is to be seen.
struct World {
    decoder: Decoder,
    /// What the agent has sent and has not arrived.
    wire: Vec<u8>,
    asked: VecDeque<Asked>,
    streams: Vec<Stream>,
    answers: Vec<(oneshot::Receiver<RawResponse>, RawResponse)>,
    sent: u64,
    numbers: u16,
    calls: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

impl World {
    fn new() -> Self {
        Self {
            decoder: Decoder::new(LIMITS),
            wire: Vec::new(),
            asked: VecDeque::new(),
            streams: Vec::new(),
            answers: Vec::new(),
            sent: 0,
            numbers: 0,
            calls: Arc::new(Semaphore::new(CALLS)),
            permits: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Ask {
                reply,
                refused,
                given_up,
            } => self.ask(reply, refused, given_up),
            Step::Answer => self.answer(),
            Step::Record(stream) => {
                let body = self.body();
                if let Some(stream) = self.streams.get_mut(stream).filter(|stream| !stream.done) {
                    self.wire.extend(header(stream.seq, ""));
                    self.wire.extend(&body);
                    stream.records.push(body);
                }
            }
            Step::Done(stream) => {
                let stream = self.streams.get_mut(stream);
                if let Some(stream) = stream.filter(|stream| stream.ends && !stream.done) {
                    self.wire.extend(header(stream.seq, ""));
                    self.wire.extend(b"\x82\xa4From\xa0\xa4Type\xa4done");
                    stream.done = true;
                }
            }
            Step::DropReader(stream) => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.reader = None;
                }
            }
        }
    }

    fn ask(&mut self, reply: ResponseShape, refused: bool, given_up: GivenUp) {
        let (sender, receiver) = oneshot::channel();
        let call = PendingCall {
            response: sender,
            _permit: self.calls.clone().try_acquire_owned().unwrap(),
        };
        let streams = matches!(
            reply,
            ResponseShape::Records | ResponseShape::RecordsUntilDone
        );
        let (sink, reader) = streams.then(|| self.listen()).unzip();
        if given_up == GivenUp::BeforeItWasSent {
            drop(receiver);
            self.send(reply, sink, call);
            return;
        }
        self.send(reply, sink, call);
        let answer = RawResponse {
            seq: self.sent,
            error: refused.then(|| "refused".into()),
            body: match reply {
                ResponseShape::Body => self.body(),
                _ => Bytes::new(),
            },
        };
        self.sent += 1;
        let kept = given_up == GivenUp::Never;
        if kept {
            self.answers.push((receiver, answer.clone()));
        }
        let stream = (streams && !refused).then(|| Stream {
            seq: answer.seq,
            ends: reply == ResponseShape::RecordsUntilDone,
            done: false,
            reader: reader.filter(|_| kept),
            records: Vec::new(),
        });
        self.asked.push_back(Asked { answer, stream });
    }

    fn listen(&self) -> (StreamSink, Queue) {
        let (records, queue) = channel(Capacity {
            records: 1000,
            bytes: 1 << 20,
        });
        let permit = self.permits.clone().try_acquire_owned().unwrap();
        (StreamSink { records, permit }, queue)
    }

    fn send(&mut self, shape: ResponseShape, sink: Option<StreamSink>, call: PendingCall) {
        let request = Request {
            command: "whatever",
            body: Vec::new(),
            shape,
            sink,
            stops: None,
            call,
        };
        self.decoder.begin(request, &mut BytesMut::new());
    }

    fn answer(&mut self) {
        if let Some(Asked { answer, stream }) = self.asked.pop_front() {
            let error = answer.error.unwrap_or_default();
            self.wire.extend(header(answer.seq, &error.to_string()));
            self.wire.extend(&answer.body);
            self.streams.extend(stream);
        }
    }

    /// Some of what the agent has sent arrives.
    fn arrive(&mut self, bytes: usize) -> Result<(), ConnectionError> {
        let bytes = bytes.min(self.wire.len());
        self.decoder.inbound.extend(self.wire.drain(..bytes));
        self.decoder.receive().map(|_| ())
    }

    fn body(&mut self) -> Bytes {
        self.numbers += 1;
        let number = self.numbers.to_be_bytes();
        Bytes::from([&b"\x81\xa3Num\xcd"[..], &number].concat())
    }
}

fn header(seq: u64, error: &str) -> Vec<u8> {
    let pairs = vec![("Error".into(), error.into()), ("Seq".into(), seq.into())];
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(pairs)).unwrap();
    bytes
}

/// All that a reader finds in its queue, and how it ends.
fn read(queue: &mut Queue) -> (Vec<Bytes>, Poll<Taken>) {
    let mut records = Vec::new();
    loop {
        match queue.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Taken::Record(record)) => records.push(record.into()),
            end => return (records, end),
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_given_up_whenever_the_rest_gets_what_is_its_own(
        script in prop::collection::vec((step(), 0..60_usize), 0..90),
    ) {
        let mut world = World::new();
        for (step, bytes) in &script {
            world.step(step);
            world.arrive(*bytes).unwrap();
        }
        while !world.asked.is_empty() {
            world.answer();
        }
        world.arrive(usize::MAX).unwrap();

        for (mut receiver, answer) in world.answers {
            prop_assert_eq!(receiver.try_recv(), Ok(answer));
        }
        prop_assert_eq!(world.calls.available_permits(), CALLS, "calls in flight");
        let open = world.streams.iter().filter(|stream| !stream.done).count();
        prop_assert_eq!(world.permits.available_permits(), STREAMS - open, "streams");
        for mut stream in world.streams {
            let Some(reader) = &mut stream.reader else { continue };
            let end = if stream.done { Poll::Ready(Taken::Finished) } else { Poll::Pending };
            prop_assert_eq!(read(reader), (stream.records, end));
        }
    }

    #[test]
    fn broken_bytes_end_in_an_error_or_in_nothing_and_hold_no_more_than_came(
        script in prop::collection::vec((step(), 0..60_usize), 0..40),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        tail in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut world = World::new();
        for (step, _) in &script {
            world.step(step);
        }
        world.wire.extend(tail);
        let came = world.wire.len();
        for (at, byte) in mutations.iter().filter(|_| came > 0) {
            world.wire[at.index(came)] = *byte;
        }
        while !world.wire.is_empty() && world.arrive(7).is_ok() {}
        let mut held = world.decoder.inbound.len();
        for stream in &mut world.streams {
            if let Some(reader) = &mut stream.reader {
                held += read(reader).0.iter().map(Bytes::len).sum::<usize>();
            }
        }
        prop_assert!(held <= came);
    }
}
