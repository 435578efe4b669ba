//! What a controller would do, found out without one: config in, [`PendingPlan`] out; nothing is changed.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serf_rpc::{AgentState, Client, Continuity, Member, Snapshot, WatchError};

use crate::config::Config;
use crate::control::PendingPlan;
use crate::epoch::Epoch;
use crate::given::{beside, left_out};
use crate::guard::Guard;
use crate::haproxy::Stamp;
use crate::haproxy::file::{ConfigFile, FileError};
use crate::haproxy::listen::listeners;
use crate::haproxy::runtime::{RuntimeError, State};
use crate::haproxy::{AddedOptions, RunningServers, Version};
use crate::here;
use crate::model::Model;
use crate::others::Others;
use crate::plan::{ConfigText, Input, Plan, Scope, WantedAdmins, plan};
use crate::reconcile::{Design, agents, chain, restore, runtime_api, servers_before};
use crate::render::{FIRST_LINE, RenderError, Rendered, Servers, TemplateError};
use crate::select::select;
use crate::state::StateDir;

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
    let view = View::take(config, given).await?;
    for (addr, error) in &view.silent_agents {
        tracing::warn!(addr, error = %chain(error), "the agent does not answer");
    }
    if let Err(error) = &view.running {
        tracing::warn!(error = %chain(error), "HAProxy does not answer");
    }
    let running = view.running.as_ref().ok();
    let plan = running.map_or_else(Plan::default, |running| view.plan(config, running));
    let left_out = left_out(given, &view.model, config);
    let on_disk = view.on_disk?;
    let pending = PendingPlan {
        steps: plan.steps.iter().map(ToString::to_string).collect(),
        reload: plan.reload.iter().map(ToString::to_string).collect(),
        on_disk: on_disk.map(|(_, text)| text),
        wanted: view.rendered.text,
    };
    Ok(Preview { pending, left_out })
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
    pub(crate) rendered: Rendered,
    wanted: ConfigText,
    pub(crate) model: Model,
    /// The servers that the file would list.
    pub(crate) servers: Servers,
    /// The agents that were asked and did not answer; the next one may have.
    pub(crate) silent_agents: Vec<(String, WatchError)>,
    /// Whether one of them did.
    pub(crate) agent_answers: bool,
}

/// What HAProxy runs, and what is known of it.
pub(crate) struct Running {
    version: Version,
    servers: RunningServers,
    started_with: Option<ConfigText>,
    added: AddedOptions,
}

impl View {
    /// Asks the agents and HAProxy, once each.
    ///
    /// # Errors
    /// [`PreviewError`].
    pub(crate) async fn take(config: &Config, given: &[Member]) -> Result<Self, PreviewError> {
        let design = Design::load(config.clone())?;
        let state = StateDir::peek(&config.state.dir);
        let memory = state.load_memory();
        let on_disk = ConfigFile::new(&config.haproxy.config, FIRST_LINE)
            .read()
            .await;
        let seen = on_disk.as_ref().ok().and_then(Option::as_ref);
        let known = Snapshot::restored(memory.members.clone(), SystemTime::now());
        let (snapshot, silent_agents) = ask_agents(config, known).await;
        let agent_answers = matches!(snapshot.agent(), AgentState::Connected { .. });
        let snapshot = beside(snapshot, given);
        let addresses = here::addresses().map_err(PreviewError::Addresses)?;
        let running = runtime_api(config, &state).read(true).await;
        let worker = running.as_ref().ok().map(|running| &running.worker);
        let others = match worker {
            Some(worker) => Others::of(&config.haproxy.files, worker, &state, unix_secs()),
            None => Others::now(&config.haproxy.files),
        };
        let scope = &design.scope.with_files(others.files);
        let texts = seen
            .map(String::as_str)
            .into_iter()
            .chain(scope.other_texts());
        let own: Vec<_> = texts.flat_map(listeners).collect();
        let defaults = design.defaults(&snapshot, &addresses, &own);
        let model = select(&snapshot, &config.backends, &defaults);
        let now = Instant::now();
        let mut guard = Guard::new(design.rules());
        let read = |text: &String| scope.read(text);
        for (key, place) in servers_before(&memory.in_rotation, seen.map(read).as_ref()) {
            guard.adopt(key, place, now);
        }
        restore(&mut guard, &memory, &Epoch::now());
        guard.forget(scope.fixed_servers());
        guard.hear(&model, now);
        let edited = seen.is_some_and(|text| Stamp::genuine(text).is_none());
        let running = running.map(|running| Running::new(running, scope, &state, edited));
        if let Ok(running) = &running {
            guard.read(&running.servers, now);
        }
        let decisions = guard.decide(now);
        let servers = decisions.lines();
        let rendered = design.renderer.render(config, &servers)?;
        Ok(Self {
            on_disk: on_disk.map(|text| text.map(|text| (scope.read(&text), text))),
            running,
            servers,
            silent_agents,
            agent_answers,
            wanted: scope.read(&rendered.text),
            admins: decisions.admins(),
            rendered,
            model,
        })
    }

    fn plan(&self, config: &Config, running: &Running) -> Plan {
        plan(&Input {
            version: running.version,
            running: running.started_with.as_ref(),
            servers: &running.servers,
            added: &running.added,
            wanted: &self.wanted,
            admins: &self.admins,
            accepts_add: &BTreeMap::new(),
            on_disk: self
                .on_disk
                .as_ref()
                .ok()
                .and_then(|text| Some(&text.as_ref()?.0)),
            retired_max: config.retired.max,
        })
    }
}

impl Running {
    /// `edited` says that the file holds another hand's text, which a worker that nobody remembers may have loaded.
    fn new(read: State, scope: &Scope, state: &StateDir, edited: bool) -> Self {
        let State { worker, servers } = read;
        let saved = state.load_added(&worker, unix_secs());
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

fn unix_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
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
                    .merge(members, Continuity::Fresh, SystemTime::now())
                    .0
                    .with_local(local)
                    .with_agent(AgentState::Connected { addr });
                return (snapshot, silent);
            }
            Err(error) => silent.push((agent.addr().to_owned(), error)),
        }
    }
    (known, silent)
}
