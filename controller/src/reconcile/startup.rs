//! The start: what an earlier run and the file on the disk say, so that nothing is taken out by a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use planner::config::{Config, ReloadMethod};
use planner::pipeline::{Desired, LoadedConfig, Text};
use planner::render::FIRST_LINE;
use planner::stamp::Stamp;
use planner::syntax::Scope;
use serf_rpc::Snapshot;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::advice;
use super::applier::Applier;
use super::feed::MembershipFeed;
use super::installer::Installer;
use super::journal::Journal;
use super::web::Web;
use super::{Adopt, Reconciler, RunError, RunOptions};
use crate::before::{guard_before, services_before};
use crate::clock;
use crate::clock_anchor::ClockAnchor;
use crate::control::Control;
use crate::error_chain::chain;
use crate::exposure;
use crate::haproxy::file::{ConfigFile, Owner};
use crate::haproxy::supervise::{Supervised, Supervisor};
use crate::others::Others;
use crate::owner;
use crate::probe::Prober;
use crate::published::{Asking, Published};
use crate::state::StateDir;
use crate::templates::{self, TemplateError};
use crate::ways::{master_socket, runtime_api};

/// Questions that wait for the loop.
const ASKINGS: usize = 4;

/// Takes the state directory and the file, and starts everything that runs beside the loop.
pub(super) async fn start(config: Config, options: RunOptions) -> Result<Reconciler, RunError> {
    let loaded = templates::load(config)?;
    templates::warn(&loaded);
    let config = Arc::clone(&loaded.config);
    refuse_exposed(&config, &options.config_path)?;
    let mut file = ConfigFile::new(&config.haproxy.config, FIRST_LINE);
    may_own(&file, &loaded, options.adopt).await?;
    let state = StateDir::open(&config.state.dir)?;
    let scope = loaded
        .scope
        .with_files(Others::now(&config.haproxy.files).files);
    let mut on_disk = own_file(&mut file, options.adopt, &scope).await?;
    let (now, anchor) = (clock::now(), ClockAnchor::now());
    let saved = state.load();
    let text = on_disk.as_ref().map(|text| &*text.text);
    let services = services_before(&config, &saved, text, &anchor);
    let loaded = loaded.with_services(services.effect(&config), scope.files());
    let scope = loaded.scope.with_files(scope.files());
    if let Some(text) = &mut on_disk {
        text.parsed = Arc::new(scope.read(&text.text));
    }
    let (published, seen) = watch::channel(Arc::new(Published::default()));
    let (asking, askings) = mpsc::channel(ASKINGS);
    let (tasks, control_problem) = serve_control(&config, seen.clone(), asking);
    let (prober, probed) = Prober::new();

    let snapshot = Snapshot::restored(saved.members.iter().cloned(), SystemTime::now());
    let parsed = on_disk.as_ref().map(|text| &*text.parsed);
    let guard = guard_before(&loaded, &saved, parsed, &anchor);
    let runtime = runtime_api(&config, &state);
    let master = master_socket(&config, &state).map(Into::into);
    let installer = Installer::new(file, on_disk, &loaded, master, &state);
    let mut journal = Journal::new(state, saved, anchor, published, now);
    if let Some(problem) = control_problem {
        journal.problems.set("control", problem, advice::CONTROL);
    }
    let web = Web::new(seen.clone(), Arc::clone(&journal.meters));
    let mut reconciler = Reconciler {
        options,
        hinted: None,
        web,
        feed: MembershipFeed::new(&config, snapshot.clone(), seen.clone()),
        next_drift: now + config.drift.interval,
        started_with: config,
        fallback: None,
        prober,
        probed,
        desired: Desired::new(loaded, scope, Arc::new(snapshot), guard, services),
        applier: Applier::new(runtime, now),
        installer,
        journal,
        supervisor: None,
        askings,
        tasks,
    };
    reconciler.select();
    Ok(reconciler)
}

