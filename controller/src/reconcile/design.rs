//! The config and the template of one moment, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serf_rpc::Snapshot;

use crate::config::{CheckMode, Config, OutputFile};
use crate::guard::Rules;
use crate::model::BackendName;
use crate::pace::Quiet;
use crate::plan::Scope;
use crate::render::{Renderer, Servers, TemplateError};
use crate::select::Defaults;

/// The port that Serf's agent gossips on where it is told nothing else.
const SERF_GOSSIP_PORT: u16 = 7946;

/// A config with the template it names: taken, tried and given up together.
#[derive(Clone, Debug)]
pub(crate) struct Design {
    pub(crate) config: Arc<Config>,
    pub(crate) renderer: Arc<Renderer>,
    /// Which server lines of its texts are the members'.
    pub(crate) scope: Scope,
    /// The other files, with their templates.
    pub(crate) files: Vec<(OutputFile, Arc<Renderer>)>,
}

impl Design {
    /// Reads the templates that the config names.
    pub(crate) fn load(config: Config) -> Result<Self, TemplateError> {
        let renderer = Arc::new(Renderer::load(&config)?);
        let files = config.files.iter();
        let files = files
            .map(|file| Ok((file.clone(), Arc::new(Renderer::read(&file.template)?))))
            .collect::<Result<_, TemplateError>>()?;
        Ok(Self {
            scope: scope(&config, &renderer),
            config: Arc::new(config),
            renderer,
            files,
        })
    }

    /// Says what of the config has no effect, and what the template forgets.
    pub(crate) fn warn(&self) {
        if self.config.http.is_some() {
            tracing::warn!("[http] has no effect: this version has no HTTP listener yet");
        }
        match self.renderer.audit(&self.config) {
            Ok(findings) => {
                for finding in findings {
                    tracing::warn!("the template is not safe to use: {finding}");
                }
            }
            Err(error) => tracing::warn!(%error, "the template fails with some servers"),
        }
    }

    pub(crate) fn rules(&self) -> BTreeMap<BackendName, Rules> {
        let rules = |backend: &crate::config::Backend| Rules {
            checked: backend.check != CheckMode::Off,
            probed: backend.probe,
            suspicion: self.config.suspicion.enabled,
            max_penalty: self.config.damping.max_penalty,
            guard: backend.guard.clone(),
            drain_timeout: backend.drain.timeout,
        };
        self.config
            .backends
            .iter()
            .map(|backend| (backend.name.clone(), rules(backend)))
            .collect()
    }

    pub(crate) fn probes(&self) -> BTreeMap<BackendName, Arc<CheckMode>> {
        self.config
            .backends
            .iter()
            .map(|backend| (backend.name.clone(), Arc::new(backend.check.clone())))
            .collect()
    }

    pub(crate) fn quiet(&self) -> Quiet {
        Quiet {
            quiet: self.config.debounce.quiet,
            max_wait: self.config.debounce.max_wait,
        }
    }

    /// What holds for members of every backend that says nothing else.
    pub(crate) fn defaults(&self, snapshot: &Snapshot) -> Defaults {
        let addr = snapshot.local().and_then(|entry| entry.member.addr());
        Defaults {
            reserved_ports: self.reserved_ports(),
            loopback: addr.is_some_and(|addr| addr.is_loopback()),
            fixed: self.scope.fixed_servers().collect(),
        }
    }

    /// Ports of the agent, the stats page and the controller, which no member may claim.
    fn reserved_ports(&self) -> BTreeSet<u16> {
        let config = &self.config;
        let stats = config
            .frontend
            .as_ref()
            .and_then(|frontend| frontend.stats_bind.as_deref());
        config
            .serf
            .addr
            .iter()
            .map(String::as_str)
            .chain(stats)
            .filter_map(|addr| addr.rsplit_once(':')?.1.parse().ok())
            .chain(config.http.as_ref().map(|http| http.listen.port()))
            .chain([SERF_GOSSIP_PORT])
            .collect()
    }
}

/// A template that fails without any member has no fixed lines; `check` refuses it.
fn scope(config: &Config, renderer: &Renderer) -> Scope {
    let bare = renderer.render(config, &Servers::new());
    let bare = bare.map(|bare| bare.text).unwrap_or_default();
    Scope::new(config.backends.iter().map(|backend| &backend.name), &bare)
}
