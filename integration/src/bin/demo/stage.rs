//! What the demo plays with: addresses go in, a running balancer, web servers and clients come out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use integration::agent::{AgentOptions, GOSSIP_PORT, RPC_PORT};
use integration::cluster::{SOON, WEB_PORT, first_file};
use integration::controller::{ControllerOptions, binary};
use integration::load::LoadProfile;
use integration::{Agent, Balancer, Haproxy, HaproxyKind, Load, Need, Node, Tap, Web, wait_some};

use crate::view::View;

/// The balancer's agent and HAProxy.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 42);
const FRONT_PORT: u16 = 8080;
const STATS_PORT: u16 = 1936;
/// How many web servers take part.
pub(crate) const SERVERS: u8 = 12;
/// Some thousand requests a second: enough to see a share change at once, and time left for the rest.
const CLIENTS: LoadProfile = LoadProfile {
    clients: 4,
    per_connection: 100,
    pause: Duration::from_micros(500),
};

/// The address of web server `s{number}` and its agent.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 100 + number)
}

/// Says what is missing or taken before anything is started.
pub(crate) fn check() -> Result<()> {
    let needs = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];
    if let Some(missing) = needs.into_iter().find_map(Need::missing) {
        bail!("{missing}: make setup");
    }
    binary("serf-haproxy")?;
    let balancer = [RPC_PORT, GOSSIP_PORT, FRONT_PORT, STATS_PORT].map(|port| (BALANCER, port));
    let servers = (1..=SERVERS)
        .flat_map(|number| [RPC_PORT, GOSSIP_PORT, WEB_PORT].map(|port| (address(number), port)));
    let taken: Vec<String> = balancer
        .into_iter()
        .chain(servers)
        .filter(|addr| TcpListener::bind(addr).is_err() || UdpSocket::bind(addr).is_err())
        .map(|(ip, port)| format!("{ip}:{port}"))
        .collect();
    if !taken.is_empty() {
        bail!(
            "these addresses are taken, maybe by another demo: {}",
            taken.join(", ")
        );
    }
    Ok(())
}

/// Everything that runs.
pub(crate) struct Stage {
    dir: PathBuf,
    pub(crate) balancer: Balancer,
    log: Tap,
    nodes: BTreeMap<u8, Node>,
    load: Option<Arc<Load>>,
}

impl Stage {
    /// Starts the balancer.
    pub(crate) async fn set(dir: &Path, view: &View) -> Result<Self> {
        view.act("The balancer starts");
        let agent = AgentOptions::new("balancer", BALANCER, dir)
            .tag("role", "balancer")
            .start()
            .await?;
        view.tell(format!("Serf agent of the balancer on {BALANCER}"));
        let mut haproxy = Haproxy::prepare_in(dir, HaproxyKind::Host).await?;
        let controller = ControllerOptions::new(dir, agent.rpc_addr(), &haproxy, Self::front())
            .stats_bind(SocketAddr::from((BALANCER, STATS_PORT)))
            .start()?;
        first_file(&haproxy).await?;
        view.tell("controller: the first haproxy.cfg is written, with no servers".to_owned());
        haproxy.start().await?;
        let version = haproxy.worker().await?.version;
        view.tell(format!("HAProxy {version} on http://{}/", Self::front()));
        let log = Tap::monitor(agent.rpc_addr())?;
        let balancer = Balancer {
            agent,
            haproxy,
            controller,
        };
        Ok(Self {
            dir: dir.to_owned(),
            balancer,
            log,
            nodes: BTreeMap::new(),
            load: None,
        })
    }

    /// Where the clients ask.
    pub(crate) fn front() -> SocketAddr {
        SocketAddr::from((BALANCER, FRONT_PORT))
    }

