//! The parts put together: a balancer (agent, HAProxy, controller) and nodes (web server and agent).

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::daemons::agent::Agent;
use crate::daemons::controller::{Controller, ControllerOptions};
use crate::daemons::haproxy::{Haproxy, HaproxyKind};
use crate::daemons::web::Web;
use crate::environment::TestEnv;
use crate::environment::wait::wait_for;
use crate::traffic::load::LoadProfile;
use crate::traffic::tap;

/// The port of every node's web server.
pub const WEB_PORT: u16 = 3000;
/// Within this, whatever is awaited here happens on a slow machine too.
pub const SOON: Duration = Duration::from_secs(15);
/// One client that never pauses.
pub const WITHOUT_PAUSE: LoadProfile = LoadProfile {
    clients: 1,
    per_connection: usize::MAX,
    pause: Duration::ZERO,
};

/// The last octet of the balancer, whose agent and front end share an address.
const BALANCER: u8 = 1;
/// The last octet of node 1 is one more.
const NODES: u8 = 100;

/// Agent, HAProxy and controller of one load balancer.
#[derive(Debug)]
pub struct Balancer {
    /// Its agent, with a tag that no rule selects.
    pub agent: Agent,
    /// Its HAProxy.
    pub haproxy: Haproxy,
    /// The controller between the two.
    pub controller: Controller,
}

impl Balancer {
    /// Starts all three, the agent first.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(lab: &TestEnv, kind: HaproxyKind) -> Result<Self> {
        Self::start_with(lab, kind, Ok).await
    }

    /// The same with these nodes, once they have joined and are served.
    ///
    /// # Errors
    /// When one of all does not start, or is not served.
    pub async fn start_serving(
        lab: &TestEnv,
        kind: HaproxyKind,
        numbers: RangeInclusive<u8>,
    ) -> Result<(Self, Vec<Node>)> {
        let balancer = Self::start(lab, kind).await?;
        let nodes = Node::start_all(lab, numbers).await?;
        for node in &nodes {
            node.join(&balancer.agent).await?;
        }
        balancer.serves(&names(&nodes)).await?;
        Ok((balancer, nodes))
    }

    /// The same with another configuration of the controller.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start_with(
        lab: &TestEnv,
        kind: HaproxyKind,
        configure: impl FnOnce(ControllerOptions) -> Result<ControllerOptions>,
    ) -> Result<Self> {
        let agent = Self::agent(lab).await?;
        Self::start_beside(lab, kind, agent, configure).await
    }

    /// Balancer number `number` of several, called `lb-{number}`, with an address and a directory of its own.
    ///
    /// # Errors
    /// When one of its three does not start.
    pub async fn start_one(lab: &TestEnv, kind: HaproxyKind, number: u8) -> Result<Self> {
        let name = format!("lb-{number}");
        let dir = lab.path(&name);
        std::fs::create_dir(&dir)?;
        let agent = Agent::on(lab, &name, number).tag("role", "balancer");
        let agent = agent.start().await?;
        let haproxy = Haproxy::prepare_in(&dir, kind).await?;
        let front = lab.net().addr(number, 8080);
        let options = ControllerOptions::new(&dir, agent.rpc_addr(), &haproxy, front);
        Self::start_on(agent, haproxy, options).await
    }

    /// The same beside an agent that runs already.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start_beside(
        lab: &TestEnv,
        kind: HaproxyKind,
        agent: Agent,
        configure: impl FnOnce(ControllerOptions) -> Result<ControllerOptions>,
    ) -> Result<Self> {
        let haproxy = Haproxy::prepare(lab, kind).await?;
        let options = configure(Controller::on(lab, agent.rpc_addr(), &haproxy))?;
        Self::start_on(agent, haproxy, options).await
    }

    async fn start_on(
        agent: Agent,
        mut haproxy: Haproxy,
        options: ControllerOptions,
    ) -> Result<Self> {
        let controller = options.start()?;
        first_file(&haproxy).await?;
        haproxy.start().await?;
        Ok(Self {
            agent,
            haproxy,
            controller,
        })
    }

    /// The balancer's agent alone.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn agent(lab: &TestEnv) -> Result<Agent> {
        Agent::on(lab, "balancer", BALANCER)
            .tag("role", "balancer")
            .start()
            .await
    }

    /// Waits until exactly these nodes get requests.
    ///
    /// # Errors
    /// When they do not soon.
    pub async fn serves(&self, names: &[&str]) -> Result<()> {
        self.haproxy.serves("nodes", names, SOON).await
    }
}

/// Waits for the controller's first file.
///
/// # Errors
/// When it does not come.
pub async fn first_file(haproxy: &Haproxy) -> Result<()> {
    wait_for("the controller's first file", SOON, async || {
        haproxy.config().exists()
    })
    .await
}

/// A web server and its agent.
#[derive(Debug)]
pub struct Node {
    /// The web server, on port 3000.
    pub web: Web,
    /// Its agent, with the tag that the controller selects.
    pub agent: Agent,
}

impl Node {
    /// Node number `number`, called `s{number}`: listening, its agent running and in no cluster.
    ///
    /// # Errors
    /// When the address is taken or the agent does not start.
    pub async fn start(lab: &TestEnv, number: u8) -> Result<Self> {
        let mut node = Self::start_deaf(lab, number).await?;
        node.web.listen()?;
        Ok(node)
    }

    /// The same with a web server that does not listen yet.
    ///
    /// # Errors
    /// When the agent does not start.
    pub async fn start_deaf(lab: &TestEnv, number: u8) -> Result<Self> {
        let name = format!("s{number}");
        let last = NODES + number;
        let agent = Agent::on(lab, &name, last)
            .tag("role", "backend")
            .start()
            .await?;
        Ok(Self {
            web: Web::new(name, lab.net().addr(last, WEB_PORT)),
            agent,
        })
    }

    /// Nodes with these numbers, as [`Node::start`] makes them.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start_all(
        lab: &TestEnv,
        numbers: impl IntoIterator<Item = u8>,
    ) -> Result<Vec<Self>> {
        let mut nodes = Vec::new();
        for number in numbers {
            nodes.push(Self::start(lab, number).await?);
        }
        Ok(nodes)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.web.name()
    }

    /// Tells its agent to join the balancer's; returns when it has.
    ///
    /// # Errors
    /// When the agent refuses.
    pub async fn join(&self, balancer: &Agent) -> Result<()> {
        let (own, other) = (self.agent.rpc_addr(), balancer.ip());
        tokio::task::spawn_blocking(move || tap::join(own, other)).await?
    }

    /// Stops its agent from taking part, without ending it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn freeze_agent(&mut self) -> Result<()> {
        self.agent.process().signal(Signal::STOP)
    }
}

/// The names of nodes.
#[must_use]
pub fn names(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(Node::name).collect()
}
