//! What clients ask: bytes of a socket in, headers and bodies out.

use std::io::{Cursor, ErrorKind};

use rmpv::Value;
use rmpv::decode::read_value;
use tokio::io::{AsyncRead, AsyncReadExt};

/// More than any request has.
const MAX_REQUEST: usize = 1 << 20;

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests<R> {
    socket: R,
    unread: Vec<u8>,
    header: Header,
}

/// A request's header. What one leaves out it has from the one before, as the real agent's.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    pub(super) command: String,
    pub(super) seq: u64,
}

impl<R: AsyncRead + Unpin> Requests<R> {
    pub(super) fn new(socket: R) -> Self {
        Self {
            socket,
            unread: Vec::new(),
            header: Header::default(),
        }
    }

    /// The next header; none once the client has closed the connection, or spoken nonsense.
    pub(super) async fn header(&mut self) -> Option<Header> {
        let Value::Map(pairs) = self.value().await? else {
            return None;
        };
        for (key, value) in pairs {
            match key.as_str()? {
                "Command" => value.as_str()?.clone_into(&mut self.header.command),
                "Seq" => self.header.seq = value.as_u64()?,
                _ => {}
            }
        }
        Some(self.header.clone())
    }

    /// The next body.
    pub(super) async fn body(&mut self) -> Option<Body> {
        self.value().await.map(Body)
    }

    async fn value(&mut self) -> Option<Value> {
        loop {
            let mut cursor = Cursor::new(&self.unread);
            match read_value(&mut cursor) {
                Ok(value) => {
                    let end = usize::try_from(cursor.position()).ok()?;
                    self.unread.drain(..end);
                    return Some(value);
                }
                Err(error) if error.kind() != ErrorKind::UnexpectedEof => return None,
                Err(_) if self.unread.len() > MAX_REQUEST => return None,
                Err(_) => {}
            }
            if self.socket.read_buf(&mut self.unread).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// A request's body. A field that is missing, or of another type, counts as empty.
#[derive(Debug)]
pub(super) struct Body(Value);

impl Body {
    pub(super) fn none() -> Self {
        Self(Value::Nil)
    }

    pub(super) fn bytes(&self, key: &str) -> &[u8] {
        bytes(self.field(key))
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.field(key).as_str().unwrap_or_default()
    }

    pub(super) fn number(&self, key: &str) -> u64 {
        self.field(key).as_u64().unwrap_or_default()
    }

    pub(super) fn truth(&self, key: &str) -> bool {
        self.field(key).as_bool().unwrap_or_default()
    }

    /// The strings of a list.
    pub(super) fn list(&self, key: &str) -> Vec<&[u8]> {
        self.field(key)
            .as_array()
            .into_iter()
            .flatten()
            .map(bytes)
            .collect()
    }

    /// The pairs of a map of strings.
    pub(super) fn map(&self, key: &str) -> Vec<(&[u8], &[u8])> {
        let pairs = self.field(key).as_map().into_iter().flatten();
        pairs
            .map(|(key, value)| (bytes(key), bytes(value)))
            .collect()
    }

    fn field(&self, key: &str) -> &Value {
        let mut pairs = self.0.as_map().into_iter().flatten();
        pairs
            .find(|(k, _)| k.as_str() == Some(key))
            .map_or(&Value::Nil, |(_, value)| value)
    }
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::String(text) => text.as_bytes(),
        Value::Binary(bytes) => bytes,
        _ => &[],
    }
}
