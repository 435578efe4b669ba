//! Lines in, standard error out, by a thread of its own: who reads slowly, or not at all, holds nobody up.
//!
//! A pipe to a log daemon that stands still is full after 64 kB, and whoever writes into it waits for as long as it does.
//! So lines wait in a queue, and once that is full they are left out and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait; with those of members in them they are about as many bytes as a megabyte has.
const LINES: usize = 4096;
/// How long the end waits for the lines that are left.
const LAST: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// All lines before it are written.
    Flushed(SyncSender<()>),
}

/// Takes lines, and never waits.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    items: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// One before that writer.
    pub(super) fn before(writer: impl Write + Send + 'static) -> Self {
        let (items, waiting) = sync_channel(LINES);
        std::thread::spawn(move || write(&waiting, writer));
        let lost = Arc::default();
        Self { items, lost }
    }

    /// How many lines found no room since this was last asked.
    pub(super) fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Waits until what was logged is written, or nobody takes it.
    pub(super) fn flush(&self) {
        let (flushed, all) = sync_channel(1);
        if self.items.try_send(Item::Flushed(flushed)).is_ok() {
            // Whoever does not read is not waited for.
            let _ = all.recv_timeout(LAST);
        }
    }
}

fn write(waiting: &Receiver<Item>, mut writer: impl Write) {
    for item in waiting {
        // Nobody is left to tell when standard error is gone.
        let _ = match item {
            Item::Line(line) => writer.write_all(&line),
            Item::Flushed(flushed) => {
                let _ = flushed.send(());
                Ok(())
            }
        };
    }
}

/// One line at a time, whole.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.items.try_send(Item::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let (reader, writer) = io::pipe().unwrap();
        let mut queue = Queue::before(writer);
        for number in 0..100 {
            writeln!(queue, "{number}").unwrap();
        }
        queue.flush();
        drop(queue);
        let text = io::read_to_string(reader).unwrap();
        let numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_what_is_lost_is_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let mut queue = Queue::before(writer);
        let line = [b'x'; 1000];
        for _ in 0..LINES * 2 {
            queue.write_all(&line).unwrap();
        }
        queue.flush();
        let lost = usize::try_from(queue.lost()).unwrap();
        assert!((LINES - 100..=LINES).contains(&lost), "{lost}");
        assert_eq!(queue.lost(), 0);
        drop(reader);
    }
}
