//! What a balancer says of itself: a status in, a report that fits one packet out, and back. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use planner::stamp;
use serde::{Deserialize, Serialize};

use crate::status::{Backend, Status};

/// An answer may have 1024 bytes with its frame unless the agent's `query_response_size_limit` says otherwise.
const PAYLOAD_BYTES: usize = 900;
/// Of the first problem.
const PROBLEM_BYTES: usize = 160;

/// What a balancer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The controller's version.
    pub version: String,
    /// What tells its config and templates from others: as `status` has it.
    pub config: String,
    /// Counts up whenever a server stands otherwise than before; since the controller started.
    pub revision: u64,
    /// HAProxy's version; none while it does not answer.
    pub haproxy: Option<String>,
    /// The stamp of the text that HAProxy's worker started with.
    pub stamp: Option<String>,
    /// Whether the file on the disk is not yet what it should be.
    pub behind: bool,
    /// `connected`, `silent`, `lost` or `waiting`: the agent that membership comes from.
    pub agent: String,
    /// How long ago the members were last read, in seconds.
    pub age: Option<u64>,
    /// Members that the agent lists.
    pub members: usize,
    /// Servers that the guard holds.
    pub held: usize,
    /// How many things need a person.
    pub problems: usize,
    /// The first of them.
    pub problem: Option<String>,
    /// What tells the servers in rotation of all backends from others.
    pub servers: String,
    /// The backends, as many as fit.
    pub backends: BTreeMap<String, Serving>,
}

/// What a backend of a balancer serves with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Servers in rotation; none while HAProxy does not answer.
    pub rotation: Option<usize>,
    /// Those of them that take requests.
    pub answering: Option<usize>,
    /// What tells its servers in rotation from others: names, addresses and weights.
    pub servers: String,
}

impl Report {
    /// The report of a controller of this version that stands so, with these backends.
    pub fn of(status: &Status, backends: &BTreeMap<String, Backend>) -> Self {
        let servers = backends.values();
        let servers = servers.flat_map(|backend| backend.servers.values());
        let held = servers.filter(|server| server.held).count();
        let backends: BTreeMap<_, _> = backends
            .iter()
            .map(|(name, backend)| (name.clone(), Serving::of(backend)))
            .collect();
        let mut all = String::new();
        for (name, serving) in &backends {
            let _ = writeln!(all, "{name} {}", serving.servers);
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: status.config.digest.clone(),
            revision: status.revision,
            haproxy: status.haproxy.version.clone(),
            stamp: status.haproxy.stamp.clone(),
            behind: status.file.state != "current",
            agent: status.agent.state.clone(),
            age: status.agent.members_age_seconds,
            members: status.agent.listed,
            held,
            problems: status.problems.len(),
            problem: status
                .problems
                .first()
                .map(|first| shortened(&first.problem)),
            servers: digest(&all),
            backends,
        }
    }

    /// The report as it travels. What does not fit one packet is left out: backends, the last first.
    pub fn to_payload(&self) -> Vec<u8> {
        let mut report = self.clone();
        loop {
            let payload = serde_json::to_vec(&report).unwrap_or_default();
            if payload.len() <= PAYLOAD_BYTES || report.backends.pop_last().is_none() {
                return payload;
            }
        }
    }

    /// What another balancer sent; none where that is no report.
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

impl Serving {
    fn of(backend: &Backend) -> Self {
        let in_rotation = backend
            .servers
            .iter()
            .filter(|(_, server)| matches!(&*server.state, "ready" | "down"));
        let mut lines = String::new();
        for (name, server) in in_rotation {
            let _ = writeln!(lines, "{name} {} {}", server.address, server.weight);
        }
        Self {
            rotation: backend.in_rotation,
            answering: backend.answering,
            servers: digest(&lines),
        }
    }
}

/// What tells a text from others.
fn digest(text: &str) -> String {
    stamp::digest([text], 4)
}

/// At most [`PROBLEM_BYTES`] of a text.
fn shortened(text: &str) -> String {
    if text.len() <= PROBLEM_BYTES {
        return text.to_owned();
    }
    let start = (0..=PROBLEM_BYTES).rev().find_map(|end| text.get(..end));
    format!("{}…", start.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status::{Problem, Server};

    fn server(address: &str, state: &str) -> Server {
        Server {
            state: state.to_owned(),
            why: String::new(),
            address: address.parse().unwrap(),
            weight: 1,
            gossip: "alive".to_owned(),
            check: "up".to_owned(),
            probe: "good".to_owned(),
            agent: String::new(),
            suspected: false,
            held: false,
            member: None,
            origin: "member".to_owned(),
            since: 0,
        }
    }

    fn status(servers: &[(&str, &str, &str)]) -> Status {
        let mut backend = Backend::default();
        for (name, address, state) in servers {
            let server = server(address, state);
            backend.servers.insert((*name).to_owned(), server);
        }
        let mut status = Status::default();
        status.backends.insert("nodes".to_owned(), backend);
        status
    }

    fn report_of(status: &Status) -> Report {
        Report::of(status, &status.backends)
    }

    #[test]
    fn those_in_rotation_tell_one_balancer_from_another_and_nobody_else_does() {
        let report = |servers: &[(&str, &str, &str)]| report_of(&status(servers)).servers;
        let one = report(&[("a", "10.0.0.1:80", "ready")]);
        assert_eq!(
            one,
            report(&[("a", "10.0.0.1:80", "down"), ("b", "10.0.0.2:80", "out")])
        );
        assert_ne!(one, report(&[("a", "10.0.0.1:81", "ready")]));
        assert_ne!(
            one,
            report(&[("a", "10.0.0.1:80", "ready"), ("b", "10.0.0.2:80", "ready")])
        );
        assert_ne!(one, report(&[]));
    }

    proptest! {
        #[test]
        fn a_report_fits_its_packet_and_is_read_back(
            backends in prop::collection::vec("[a-z]{1,60}", 0..40),
            problem in "\\PC{0,400}",
        ) {
            let mut status = status(&[]);
            for name in backends {
                status.backends.insert(name, Backend::default());
            }
            status.problems.push(Problem { problem, ..Problem::default() });
            let report = report_of(&status);
            let payload = report.to_payload();
            prop_assert!(payload.len() <= PAYLOAD_BYTES, "{}", payload.len());
            let read = Report::from_payload(&payload).unwrap();
            prop_assert_eq!(&read.servers, &report.servers);
            prop_assert!(read.backends.iter().all(|(name, serving)| report.backends.get(name) == Some(serving)));
        }

        #[test]
        fn any_payload_is_a_report_or_none(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Report::from_payload(&payload);
        }
    }
}
