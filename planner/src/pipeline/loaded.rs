//! A config with its templates, and what follows from them: whom each backend lets in by, which lines are the members',
//! what HAProxy listens on.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serf_rpc::{Member, Snapshot};

use crate::admission::Admission;
use crate::config::{BackendConfig, CheckConfig, Config, OutputFile};
use crate::debounce::Debounce;
use crate::guard::Rules;
use crate::model::here::{Here, Listener, On, What};
use crate::model::{BackendName, Servers};
use crate::render::{Flaw, RenderError, Renderer};
use crate::review::loss::Loss;
use crate::select::Defaults;
use crate::services::{Effect, Unrouted};
use crate::stamp;
use crate::syntax::listeners::listeners;
use crate::syntax::{OtherFile, Scope};

/// A config with the templates it names: taken, tried and given up together.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The config, with the backends of the services that there are.
    pub config: Arc<Config>,
    /// The config as somebody has written it.
    pub written: Arc<Config>,
    /// The services that get no requests from the front ends, and why.
    pub unrouted: BTreeMap<BackendName, Unrouted>,
    /// The template of HAProxy's file.
    pub renderer: Arc<Renderer>,
    /// Which server lines of its texts are the members'.
    pub scope: Scope,
    /// Who lets the servers of each backend in.
    pub admissions: BTreeMap<BackendName, Admission>,
    /// The other files that are rendered, with their templates.
    pub files: Vec<(OutputFile, Arc<Renderer>)>,
    /// What the template forgets; the error where it fails with some servers.
    pub flaws: Result<Vec<Flaw>, RenderError>,
    /// Tells it from others whose backends or templates say something else, of the same version.
    pub digest: String,
    /// What HAProxy listens on with it, and the controller.
    listeners: Vec<Listener>,
    /// Whether one of the templates reads the tags of members.
    reads_tags: bool,
}

impl LoadedConfig {
    /// Puts a config and the templates that it names together; `others` are the files that HAProxy reads before ours, as
    /// they are now.
    pub fn new(
        config: Config,
        renderer: Renderer,
        files: Vec<(OutputFile, Arc<Renderer>)>,
        others: Vec<OtherFile>,
    ) -> Self {
        let written = Arc::new(config);
        Self::with(
            Arc::clone(&written),
            written,
            Arc::new(renderer),
            files,
            others,
        )
    }

    /// The same with the backends of these services, in place of those that it has; `others` are the files that HAProxy has
    /// read before ours.
    #[must_use]
    pub fn with_services(&self, services: Effect, others: &[OtherFile]) -> Self {
        let mut config = (*self.written).clone();
        config.backends.extend(services.backends);
        config.routing = services.routing;
        Self {
            unrouted: services.unrouted,
            ..Self::with(
                Arc::new(config),
                Arc::clone(&self.written),
                Arc::clone(&self.renderer),
                self.files.clone(),
                others.to_vec(),
            )
        }
    }

    /// Whether this is what services come to already.
    pub(super) fn has(&self, services: &Effect) -> bool {
        self.services().eq(&services.backends)
            && self.config.routing == services.routing
            && self.unrouted == services.unrouted
    }

    /// The backends of services.
    pub fn services(&self) -> impl Iterator<Item = &BackendConfig> {
        self.config.backends.iter().filter(|it| it.is_service)
    }

    fn with(
        config: Arc<Config>,
        written: Arc<Config>,
        renderer: Arc<Renderer>,
        files: Vec<(OutputFile, Arc<Renderer>)>,
        others: Vec<OtherFile>,
    ) -> Self {
        // A template that fails without any member has no lines of its own; `check` refuses it.
        let bare = renderer.render(&config, &Servers::new());
        let bare = bare.map(|bare| bare.text).unwrap_or_default();
        let scope = Scope::new(config.backends.iter().map(|backend| &backend.name), &bare);
        let beside = scope.with_files(others);
        let reads_tags = renderer.reads_tags() || files.iter().any(|(_, file)| file.reads_tags());
        Self {
            admissions: admissions(&config, &renderer, &beside),
            scope,
            flaws: renderer.audit(&config),
            digest: digest(&written, &renderer, &files),
            listeners: own_listeners(&config, &bare),
            reads_tags,
            unrouted: BTreeMap::new(),
            config,
            written,
            renderer,
            files,
        }
    }

    /// What a file of somebody else's would lose.
    pub fn loss(&self, theirs: &str) -> Result<Loss, RenderError> {
        let wanted = self.renderer.render(&self.config, &Servers::new())?;
        Ok(Loss::of(theirs, &wanted.text))
    }

    /// Another config with what this one has taken over: an edit of the file by hand takes nothing of it back.
    pub fn beside_taken_over(&self, mut config: Config) -> Config {
        config.haproxy.taken_over = self.config.haproxy.taken_over.clone();
        config
    }

