//! A balancer whose agent is a fake: gossip says what the test wants, everything else is real.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Result;
use serf_rpc::{MemberBuilder, MemberStatus};

use crate::daemons::controller::{Controller, ControllerOptions, Status};
use crate::daemons::haproxy::{Haproxy, HaproxyKind};
use crate::daemons::web::Web;
use crate::environment::TestEnv;
use crate::fake_agent::{FakeAgent, node};
use crate::scenarios::cluster::{SOON, WEB_PORT, first_file};
use crate::traffic::wrk::Loads;

/// The last octet of the balancer's address.
const BALANCER: u8 = 1;
/// The last octet of the first web server's address is one more.
const WEBS: u8 = 100;

/// A fake agent, the real HAProxy and controller, and web servers `s1` and on, whose members are alive.
#[derive(Debug)]
pub struct Scenario {
    /// What gossip says.
    pub agent: FakeAgent,
    /// The balancer.
    pub haproxy: Haproxy,
    /// Between the two.
    pub controller: Controller,
    /// The web servers, all listening.
    pub webs: Vec<Web>,
    /// Servers of the template's own that serve beside them.
    pub fixed: Vec<String>,
}

impl Scenario {
    /// Starts everything and waits until all web servers are served.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(
        lab: &TestEnv,
        webs: u8,
        configure: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        Self::start_on(lab, HaproxyKind::Host, webs, configure).await
    }

    /// The same with either HAProxy.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_on(
        lab: &TestEnv,
        kind: HaproxyKind,
        webs: u8,
        configure: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        Self::start_beside(lab, kind, webs, &[], configure).await
    }

    /// The same with a template that has servers of its own in the backend.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_beside(
        lab: &TestEnv,
        kind: HaproxyKind,
        webs: u8,
        fixed: &[&str],
        configure: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        let haproxy = Haproxy::prepare(lab, kind).await?;
        Self::start_with(lab, haproxy, webs, fixed, configure).await
    }

    /// The same with HAProxy's file in another directory.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_in(lab: &TestEnv, dir: &Path, webs: u8) -> Result<Self> {
        let haproxy = Haproxy::prepare_in(dir, HaproxyKind::Host).await?;
        Self::start_with(lab, haproxy, webs, &[], |options| options).await
    }

    /// The same with a HAProxy that has been prepared.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_with(
        lab: &TestEnv,
        mut haproxy: Haproxy,
        webs: u8,
        fixed: &[&str],
        configure: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        let agent = FakeAgent::on(lab, "balancer", BALANCER).start()?;
        let options = configure(Controller::on(lab, agent.rpc_addr(), &haproxy));
        let own = options.spawns();
        let controller = options.start()?;
        first_file(&haproxy).await?;
        if !own {
            haproxy.start().await?;
        }
        let mut stage = Self {
            agent,
            haproxy,
            controller,
            webs: Vec::new(),
            fixed: fixed.iter().map(ToString::to_string).collect(),
        };
        for number in 1..=webs {
            stage.add(lab, number)?;
        }
        stage.serves_all().await?;
        // HAProxy has them a moment before the controller says so.
        let told = |status: &Status| status.servers("ready") == usize::from(webs);
        stage
            .controller
            .settles("all to be told", SOON, told)
            .await?;
        Ok(stage)
    }

    /// Starts another web server and lets its member join.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn add(&mut self, lab: &TestEnv, number: u8) -> Result<()> {
        let name = format!("s{number}");
        let ip = lab.net().ip(WEBS + number);
        self.webs
            .push(Web::start(name.clone(), (ip, WEB_PORT).into())?);
        self.agent.put(backend(&name, ip).build());
        Ok(())
    }

    /// Lets a web server listen and its member join, with this tag `role`.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn join(&mut self, mut web: Web, role: &str) -> Result<()> {
        web.listen()?;
        let IpAddr::V4(ip) = web.addr().ip() else {
            anyhow::bail!("{} is at no IPv4 address", web.name());
        };
        let member = node(web.name(), ip).tag("role", role);
        self.agent.put(member.build());
        self.webs.push(web);
        Ok(())
    }

    /// Waits until all web servers, and nobody else but the template's own, get requests.
    ///
    /// # Errors
    /// When they do not soon.
    pub async fn serves_all(&self) -> Result<()> {
        let fixed = self.fixed.iter().map(String::as_str);
        let names: Vec<&str> = self.names().chain(fixed).collect();
        self.haproxy.serves("nodes", &names, SOON).await
    }

    /// Waits until HAProxy and its file are as they should be, and nothing is wrong.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn settled(&self) -> Result<()> {
        let well =
            |status: &Status| status.0["problems"] == serde_json::json!([]) && status.is_whole();
        let settles = self.controller.settles("everything well", SOON * 3, well);
        settles.await.map(drop)
    }

    /// The names of all web servers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.webs.iter().map(Web::name)
    }

    /// The address of a web server.
    #[must_use]
    pub fn ip(&self, lab: &TestEnv, number: u8) -> Ipv4Addr {
        lab.net().ip(WEBS + number)
    }

    /// What gossip says of a member from now on.
    pub fn gossip(&self, name: &str, status: MemberStatus) {
        self.agent.set_status(name, status);
    }

    /// Two loads at once: a connection for every request, and keep-alive.
    ///
    /// # Errors
    /// When wrk cannot be started.
    pub fn load(&self, lab: &TestEnv) -> Result<Loads> {
        Loads::start(lab, self.controller.front())
    }
}

/// A member that the controller selects.
pub fn backend(name: impl AsRef<[u8]>, ip: Ipv4Addr) -> MemberBuilder {
    node(name, ip).tag("role", "backend")
}