    /// Starts web server and agent, the agent in no cluster yet.
    pub(crate) async fn prepare(&mut self, number: u8) -> Result<()> {
        let (name, ip) = (format!("s{number}"), address(number));
        if let Some(node) = self.nodes.get_mut(&number) {
            node.web.listen()?;
            return node.agent.restart().await;
        }
        let web = Web::start(&name, SocketAddr::from((ip, WEB_PORT)))?;
        let agent = AgentOptions::new(name, ip, &self.dir)
            .tag("role", "backend")
            .start()
            .await?;
        self.nodes.insert(number, Node { web, agent });
        Ok(())
    }

    /// Lets a prepared server join the cluster; the instant the balancer's agent knew of it.
    pub(crate) async fn join(&self, number: u8) -> Result<Instant> {
        let node = self.node(number)?;
        let start = Instant::now();
        node.web.forget_first_request();
        node.join(&self.balancer.agent).await?;
        self.log
            .wait(&format!("EventMemberJoin: {} ", node.name()), start, SOON)
            .await
    }

    /// Waits for the first request of a server that joined; how long after its agent was known that was.
    pub(crate) async fn is_served(&self, number: u8, known: Instant) -> Result<Duration> {
        let node = self.node(number)?;
        let what = format!("{} to be served", node.name());
        let first = wait_some(&what, SOON, async || node.web.first_request()).await?;
        Ok(first.saturating_duration_since(known))
    }

    /// Makes a server's agent leave gracefully; its web server stays until HAProxy lets go of it.
    pub(crate) fn leave(&self, number: u8) -> Result<()> {
        self.node(number)?.agent.begin_leave()
    }

    /// Waits until a leaving agent has ended, then ends its web server, of which nothing is asked any more.
    pub(crate) async fn has_left(&mut self, number: u8) -> Result<()> {
        let node = self.node_mut(number)?;
        node.agent.process().exited(SOON).await?;
        node.web.close();
        Ok(())
    }

    /// Kills the web server, with what it is answering.
    pub(crate) fn close(&mut self, number: u8) -> Result<()> {
        self.node_mut(number)?.web.close();
        Ok(())
    }

    /// SIGKILL to an agent.
    pub(crate) fn crash_agent(&mut self, number: u8) -> Result<()> {
        self.node_mut(number)?.agent.kill();
        Ok(())
    }

    /// Starts the clients and lets the view show what they see.
    pub(crate) fn load(&mut self, view: &View) {
        let load = Arc::new(Load::start(Self::front(), CLIENTS));
        view.watch(Arc::clone(&load), self.balancer.haproxy.stats_socket());
        self.load = Some(load);
    }

    /// Ends the clients and gives what they saw.
    pub(crate) fn end_load(&mut self, view: &View) -> Result<integration::load::Seen> {
        view.end();
        let load = self
            .load
            .take()
            .and_then(Arc::into_inner)
            .context("the clients run once")?;
        Ok(load.stop())
    }

    /// The agent of the balancer.
    pub(crate) fn agent(&self) -> &Agent {
        &self.balancer.agent
    }

    /// Tells what runs, where, and how to end it.
    pub(crate) fn print_where_to_look(&self) {
        let config = self.dir.join("config.toml");
        let program = binary("serf-haproxy").unwrap_or_else(|_| "serf-haproxy".into());
        println!("\nIt stays up. Look at:");
        println!("  the front end    http://{}/", Self::front());
        println!("  statistics       http://{BALANCER}:{STATS_PORT}/");
        println!(
            "  the members      serf members -rpc-addr={}",
            self.agent().rpc_addr()
        );
        println!(
            "  the controller   {} status -c {}",
            program.display(),
            config.display()
        );
        println!(
            "  its file         {}",
            self.balancer.haproxy.config().display()
        );
        println!("  the logs         {}", self.dir.display());
        println!("Stop it with ^C, or: kill {}", std::process::id());
    }

    fn node(&self, number: u8) -> Result<&Node> {
        self.nodes
            .get(&number)
            .with_context(|| format!("s{number} was not prepared"))
    }

    fn node_mut(&mut self, number: u8) -> Result<&mut Node> {
        self.nodes
            .get_mut(&number)
            .with_context(|| format!("s{number} was not prepared"))
    }
}
