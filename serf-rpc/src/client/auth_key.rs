//! The agent's RPC key: where it comes from in, the key of one attempt to connect out.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use crate::error::ConnectError;

/// A file with more bytes than this holds no key.
const MOST_BYTES: u64 = 64 << 10;

/// Where a key comes from. It is never shown.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// There is none.
    None,
    /// It was given.
    Given(SecretString),
    /// It is read from this file, each time anew.
    File(PathBuf),
}

impl Key {
    /// The empty key is none: it is what an agent without a key accepts.
    pub(crate) fn given(key: String) -> Self {
        if key.is_empty() {
            Self::None
        } else {
            Self::Given(key.into())
        }
    }

    /// The key as it is now; none where there is none. `addr` is whom it is for.
    pub(crate) async fn now(&self, addr: &str) -> Result<Option<SecretString>, ConnectError> {
        let path = match self {
            Self::None => return Ok(None),
            Self::Given(key) => return Ok(Some(key.clone())),
            Self::File(path) => path.clone(),
        };
        // The thread stays behind where the file is a pipe that nobody writes to; whoever waits has a deadline.
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&file)).await;
        read.unwrap_or_else(|ended| Err(io::Error::other(ended)))
            .map_err(|error| ConnectError::Key {
                addr: addr.to_owned(),
                path,
                reason: Arc::new(error),
            })
    }

    /// The file that it is read from.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::None | Self::Given(_) => None,
        }
    }
}

fn read(path: &Path) -> io::Result<Option<SecretString>> {
    let mut text = String::new();
    File::open(path)?
        .take(MOST_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it has more than {MOST_BYTES} bytes"),
        ));
    }
    let key = text.trim();
    Ok((!key.is_empty()).then(|| SecretString::from(key.to_owned())))
}
