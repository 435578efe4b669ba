//! What a controller would do with a config: the config in, [`PendingPlan`] out; nothing is changed.
//!
//! Without a running controller the agent is asked for the members. With one it is what that goes by, so that nothing is
//! guessed of whom it holds or waits for; only the files are those of now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use planner::config::Config;
use planner::guard::Guard;
use planner::model::{AddedOptions, BackendName, Model, RunningServers, Version, WantedAdmins};
use planner::pending::{PendingPlan, Unread};
use planner::pipeline::{Desired, LoadedConfig, Wanted};
use planner::plan::{Input, Plan, plan};
use planner::render::{FIRST_LINE, RenderError};
use planner::services::Book;
use planner::stamp::Stamp;
use planner::syntax::{ConfigText, Scope};
use serf_rpc::{AgentState, Client, Member, Snapshot, WatchError};

use crate::before::{guard_before, services_before};
use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::config;
use crate::error_chain::chain;
use crate::given::{beside, left_out};
use crate::haproxy::file::{ConfigFile, FileError};
use crate::haproxy::runtime::{RuntimeError, State};
use crate::here;
use crate::others::Others;
use crate::published::InForce;
use crate::state::StateDir;
use crate::templates::{self, TemplateError};
use crate::ways::{agents, runtime_api};

/// Why it cannot be said what would be done.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The template fails with these servers.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The addresses of this host cannot be read.
    #[error("cannot read this host's addresses")]
    Addresses(#[source] std::io::Error),
}

/// Asks the agent and HAProxy, and plans, with `given` members beside those of the agent. Whoever does not answer is left
/// out of account: without an agent the members are those last seen, without HAProxy there are no steps. What runs and is
/// ready counts as proven.
///
/// # Errors
/// [`PreviewError`].
pub async fn preview(config: &Config, given: &[Member]) -> Result<Preview, PreviewError> {
    let loaded = templates::load(config.clone())?;
    let view = View::take(&loaded, given, None).await?;
    for (addr, error) in &view.silent_agents {
        tracing::warn!(addr, error = %chain(error), "the agent does not answer");
    }
    if let Err(error) = &view.running {
        tracing::warn!(error = %chain(error), "HAProxy does not answer");
    }
    let left_out = left_out(given, &view.model, config);
    let pending = view.pending()?;
    Ok(Preview { pending, left_out })
}

/// The same where nothing is set up yet: these members are taken to be there and to answer, and nobody else is missed.
///
/// # Errors
/// [`PreviewError`].
pub async fn beforehand(config: &Config, members: &[Member]) -> Result<PendingPlan, PreviewError> {
    let loaded = templates::load(config.clone())?;
    View::take(&loaded, members, None).await?.pending()
}

/// What a running controller would do with config and templates as they are in their files now; the plan `in_force`
/// where it has read them, or cannot. Blocks while it reads files.
pub(crate) async fn of_now(evidence: InForce, in_force: PendingPlan) -> PendingPlan {
    let wrong = |error: String| PendingPlan {
        unread: Some(Unread {
            error: Some(error),
            ..Unread::default()
        }),
        ..in_force.clone()
    };
    let config = match config::load(&evidence.config_path, evidence.env.clone()) {
        Ok(config) => evidence.loaded.beside_taken_over(config),
        Err(error) => return wrong(chain(&error)),
    };
    let loaded = match templates::load(config) {
        Ok(loaded) => loaded,
        Err(error) => return wrong(chain(&error)),
    };
    let files = evidence.loaded.changed(&loaded, &evidence.config_path);
    if files.is_empty() {
        return in_force;
    }
    let restart = loaded.config.needs_restart(&evidence.started_with);
    let restart = restart.into_iter().map(str::to_owned).collect();
    if let Some(flaw) = loaded.hides_stamp() {
        return wrong(flaw.to_string());
    }
    let view = View::take(&loaded, &[], Some(evidence)).await;
    match view.and_then(View::pending) {
        Ok(pending) => PendingPlan {
            unread: Some(Unread {
                files,
                restart,
                error: None,
            }),
            ..pending
        },
        Err(error) => wrong(chain(&error)),
    }
}

/// What would be done, and who of the given members has no part in it.
#[derive(Debug)]
pub struct Preview {
    /// What would be done.
    pub pending: PendingPlan,
    /// The given members that become no server, each with the reason.
    pub left_out: Vec<String>,
}

