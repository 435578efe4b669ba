//! A client of an agent, and what it spends: one task in, one line of JSON out.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rmp::encode as msgpack;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serf_rpc::{Client, ConnectOptions, Event, EventFilter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long all events of a stream may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a task took. The program in Go prints the same.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Spent {
    /// Members or events that came.
    pub(crate) items: u64,
    /// CPU time of the process meanwhile.
    pub(crate) cpu_ns: u64,
}

/// One call beside the same bytes over a bare socket, each call after the other.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Beside {
    pub(crate) ours_p50_ns: u64,
    pub(crate) bare_p50_ns: u64,
    pub(crate) ours_cpu_ns: u64,
    pub(crate) bare_cpu_ns: u64,
}

pub(crate) fn run(what: &str, addr: &str, count: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let line = match what {
        "members" => serde_json::to_string(&runtime.block_on(members(addr, count))?)?,
        "events" => serde_json::to_string(&runtime.block_on(events(addr, count))?)?,
        "beside" => serde_json::to_string(&runtime.block_on(beside(addr, count))?)?,
        other => bail!("no such task: {other}"),
    };
    say(&line)
}

/// A whole line, at once.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    part(spent.tv_sec) * 1_000_000_000 + part(spent.tv_nsec)
}

async fn members(addr: &str, calls: u64) -> Result<Spent> {
    let client = Client::connect(addr).await?;
    client.members().await?;
    let before = cpu_ns();
    let mut spent = Spent::default();
    for _ in 0..calls {
        spent.items += client.members().await?.len() as u64;
    }
    spent.cpu_ns = cpu_ns() - before;
    Ok(spent)
}

async fn events(addr: &str, count: u64) -> Result<Spent> {
    let room = usize::try_from(count)?;
    let options = ConnectOptions::new(addr).stream_queue(room, usize::MAX);
    let client = options.connect().await?;
    let mut events = client.stream(EventFilter::all()).await?;
    // Once this is answered the stream is there.
    client.stats().await?;
    let before = cpu_ns();
    say("ready")?;
    let mut spent = Spent::default();
    let receive = async {
        while spent.items < count {
            match events.next().await.context("the stream has ended")? {
                Ok(Event::Lagged(_)) => {}
                Ok(_) => spent.items += 1,
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::Ok(())
    };
    // Those that are lost by then count as lost.
    if let Ok(received) = timeout(PATIENCE, receive).await {
        received?;
    }
    spent.cpu_ns = cpu_ns() - before;
    Ok(spent)
}

async fn beside(addr: &str, calls: u64) -> Result<Beside> {
    let client = Client::connect(addr).await?;
    let mut bare = Bare::connect(addr).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut spent = Beside::default();
    for _ in 0..calls {
        let (cpu, start) = (cpu_ns(), Instant::now());
        client.members().await?;
        ours.push(start.elapsed());
        let between = cpu_ns();
        let start = Instant::now();
        bare.members().await?;
        theirs.push(start.elapsed());
        spent.ours_cpu_ns += between - cpu;
        spent.bare_cpu_ns += cpu_ns() - between;
    }
    let middle = |times: Vec<Duration>| {
        let middle = integration::measure::median(times).context("no call was measured")?;
        anyhow::Ok(u64::try_from(middle.as_nanos())?)
    };
    spent.ours_p50_ns = middle(ours)?;
    spent.bare_p50_ns = middle(theirs)?;
    Ok(spent)
}

/// A socket that sends the bytes of a call, and waits for as many as the answer has.
struct Bare {
    socket: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Bare {
    async fn connect(addr: &str) -> Result<Self> {
        const QUIET: Duration = Duration::from_millis(200);
        let mut socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        let mut handshake = header("handshake")?;
        msgpack::write_map_len(&mut handshake, 1)?;
        msgpack::write_str(&mut handshake, "Version")?;
        msgpack::write_uint(&mut handshake, 1)?;
        let request = header("members")?;
        socket.write_all(&handshake).await?;
        // How long the answers are is not said: they end where nothing more comes.
        while let Ok(read) = timeout(QUIET, socket.read(&mut [0; 4096])).await {
            if read? == 0 {
                bail!("the agent hangs up after a handshake");
            }
        }
        socket.write_all(&request).await?;
        let mut answer = Vec::new();
        while let Ok(read) = timeout(QUIET, socket.read_buf(&mut answer)).await {
            if read? == 0 {
                bail!("the agent hangs up after a call");
            }
        }
        Ok(Self {
            socket,
            request,
            answer,
        })
    }

    async fn members(&mut self) -> Result<()> {
        self.socket.write_all(&self.request).await?;
        self.socket.read_exact(&mut self.answer).await?;
        Ok(())
    }
}

fn header(command: &str) -> Result<Vec<u8>> {
    let mut header = Vec::new();
    msgpack::write_map_len(&mut header, 2)?;
    msgpack::write_str(&mut header, "Command")?;
    msgpack::write_str(&mut header, command)?;
    msgpack::write_str(&mut header, "Seq")?;
    msgpack::write_uint(&mut header, 1)?;
    Ok(header)
}
