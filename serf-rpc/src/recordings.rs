//! Recorded exchanges and a connection without a socket, for the tests of the pure parts.

use std::path::PathBuf;

use bstr::BString;
use bytes::{Bytes, BytesMut};

use crate::command::Command;
use crate::types::ConnectionId;
use crate::wire::framing::{Limits, Scanner};
use crate::wire::protocol::{self, ProtocolError, ResponseShape};
use crate::wire::session::{Incoming, Session};

pub(crate) const LIMITS: Limits = Limits {
    max_size: 1 << 20,
    max_depth: 16,
};

/// The connection on which everything recorded came.
pub(crate) const CONNECTION: ConnectionId = ConnectionId::new(0);

/// The versions of Serf whose exchanges were recorded.
pub(crate) const VERSIONS: [&str; 2] = ["0.9.4", "0.10.1"];

fn directory(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(version)
}

/// A recorded file.
pub(crate) fn fixture(version: &str, name: &str) -> Vec<u8> {
    let path = directory(version).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All recorded files whose names end so, as `(version/name without the end, bytes)`.
pub(crate) fn fixtures(end: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for version in VERSIONS {
        for file in std::fs::read_dir(directory(version)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if let Some(stem) = name.strip_suffix(end) {
                found.push((format!("{version}/{stem}"), fixture(version, &name)));
            }
        }
    }
    assert!(!found.is_empty(), "no fixtures end with {end}");
    found.sort();
    found
}

/// The bytes of a request.
pub(crate) fn request<C: Command>(command: &C, seq: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    protocol::write_request_header(&mut bytes, C::NAME, seq);
    command.write_body(&mut bytes);
    bytes
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Response {
        seq: u64,
        error: Option<BString>,
        body: Bytes,
    },
    Record {
        seq: u64,
        body: Bytes,
    },
    End {
        seq: u64,
    },
}

/// A session that is fed bytes, and what it has made of them.
pub(crate) struct Player {
    pub(crate) session: Session<(), u64>,
    pub(crate) seen: Vec<Seen>,
    begun: u64,
    scanner: Scanner,
    inbound: BytesMut,
}

impl Player {
    pub(crate) fn new() -> Self {
        Self {
            session: Session::new(),
            seen: Vec::new(),
            begun: 0,
            scanner: Scanner::new(LIMITS),
            inbound: BytesMut::new(),
        }
    }

    /// Begins a request that is answered in that shape.
    pub(crate) fn begin(&mut self, shape: ResponseShape) -> u64 {
        let seq = self.begun;
        self.begun += 1;
        match shape {
            ResponseShape::Records | ResponseShape::RecordsUntilDone => {
                self.session.begin_stream(shape, (), seq)
            }
            shape => self.session.begin(shape, ()),
        }
    }

    /// Uses up the sequence numbers below, as earlier requests do that have been answered.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        for below in 0..seq {
            assert_eq!(self.begin(ResponseShape::Header), below);
            let answered = rmpv::Value::Map(vec![
                ("Error".into(), "".into()),
                ("Seq".into(), below.into()),
            ]);
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &answered).unwrap();
            self.feed(&bytes).unwrap();
        }
        self.seen.clear();
    }

    /// Takes a chunk. The outer error is the framing's.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), ProtocolError> {
        self.inbound.extend_from_slice(chunk);
        while let Some(end) = self
            .scanner
            .next_end(&self.inbound)
            .map_err(ProtocolError::Object)?
        {
            let value = self.inbound.split_to(end);
            let copied = Bytes::copy_from_slice;
            match self.session.accept(&value)? {
                None => {}
                Some(Incoming::Response {
                    seq, error, body, ..
                }) => {
                    let body = copied(body);
                    self.seen.push(Seen::Response { seq, error, body });
                }
                Some(Incoming::Record { sink: &seq, body }) => {
                    let body = copied(body);
                    self.seen.push(Seen::Record { seq, body });
                }
                Some(Incoming::End { sink: seq }) => self.seen.push(Seen::End { seq }),
            }
        }
        Ok(())
    }

    /// Whether everything that came is accounted for.
    pub(crate) fn is_settled(&self) -> bool {
        self.inbound.is_empty() && self.session.is_settled()
    }
}

/// Plays a recorded reply to request `seq` in these chunks.
pub(crate) fn play<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    seq: u64,
    shape: ResponseShape,
) -> Result<Vec<Seen>, ProtocolError> {
    let mut player = Player::new();
    player.skip_to(seq);
    player.begin(shape);
    for chunk in chunks {
        player.feed(chunk)?;
    }
    assert!(player.is_settled(), "a reply ended half-way");
    Ok(player.seen)
}