/// Everything as it is seen once.
pub(crate) struct View {
    pub(crate) on_disk: Result<Option<(ConfigText, String)>, FileError>,
    pub(crate) running: Result<Running, RuntimeError>,
    admins: WantedAdmins,
    accepts_add: BTreeMap<BackendName, bool>,
    retired_max: usize,
    /// The file as it would be.
    pub(crate) wanted: Wanted,
    pub(crate) model: Model,
    /// The config, with the backends of services.
    pub(crate) loaded: LoadedConfig,
    pub(crate) services: Book,
    pub(crate) snapshot: Arc<Snapshot>,
    /// The agents that were asked and did not answer; the next one may have.
    pub(crate) silent_agents: Vec<(String, WatchError)>,
    /// Whether one of them did.
    pub(crate) agent_answers: bool,
    /// Whether its cluster is on this host alone.
    pub(crate) gossips_on_loopback: bool,
}

/// What HAProxy runs, and what is known of it.
pub(crate) struct Running {
    version: Version,
    servers: RunningServers,
    started_with: Option<ConfigText>,
    added: AddedOptions,
}

/// Whom there is to decide about.
struct Known {
    snapshot: Snapshot,
    guard: Guard,
    services: Book,
    /// The config with their backends.
    loaded: LoadedConfig,
    accepts_add: BTreeMap<BackendName, bool>,
    silent_agents: Vec<(String, WatchError)>,
}

impl Known {
    /// As a running controller knows it, under other rules.
    fn by_controller(evidence: InForce, loaded: &LoadedConfig, scope: &Scope) -> Self {
        let mut services = evidence.services;
        services.keep_allowed(&loaded.config);
        let loaded = loaded.with_services(services.effect(&loaded.written), scope.files());
        let mut guard = evidence.guard;
        guard.set_rules(loaded.rules());
        Self {
            snapshot: (*evidence.snapshot).clone(),
            guard,
            services,
            loaded,
            accepts_add: evidence.accepts_add,
            silent_agents: Vec::new(),
        }
    }

    /// As the agents say, and what an earlier controller has left.
    async fn by_asking(
        loaded: &LoadedConfig,
        state: &StateDir,
        scope: &Scope,
        on_disk: Option<&str>,
    ) -> Self {
        let memory = state.load();
        let anchor = ClockAnchor::now();
        let services = services_before(&loaded.config, &memory, on_disk, &anchor);
        let loaded = loaded.with_services(services.effect(&loaded.written), scope.files());
        let scope = loaded.scope.with_files(scope.files());
        let on_disk = on_disk.map(|text| scope.read(text));
        let known = Snapshot::restored(memory.members.clone(), SystemTime::now());
        let (snapshot, silent_agents) = ask_agents(&loaded.config, known).await;
        Self {
            snapshot,
            guard: guard_before(&loaded, &memory, on_disk.as_ref(), &anchor),
            services,
            loaded,
            accepts_add: BTreeMap::new(),
            silent_agents,
        }
    }
}

