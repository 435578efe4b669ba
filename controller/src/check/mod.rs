//! What `check` finds out: config in, everything that stands against running with it out, each with its way out. Nothing
//! is changed, and nothing written outside a folder of its own.

pub(crate) mod around;
mod finding;
mod networks;
mod rights;
pub(crate) mod scratch;
mod stats_socket;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use planner::admission::Admission;
use planner::config::{Config, ReloadMethod};
use planner::model::{BackendName, Model, Quarantine, Version};
use planner::services::told;
use serf_rpc::Member;

use crate::clock;
use crate::error_chain::chain;
use crate::given;
use crate::here;
use crate::others::Others;
use crate::preview::View;
use crate::state::StateDir;
use crate::templates;
use crate::ways::master_socket;

pub use finding::{Finding, Severity};

/// What is assumed where neither a worker nor the program says its version: the oldest that is supported.
const OLDEST: Version = Version { major: 2, minor: 6 };

/// What `check` was asked for beside its config.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Where the config came from.
    pub config_path: PathBuf,
    /// Whether a configuration file of somebody else's is to be taken over.
    pub adopt: bool,
    /// Members beside those that are there.
    pub members: Vec<Member>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// All that is wrong or could be better, each with its place and its way out.
    pub findings: Vec<Finding>,
    /// What is said of the template and its text; none where there was no text to look at.
    pub text: Option<TextReport>,
    /// What each member announces, and what comes of it.
    pub announced: Vec<String>,
}

/// What was found out of a text.
#[derive(Debug)]
pub struct TextReport {
    /// Whether the template may be used.
    pub template_is_good: bool,
    /// Whether the check command takes the text, now and with one more member in each backend.
    pub file_is_good: bool,
    /// The version that `backends` is about.
    pub version: Version,
    /// For every backend of the config, who lets its servers in.
    pub admissions: BTreeMap<BackendName, Admission>,
    /// For every backend, why its servers cannot join and leave without a reload, with place and way out; nothing where
    /// they can.
    pub backends: BTreeMap<BackendName, Vec<String>>,
    /// For every backend, how many server lines the template has itself.
    pub fixed: BTreeMap<BackendName, usize>,
    /// The `backend` and `listen` sections that the config does not name, as their first lines name them.
    pub others: Vec<String>,
}

impl Report {
    /// Whether `run` would work. That a backend needs reloads is no hindrance.
    pub fn is_good(&self) -> bool {
        let mut findings = self.findings.iter();
        !findings.any(|finding| finding.severity == Severity::Error)
    }
}

/// Looks at all that `run` needs: files and rights, the template and its text, now and with invented members, HAProxy,
/// the agent.
pub async fn check(config: &Config, asked: &Asked) -> Report {
    let mut report = Report {
        findings: rights::look(config, &asked.config_path).await,
        ..Report::default()
    };
    let found = &mut report.findings;
    found.extend(around::file(config, asked.adopt).await);
    let state = StateDir::peek(&config.state.dir);
    let master = master_socket(config, &state);
    let seen = around::haproxy(config, master.as_deref()).await;
    found.extend(seen.found);
    let loaded = match templates::load(config.clone()) {
        Ok(loaded) => loaded,
        Err(error) => {
            found.push(Finding::error(chain(&error)));
            return report;
        }
    };
    if asked.adopt {
        found.extend(around::adoption(&loaded).await);
    }
    let view = match View::take(&loaded, &asked.members, None).await {
        Ok(view) => view,
        Err(error) => {
            found.push(Finding::error(chain(&error)));
            return report;
        }
    };
    found.extend(around::agents(&view.silent_agents, view.agent_answers));
    found.extend(own_places(&view.model).map(Finding::warning));
    if !view.gossips_on_loopback {
        let servers = addresses(&view.model);
        let own = here::addresses().unwrap_or_default();
        found.extend(networks::look(config, &servers, &own));
    }
    let left_out = given::left_out(&asked.members, &view.model, config);
    found.extend(left_out.into_iter().map(Finding::warning));
    let others = Others::now(&config.haproxy.files);
    found.extend(others.problem().map(Finding::warning));
    report.announced = told(&view.snapshot, &view.model, &view.services, &view.loaded);
    // A file that is valid now has to be so with the services that may come.
    let services = view.services.with_expected(&loaded.config, clock::now());
    let loaded = view
        .loaded
        .with_services(services.effect(&loaded.written), &others.files);
    let now = match loaded.renderer.render(&loaded.config, &view.wanted.servers) {
        Ok(now) => now,
        Err(error) => {
            report.findings.push(Finding::error(error.to_string()));
            return report;
        }
    };
    let text = text::Text {
        scope: loaded.scope.with_files(others.files),
        loaded: &loaded,
        now: &now,
        servers: &view.wanted.servers,
        version: seen.version.unwrap_or(OLDEST),
        directory: directory(config, seen.directory),
    };
    match text.look().await {
        Ok((more, text)) => {
            report.findings.extend(more);
            report.text = Some(text);
        }
        Err(error) => report.findings.push(Finding::error(error.to_string())),
    }
    report
}

/// Where relative paths of a configuration begin: in HAProxy's working directory. Where that is not known it is that of
/// the service manager's, `/`; a child has ours.
fn directory(config: &Config, running: Option<PathBuf>) -> Option<PathBuf> {
    match config.haproxy.reload {
        ReloadMethod::Spawn => running,
        _ => Some(running.unwrap_or_else(|| Path::new("/").to_owned())),
    }
}

/// Where the servers are.
fn addresses(model: &Model) -> BTreeSet<IpAddr> {
    let candidates = model.candidates();
    let attributes = candidates.filter_map(|(_, candidate)| candidate.attributes.as_ref().ok());
    attributes.map(|it| it.endpoint.addr.ip()).collect()
}

/// The members that claim to be this balancer itself.
fn own_places(model: &Model) -> impl Iterator<Item = String> {
    model.candidates().filter_map(|(key, candidate)| {
        let claim = candidate.attributes.as_ref().err()?;
        let quarantined = matches!(claim, Quarantine::Here { .. });
        quarantined.then(|| format!("{key} is left out: {claim}"))
    })
}
