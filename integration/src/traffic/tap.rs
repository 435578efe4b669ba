//! A second witness on an agent's RPC: raw bytes with the instant of their arrival, on the clock of
//! this process, read by a thread that does nothing else. Knows nothing of the library under test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemons::agent::GOSSIP_PORT;
use crate::environment::wait::wait_some;

/// Long enough for anything an agent says at once, short enough to notice one that hangs.
const CONNECT: Duration = Duration::from_secs(5);

type Arrivals = Arc<Mutex<Vec<(Instant, Vec<u8>)>>>;

/// A listener on one agent.
#[derive(Debug)]
pub struct Tap {
    socket: TcpStream,
    arrivals: Arrivals,
}

impl Tap {
    /// The agent's log at debug level, as `serf monitor` gets it.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn monitor(agent: SocketAddr) -> Result<Self> {
        Self::open(agent, "monitor", "LogLevel", "DEBUG")
    }

    /// The agent's own, coalesced events.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn events(agent: SocketAddr) -> Result<Self> {
        Self::open(agent, "stream", "Type", "*")
    }

    fn open(agent: SocketAddr, command: &str, key: &str, value: &str) -> Result<Self> {
        let mut socket = TcpStream::connect_timeout(&agent, CONNECT)
            .with_context(|| format!("cannot reach the agent on {agent}"))?;
        socket.set_nodelay(true)?;
        let mut request = header("handshake", 0);
        request.extend(map("Version", &[1]));
        request.extend(header(command, 1));
        request.extend(map(key, &string(value)));
        socket.write_all(&request)?;
        let arrivals = Arrivals::default();
        let (mut reader, sink) = (socket.try_clone()?, Arc::clone(&arrivals));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                let now = Instant::now();
                sink.lock()
                    .expect("no reader panics")
                    .push((now, buffer[..read].to_vec()));
            }
        });
        Ok(Self { socket, arrivals })
    }

    /// When `needle` first arrived after `since`; none so far.
    #[must_use]
    pub fn arrival(&self, needle: &str, since: Instant) -> Option<Instant> {
        let arrivals = self.arrivals.lock().expect("no reader panics");
        // A record may be cut between two reads: the end of one is looked at with the next.
        let mut before: &[u8] = &[];
        for (at, bytes) in arrivals.iter().filter(|(at, _)| *at >= since) {
            let keep = before.len().min(needle.len());
            let joined = [&before[before.len() - keep..], bytes].concat();
            if joined
                .windows(needle.len())
                .any(|window| window == needle.as_bytes())
            {
                return Some(*at);
            }
            before = bytes;
        }
        None
    }

    /// Waits for `needle` and gives the instant of its arrival.
    ///
    /// # Errors
    /// When it does not arrive within `timeout`.
    pub async fn wait(&self, needle: &str, since: Instant, timeout: Duration) -> Result<Instant> {
        let what = format!("the agent to say {needle:?}");
        wait_some(&what, timeout, async || self.arrival(needle, since)).await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Makes one agent join another; returns when it has. Quicker than a `serf join`, of which a burst of
/// twenty would cost more than the joins.
///
/// # Errors
/// When the agent does not answer, or refuses.
pub fn join(agent: SocketAddr, other: Ipv4Addr) -> Result<()> {
    let mut socket = TcpStream::connect_timeout(&agent, CONNECT)
        .with_context(|| format!("cannot reach the agent on {agent}"))?;
    socket.set_read_timeout(Some(CONNECT))?;
    let mut request = header("handshake", 0);
    request.extend(map("Version", &[1]));
    request.extend(header("join", 1));
    request.extend([0x82].iter().chain(&string("Existing")).chain(&[0x91]));
    request.extend(string(&format!("{other}:{GOSSIP_PORT}")));
    request.extend(string("Replay").iter().chain(&[0xc2]));
    socket.write_all(&request)?;
    // Two empty errors, then how many were reached.
    let mut expected = vec![];
    for seq in [0, 1] {
        expected.extend([0x82].iter().chain(&string("Error")).chain(&string("")));
        expected.extend(string("Seq").iter().chain(&[seq]));
    }
    expected.extend(map("Num", &[1]));
    let mut reply = vec![0; expected.len()];
    socket
        .read_exact(&mut reply)
        .with_context(|| format!("{agent} to join {other}"))?;
    let said = || String::from_utf8_lossy(&reply).into_owned();
    ensure!(
        reply == expected,
        "{agent} did not join {other}: {:?}",
        said()
    );
    Ok(())
}

fn header(command: &str, seq: u8) -> Vec<u8> {
    let mut bytes = vec![0x82];
    bytes.extend(string("Command"));
    bytes.extend(string(command));
    bytes.extend(string("Seq"));
    bytes.push(seq);
    bytes
}

fn map(key: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81];
    bytes.extend(string(key));
    bytes.extend_from_slice(value);
    bytes
}

/// A msgpack string of at most 31 bytes.
fn string(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short word");
    assert!(length < 32, "{text} needs a longer form");
    let mut bytes = vec![0xa0 | length];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
