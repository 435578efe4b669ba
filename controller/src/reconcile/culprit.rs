//! The member that makes a file invalid: a text that is refused in, the servers that are to blame out.
//!
//! Names, addresses and weights are of types that no file can be broken with; a template may still choke on one, by
//! what it makes of a name. Only that server is left out then, or stays as it was when the file was last valid.

use std::sync::Arc;
use std::time::Duration;

use planner::config::Config;
use planner::guard::Decisions;
use planner::model::{Key, Place, Server, Servers};
use planner::render::Renderer;

use super::Reconciler;
use super::job::first_alert;
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

/// A server without which the file is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Culprit {
    pub(super) place: Place,
    /// As it stood in the last valid file, if it did.
    pub(super) before: Option<Place>,
    /// What the check command says.
    pub(super) reason: String,
}

impl Search {
    /// Halves the servers that are new or changed until those are found that are refused alone; nobody where the file
    /// is refused without them too.
    pub(super) async fn run(&self, file: &ConfigFile, timeout: Duration) -> Vec<(Key, Culprit)> {
        let mut found = Vec::new();
        if self.complaint(&[], file, timeout).await.is_some() {
            return found;
        }
        let mut groups = vec![self.suspects()];
        for _ in 0..CHECKS {
            let Some(group) = groups.pop() else { break };
            if group.is_empty() {
                continue;
            }
            let Some(reason) = self.complaint(&group, file, timeout).await else {
                continue;
            };
            match group.as_slice() {
                [(key, server)] => {
                    let culprit = Culprit {
                        place: place(server),
                        before: find(&self.valid, key).map(place),
                        reason,
                    };
                    found.push((key.clone(), culprit));
                }
                _ => {
                    let (left, right) = group.split_at(group.len() / 2);
                    groups.extend([left.to_vec(), right.to_vec()]);
                }
            }
        }
        found
    }

    fn suspects(&self) -> Vec<(Key, Server)> {
        let same = |key: &Key, server: &Server| {
            find(&self.valid, key).is_some_and(|valid| place(valid) == place(server))
        };
        let mut suspects = Vec::new();
        for (backend, servers) in &self.wanted {
            for server in servers {
                let key = Key {
                    backend: backend.clone(),
                    server: server.name.clone(),
                };
                if !same(&key, server) {
                    suspects.push((key, server.clone()));
                }
            }
        }
        suspects
    }

    /// What is wrong with the last valid file when these are added to it.
    async fn complaint(
        &self,
        group: &[(Key, Server)],
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
        (!checked.valid).then(|| first_alert(&checked.complaints, &checked.output))
    }
}

fn find<'a>(servers: &'a Servers, key: &Key) -> Option<&'a Server> {
    let mut servers = servers.get(&key.backend)?.iter();
    servers.find(|server| server.name == key.server)
}

fn place(server: &Server) -> Place {
    Place {
        addr: server.addr,
        weight: server.weight,
    }
}

impl Reconciler {
    /// Takes who was found; says whether there was anybody.
    pub(super) fn quarantine(&mut self, found: Vec<(Key, Culprit)>) -> bool {
        let any = !found.is_empty();
        for (key, culprit) in found {
            tracing::warn!(backend = %key.backend, server = %key.server, "the file is invalid with it, and goes on without: {}", culprit.reason);
            self.culprits.insert(key, culprit);
        }
        any
    }

    /// Leaves culprits out, or as they were; who has changed since gets another chance.
    pub(super) fn without_culprits(&mut self, mut decisions: Decisions) -> Decisions {
        self.culprits.retain(|key, culprit| {
            let decision = self.decisions.servers.get(key);
            decision.is_some_and(|decision| decision.place == culprit.place)
        });
        for (key, culprit) in &self.culprits {
            match (decisions.servers.get_mut(key), culprit.before) {
                (Some(decision), Some(before)) => decision.place = before,
                _ => drop(decisions.servers.remove(key)),
            }
        }
        decisions
    }
}
