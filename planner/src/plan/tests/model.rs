//! A model of what HAProxy does with runtime steps: it refuses what HAProxy refuses.

use std::collections::BTreeMap;

use crate::model::{
    Action, AddedOptions, Admin, AgentCheck, BackendName, Check, RunningServer, RunningServers,
    ServerKey, ServerName, ServerStat, Step, Version, WantedAdmin, WantedAdmins,
};
use crate::plan::{Input, Plan, plan};
use crate::syntax::options::Settings;
use crate::syntax::{ConfigText, Options, Scope};

/// A worker that started with a text.
#[derive(Clone, Debug)]
pub(super) struct Haproxy {
    pub(super) version: Version,
    pub(super) scope: Scope,
    pub(super) text: ConfigText,
    pub(super) servers: RunningServers,
    pub(super) added: AddedOptions,
    /// Backends with a static balance algorithm.
    pub(super) accepts_add: BTreeMap<BackendName, bool>,
}

impl Haproxy {
    /// Starts as HAProxy does: with the servers of the file, in maint if `disabled`.
    pub(super) fn start(version: Version, text: &str) -> Self {
        Self::start_in(Scope::default(), version, text)
    }

    /// The same, of a text in which not every server is a member's.
    pub(super) fn start_in(scope: Scope, version: Version, text: &str) -> Self {
        let text = scope.read(text);
        let mut servers = RunningServers::new();
        for backend in text.backends() {
            let lines = text.servers(backend).map(|line| {
                let admin = if line.disabled {
                    Admin::Maint
                } else {
                    Admin::Ready
                };
                let check = if line.options.check() {
                    Check::Up
                } else {
                    Check::None
                };
                let stat = ServerStat {
                    check,
                    said: None,
                    in_flight: 0,
                    maxconn: line.maxconn,
                    total: 0,
                    cookie: None,
                };
                let server = RunningServer {
                    addr: Some(line.addr),
                    weight: line.weight.get(),
                    admin,
                    agent: line.options.agent_check().then_some(AgentCheck {
                        asked: true,
                        initial_weight: line.weight.get(),
                        by_file: line.disabled,
                        down: false,
                    }),
                    stat: Some(stat),
                };
                (line.name.to_string(), server)
            });
            servers.insert(backend.to_string(), lines.collect());
        }
        for (backend, name) in &text.fixed {
            let stat = ServerStat {
                check: Check::None,
                said: None,
                in_flight: 1,
                maxconn: None,
                total: 7,
                cookie: None,
            };
            let server = RunningServer {
                addr: None,
                weight: 3,
                admin: Admin::Drain,
                agent: None,
                stat: Some(stat),
            };
            let servers: &mut BTreeMap<_, _> = servers.entry(backend.clone()).or_default();
            servers.insert(name.clone(), server);
        }
        Self {
            version,
            scope,
            text,
            servers,
            added: BTreeMap::new(),
            accepts_add: BTreeMap::new(),
        }
    }

    /// Plans against a wanted text, which is on disk already.
    pub(super) fn plan(&self, wanted: &ConfigText, admins: &WantedAdmins) -> Plan {
        let servers = self.ours();
        let input = self.input(wanted, admins);
        plan(&Input {
            servers: &servers,
            ..input
        })
    }

    /// The members' servers.
    pub(super) fn ours(&self) -> RunningServers {
        let mut servers = self.servers.clone();
        self.scope
            .retain(&mut servers, Some(&self.text), &self.added);
        servers
    }

