//! Where HAProxy listens: a path in, a fresh connection out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// What a connection is made of.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Dial = dyn Fn() -> io::Result<Box<dyn Stream>> + Send + Sync;

/// A socket of HAProxy: a path, which is a unix socket's unless [`Socket::dialled`] says how it is connected to.
#[derive(Clone)]
pub struct Socket {
    path: PathBuf,
    dial: Option<Arc<Dial>>,
}

impl Socket {
    /// A socket that is connected to by `dial`; the path only names it.
    pub fn dialled<S: Stream + 'static>(
        path: impl Into<PathBuf>,
        dial: impl Fn() -> io::Result<S> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: path.into(),
            dial: Some(Arc::new(move || Ok(Box::new(dial()?)))),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.dial {
            Some(dial) => dial(),
            None => Ok(Box::new(UnixStream::connect(&self.path).await?)),
        }
    }
}

impl<P: Into<PathBuf>> From<P> for Socket {
    fn from(path: P) -> Self {
        Self {
            path: path.into(),
            dial: None,
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}