    /// The files that say something else in another: the config, which comes from this path, and templates.
    pub fn changed(&self, other: &Self, config: &Path) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        if self.written != other.written {
            changed.push(config.to_owned());
        }
        let before: BTreeMap<_, _> = self.templates().collect();
        for (path, renderer) in other.templates() {
            let read = before.get(path);
            if read.is_none_or(|read| read.source() != renderer.source()) {
                changed.push(path.clone());
            }
        }
        changed
    }

    fn templates(&self) -> impl Iterator<Item = (&PathBuf, &Arc<Renderer>)> {
        let own = self.config.haproxy.template.iter();
        let own = own.map(|path| (path, &self.renderer));
        own.chain(
            self.files
                .iter()
                .map(|(file, renderer)| (&file.template, renderer)),
        )
    }

    /// Why no worker would tell the stamp of its texts: none of its reloads could be seen to have come into force.
    pub fn hides_stamp(&self) -> Option<&Flaw> {
        let mut flaws = self.flaws.iter().flatten();
        flaws.find(|flaw| flaw.finding.hides_stamp())
    }

    /// The guard's rules of each backend.
    pub fn rules(&self) -> BTreeMap<BackendName, Rules> {
        let rules = |backend: &BackendConfig| {
            let admission = self.admissions.get(&backend.name)?;
            let rules = Rules {
                checked: admission.checked,
                admits: admission.by,
                check_interval: admission.interval,
                suspicion: self.config.suspicion.enabled,
                max_penalty: self.config.damping.max_penalty,
                guard: backend.guard.clone(),
                drain_timeout: backend.drain.timeout,
            };
            Some((backend.name.clone(), rules))
        };
        self.config.backends.iter().filter_map(rules).collect()
    }

    /// What the controller's own probes ask.
    pub fn probes(&self) -> BTreeMap<BackendName, Arc<CheckConfig>> {
        let probe = |(name, admission): (&BackendName, &Admission)| {
            (name.clone(), Arc::clone(&admission.asks))
        };
        self.admissions.iter().map(probe).collect()
    }

    /// How long additions gather.
    pub fn quiet(&self) -> Debounce {
        Debounce {
            quiet: self.config.debounce.quiet,
            max_wait: self.config.debounce.max_wait,
        }
    }

    /// What holds for members of every backend that says nothing else; with the addresses of this host, and what the
    /// file on the disk and the others listen on.
    pub fn defaults(
        &self,
        snapshot: &Snapshot,
        addresses: &BTreeSet<IpAddr>,
        on_disk: &[Listener],
    ) -> Defaults {
        let local = snapshot.local().map(|entry| &entry.member);
        let addr = local.and_then(Member::addr);
        let mut own = self.listeners.clone();
        own.extend_from_slice(on_disk);
        own.extend(agent_listeners(&self.config.serf.addr, local));
        Defaults {
            here: Here {
                addresses: addresses.clone(),
                listeners: own,
            },
            loopback: addr.is_some_and(|addr| addr.is_loopback()),
            tags: self.config.tags.clone(),
            names: self.config.serf.names,
            tags_are_read: self.reads_tags,
            fixed: self.scope.fixed_servers().collect(),
        }
    }
}

/// What tells backends and templates from others; paths, sockets and addresses of one host are not in it.
fn digest(config: &Config, renderer: &Renderer, files: &[(OutputFile, Arc<Renderer>)]) -> String {
    // What is printed of a value has every key in it, those too that were left out.
    let mut settings = format!("{:?}{:?}", config.backends, config.tags);
    if let Some(services) = &config.services {
        settings.push_str(&format!("{services:?}"));
    }
    let files = files.iter().map(|(_, renderer)| renderer.source());
    let templates = iter::once(renderer.source()).chain(files);
    stamp::digest(iter::once(settings).chain(templates), 4)
}

/// What a text has HAProxy listen on, and where the controller itself does.
fn own_listeners(config: &Config, text: &str) -> Vec<Listener> {
    let http = config.http.as_ref().map(|http| Listener {
        what: What::Controller,
        on: match http.listen.ip() {
            ip if !ip.is_unspecified() => On::One(ip),
            IpAddr::V4(_) => On::AllV4,
            IpAddr::V6(_) => On::Any,
        },
        ports: http.listen.port()..=http.listen.port(),
    });
    listeners(text).into_iter().chain(http).collect()
}

/// Where the agent listens, as far as is known: with its ports for RPC and gossip, at the address that it is asked at
/// and the one that it advertises. Those of an agent on another host are none of this one's.
fn agent_listeners(rpc: &[String], local: Option<&Member>) -> Vec<Listener> {
    let mut ips: BTreeSet<IpAddr> = local.and_then(Member::addr).into_iter().collect();
    let mut ports: BTreeSet<u16> = local.map(Member::port).into_iter().collect();
    for (host, port) in rpc.iter().filter_map(|addr| addr.rsplit_once(':')) {
        let host = host.trim_matches(['[', ']']);
        ips.extend(match host {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            host => host.parse::<IpAddr>().ok(),
        });
        ports.extend(port.parse::<u16>());
    }
    let endpoint = |ip: IpAddr, port: u16| Listener {
        what: What::Agent,
        on: On::One(ip),
        ports: port..=port,
    };
    let endpoints = ips
        .iter()
        .flat_map(|ip| ports.iter().map(|port| endpoint(*ip, *port)));
    endpoints.collect()
}

/// Who lets in, by the lines that the template prints; as the config says where it cannot be rendered.
fn admissions(
    config: &Config,
    renderer: &Renderer,
    scope: &Scope,
) -> BTreeMap<BackendName, Admission> {
    let rendered = renderer.specimen(config).ok();
    let text = rendered.map(|rendered| scope.read(&rendered.text));
    let admission = |backend: &BackendConfig| match &text {
        Some(text) => Admission::of(backend, text),
        None => Admission::meant(backend),
    };
    let named = |backend: &BackendConfig| (backend.name.clone(), admission(backend));
    config.backends.iter().map(named).collect()
}
