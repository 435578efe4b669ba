//! The loop: what Docker and the agent say, signals and the time in; the agent's tags kept, and the status published.
//!
//! It waits in one place. What it asks of the agent runs beside it, one thing at a time, so that an agent that stands still
//! holds nothing else up.

mod published;

use std::future::pending;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use controller::clock;
use controller::config::ConfigError;
use controller::control::{Control, ControlError};
use controller::error_chain::chain;
use controller::http::Server;
use controller::notify::Notifier;
use serf_rpc::{AgentState, Latest, ManagedClient};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::agent::{self, AgentError, Own};
use crate::config::Config;
use crate::docker::{self, DockerError, Update};
use crate::pace::Pace;
use crate::state::State;
use crate::status::{Counters, Problem, Status};
use crate::web::{self, Feed, Turns};
use published::Told;

/// The loop turns so often though nothing happens.
const TURN: Duration = Duration::from_secs(2);
/// The pauses before what the agent did not do is tried again.
const RETRIES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A port that is taken is tried again after so long.
const LISTEN: Duration = Duration::from_secs(5);
/// How long the end waits for the agent.
const FAREWELL: Duration = Duration::from_secs(4);
/// Updates that wait; Docker's events wait in its socket beyond.
const UPDATES: usize = 1024;

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The control socket cannot be had.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] std::io::Error),
    /// Docker does not answer.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The agent does not do as it is asked.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// Where the config came from, for SIGHUP.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The environment.
    pub env: Vec<(String, String)>,
}

type Job = Pin<Box<dyn Future<Output = (bool, Result<Own, AgentError>)>>>;

struct Daemon {
    config: Config,
    started_with: Config,
    source: Source,
    state: State,
    pace: Pace,
    client: ManagedClient,
    agent_states: Latest<AgentState>,
    updates: mpsc::Receiver<Update>,
    following: JoinHandle<()>,
    /// What the agent is asked at the moment; `true` if it is to write.
    job: Option<Job>,
    read_at: Instant,
    retry: Option<(Instant, Duration)>,
    sides: Sides,
    problems: Problems,
    counters: Counters,
    server: Option<Server>,
    /// When a listener that could not be had is tried again.
    listen_at: Instant,
    feed: Feed,
    status: watch::Sender<Arc<Status>>,
    told: Told,
    notifier: Notifier,
}

/// Since when Docker and the agent have been as they are.
struct Sides {
    docker: (bool, Instant),
    agent: (bool, Instant),
}

/// What is wrong, by what it is about.
#[derive(Default)]
struct Problems {
    docker: Option<Problem>,
    agent: Option<Problem>,
    http: Option<Problem>,
    config: Option<Problem>,
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    ReadAgain,
    End,
    EndAndKeep,
}

struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
    usr1: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hup.recv() => Asked::ReadAgain,
            _ = self.term.recv() => Asked::End,
            _ = self.int.recv() => Asked::End,
            _ = self.usr1.recv() => Asked::EndAndKeep,
        }
    }
}

/// Keeps the agent's tags, until SIGTERM.
///
/// # Errors
/// When it cannot begin.
pub async fn run(config: Config, source: Source, notifier: Notifier) -> Result<(), RunError> {
    let mut signals = Signals::catch().map_err(RunError::Signals)?;
    let control = Control::bind(&config.control.socket)?;
    if let Err(error) = control.open_to(&config.control) {
        tracing::error!(error = %chain(&error), "only the owner can ask for the status");
    }
    let (status, published) = watch::channel(Arc::new(Status::default()));
    let answering = tokio::spawn(crate::control::serve(control, published.clone()));
    let mut daemon = Daemon::new(config, source, notifier, status, published);
    let keeps = daemon.turn_until_told(&mut signals).await;
    daemon.end(keeps).await;
    answering.abort();
    // Its socket goes with it.
    let _ = answering.await;
    Ok(())
}

