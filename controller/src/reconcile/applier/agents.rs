//! Agent checks: what HAProxy shows of servers with one in, what their agents say out. Pure.
//!
//! A server that the file has `disabled` is in maint by the file until it has been made ready, and by its agent
//! afterwards. HAProxy shows the same both times, so the servers made ready are remembered as long as the worker lives. A
//! controller that starts in between makes such a server ready once more; its agent is asked again a moment later.

use std::collections::{BTreeMap, BTreeSet};

use planner::model::{Action, Admin, RunningServer, RunningServers, ServerKey, Step, Worker};

/// What is known of the agent checks of one worker.
#[derive(Debug, Default)]
pub(super) struct Agents {
    worker: Option<Worker>,
    opened: BTreeSet<ServerKey>,
    says: BTreeMap<ServerKey, String>,
}

impl Agents {
    /// Takes what was read, and puts right in it whose word it is that a server is in maint.
    pub(super) fn read(&mut self, worker: &Worker, servers: &mut RunningServers) {
        let same = self.worker.as_ref();
        if !same.is_some_and(|before| before.is_same(worker)) {
            self.opened.clear();
        }
        self.worker = Some(worker.clone());
        self.says.clear();
        for (backend, servers) in servers {
            for (name, server) in servers {
                let Some(agent) = &mut server.agent else {
                    continue;
                };
                let Some(key) = ServerKey::read(backend, name) else {
                    continue;
                };
                agent.by_file &= !self.opened.contains(&key);
                self.says.insert(key, said(server));
            }
        }
    }

    /// Takes what was done.
    pub(super) fn did(&mut self, step: &Step) {
        let key = step.key();
        match step.action {
            Action::Ready { .. } => drop(self.opened.insert(key)),
            Action::Delete => drop(self.opened.remove(&key)),
            _ => {}
        }
    }

    /// What the agent of a server says, in words; `none` where it has none.
    pub(super) fn says(&self, server: &ServerKey) -> &str {
        self.says.get(server).map_or("none", String::as_str)
    }
}

fn said(server: &RunningServer) -> String {
    let Some(agent) = server.agent.filter(|agent| agent.asked) else {
        return "not asked".to_owned();
    };
    let state = match server.admin {
        Admin::Maint if agent.by_file => "not asked",
        Admin::Maint => "maint",
        Admin::Drain => "drain",
        Admin::Ready if agent.down => "down",
        Admin::Ready => "ready",
    };
    if server.weight == agent.initial_weight {
        return state.to_owned();
    }
    format!(
        "{state}, weight {} of {}",
        server.weight, agent.initial_weight
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use planner::model::{AgentCheck, BackendName, ServerName, Version};

    use super::*;

    fn key(server: &str) -> ServerKey {
        ServerKey::read("nodes", server).unwrap()
    }

    fn worker(pid: u32) -> Worker {
        Worker {
            pid,
            uptime: Duration::ZERO,
            start: Some(1),
            version: Version { major: 3, minor: 0 },
            stamp: None,
        }
    }

    fn running(admin: Admin, weight: u16, by_file: bool) -> RunningServers {
        let agent = AgentCheck {
            asked: true,
            initial_weight: 100,
            by_file,
            down: false,
        };
        let server = RunningServer {
            addr: None,
            weight,
            admin,
            agent: Some(agent),
            stat: None,
        };
        [("nodes".to_owned(), [("s1".to_owned(), server)].into())].into()
    }

    #[test]
    fn maint_is_the_files_until_the_server_was_made_ready_in_that_worker() {
        let mut agents = Agents::default();
        let by_file = |agents: &mut Agents, pid| {
            let mut servers = running(Admin::Maint, 100, true);
            agents.read(&worker(pid), &mut servers);
            servers["nodes"]["s1"].agent.unwrap().by_file
        };
        assert!(by_file(&mut agents, 1));
        agents.did(&Step {
            backend: BackendName::new("nodes").unwrap(),
            server: ServerName::new("s1").unwrap(),
            action: Action::Ready { check: true },
        });
        assert!(!by_file(&mut agents, 1));
        assert_eq!(agents.says(&key("s1")), "maint");
        assert!(by_file(&mut agents, 2));
        assert_eq!(agents.says(&key("s1")), "not asked");
    }

    #[test]
    fn a_share_of_the_weight_is_said_with_the_whole() {
        let mut agents = Agents::default();
        agents.read(&worker(1), &mut running(Admin::Drain, 50, false));
        assert_eq!(agents.says(&key("s1")), "drain, weight 50 of 100");
        assert_eq!(agents.says(&key("s2")), "none");
    }
}
