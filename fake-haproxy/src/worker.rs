//! A worker: the text that it was started with and the commands since in, the servers that it runs out.

use std::time::Duration;

use crate::config::{Backend, Config};
use crate::keyword::Settings;
use crate::server::Server;
use crate::version::Version;
use crate::web::Web;

/// A process that serves.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    pub(crate) version: Version,
    /// When it started, since the fake did.
    pub(crate) started: Duration,
    pub(crate) now: Duration,
    /// How many reloads it has seen.
    pub(crate) reloads: u32,
    /// Whether another has taken over.
    pub(crate) is_leaving: bool,
    /// How many connections to its stats socket are open.
    pub(crate) connections: usize,
    pub(crate) config: Config,
    /// Whether a new address never comes into force.
    pub(crate) holds_addresses: bool,
}

/// The least interval by which first checks are spread.
const SPREAD: Duration = Duration::from_millis(1000);

impl Worker {
    pub(crate) fn start(pid: u32, version: Version, now: Duration, config: Config) -> Self {
        let mut worker = Self {
            pid,
            version,
            started: now,
            now,
            reloads: 0,
            is_leaving: false,
            connections: 0,
            config,
            holds_addresses: false,
        };
        worker.spread_checks();
        worker
    }

    /// HAProxy spreads the first checks of the file's servers over their interval, those by agents among them.
    fn spread_checks(&mut self) {
        let now = self.now;
        let has_any = |server: &&mut Server| server.settings.check || server.settings.agent;
        let mut servers: Vec<_> = self.servers_mut().filter(has_any).collect();
        let inters = |server: &&mut Server| {
            let Settings { check, agent, .. } = server.settings;
            let (inter, agent_inter) = (server.settings.inter, server.settings.agent_inter);
            [check.then_some(inter), agent.then_some(agent_inter)]
        };
        let all: Vec<Duration> = servers.iter().flat_map(inters).flatten().collect();
        let least = all.iter().filter(|inter| **inter > SPREAD).min();
        let least = least.copied().unwrap_or_default();
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let mut place = 0;
        for server in &mut servers {
            let settings = &server.settings;
            server.check.next = now + settings.inter.max(least) * place / count;
            place += u32::from(settings.check);
            server.agent.next = now + settings.agent_inter.max(least) * place / count;
            place += u32::from(settings.agent);
        }
    }

    /// Lets it be this late.
    pub(crate) fn advance(&mut self, now: Duration, web: &Web) {
        self.now = now;
        if self.is_leaving {
            // it checks nobody any more
            return;
        }
        for backend in &mut self.config.backends {
            for server in &mut backend.servers {
                let key = format!("{}/{}", backend.name, server.name);
                server.advance(now, &key, web);
            }
        }
    }

    /// Whether the next minute alone changes nothing of it.
    pub(crate) fn is_settled(&self, web: &Web) -> bool {
        self.config.backends.iter().all(|backend| {
            backend.servers.iter().all(|server| {
                let key = format!("{}/{}", backend.name, server.name);
                server.is_settled(self.now, &key, web)
            })
        })
    }

    fn servers_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        let backends = self.config.backends.iter_mut();
        backends.flat_map(|backend| &mut backend.servers)
    }

    pub(crate) fn backend(&self, name: &str) -> Option<&Backend> {
        let mut backends = self.config.backends.iter();
        backends.find(|backend| backend.name == name)
    }

    pub(crate) fn backend_mut(&mut self, name: &str) -> Option<&mut Backend> {
        let mut backends = self.config.backends.iter_mut();
        backends.find(|backend| backend.name == name)
    }

    pub(crate) fn server(&mut self, backend: &str, server: &str) -> Option<&mut Server> {
        let mut servers = self.backend_mut(backend)?.servers.iter_mut();
        servers.find(|found| found.name == server)
    }

    /// The requests that run on its servers.
    pub(crate) fn in_flight(&self) -> u64 {
        let servers = self.config.backends.iter().flat_map(|b| &b.servers);
        servers.map(|server| server.in_flight).sum()
    }

    /// Whether nobody speaks with it any more after another has taken over.
    pub(crate) fn is_done(&self) -> bool {
        self.is_leaving && self.connections == 0 && self.in_flight() == 0
    }
}
