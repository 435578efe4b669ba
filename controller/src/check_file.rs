//! A check command for a controller that is not root: a text in, what HAProxy says of it beside the site's files out.
//!
//! `haproxy -c` opens all that the site's files name, keys of TLS that root alone may read among them. So one side, [`ask`],
//! is the check command, and sends the text to a socket; behind that systemd starts the other, [`answer`], which may read
//! any file and write none. It is told nothing but the text: which files go with it is its unit's to say.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::haproxy::process::{self, ProcessError};

/// The longest text; 10,000 servers have a megabyte or two.
const LIMIT: u64 = 64 << 20;
/// How long HAProxy may take.
const WAIT: Duration = Duration::from_secs(60);
/// What the last line of an answer begins with.
const EXIT_CODE: &str = "exit code ";
/// What stands for the path of the text in an answer.
const PATH: &str = "{path}";

/// Why nothing can be said of a text.
#[derive(Debug, thiserror::Error)]
pub enum CheckFileError {
    /// The text cannot be read, or the answer not be written.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody answers at the socket.
    #[error("cannot ask {}; start it (`systemctl start serf-haproxy-check.socket`)", socket.display())]
    Ask {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The other side ended before it had said all.
    #[error("{} gave no whole answer; `journalctl -u 'serf-haproxy-check@*'` says why", socket.display())]
    CutOff {
        /// The socket.
        socket: PathBuf,
    },
    /// The other side cannot take the text or say anything.
    #[error("cannot take the text or answer")]
    Answer(#[from] io::Error),
    /// It cannot run HAProxy.
    #[error(transparent)]
    Run(#[from] ProcessError),
}

/// What HAProxy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// All that it printed.
    pub output: String,
    /// Its exit code.
    pub code: u8,
}

/// Has a file checked by who listens at the socket.
///
/// # Errors
/// [`CheckFileError`]; that HAProxy refuses the text is none.
pub fn ask(file: &Path, socket: &Path) -> Result<Said, CheckFileError> {
    let text = std::fs::read(file).map_err(|source| CheckFileError::Read {
        path: file.to_owned(),
        source,
    })?;
    let answer = exchange(&text, socket).map_err(|source| CheckFileError::Ask {
        socket: socket.to_owned(),
        source,
    })?;
    let said = parse(&answer).ok_or_else(|| CheckFileError::CutOff {
        socket: socket.to_owned(),
    })?;
    Ok(Said {
        output: said.output.replace(PATH, &file.to_string_lossy()),
        ..said
    })
}

fn exchange(text: &[u8], socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(2 * WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.write_all(text)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The answer without its last line, and what that says.
fn parse(answer: &str) -> Option<Said> {
    let lines = answer.strip_suffix('\n')?;
    let (output, last) = match lines.rsplit_once('\n') {
        Some((output, last)) => (format!("{output}\n"), last),
        None => (String::new(), lines),
    };
    let code = last.strip_prefix(EXIT_CODE)?.parse().ok()?;
    Some(Said { output, code })
}

/// Reads a text to its end, and says what HAProxy thinks of it after the site's files, `files` as in a command line:
/// `a.cfg -f b.cfg`.
///
/// # Errors
/// [`CheckFileError`].
pub async fn answer(
    files: &str,
    text: impl Read,
    mut to: impl Write,
) -> Result<(), CheckFileError> {
    let mut file = tempfile::NamedTempFile::new()?;
    io::copy(&mut text.take(LIMIT), &mut file)?;
    let path = file.path().to_string_lossy();
    let before = files.split_whitespace();
    let command = ["haproxy", "-c", "-f"].into_iter().chain(before);
    let command: Vec<String> = command.chain(["-f", &*path]).map(str::to_owned).collect();
    let finished = process::run(&command, WAIT).await?;
    let mut output = finished.output.replace(&*path, PATH);
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    // By a signal is as bad as by an error.
    let code = finished.status.code().unwrap_or(1);
    writeln!(to, "{output}{EXIT_CODE}{code}")?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_the_exit_code_and_one_that_is_cut_off_is_none() {
        let said = |output: &str, code| {
            Some(Said {
                output: output.to_owned(),
                code,
            })
        };
        assert_eq!(parse("exit code 0\n"), said("", 0));
        assert_eq!(parse("a\nb\nexit code 1\n"), said("a\nb\n", 1));
        for cut in ["", "a\n", "exit code 1", "exit code \n", "exit code x\n"] {
            assert_eq!(parse(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn nobody_at_the_socket_is_an_error_that_says_what_to_start() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ask(file.path(), "/nowhere/check.sock".as_ref()).unwrap_err();
        assert!(error.to_string().contains("serf-haproxy-check.socket"));
    }
}
