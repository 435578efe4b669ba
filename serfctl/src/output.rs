//! Bytes in, stdout out: whole, at once, or line by line while something takes its time.

use std::{
    future::pending,
    io::{self, Write as _},
    thread,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

use crate::exit::Failure;

/// Writes it all and flushes.
///
/// # Errors
///
/// [`Failure::Closed`] when the reader has seen enough (`| head`), which is no failure.
pub(crate) fn write(output: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(output)
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Output(error),
        })
}

/// Writes a line.
///
/// # Errors
///
/// As [`write()`].
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    write(format!("{line}\n").as_bytes())
}

/// Says on stderr what is missing from what is written.
pub(crate) fn complain(what: &str) {
    let line = format!("serfctl: {what}\n");
    io::stderr().write_all(line.as_bytes()).unwrap_or_default();
}

/// Goes on with what has no end of its own until it fails or the reader of stdout goes, whichever is first: with a
/// pipe that is noticed at once, not with the next line that cannot be written.
///
/// # Errors
///
/// Those of the work, and [`Failure::Closed`].
pub(crate) async fn follow<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (tell, told) = oneshot::channel::<()>();
    // It ends with the process: nothing but the reader's going wakes it, and files and terminals have none.
    thread::spawn(move || {
        let stdout = io::stdout();
        let mut wanted = [PollFd::new(&stdout, PollFlags::empty())];
        if poll(&mut wanted, None).is_ok() {
            tell.send(()).unwrap_or_default();
        }
    });
    let closed = async {
        if told.await.is_err() {
            pending::<()>().await;
        }
    };
    tokio::select! {
        done = work => done,
        () = closed => Err(Failure::Closed),
    }
}