impl Reconciler {
    /// Starts HAProxy, where it is to be a child.
    pub(super) fn supervise(&mut self) {
        let settings = &self.desired.loaded().config.haproxy;
        if settings.reload != ReloadMethod::Spawn {
            return;
        }
        let check = settings.check_command.first().map(PathBuf::from);
        let program = check.filter(|program| program.ends_with("haproxy"));
        self.supervisor = Some(Supervisor::start(Supervised {
            program: program.unwrap_or_else(|| "haproxy".into()),
            files: settings.files.clone(),
            config: settings.config.clone(),
            master_socket: self.journal.state().master_socket(),
            pid_file: self.journal.state().pid_file(),
        }));
    }
}

/// Answers on the control socket, and says what is wrong with that; without one the controller works all the same.
fn serve_control(
    config: &Config,
    seen: watch::Receiver<Arc<Published>>,
    asking: mpsc::Sender<Asking>,
) -> (JoinSet<()>, Option<String>) {
    let mut tasks = JoinSet::new();
    if let Some(dir) = config.control.socket.parent()
        && let Err(error) = owner::directory(dir, &config.state.dir, owner::OPEN)
    {
        tracing::warn!(path = %dir.display(), %error, "cannot make the directory of the control socket");
    }
    let outcome = Control::bind(&config.control.socket).and_then(|control| {
        let opened = control.open_to(&config.control);
        tasks.spawn(control.serve(seen, asking));
        opened
    });
    (tasks, outcome.err().map(|error| chain(&error)))
}

/// Begins with no key and no state directory that are open to others; of other files it is said.
pub(super) fn refuse_exposed(config: &Config, config_path: &Path) -> Result<(), RunError> {
    let found = exposure::find(config, config_path);
    let (refused, said): (Vec<_>, Vec<_>) = found.iter().partition(|found| found.is_refused);
    if !refused.is_empty() {
        let refused = refused.iter().map(ToString::to_string);
        return Err(RunError::Exposed(refused.collect()));
    }
    for exposure in said {
        tracing::warn!("{exposure}");
    }
    Ok(())
}

/// Whether the file is ours, or may be taken over; nothing is written.
async fn may_own(file: &ConfigFile, loaded: &LoadedConfig, adopt: Adopt) -> Result<(), RunError> {
    if file.owner().await? != Owner::Foreign {
        return Ok(());
    }
    let path = file.path().to_owned();
    if adopt == Adopt::Never {
        return Err(RunError::Foreign { path });
    }
    let theirs = file.read().await?.unwrap_or_default();
    may_adopt(&theirs, path, loaded, adopt)
}

/// Whether a file of somebody else's may be taken over.
pub(crate) fn may_adopt(
    theirs: &str,
    path: PathBuf,
    loaded: &LoadedConfig,
    adopt: Adopt,
) -> Result<(), RunError> {
    let loss = loaded.loss(theirs).map_err(TemplateError::from)?;
    if loaded.config.haproxy.template.is_none() && !loss.rights.is_empty() {
        let rights = loss.rights;
        return Err(RunError::MoreRights { path, rights });
    }
    if adopt == Adopt::Lossless && !loss.is_empty() {
        return Err(RunError::WouldLose { path, loss });
    }
    Ok(())
}

/// The text on the disk where it is ours; a file of somebody else's is taken over.
async fn own_file(
    file: &mut ConfigFile,
    adopt: Adopt,
    scope: &Scope,
) -> Result<Option<Text>, RunError> {
    if adopt != Adopt::Never
        && let Some(copy) = file.adopt().await?
    {
        tracing::info!(
            path = %file.path().display(),
            copy = %copy.display(),
            "took over a file of somebody else's; a copy is kept"
        );
        return Ok(None);
    }
    let Some(text) = file.read().await? else {
        return Ok(None);
    };
    let parsed = Arc::new(scope.read(&text));
    // One that another hand has changed is as good as one that no worker ever had: it is written again.
    let stamp = Stamp::genuine(&text).unwrap_or_else(|| Stamp(String::new()));
    Ok(Some(Text {
        stamp,
        text: text.into(),
        parsed,
    }))
}