fn follow(config: &Config) -> (mpsc::Receiver<Update>, JoinHandle<()>) {
    let (sender, updates) = mpsc::channel(UPDATES);
    let options = docker::Options {
        socket: config.docker.socket.clone(),
        resync: config.docker.resync,
        past: config.rules().patience,
    };
    (updates, tokio::spawn(docker::follow(options, sender)))
}

impl Daemon {
    fn new(
        config: Config,
        source: Source,
        notifier: Notifier,
        status: watch::Sender<Arc<Status>>,
        published: watch::Receiver<Arc<Status>>,
    ) -> Self {
        let now = clock::now();
        let client = agent::client(&config.serf);
        let (updates, following) = follow(&config);
        let turns = Arc::new(Turns::new());
        let mut daemon = Self {
            state: State::new(config.rules(), config.names()),
            pace: Pace::default(),
            agent_states: client.states(),
            client,
            updates,
            following,
            job: None,
            read_at: now,
            retry: None,
            sides: Sides {
                docker: (false, now),
                agent: (false, now),
            },
            problems: Problems::default(),
            counters: Counters::default(),
            server: None,
            listen_at: now,
            feed: Feed {
                status: published,
                turns,
            },
            status,
            told: Told::default(),
            notifier,
            started_with: config.clone(),
            config,
            source,
        };
        daemon.listen();
        daemon
    }

