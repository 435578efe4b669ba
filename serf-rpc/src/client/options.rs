//! How to connect and what to tolerate: an address and choices in, a [`Client`] out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::client::auth_key::Key;
use crate::client::queue::Capacity;
use crate::wire::framing::Limits;

/// Where the agent is, its key, and the limits of the connection.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) addr: String,
    pub(crate) key: Key,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) max_in_flight: usize,
    pub(crate) max_streams: usize,
    pub(crate) stream_queue: Capacity,
}

impl ConnectOptions {
    /// An agent at `host:port`, without a key. Serf's default is `127.0.0.1:7373`.
    ///
    /// A name is resolved anew at every attempt to connect. Where it has several addresses, IPv6 and IPv4 take turns
    /// as in RFC 8305: the next one is tried when one has failed, or has not shaken hands within 250 ms, and the first
    /// that does is taken; so an address that swallows packets, or takes connections and says nothing, holds up no
    /// other. All of it has the [`connect_timeout`](Self::connect_timeout). The key goes to each that is tried.
    pub fn new(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            key: Key::None,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            limits: Limits {
                max_size: 64 << 20,
                max_depth: 16,
            },
            max_in_flight: 256,
            max_streams: 64,
            stream_queue: Capacity {
                records: 1024,
                bytes: 4 << 20,
            },
        }
    }

    /// The agent's `rpc_auth` key. An agent that has none accepts no other than the empty one.
    #[must_use]
    pub fn auth_key(mut self, key: impl Into<String>) -> Self {
        self.key = Key::given(key.into());
        self
    }

    /// A file that holds the agent's `rpc_auth` key, read at each attempt to connect: a key that is rotated needs no
    /// restart. White space around the key is no part of it, and a file without any other bytes is no key.
    #[must_use]
    pub fn auth_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key = Key::File(path.into());
        self
    }

    /// How long connecting, handshake and authentication may take together; 5 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long each call may take; 10 s unless set. An agent that prunes a member which is alive
    /// answers nobody for 6 s.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Bytes that one header or body may have at most; 64 MiB unless set. A member takes about
    /// 170 bytes. A larger one ends the connection.
    #[must_use]
    pub fn max_value_size(mut self, bytes: usize) -> Self {
        self.limits.max_size = bytes;
        self
    }

    /// How deep lists and maps of a reply may nest; 16 unless set, and Serf needs 4. A deeper
    /// one ends the connection.
    #[must_use]
    pub fn max_depth(mut self, levels: usize) -> Self {
        self.limits.max_depth = levels;
        self
    }

    /// How many calls may wait for their answers at once, at least 1; 256 unless set. Further ones
    /// wait, each within its own time, before they are sent.
    #[must_use]
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How many streams and queries the connection may have at once; 64 unless set. A further one waits for a place as
    /// long as a call may take. A query gives its place back when its time is up, and a stream when the agent has
    /// confirmed that it is [stopped](crate::Subscription::stop); one that was only dropped keeps it, because the agent
    /// still sends for it.
    #[must_use]
    pub fn max_streams(mut self, streams: usize) -> Self {
        self.max_streams = streams.min(Semaphore::MAX_PERMITS);
        self
    }

    /// How many records, and bytes of them, wait for the reader of each stream; 1024 and 4 MiB
    /// unless set. Further ones are left out, and the stream says so.
    #[must_use]
    pub fn stream_queue(mut self, records: usize, bytes: usize) -> Self {
        self.stream_queue = Capacity {
            records: records.max(1),
            bytes,
        };
        self
    }

    /// The agent that the variables of `serf` itself name: `SERF_RPC_ADDR`, `127.0.0.1:7373` unless set, and its key
    /// `SERF_RPC_AUTH`; or a file with the key, `SERF_RPC_AUTH_FILE`, which goes before that.
    ///
    /// # Errors
    /// The address is no `host:port`, or no text.
    pub fn from_env() -> Result<Self, AddrError> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let addr = match var("SERF_RPC_ADDR").map(OsString::into_string) {
            None => Ok(Self::new("127.0.0.1:7373")),
            Some(Ok(addr)) => addr.parse(),
            Some(Err(addr)) => Err(AddrError(addr.to_string_lossy().into_owned())),
        }?;
        Ok(match (var("SERF_RPC_AUTH_FILE"), var("SERF_RPC_AUTH")) {
            (Some(path), _) => addr.auth_key_file(PathBuf::from(path)),
            (None, Some(key)) => addr.auth_key(key.to_string_lossy()),
            (None, None) => addr,
        })
    }

    /// Where the agent is, as it was given.
    pub fn addr(&self) -> &str {
        &self.addr
    }
}

/// An agent at `host:port`, without a key.
///
/// ```
/// use serf_rpc::ConnectOptions;
///
/// let agent: ConnectOptions = "[::1]:7373".parse()?;
/// assert_eq!(agent.addr(), "[::1]:7373");
/// assert!("agent".parse::<ConnectOptions>().is_err());
/// # Ok::<(), serf_rpc::AddrError>(())
/// ```
impl FromStr for ConnectOptions {
    type Err = AddrError;

    fn from_str(addr: &str) -> Result<Self, AddrError> {
        let is_addr = addr.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if is_addr {
            Ok(Self::new(addr))
        } else {
            Err(AddrError(addr.to_owned()))
        }
    }
}

/// An address that is no `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host:port")]
pub struct AddrError(String);