    pub(super) fn input<'a>(
        &'a self,
        wanted: &'a ConfigText,
        admins: &'a WantedAdmins,
    ) -> Input<'a> {
        Input {
            version: self.version,
            running: Some(&self.text),
            servers: &self.servers,
            added: &self.added,
            wanted,
            admins,
            accepts_add: &self.accepts_add,
            on_disk: Some(wanted),
            retired_max: 100,
        }
    }

    pub(super) fn server(&mut self, backend: &str, server: &str) -> &mut RunningServer {
        self.servers
            .get_mut(backend)
            .unwrap()
            .get_mut(server)
            .unwrap()
    }

    pub(super) fn apply(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step)
                .unwrap_or_else(|refusal| panic!("{step}: {refusal}"));
        }
    }

    /// Lets all requests finish.
    pub(super) fn drain_out(&mut self) {
        for stat in self
            .servers
            .values_mut()
            .flat_map(|s| s.values_mut())
            .filter_map(|s| s.stat.as_mut())
        {
            stat.in_flight = 0;
        }
    }

    pub(super) fn options(&self, backend: &BackendName, server: &ServerName) -> Options {
        match self.added.get(&ServerKey::new(backend, server)) {
            Some(words) => {
                Settings::of_words(words.iter().map(String::as_str))
                    .unwrap()
                    .options
            }
            None => self.text.server(backend, server).unwrap().options.clone(),
        }
    }

    fn step(
        &mut self,
        Step {
            backend,
            server: name,
            action,
        }: &Step,
    ) -> Result<(), String> {
        let key = ServerKey::new(backend, name);
        if let Action::Add { addr, options } = action {
            self.add(&key, *addr, options)?;
            return Ok(());
        }
        let has_check = self
            .servers
            .get(backend.as_str())
            .is_some_and(|s| s.contains_key(name.as_str()))
            && self.options(backend, name).check();
        let server = self
            .servers
            .get_mut(backend.as_str())
            .ok_or("No such backend.")?;
        let server = server.get_mut(name.as_str()).ok_or("No such server.")?;
        let stat = server.stat.as_mut().unwrap();
        match action {
            Action::Add { .. } => unreachable!(),
            Action::Address(addr) => {
                if server.admin == Admin::Ready {
                    return Err("moved while in rotation".into());
                }
                server.addr = Some(*addr);
            }
            Action::Weight(_) if self.accepts_add.get(backend) == Some(&false) => {
                return Err("Backend is using a static LB algorithm".into());
            }
            Action::Weight(weight) => server.weight = weight.get(),
            Action::CookieKey(key) => stat.cookie = Some(key.clone()),
            Action::Maxconn(maxconn) => stat.maxconn = (*maxconn > 0).then_some(*maxconn),
            Action::Ready { check } | Action::Drain { check, .. } if *check != has_check => {
                return Err(
                    "Health check was not configured on this server, cannot enable.".into(),
                );
            }
            Action::Ready { check } => {
                server.admin = Admin::Ready;
                stat.check = if *check { Check::Up } else { Check::None };
            }
            Action::Drain { check, keep_check } => {
                server.admin = Admin::Drain;
                stat.check = if *check && *keep_check {
                    Check::Up
                } else {
                    Check::None
                };
            }
            Action::Agent { asked } => {
                let agent = server.agent.as_mut();
                agent
                    .ok_or("Agent was not configured on this server, cannot enable.")?
                    .asked = *asked;
            }
            Action::Maint => server.admin = Admin::Maint,
            Action::Shut => stat.in_flight = 0,
            Action::Delete => {
                self.deletable(&key)?;
                self.servers
                    .get_mut(backend.as_str())
                    .unwrap()
                    .remove(name.as_str());
                self.added.remove(&key);
            }
        }
        Ok(())
    }

    fn deletable(
        &self,
        ServerKey {
            backend,
            server: name,
        }: &ServerKey,
    ) -> Result<(), String> {
        let server = &self.servers[backend.as_str()][name.as_str()];
        let refusal = if self.version < (Version { major: 3, minor: 0 }) {
            "unsafe in this version"
        } else if self.text.references(backend, name) {
            "This server cannot be removed at runtime due to other configuration elements pointing to it."
        } else if server.admin != Admin::Maint {
            "Only servers in maintenance mode can be deleted."
        } else if server.stat.as_ref().unwrap().in_flight > 0 {
            "Server still has connections attached to it, cannot remove it."
        } else {
            return Ok(());
        };
        Err(refusal.to_owned())
    }

    fn add(
        &mut self,
        key: &ServerKey,
        addr: std::net::SocketAddr,
        words: &[String],
    ) -> Result<(), String> {
        if self.accepts_add.get(&key.backend) == Some(&false) {
            return Err(
                "Backend must use a dynamic load balancing to support dynamic servers.".into(),
            );
        }
        let settings = Settings::of_words(words.iter().map(String::as_str))
            .map_err(|bad| bad.keyword.to_owned())?;
        if let Some(keyword) = settings.options.not_dynamic(self.version).next() {
            return Err(format!(
                "'{keyword}' option is not accepted for dynamic server"
            ));
        }
        let servers = self
            .servers
            .get_mut(key.backend.as_str())
            .ok_or("No such backend.")?;
        let stat = ServerStat {
            check: Check::None,
            said: None,
            in_flight: 0,
            maxconn: settings.maxconn,
            total: 0,
            cookie: None,
        };
        let server = RunningServer {
            addr: Some(addr),
            weight: settings.weight.get(),
            admin: Admin::Maint,
            agent: settings.options.agent_check().then_some(AgentCheck {
                asked: false,
                initial_weight: settings.weight.get(),
                by_file: false,
                down: false,
            }),
            stat: Some(stat),
        };
        if servers.insert(key.server.to_string(), server).is_some() {
            return Err("Already exists a server with the same name in backend.".into());
        }
        self.added.insert(key.clone(), words.to_vec());
        Ok(())
    }
}

/// What `show servers state` would say of settled servers: those of the text, and those kept to drain.
pub(super) fn settled(text: &ConfigText, admins: &WantedAdmins) -> Vec<String> {
    let mut lines = Vec::new();
    for backend in text.backends() {
        for line in text.servers(backend) {
            let key = ServerKey::new(backend, &line.name);
            let by_line = if line.disabled {
                WantedAdmin::Maint
            } else {
                WantedAdmin::Ready
            };
            let admin = match admins.get(&key).copied().unwrap_or(by_line) {
                WantedAdmin::Ready => Admin::Ready,
                WantedAdmin::Drain | WantedAdmin::Waiting => Admin::Drain,
                WantedAdmin::Maint | WantedAdmin::Cut => Admin::Maint,
            };
            lines.push(format!(
                "{backend}/{} {} {} {:?} {:?} {:?}",
                line.name,
                line.addr,
                line.weight.get(),
                line.maxconn,
                admin,
                line.options
            ));
        }
    }
    lines.sort();
    lines
}

/// The same of a model, without retired servers and those kept to drain.
pub(super) fn observed(haproxy: &Haproxy, text: &ConfigText) -> Vec<String> {
    let mut lines = Vec::new();
    for (backend, servers) in &haproxy.ours() {
        for (name, server) in servers {
            let (backend, name) = (
                BackendName::new(backend).unwrap(),
                ServerName::new(name).unwrap(),
            );
            if text.server(&backend, &name).is_none() {
                assert_ne!(server.admin, Admin::Ready, "{backend}/{name} is to go");
                continue;
            }
            lines.push(format!(
                "{backend}/{name} {} {} {:?} {:?} {:?}",
                server.addr.unwrap(),
                server.weight,
                server.stat.as_ref().unwrap().maxconn,
                server.admin,
                haproxy.options(&backend, &name)
            ));
        }
    }
    lines.sort();
    lines
}