    /// Turns until a signal ends it; says whether the tags are to be kept.
    async fn turn_until_told(&mut self, signals: &mut Signals) -> bool {
        loop {
            let decided_at = self.turn();
            let wake = sleep_until(decided_at.into());
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::ReadAgain => self.read_again(),
                    Asked::End => return self.config.tags.keep_on_exit,
                    Asked::EndAndKeep => return true,
                },
                Some(update) = self.updates.recv() => {
                    self.take(update);
                    // What has come with it is decided together.
                    while let Ok(update) = self.updates.try_recv() {
                        self.take(update);
                    }
                }
                state = self.agent_states.next() => match state {
                    Some(state) => self.agent_is(&state),
                    None => tokio::time::sleep(TURN).await,
                },
                (wrote, own) = of(&mut self.job) => {
                    self.job = None;
                    self.answered(wrote, own);
                }
                () = wake => {}
            }
        }
    }

    /// Decides, asks the agent what is due, and publishes; says when to turn again at the latest.
    fn turn(&mut self) -> Instant {
        let now = clock::now();
        let unix = now_unix();
        self.feed.turns.turned();
        if self.problems.http.is_some() && self.listen_at <= now {
            self.listen();
        }
        let before = self.state.chosen().tags.clone();
        let decided = self.state.decide(unix);
        match &decided {
            None => self.pace.settled(),
            Some((_, urgency)) if self.state.chosen().tags != before || !self.pace.waits() => {
                self.pace.changed(*urgency, now);
            }
            Some(_) => {}
        }
        let debounce = &self.config.debounce;
        let write_at = self.pace.due(debounce.quiet, debounce.max_wait);
        let retry_at = self.retry.map(|(at, _)| at);
        let may_ask =
            self.job.is_none() && self.sides.agent.0 && retry_at.is_none_or(|at| at <= now);
        let read_at = self.read_at;
        if may_ask {
            match decided {
                Some((change, _)) if write_at.is_some_and(|at| at <= now) => {
                    let client = self.client.clone();
                    self.pace.written(now);
                    self.job = Some(Box::pin(async move {
                        (true, agent::write(&client, &change).await)
                    }));
                }
                _ if read_at <= now => {
                    let client = self.client.clone();
                    self.job = Some(Box::pin(async move { (false, agent::own(&client).await) }));
                }
                _ => {}
            }
        }
        self.publish(now);
        let mut wakes = vec![now + TURN];
        if self.job.is_none() && self.sides.agent.0 {
            let due = write_at.into_iter().chain([read_at]);
            wakes.extend(due.map(|at| retry_at.map_or(at, |retry| at.max(retry))));
        }
        if let Some(end) = self.state.deadline(unix) {
            wakes.push(now + Duration::from_secs(u64::try_from(end - unix).unwrap_or_default()));
        }
        wakes.into_iter().min().unwrap_or(now + TURN)
    }

    fn take(&mut self, update: Update) {
        let now = clock::now();
        match update {
            Update::Began(past) => self.state.remember(&past),
            Update::Event(event, at) => {
                self.counters.events += 1;
                tracing::debug!(id = %event.id, what = ?event.what, "event");
                self.state.hear(&event, at);
            }
            Update::Listed(containers, asked) => {
                self.counters.lists += 1;
                if !self.sides.docker.0 {
                    self.sides.docker = (true, now);
                    tracing::info!(containers = containers.len(), "Docker answers");
                }
                self.problems.docker = None;
                self.state.list(containers, asked);
            }
            Update::Lost(error) => {
                let text = chain(&error);
                if self.sides.docker.0 || self.problems.docker.is_none() {
                    tracing::warn!(error = %text, "Docker is not heard; the tags stay as they are");
                }
                if self.sides.docker.0 {
                    self.counters.docker_losses += 1;
                    self.sides.docker = (false, now);
                }
                self.problems.docker = Some(problem("docker", text, error.advice()));
            }
        }
    }

    fn agent_is(&mut self, state: &AgentState) {
        let now = clock::now();
        let connected = matches!(state, AgentState::Connected { .. });
        if connected {
            self.problems.agent = None;
            self.retry = None;
            self.read_at = now;
        } else {
            let text = format!("the agent at {} does not answer", self.config.serf.addr);
            let advice = "see whether it runs, and has this RPC address and key; what is to be in its tags is written once it does";
            self.problems.agent = Some(problem("agent", text, advice));
        }
        if connected != self.sides.agent.0 {
            self.sides.agent = (connected, now);
        }
    }

    fn answered(&mut self, wrote: bool, own: Result<Own, AgentError>) {
        let now = clock::now();
        self.read_at = now + self.config.serf.resync;
        match own {
            Ok(own) => {
                let had = self.state.own().map(|own| own.tags.clone());
                let is_new = !wrote && had.as_ref().is_some_and(|had| *had != own.tags);
                self.state.set_own(own);
                self.problems.agent = None;
                self.retry = None;
                if wrote {
                    self.counters.writes += 1;
                    let bytes = self.state.chosen().bytes;
                    tracing::info!(
                        instances = self.state.written().len(),
                        bytes,
                        "tags written"
                    );
                } else if is_new && !self.state.is_written() {
                    self.counters.repairs += 1;
                    tracing::warn!(
                        "the agent has other tags than were written; they are written again"
                    );
                }
            }
            Err(error) => {
                self.counters.failures += 1;
                let pause = self
                    .retry
                    .map_or(RETRIES.0, |(_, pause)| (pause * 2).min(RETRIES.1));
                self.retry = Some((now + pause, pause));
                self.read_at = now + pause;
                let text = chain(&error);
                tracing::warn!(error = %text, "the agent does not do as it is asked; tried again");
                let advice = "see what the agent says in its log; it is tried again by itself";
                self.problems.agent = Some(problem("tags", text, advice));
            }
        }
    }

    fn read_again(&mut self) {
        self.notifier.reloading(clock::now());
        match Config::load(&self.source.path, self.source.env.clone()) {
            Ok(config) => self.use_config(config),
            Err(error) => {
                let text = match &error {
                    ConfigError::Read { .. } => chain(&error),
                    _ => error.to_string(),
                };
                tracing::error!(error = %text, "the config is wrong; the one before stays in force");
                let advice =
                    "put it right and reload serf-docker; `serf-docker check` says what is wrong";
                self.problems.config = Some(problem("config", text, advice));
            }
        }
    }

    fn use_config(&mut self, config: Config) {
        self.problems.config = None;
        let waits = config.needs_restart(&self.started_with);
        if !waits.is_empty() {
            let text = format!("{} of the config has changed", waits.join(", "));
            self.problems.config = Some(problem("config", text, "restart serf-docker"));
        }
        let before = std::mem::replace(&mut self.config, config);
        self.state
            .set_rules(self.config.rules(), self.config.names());
        if before.docker != self.config.docker || before.labels.prefix != self.config.labels.prefix
        {
            self.following.abort();
            (self.updates, self.following) = follow(&self.config);
        }
        if before.serf != self.config.serf {
            self.client = agent::client(&self.config.serf);
            self.agent_states = self.client.states();
            self.job = None;
            self.sides.agent = (false, clock::now());
        }
        self.listen();
        tracing::info!("the config was read again");
    }

    fn listen(&mut self) {
        let before = self.server.take();
        match web::listener(before, self.config.http.as_ref(), &self.feed) {
            Ok(server) => {
                self.server = server;
                self.problems.http = None;
            }
            Err(error) => {
                let text = chain(&error);
                if self.problems.http.is_none() {
                    tracing::error!(error = %text, "no HTTP is served");
                }
                self.listen_at = clock::now() + LISTEN;
                self.problems.http = Some(problem("http", text, error.advice()));
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let status = Arc::new(self.describe(now));
        self.told.tell(&status);
        self.notifier.turned(now, &status.standing(), true);
        self.status.send_replace(status);
    }

    /// Takes our tags away, unless they are to be kept.
    async fn end(&mut self, keeps: bool) {
        self.notifier.stopping();
        self.following.abort();
        if let Some(job) = self.job.take() {
            // What it is being asked may come after what it is asked now.
            if let Ok((_, Ok(own))) = timeout(FAREWELL, job).await {
                self.state.set_own(own);
            }
        }
        if keeps {
            return;
        }
        let farewell = async {
            let own = agent::own(&self.client).await?;
            self.state.set_own(own);
            match self.state.leave() {
                Some(change) => agent::write(&self.client, &change).await.map(drop),
                None => Ok(()),
            }
        };
        match timeout(FAREWELL, farewell).await {
            Ok(Ok(())) => tracing::info!("our tags were taken away"),
            Ok(Err(error)) => tracing::error!(error = %chain(&error), "our tags stay"),
            Err(_) => tracing::error!("our tags stay, as the agent does not answer"),
        }
    }
}

/// The job's end; never where there is none.
async fn of(job: &mut Option<Job>) -> (bool, Result<Own, AgentError>) {
    match job {
        Some(job) => job.await,
        None => pending().await,
    }
}

fn now_unix() -> i64 {
    i64::try_from(clock::unix_secs()).unwrap_or(i64::MAX)
}

fn problem(what: &str, problem: String, advice: &str) -> Problem {
    Problem {
        what: what.to_owned(),
        problem,
        advice: advice.to_owned(),
    }
}

/// Brings the tags up to date, and says how everything stands then.
///
/// # Errors
/// [`RunError::Docker`] or [`RunError::Agent`].
pub async fn once(config: &Config) -> Result<Status, RunError> {
    let (client, mut state) = look(config).await?;
    if let Some((change, _)) = state.decide(now_unix()) {
        state.set_own(agent::write(&client, &change).await?);
        state.decide(now_unix());
    }
    Ok(published::of_state(&state, config))
}

/// What would be written, and why.
///
/// # Errors
/// [`RunError::Docker`] or [`RunError::Agent`].
pub async fn preview(config: &Config) -> Result<Status, RunError> {
    let (_, mut state) = look(config).await?;
    state.decide(now_unix());
    Ok(published::of_state(&state, config))
}

async fn look(config: &Config) -> Result<(ManagedClient, State), RunError> {
    let client = agent::client(&config.serf);
    let mut state = State::new(config.rules(), config.names());
    state.set_own(agent::own(&client).await?);
    let socket = &config.docker.socket;
    let docker = docker::connect(socket).await?;
    let now = now_unix();
    state.remember(&docker::past(&docker, socket, now - config.rules().patience, now).await?);
    state.list(docker::list(&docker, socket).await?, clock::now());
    Ok((client, state))
}
