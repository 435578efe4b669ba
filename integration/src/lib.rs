//! The harness: real Serf agents, HAProxy, web servers, load and the controller's own binary, each
//! supervised, each on addresses of its own, none surviving the process that started it.
//!
//! A test starts with [`test()`] (or [`test_alone`], where it measures time), which gives it a [`TestEnv`]: a network (`127.x.y.0/24`), a directory and,
//! when it fails, the tails of all logs.
//!
//! ```no_run
//! use integration::{Agent, Need, Web, test};
//!
//! #[test]
//! fn an_agent_lists_itself() {
//!     test(&[Need::Serf], async |lab| {
//!         let agent = Agent::on(lab, "a", 1).start().await?;
//!         assert_eq!(agent.members().await?.len(), 1);
//!         Ok(())
//!     });
//! }
//! ```

pub mod daemons;
pub mod environment;
pub mod fake_agent;
pub mod fake_docker;
pub mod scenarios;
pub mod traffic;

pub use daemons::agent::{self, Agent};
pub use daemons::browser::{self, Browser};
pub use daemons::certificate::Certificate;
pub use daemons::controller::{self, Controller};
pub use daemons::dockerd::{self, Dockerd};
pub use daemons::haproxy::{self, Haproxy, HaproxyKind};
pub use daemons::health_agent::HealthAgent;
pub use daemons::manners::{self, Manners};
pub use daemons::prometheus::Prometheus;
pub use daemons::serf::{Serf, SerfKind};
pub use daemons::serf_docker::{self, SerfDocker};
pub use daemons::web::{self, Web};
pub use daemons::{compose, container, health_agent, machines, packages, prometheus, serf, view};
pub use environment::firewall::{self, Firewall};
pub use environment::net::{self, Net};
pub use environment::process::{self, Process};
pub use environment::wait::{self, wait_for, wait_some};
pub use environment::{TestEnv, log_tails, mount};
pub use fake_agent::FakeAgent;
pub use fake_docker::FakeDocker;
pub use scenarios::cluster::{self, Balancer, Node};
pub use scenarios::{Need, measure, scenario, test, test_alone};
pub use traffic::load::{self, Load};
pub use traffic::recorder::{self, Recorder};
pub use traffic::tap::{self, Tap};
pub use traffic::wrk::{self, Wrk};
pub use traffic::{flight, http, tls};
