//! The member that makes a file invalid: a text that is refused in, the servers that are to blame out.
//!
//! Names, addresses and weights are of types that no file can be broken with; a template may still choke on one, by
//! what it makes of a name. Only that server is left out then, or stays as it was when the file was last valid.

use std::sync::Arc;
use std::time::Duration;

use planner::config::Config;
use planner::model::{Endpoint, Server, ServerKey, Servers};
use planner::pipeline::OffendingServer;
use planner::render::Renderer;

use super::job::refusal;
use crate::haproxy::file::ConfigFile;

/// So many checks, at most, for one refused file.
const CHECKS: usize = 64;

/// What a search needs.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) config: Arc<Config>,
    pub(super) renderer: Arc<Renderer>,
    /// The servers of the last valid file.
    pub(super) valid: Servers,
    /// Those of the text that may be refused.
    pub(super) wanted: Servers,
}

impl Search {
    /// Halves the servers that are new or changed until those are found that are refused alone; nobody where the file
    /// is refused without them too.
    pub(super) async fn run(
        &self,
        file: &ConfigFile,
        timeout: Duration,
    ) -> Vec<(ServerKey, OffendingServer)> {
        let mut found = Vec::new();
        if self.message(&[], file, timeout).await.is_some() {
            return found;
        }
        let mut groups = vec![self.suspects()];
        for _ in 0..CHECKS {
            let Some(group) = groups.pop() else { break };
            if group.is_empty() {
                continue;
            }
            let Some(reason) = self.message(&group, file, timeout).await else {
                continue;
            };
            match group.as_slice() {
                [(key, server)] => {
                    let offender = OffendingServer {
                        endpoint: endpoint(server),
                        before: find(&self.valid, key).map(endpoint),
                        reason,
                    };
                    found.push((key.clone(), offender));
                }
                _ => {
                    let (left, right) = group.split_at(group.len() / 2);
                    groups.extend([left.to_vec(), right.to_vec()]);
                }
            }
        }
        found
    }

    fn suspects(&self) -> Vec<(ServerKey, Server)> {
        let same = |key: &ServerKey, server: &Server| {
            find(&self.valid, key).is_some_and(|valid| endpoint(valid) == endpoint(server))
        };
        let mut suspects = Vec::new();
        for (backend, servers) in &self.wanted {
            for server in servers {
                let key = ServerKey::new(backend, &server.name);
                if !same(&key, server) {
                    suspects.push((key, server.clone()));
                }
            }
        }
        suspects
    }

    /// What is wrong with the last valid file when these are added to it.
    async fn message(
        &self,
        group: &[(ServerKey, Server)],
        file: &ConfigFile,
        timeout: Duration,
    ) -> Option<String> {
        let mut servers = self.valid.clone();
        for (key, server) in group {
            let servers = servers.entry(key.backend.clone()).or_default();
            servers.retain(|other| other.name != server.name);
            servers.push(server.clone());
            servers.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let rendered = match self.renderer.render(&self.config, &servers) {
            Ok(rendered) => rendered,
            Err(error) => return Some(error.to_string()),
        };
        // A disk or a command that fails is no word against anybody.
        let staged = file.stage(&rendered.text).await.ok()?;
        let command = &self.config.haproxy.check_command;
        let checked = staged.check(command, timeout).await.ok()?;
        (!checked.valid).then(|| refusal(&checked.messages, &checked.output))
    }
}

fn find<'a>(servers: &'a Servers, key: &ServerKey) -> Option<&'a Server> {
    let mut servers = servers.get(&key.backend)?.iter();
    servers.find(|server| server.name == key.server)
}

fn endpoint(server: &Server) -> Endpoint {
    Endpoint {
        addr: server.addr,
        weight: server.weight,
    }
}
