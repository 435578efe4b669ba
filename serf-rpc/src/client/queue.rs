//! The bounded queue between the connection and the reader of a stream: records in at one end,
//! records and the places where some were left out at the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How much a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// A new queue: the end that the connection fills, and the end that the reader empties.
pub(crate) fn channel(capacity: Capacity) -> (Sink, Queue) {
    let shared = Arc::new(Mutex::new(Shared {
        capacity,
        items: VecDeque::new(),
        bytes: 0,
        finished: false,
        closed: false,
        reader: None,
    }));
    (Sink(shared.clone()), Queue(shared))
}

/// The end that the connection fills. Dropping it closes the queue.
#[derive(Debug)]
pub(crate) struct Sink(Arc<Mutex<Shared>>);

/// The end that the reader empties.
#[derive(Debug)]
pub(crate) struct Queue(Arc<Mutex<Shared>>);

/// What the reader takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Record(Box<[u8]>),
    /// So many records were left out here.
    Lagged(u64),
    /// There will be no more, as it should be.
    Finished,
    /// There will be no more, because the connection is gone.
    Closed,
}

#[derive(Debug)]
struct Shared {
    capacity: Capacity,
    items: VecDeque<Item>,
    bytes: usize,
    finished: bool,
    closed: bool,
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Item {
    Record(Box<[u8]>),
    Gap(u64),
}

impl Sink {
    /// Appends a record, or counts it where it is missing; swallows it once nobody reads any more.
    ///
    /// The record is copied: as a slice of what was read it would keep all of that alive.
    pub(crate) fn push(&self, record: &[u8]) {
        let mut shared = lock(&self.0);
        if shared.closed {
            return;
        }
        let full = shared.items.len() >= shared.capacity.records
            || (shared.bytes > 0 && shared.bytes + record.len() > shared.capacity.bytes);
        if !full {
            shared.bytes += record.len();
            shared.items.push_back(Item::Record(record.into()));
        } else if let Some(Item::Gap(count)) = shared.items.back_mut() {
            *count += 1;
        } else {
            shared.items.push_back(Item::Gap(1));
        }
        wake(shared);
    }

    /// Says that this was all. However full the queue is, the reader learns it.
    pub(crate) fn finish(self) {
        lock(&self.0).finished = true;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.closed = true;
        wake(shared);
    }
}

impl Queue {
    /// Takes the next item, or arranges to be woken when there is one.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut shared = lock(&self.0);
        match shared.items.pop_front() {
            Some(Item::Record(record)) => {
                shared.bytes -= record.len();
                Poll::Ready(Taken::Record(record))
            }
            Some(Item::Gap(count)) => Poll::Ready(Taken::Lagged(count)),
            None if shared.finished => Poll::Ready(Taken::Finished),
            None if shared.closed => Poll::Ready(Taken::Closed),
            None => {
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.closed = true;
        shared.items = VecDeque::new();
    }
}

/// Wakes the reader after the lock is released.
fn wake(mut shared: MutexGuard<'_, Shared>) {
    let reader = shared.reader.take();
    drop(shared);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// Nothing that holds the lock can panic half-way through a change.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut Queue) -> Option<Taken> {
        match queue.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_full_queue_says_where_and_how_much_is_missing() {
        let (sink, mut queue) = channel(Capacity {
            records: 2,
            bytes: 100,
        });
        for record in [b"a", b"b", b"c", b"d"] {
            sink.push(record);
        }
        assert_eq!(take(&mut queue), Some(Taken::Record((*b"a").into())));
        assert_eq!(take(&mut queue), Some(Taken::Record((*b"b").into())));
        sink.push(b"e");
        assert_eq!(take(&mut queue), Some(Taken::Lagged(2)));
        assert_eq!(take(&mut queue), Some(Taken::Record((*b"e").into())));
        assert_eq!(take(&mut queue), None);
        drop(sink);
        assert_eq!(take(&mut queue), Some(Taken::Closed));
    }

    #[test]
    fn a_full_queue_still_learns_that_it_is_finished() {
        let (sink, mut queue) = channel(Capacity {
            records: 1,
            bytes: 100,
        });
        sink.push(b"a");
        sink.push(b"b");
        sink.finish();
        assert_eq!(take(&mut queue), Some(Taken::Record((*b"a").into())));
        assert_eq!(take(&mut queue), Some(Taken::Lagged(1)));
        assert_eq!(take(&mut queue), Some(Taken::Finished));
        assert_eq!(take(&mut queue), Some(Taken::Finished));
    }

    #[test]
    fn bytes_are_limited_but_one_record_always_fits() {
        let (sink, mut queue) = channel(Capacity {
            records: 9,
            bytes: 4,
        });
        sink.push(b"larger than that");
        sink.push(b"x");
        assert!(matches!(take(&mut queue), Some(Taken::Record(_))));
        assert_eq!(take(&mut queue), Some(Taken::Lagged(1)));
        sink.push(b"1234");
        assert_eq!(take(&mut queue), Some(Taken::Record((*b"1234").into())));
    }

    #[test]
    fn nothing_is_kept_that_nobody_reads() {
        let (sink, queue) = channel(Capacity {
            records: 9,
            bytes: 100,
        });
        sink.push(b"a");
        drop(queue);
        sink.push(b"b");
        let shared = lock(&sink.0);
        assert_eq!((shared.items.len(), shared.items.capacity()), (0, 0));
    }
}
