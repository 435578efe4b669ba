//! Bytes in, stdout out: whole, at once, or line by line while something takes its time.

use std::io::{self, Write as _};

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