impl View {
    /// Asks the agents and HAProxy, once each; no agent where a running controller says what it goes by.
    ///
    /// # Errors
    /// [`PreviewError`].
    pub(crate) async fn take(
        loaded: &LoadedConfig,
        given: &[Member],
        evidence: Option<InForce>,
    ) -> Result<Self, PreviewError> {
        let config = &loaded.config;
        let state = StateDir::peek(&config.state.dir);
        let on_disk = ConfigFile::new(&config.haproxy.config, FIRST_LINE)
            .read()
            .await;
        let seen = on_disk.as_ref().ok().and_then(Option::as_ref);
        let running = runtime_api(config, &state).read(true).await;
        let worker = running.as_ref().ok().map(|running| &running.worker);
        let others = match worker {
            Some(worker) => Others::of(&config.haproxy.files, worker, &state, clock::unix_secs()),
            None => Others::now(&config.haproxy.files),
        };
        let scope = &loaded.scope.with_files(others.files);
        let known = match evidence {
            Some(evidence) => Known::by_controller(evidence, loaded, scope),
            None => {
                let seen = seen.map(String::as_str);
                Known::by_asking(loaded, &state, scope, seen).await
            }
        };
        let scope = known.loaded.scope.with_files(scope.files());
        let agent_answers = matches!(known.snapshot.agent(), AgentState::Connected { .. });
        let local = known.snapshot.local().and_then(|entry| entry.member.addr());
        let gossips_on_loopback = local.is_some_and(|addr| addr.is_loopback());
        let snapshot = Arc::new(beside(known.snapshot, given));
        let now = clock::now();
        let (guard, services) = (known.guard, known.services);
        let mut desired = Desired::new(known.loaded, scope, snapshot, guard, services);
        desired.set_addresses(here::addresses().map_err(PreviewError::Addresses)?);
        if let Some(text) = seen {
            desired.set_on_disk(&text.as_str().into());
        }
        desired.select(now);
        for member in given {
            desired.assume_answering(member.name());
        }
        let (loaded, scope) = (desired.loaded().clone(), desired.scope().clone());
        let (loaded, scope) = (&loaded, &scope);
        let edited = seen.is_some_and(|text| Stamp::genuine(text).is_none());
        let running = running.map(|running| Running::new(running, scope, &state, edited));
        if let Ok(running) = &running {
            desired.observe_running(&running.servers, now);
        }
        desired.decide(now);
        let wanted = Wanted::render(loaded, scope, desired.lines(desired.decisions()))?;
        Ok(Self {
            on_disk: on_disk.map(|text| text.map(|text| (scope.read(&text), text))),
            running,
            silent_agents: known.silent_agents,
            agent_answers,
            gossips_on_loopback,
            wanted,
            admins: desired.decisions().admins(),
            accepts_add: known.accepts_add,
            retired_max: config.retired.max,
            model: desired.model().clone(),
            loaded: loaded.clone(),
            services: desired.services().clone(),
            snapshot: Arc::clone(desired.snapshot()),
        })
    }

    fn pending(self) -> Result<PendingPlan, PreviewError> {
        let running = self.running.as_ref().ok();
        let plan = running.map_or_else(Plan::default, |running| self.plan(running));
        Ok(PendingPlan {
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            reload: plan.reload.iter().map(ToString::to_string).collect(),
            unread: None,
            on_disk: self.on_disk?.map(|(_, text)| text),
            wanted: self.wanted.rendered.text,
        })
    }

    fn plan(&self, running: &Running) -> Plan {
        let on_disk = self.on_disk.as_ref().ok().and_then(Option::as_ref);
        plan(&Input {
            version: running.version,
            running: running.started_with.as_ref(),
            servers: &running.servers,
            added: &running.added,
            wanted: &self.wanted.text.parsed,
            admins: &self.admins,
            accepts_add: &self.accepts_add,
            on_disk: on_disk.map(|(text, _)| text),
            retired_max: self.retired_max,
        })
    }
}

impl Running {
    /// `edited` says that the file holds another hand's text, which a worker that nobody remembers may have loaded.
    fn new(read: State, scope: &Scope, state: &StateDir, edited: bool) -> Self {
        let State {
            worker, servers, ..
        } = read;
        let saved = state.load_added(&worker, clock::unix_secs());
        let known = saved.is_some() || !edited;
        let stamp = worker.stamp.as_ref().filter(|_| known);
        let text = stamp.and_then(|stamp| state.load_text(stamp));
        let mut running = Self {
            version: worker.version,
            servers,
            started_with: text.map(|text| scope.read(&text)),
            added: saved.unwrap_or_default(),
        };
        let started_with = running.started_with.as_ref();
        scope.retain(&mut running.servers, started_with, &running.added);
        running
    }
}

/// The members as the first agent that answers lists them, as known where none does; and who does not.
async fn ask_agents(config: &Config, known: Snapshot) -> (Snapshot, Vec<(String, WatchError)>) {
    let mut silent = Vec::new();
    for agent in agents(config) {
        let asked: Result<(Client, _), WatchError> = async {
            let client = agent.connect().await?;
            let members = client.members().await?;
            Ok((client, members))
        }
        .await;
        match asked {
            Ok((client, members)) => {
                let local = client
                    .stats()
                    .await
                    .ok()
                    .and_then(|stats| stats.agent_name().map(ToOwned::to_owned));
                let addr = agent.addr().to_owned();
                let snapshot = known
                    .relisted(members, SystemTime::now())
                    .with_local(local)
                    .with_agent(AgentState::Connected { addr });
                return (snapshot, silent);
            }
            Err(error) => silent.push((agent.addr().to_owned(), error)),
        }
    }
    (known, silent)
}
