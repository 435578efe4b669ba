//! The harness: real Serf agents, HAProxy, web servers, load and the controller's own binary, each
//! supervised, each on addresses of its own, none surviving the process that started it.
//!
//! A test starts with [`test()`] (or [`test_alone`], where it measures time), which gives it a [`Lab`]: a network (`127.x.y.0/24`), a directory and,
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

pub mod agent;
pub mod compose;
pub mod container;
pub mod controller;
pub mod fake_agent;
pub mod firewall;
pub mod fleet;
pub mod flight;
pub mod haproxy;
pub mod health_agent;
pub mod lab;
pub mod load;
pub mod machines;
pub mod manners;
pub mod measure;
pub mod mount;
pub mod net;
pub mod process;
pub mod recorder;
pub mod serf;
pub mod stage;
pub mod tap;
pub mod wait;
pub mod web;
pub mod wrk;

pub use agent::Agent;
pub use controller::Controller;
pub use fake_agent::FakeAgent;
pub use firewall::Firewall;
pub use fleet::{Balancer, Node};
pub use haproxy::{Haproxy, HaproxyKind};
pub use health_agent::HealthAgent;
pub use lab::{Lab, Need, test, test_alone};
pub use load::Load;
pub use manners::Manners;
pub use net::Net;
pub use process::Process;
pub use recorder::Recorder;
pub use serf::{Serf, SerfKind};
pub use tap::Tap;
pub use wait::{wait_for, wait_some};
pub use web::Web;
pub use wrk::Wrk;
